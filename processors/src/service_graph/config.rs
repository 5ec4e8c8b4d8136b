//! Configuration of the service graph.

use std::time::Duration;

use afflux_runtime::config::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::span_metrics::cardinality::CardinalityConfig;
use crate::span_metrics::filter::{FilterPolicy, InvalidFilter};

/// Labels of every edge, and `le` of its histograms: no dimension may be named so.
const RESERVED: [&str; 8] =
    ["client", "server", "connection_type", "virtual_node", "failed", "le", "client_cluster", "server_cluster"];

/// Attributes that may be named over all lists, each counted once.
pub const MAX_ATTRIBUTES: usize = 28;

/// `processors.service_graph`: requests between services, found by pairing client and server spans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GraphConfig {
    /// How long a span waits for its counterpart, by the timestamps of records. After each assignment, spans of a
    /// little over twice this time are read again.
    pub wait: Period,
    /// Width of the time buckets that requests are counted in, by their end.
    pub interval: Period,
    /// Which spans take part. A span must pass every policy; the counterpart of one that does not makes no edge.
    pub filter_policies: Vec<FilterPolicy>,
    /// A span's attribute with the ratio by which it was sampled: 0.1 counts as ten requests. What `tracestate` says counts
    /// too (`ot=th:`).
    pub span_multiplier_key: Option<String>,
    /// Bounds on the number of edges and of the values of their labels.
    pub cardinality: CardinalityConfig,
    /// Client and server spans of one partition that are looked at within `wait`; others are counted as dropped. An
    /// eighth of them is for each eighth of `wait`, and spans that have found their counterpart count too.
    pub max_items: u64,
    /// Attributes that become labels of an edge. They are looked up on the resource first, then on the span.
    pub dimensions: Vec<String>,
    /// Whether each dimension becomes two labels, `client_` and `server_` with its name. Otherwise it is one, with the
    /// server's value, or the client's where the server has none.
    pub prefix_dimensions: bool,
    /// Attributes that name the other side of a span whose counterpart never comes; the first that a span has counts.
    /// Resources are not looked at.
    pub peer_attributes: Vec<String>,
    /// Attributes that make a client span a request to a database, which waits for no counterpart. They are looked up
    /// on the resource first, then on the span. The value of the first that is there names the database, where
    /// `peer.service`, `server.address` and `network.peer.address` do not.
    pub database_name_attributes: Vec<String>,
    /// Whether a span whose counterpart never comes makes an edge from or to what its peer attributes name, or from
    /// `user` where a trace begins at a server. Otherwise such spans are only counted.
    pub virtual_nodes: bool,
    /// Whether the time between the end of a producer's span and the start of its consumer's is measured.
    pub messaging_latency: bool,
    /// Upper bounds of the buckets of all histograms, in seconds, ascending.
    pub histogram_buckets: Vec<f64>,
}

impl Default for GraphConfig {
    fn default() -> Self {
        let names = |names: [&str; 4]| names.map(String::from).to_vec();
        Self {
            wait: Period(Duration::from_secs(10)),
            interval: Period(Duration::from_secs(15)),
            filter_policies: Vec::new(),
            span_multiplier_key: None,
            cardinality: CardinalityConfig::default(),
            max_items: 250_000,
            dimensions: Vec::new(),
            prefix_dimensions: false,
            peer_attributes: names(["peer.service", "db.name", "db.system", "db.system.name"]),
            database_name_attributes: names(["db.namespace", "db.name", "db.system", "db.system.name"]),
            virtual_nodes: true,
            messaging_latency: false,
            histogram_buckets: (0..8).map(|n| 0.1 * f64::from(1 << n)).collect(),
        }
    }
}

/// What is wrong with `processors.service_graph`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidGraph {
    /// A filter that cannot be.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// Time buckets without width.
    #[error("`processors.service_graph.interval` is {0}ms; it must be one second at least")]
    Interval(u128),
    /// No time to wait.
    #[error("`processors.service_graph.wait` is {0}, in which no span meets another; let it be 1ms or more")]
    Wait(Period),
    /// No room.
    #[error("`processors.service_graph.max_items` is 0, which drops every span; let it be 1 or more")]
    MaxItems,
    /// Bounds that are no bounds.
    #[error(
        "`processors.service_graph.histogram_buckets.{at}` is {bound}, which is no upper bound above 0 and above the \
         one before it; list seconds in ascending order"
    )]
    Bucket {
        /// Position in the list, from 0.
        at: usize,
        /// The bound.
        bound: f64,
    },
    /// An attribute without a name.
    #[error("`processors.service_graph.{list}.{at}` is empty; name an attribute, or remove the entry")]
    Unnamed {
        /// Name of the list.
        list: &'static str,
        /// Position in the list, from 0.
        at: usize,
    },
    /// A dimension whose label exists already.
    #[error(
        "`processors.service_graph.dimensions.{at}` is `{name}`, whose label `{label}` every edge has already; remove \
         the entry, or set `prefix_dimensions`"
    )]
    Reserved {
        /// Position in the list, from 0.
        at: usize,
        /// The attribute.
        name: String,
        /// Its label.
        label: String,
    },
    /// A dimension whose label another one has.
    #[error(
        "`processors.service_graph.dimensions.{at}` is `{name}`, whose label `{label}` is that of an entry before it; \
         remove one of them"
    )]
    Twice {
        /// Position in the list, from 0.
        at: usize,
        /// The attribute.
        name: String,
        /// Its label.
        label: String,
    },
    /// Too many attributes.
    #[error(
        "`processors.service_graph` names {0} attributes in `dimensions`, `peer_attributes` and \
         `database_name_attributes`; name at most {MAX_ATTRIBUTES}"
    )]
    Attributes(usize),
}

impl GraphConfig {
    /// Checks what the types of the fields cannot.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn validate(&self) -> Result<(), InvalidGraph> {
        if self.wait.0 < Duration::from_millis(1) {
            return Err(InvalidGraph::Wait(self.wait));
        }
        if self.interval.0.as_millis() < 1000 {
            return Err(InvalidGraph::Interval(self.interval.0.as_millis()));
        }
        if self.max_items == 0 {
            return Err(InvalidGraph::MaxItems);
        }
        let mut before = 0.0;
        for (at, bound) in self.histogram_buckets.iter().copied().enumerate() {
            if !bound.is_finite() || bound <= before {
                return Err(InvalidGraph::Bucket { at, bound });
            }
            before = bound;
        }
        self.validate_attributes()
    }

    fn validate_attributes(&self) -> Result<(), InvalidGraph> {
        let lists = [
            ("dimensions", &self.dimensions),
            ("peer_attributes", &self.peer_attributes),
            ("database_name_attributes", &self.database_name_attributes),
        ];
        for (list, names) in lists {
            if let Some(at) = names.iter().position(String::is_empty) {
                return Err(InvalidGraph::Unnamed { list, at });
            }
        }
        let mut labels = RESERVED.map(String::from).to_vec();
        for (at, name) in self.dimensions.iter().enumerate() {
            for label in self.labels_of(name).map(|label| sanitised(&label)) {
                let name = name.clone();
                match labels.iter().position(|taken| *taken == label) {
                    Some(taken) if taken < RESERVED.len() => return Err(InvalidGraph::Reserved { at, name, label }),
                    Some(_) => return Err(InvalidGraph::Twice { at, name, label }),
                    None => labels.push(label),
                }
            }
        }
        let mut all: Vec<&String> = lists.into_iter().flat_map(|(_, names)| names).collect();
        all.sort_unstable();
        all.dedup();
        if all.len() > MAX_ATTRIBUTES { Err(InvalidGraph::Attributes(all.len())) } else { Ok(()) }
    }

    /// Names of the labels of an edge's [`dimensions`](super::Edge::dimensions), in their order.
    pub fn dimension_labels(&self) -> Vec<String> {
        self.dimensions.iter().flat_map(|name| self.labels_of(name)).collect()
    }

    fn labels_of(&self, name: &str) -> impl Iterator<Item = String> + use<> {
        let prefixes: &[&str] = if self.prefix_dimensions { &["client_", "server_"] } else { &[""] };
        let name = name.to_owned();
        prefixes.iter().map(move |prefix| format!("{prefix}{name}"))
    }
}

/// A label as Prometheus takes it, for telling labels apart that would become one.
fn sanitised(label: &str) -> String {
    label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests;
