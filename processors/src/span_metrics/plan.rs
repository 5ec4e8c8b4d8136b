//! What the configuration comes to: labels, names of metrics and bounds.

use std::sync::Arc;

use afflux_schemas::otlp::metrics::{Kind, Temporality};

use super::config::{Histograms, Naming, SpanMetricsConfig};
use super::error::InvalidSpanMetrics;
use super::filter::Filter;
use crate::derive::MetricName;

/// Labels that Prometheus and limits of cardinality use themselves.
const RESERVED: [&str; 4] = ["le", "quantile", "__name__", "metric_overflow"];

/// Where the value of a label comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Service,
    Name,
    Kind,
    Status,
    StatusMessage,
    /// Position among the wanted attributes.
    Attribute(usize),
    /// Position among the mappings.
    Mapping(usize),
    Job,
    Instance,
}

/// Several attributes that make one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Positions among the wanted attributes.
    pub(super) sources: Vec<usize>,
    pub(super) join: Box<str>,
}

/// The configuration, worked out.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: SpanMetricsConfig,
    /// Labels in their order, each with where it comes from.
    pub(super) labels: Vec<(Box<str>, Source)>,
    /// Position of the label with the span's name.
    pub(super) name_label: Option<usize>,
    /// Attributes that are looked up, in the resource first.
    pub(super) wanted: Vec<Box<[u8]>>,
    pub(super) mappings: Vec<Mapping>,
    pub(super) filter: Filter,
    pub(super) interval_nanos: u64,
    pub(super) slack_nanos: Option<u64>,
    /// Bounds in the metric's unit.
    pub(super) bounds: Vec<f64>,
    /// The same in nanoseconds.
    pub(super) bounds_nanos: Vec<u64>,
    pub(super) calls: Option<MetricName>,
    pub(super) size: Option<MetricName>,
    pub(super) classic: Option<MetricName>,
    pub(super) native: Option<MetricName>,
    pub(super) target: Option<MetricName>,
    /// Durations in nanoseconds over this are in the metric's unit.
    pub(super) unit_nanos: f64,
}

impl Plan {
    pub(super) fn new(config: SpanMetricsConfig) -> Result<Self, InvalidSpanMetrics> {
        if config.interval.0.as_millis() < 1000 {
            return Err(InvalidSpanMetrics::Interval(config.interval.0.as_millis()));
        }
        let mut above = 0.0;
        for (at, &bound) in config.buckets.iter().enumerate() {
            if !bound.is_finite() || bound <= above {
                return Err(InvalidSpanMetrics::Bounds { at, bound });
            }
            above = bound;
        }
        let mut labels = Labels { naming: config.naming, labels: Vec::new(), wanted: Vec::new() };
        labels.intrinsic(&config);
        let mappings = labels.attributes(&config)?;
        let Labels { labels, wanted, .. } = labels;
        let connector = config.naming == Naming::Connector;
        let unit_nanos = if connector { 1e6 } else { 1e9 };
        let bounds: Vec<f64> = config.bounds().iter().map(|seconds| seconds * 1e9 / unit_nanos).collect();
        let bounds_nanos = config.bounds().iter().map(|seconds| (seconds * 1e9).round() as u64).collect();
        let nanos = |period: std::time::Duration| u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let plan = Self {
            filter: Filter::new(&config.filter_policies, "processors.span_metrics.filter_policies")?,
            interval_nanos: nanos(config.interval.0),
            slack_nanos: config.slack.map(|slack| nanos(slack.0)),
            name_label: labels.iter().position(|(_, source)| *source == Source::Name),
            labels,
            wanted,
            mappings,
            bounds,
            bounds_nanos,
            unit_nanos,
            ..Self::names(config)
        };
        let any = [&plan.calls, &plan.size, &plan.classic, &plan.native, &plan.target].iter().any(|m| m.is_some());
        if any { Ok(plan) } else { Err(InvalidSpanMetrics::Nothing) }
    }

    /// The metrics; nothing else.
    fn names(config: SpanMetricsConfig) -> Self {
        let (delta, connector) = (Temporality::Delta, config.naming == Naming::Connector);
        let metric = |on: bool, tempo: &str, connectors: &str, unit, kind| {
            let (name, unit) = if connector { (connectors, unit) } else { (tempo, "") };
            on.then(|| MetricName { name: Arc::from(name), unit, kind })
        };
        let latency = |on: bool, kind| {
            metric(config.latency && on, "traces_spanmetrics_latency", "traces.span.metrics.duration", "ms", kind)
        };
        let sum = Kind::Sum(delta);
        Self {
            calls: metric(config.calls, "traces_spanmetrics_calls_total", "traces.span.metrics.calls", "", sum),
            size: metric(config.size, "traces_spanmetrics_size_total", "traces.span.metrics.size", "By", sum),
            classic: latency(config.histograms != Histograms::Native, Kind::Histogram(delta)),
            native: latency(config.histograms != Histograms::Classic, Kind::Exponential(delta)),
            target: metric(config.target_info, "traces_target_info", "traces.target.info", "", Kind::Gauge),
            config,
            labels: Vec::new(),
            name_label: None,
            wanted: Vec::new(),
            mappings: Vec::new(),
            filter: Filter::default(),
            interval_nanos: 0,
            slack_nanos: None,
            bounds: Vec::new(),
            bounds_nanos: Vec::new(),
            unit_nanos: 1.0,
        }
    }
}

/// Labels as they are found.
struct Labels {
    naming: Naming,
    labels: Vec<(Box<str>, Source)>,
    wanted: Vec<Box<[u8]>>,
}

impl Labels {
    fn intrinsic(&mut self, config: &SpanMetricsConfig) {
        let on = config.intrinsic_dimensions;
        let target = config.target_info;
        let all = [
            (on.service, "service", "service.name", Source::Service),
            (on.span_name, "span_name", "span.name", Source::Name),
            (on.span_kind, "span_kind", "span.kind", Source::Kind),
            (on.status_code, "status_code", "status.code", Source::Status),
            (on.status_message, "status_message", "status.message", Source::StatusMessage),
            (target, "job", "job", Source::Job),
            (target && config.instance_label, "instance", "instance", Source::Instance),
        ];
        for (_, tempo, connector, source) in all.into_iter().filter(|(on, ..)| *on) {
            let name = if self.naming == Naming::Connector { connector } else { tempo };
            self.labels.push((name.into(), source));
        }
    }

    fn attributes(&mut self, config: &SpanMetricsConfig) -> Result<Vec<Mapping>, InvalidSpanMetrics> {
        for (at, name) in config.dimensions.iter().enumerate() {
            let source = Source::Attribute(self.want(name));
            self.add(format!("dimensions.{at}"), name, source)?;
        }
        let mut mappings = Vec::new();
        for (at, mapping) in config.dimension_mappings.iter().enumerate() {
            if mapping.source_labels.is_empty() || mapping.source_labels.iter().any(String::is_empty) {
                return Err(InvalidSpanMetrics::Empty { key: format!("dimension_mappings.{at}.source_labels") });
            }
            self.add(format!("dimension_mappings.{at}.name"), &mapping.name, Source::Mapping(at))?;
            let sources = mapping.source_labels.iter().map(|name| self.want(name)).collect();
            mappings.push(Mapping { sources, join: mapping.join.as_str().into() });
        }
        Ok(mappings)
    }

    fn want(&mut self, name: &str) -> usize {
        let known = self.wanted.iter().position(|known| **known == *name.as_bytes());
        known.unwrap_or_else(|| {
            self.wanted.push(name.as_bytes().into());
            self.wanted.len() - 1
        })
    }

    fn add(&mut self, key: String, name: &str, source: Source) -> Result<(), InvalidSpanMetrics> {
        if name.is_empty() {
            return Err(InvalidSpanMetrics::Empty { key });
        }
        let label = if self.naming == Naming::Connector { name.to_owned() } else { sanitized(name) };
        if RESERVED.contains(&label.as_str()) {
            return Err(InvalidSpanMetrics::Reserved { key, name: name.to_owned() });
        }
        if self.labels.iter().any(|(known, _)| **known == *label) {
            return Err(InvalidSpanMetrics::Collides { key, name: name.to_owned(), label });
        }
        self.labels.push((label.into(), source));
        Ok(())
    }
}

/// A name as Prometheus takes it for a label: other characters than letters, digits and underscores become underscores,
/// and one stands before a digit at the beginning.
pub(crate) fn sanitized(name: &str) -> String {
    let mut label: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if label.starts_with(|c: char| c.is_ascii_digit()) {
        label.insert(0, '_');
    }
    label
}
