//! The service graph as a step of the chain: spans in, deltas of edges out.

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::PartitionId;
use afflux_schemas::otlp::common::ResourceView;
use afflux_schemas::otlp::trace::{SpanView, TracesView};
use afflux_schemas::topics::HEADER_TENANT;

use super::edges::Edges;
use super::{Filter, GraphConfig, InvalidGraph, Out, Pairs, Rules, SpanKind, Why};
use crate::chain::{At, Envelope, Next, Step, Tally};
use crate::derive::Derived;
use crate::span_metrics::filter::Filter as Policies;
use crate::span_metrics::ratio;
use crate::span_metrics::weight::weight;
use crate::window::{Replay, Windowed};

/// The step's name.
pub const NAME: &str = "service_graph";

/// Between cluster and tenant, where one text stands for both; no name of either has it.
pub(super) const BETWEEN: char = '\0';

/// The step that pairs spans and counts requests between services.
pub struct ServiceGraph {
    replay: Replay<Window>,
    edges: Edges,
}

impl ServiceGraph {
    /// A step so configured.
    ///
    /// # Errors
    /// [`InvalidGraph`] names the key at fault.
    pub fn new(config: &GraphConfig) -> Result<Self, InvalidGraph> {
        config.validate()?;
        let policies = Policies::new(&config.filter_policies, "processors.service_graph.filter_policies")?;
        let keeps = move |span: &SpanView<'_>, resource: ResourceView<'_>| policies.keeps(resource, span);
        let filter = (!config.filter_policies.is_empty()).then(|| Arc::new(keeps) as Filter);
        let rules = Arc::new(Rules::new(config, filter));
        let fresh = Arc::clone(&rules);
        let multiplier: Option<Arc<str>> = config.span_multiplier_key.as_deref().map(Arc::from);
        let window = move || {
            let (rules, pairs) = (Arc::clone(&fresh), Pairs::new(Arc::clone(&fresh)));
            Window { rules, multiplier: multiplier.clone(), pairs }
        };
        let replay = Replay::new(rules.horizon(), window);
        Ok(Self { replay, edges: Edges::new(config) })
    }
}

impl Step for ServiceGraph {
    fn name(&self) -> &'static str {
        NAME
    }

    fn horizon(&self) -> Duration {
        self.replay.rewind()
    }

    fn process(&mut self, envelope: Envelope, at: &At<'_>, next: &mut Next<'_>) {
        if at.counted {
            return next.pass(envelope);
        }
        let (replay, edges) = (&mut self.replay, &mut self.edges);
        edges.tell_time(envelope.timestamp_ms);
        let late = replay.late;
        replay.item(at, &envelope, &mut |out| match out {
            Out::Edge(edge) => edges.add(edge),
            Out::NoEdge { kind, why } => next.note(word(kind, why), 1),
        });
        if replay.late > late {
            next.note("beyond_horizon", envelope.items);
        }
        next.pass(envelope);
    }

    fn assigned(&mut self, partition: &PartitionId) {
        self.replay.assigned(partition);
    }

    fn revoked(&mut self, partition: &PartitionId) {
        self.replay.revoked(partition);
    }

    fn close(&mut self, derived: &mut Derived, tally: &mut Tally) {
        self.edges.close(derived, tally);
    }
}

/// What of a span that makes no edge is counted as.
const fn word(kind: SpanKind, why: Why) -> &'static str {
    match (why, kind) {
        (Why::Expired, SpanKind::Client) => "expired_client",
        (Why::Expired, SpanKind::Server) => "expired_server",
        (Why::Expired, SpanKind::Producer) => "expired_producer",
        (Why::Expired, SpanKind::Consumer) => "expired_consumer",
        (why, _) => why.as_str(),
    }
}

struct Window {
    rules: Arc<Rules>,
    multiplier: Option<Arc<str>>,
    pairs: Pairs,
}

impl Windowed for Window {
    type Item = Envelope;
    type Output = Out;

    fn advance(&mut self, _: i64, now_ms: i64, emit: &mut dyn FnMut(Out)) {
        self.pairs.advance(now_ms, emit);
    }

    fn item(&mut self, envelope: &Envelope, at: &At<'_>, now_ms: i64, emit: &mut dyn FnMut(Out)) {
        let tenant = envelope.headers.get(HEADER_TENANT).map(|tenant| String::from_utf8_lossy(tenant));
        let owner = format!("{}{BETWEEN}{}", envelope.cluster, tenant.unwrap_or_default());
        for block in TracesView::new(&envelope.value).resource_spans() {
            let Some(resource) = self.rules.resource(block.resource(), &owner) else { continue };
            for span in block.scope_spans().flat_map(|scope| scope.spans()) {
                if SpanKind::from_otlp(span.kind()).is_some() {
                    let ratio = self.multiplier.as_ref().and_then(|key| ratio(&span, key));
                    let weight = weight(&span, ratio);
                    self.pairs.span(&resource, &span, weight, (at.timestamp_ms, now_ms), emit);
                }
            }
        }
    }
}
