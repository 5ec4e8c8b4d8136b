//! From the configuration to the chains.

use crate::attributes::{self, Attributes, InvalidAttributes};
use crate::chain::{Chain, Step};
use crate::classify::Classify;
use crate::config::{LogStep, ProcessorsConfig, SpanStep};
use crate::enrich::{self, Enrich, InvalidEnrich, Shared};
use crate::log_metrics::{self, InvalidLogMetrics, LogMetrics};
use crate::sample::{self, InvalidSample, Sample};
use crate::service_graph::{self, InvalidGraph, ServiceGraph};
use crate::span_metrics::{self, InvalidSpanMetrics, SpanMetrics};

/// Why a chain cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidChain {
    /// A step that stands there before.
    #[error("`processors.chain.{signal}.{at}` is `{step}`, which stands in the list already; name every step once")]
    Twice {
        /// `spans`, `logs` or `events`.
        signal: &'static str,
        /// Position in the list, from 0.
        at: usize,
        /// The step's name.
        step: &'static str,
    },
    /// A windowed step behind one whose decisions on what is read again may be others.
    #[error(
        "`processors.chain.spans.{at}` is `{step}`, which stands behind `sample` with `tail`: it could not tell after a \
         restart which requests it has counted; put it before `sample`"
    )]
    BehindTail {
        /// Position in the list, from 0.
        at: usize,
        /// The step's name.
        step: &'static str,
    },
    /// Settings of a step that is nowhere.
    #[error(
        "`processors.{step}` is configured, but the step is in no list of `processors.chain` and would do nothing; \
         add it to {lists}, or remove its settings"
    )]
    Unused {
        /// The step's name.
        step: &'static str,
        /// Where it may stand.
        lists: &'static str,
    },
    /// Settings of the editing of attributes.
    #[error(transparent)]
    Attributes(#[from] InvalidAttributes),
    /// Settings of enrichment.
    #[error(transparent)]
    Enrich(#[from] InvalidEnrich),
    /// Settings of span metrics.
    #[error(transparent)]
    SpanMetrics(#[from] InvalidSpanMetrics),
    /// Settings of the service graph.
    #[error(transparent)]
    ServiceGraph(#[from] InvalidGraph),
    /// Settings of sampling.
    #[error(transparent)]
    Sample(#[from] InvalidSample),
    /// Settings of log metrics.
    #[error(transparent)]
    LogMetrics(#[from] InvalidLogMetrics),
}

/// The chains of all signals, and what they share.
pub struct Chains {
    /// Of spans.
    pub spans: Chain,
    /// Of log records.
    pub logs: Chain,
    /// Of Kubernetes events.
    pub events: Chain,
    /// The table that `enrich` looks things up in, where it is in a chain: somebody has to fill it.
    pub objects: Option<Shared>,
}

/// The chains that are configured.
///
/// # Errors
/// [`InvalidChain`] names the key at fault.
pub fn chains(config: &ProcessorsConfig) -> Result<Chains, InvalidChain> {
    let enriches = config.chain.spans.contains(&SpanStep::Enrich) || config.chain.has(LogStep::Enrich);
    let objects = Shared::new(&config.enrich)?;
    let span = |step: &SpanStep| span_step(*step, config, &objects);
    let log = |step: &LogStep| log_step(*step, config, &objects);
    let spans = config.chain.spans.iter().map(span).collect::<Result<Vec<_>, _>>()?;
    let logs = config.chain.logs.iter().map(log).collect::<Result<Vec<_>, _>>()?;
    let events = config.chain.events.iter().map(log).collect::<Result<Vec<_>, _>>()?;
    for (signal, steps) in [("spans", &spans), ("logs", &logs), ("events", &events)] {
        let again = |at: &usize| steps[..*at].iter().any(|earlier| earlier.name() == steps[*at].name());
        if let Some(at) = (0..steps.len()).find(again) {
            return Err(InvalidChain::Twice { signal, at, step: steps[at].name() });
        }
    }
    behind_tail(config)?;
    unused(config)?;
    let [spans, logs, events] = [spans, logs, events].map(Chain::new);
    Ok(Chains { spans, logs, events, objects: enriches.then_some(objects) })
}

/// Behind `sample` with `tail`, a windowed step could not find back to its state after a restart: of the records that are read
/// again, the first ones are decided upon with less than was known of them; and where a partition's spans are all left out, the
/// step does not learn that time goes by.
fn behind_tail(config: &ProcessorsConfig) -> Result<(), InvalidChain> {
    let place = |step| config.chain.spans.iter().position(|known| *known == step);
    let Some(sample) = place(SpanStep::Sample).filter(|_| config.sample.tail.is_some()) else { return Ok(()) };
    let behind = place(SpanStep::ServiceGraph).filter(|at| *at > sample);
    behind.map_or(Ok(()), |at| Err(InvalidChain::BehindTail { at, step: service_graph::NAME }))
}

/// Whoever says how a step is to work expects it to: above all where it is to make something unreadable.
fn unused(config: &ProcessorsConfig) -> Result<(), InvalidChain> {
    const SPANS: &str = "`spans`";
    const LOGS: &str = "`logs`, `events` or both";
    const ANY: &str = "`spans`, `logs`, `events` or several";
    let (default, chain) = (ProcessorsConfig::default(), &config.chain);
    let (span, log) = (|step| chain.spans.contains(&step), |step| chain.has(step));
    let attributes = span(SpanStep::Attributes) || log(LogStep::Attributes);
    let enrich = span(SpanStep::Enrich) || log(LogStep::Enrich);
    let all = [
        (attributes || config.attributes == default.attributes, attributes::NAME, ANY),
        (enrich || config.enrich == default.enrich, enrich::NAME, ANY),
        (span(SpanStep::SpanMetrics) || config.span_metrics == default.span_metrics, span_metrics::NAME, SPANS),
        (span(SpanStep::ServiceGraph) || config.service_graph == default.service_graph, service_graph::NAME, SPANS),
        (span(SpanStep::Sample) || config.sample == default.sample, sample::NAME, SPANS),
        (log(LogStep::LogMetrics) || config.log_metrics == default.log_metrics, log_metrics::NAME, LOGS),
    ];
    let idle = all.into_iter().find(|(used, ..)| !used);
    idle.map_or(Ok(()), |(_, step, lists)| Err(InvalidChain::Unused { step, lists }))
}

fn span_step(step: SpanStep, config: &ProcessorsConfig, objects: &Shared) -> Result<Box<dyn Step>, InvalidChain> {
    Ok(match step {
        SpanStep::Attributes => Box::new(Attributes::new(&config.attributes)?),
        SpanStep::Enrich => Box::new(Enrich::new(objects.clone())),
        SpanStep::SpanMetrics => Box::new(SpanMetrics::new(config.span_metrics.clone())?),
        SpanStep::ServiceGraph => Box::new(ServiceGraph::new(&config.service_graph)?),
        SpanStep::Sample => Box::new(Sample::new(&config.sample)?),
    })
}

fn log_step(step: LogStep, config: &ProcessorsConfig, objects: &Shared) -> Result<Box<dyn Step>, InvalidChain> {
    Ok(match step {
        LogStep::Attributes => Box::new(Attributes::new(&config.attributes)?),
        LogStep::Classify => Box::new(Classify),
        LogStep::Enrich => Box::new(Enrich::new(objects.clone())),
        LogStep::LogMetrics => Box::new(LogMetrics::new(&config.log_metrics)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        let config: ProcessorsConfig = serde_json::from_str(json).unwrap();
        chains(&config).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn chains_that_cannot_be_are_refused_with_their_key() {
        for (json, expected) in [
            ("{}", ""),
            (r#"{"chain": {"spans": [], "logs": []}}"#, ""),
            (
                r#"{"chain": {"spans": ["enrich", "enrich"]}}"#,
                "`processors.chain.spans.1` is `enrich`, which stands in the list already",
            ),
            (
                r#"{"chain": {"logs": ["log_metrics", "log_metrics"]}}"#,
                "`processors.chain.logs.1` is `log_metrics`, which stands",
            ),
            (r#"{"chain": {"spans": ["sample", "service_graph"]}}"#, ""),
            (
                r#"{"chain": {"spans": ["sample", "span_metrics"]}, "sample": {"tail": {"policies": [{"error": {}}]}}}"#,
                "",
            ),
            (
                r#"{"attributes": {"redact": {"patterns": [{"name": "email"}]}}}"#,
                "`processors.attributes` is configured, but the step is in no list of `processors.chain`",
            ),
            (
                r#"{"sample": {"probability": {"ratio": 0.1}}}"#,
                "`processors.sample` is configured, but the step is in no list",
            ),
            (
                r#"{"chain": {"logs": [], "events": []}, "log_metrics": {"interval": "5s"}}"#,
                "`processors.log_metrics` is configured",
            ),
            (r#"{"chain": {"logs": ["attributes"]}, "attributes": {"delete": [{"key": "a"}]}}"#, ""),
            (r#"{"span_metrics": {"dimensions": ["le"]}}"#, "`processors.span_metrics.dimensions.0` names `le`, which"),
            (
                r#"{"chain": {"spans": ["sample", "service_graph"]}, "sample": {"tail": {"policies": [{"error": {}}]}}}"#,
                "`processors.chain.spans.1` is `service_graph`, which stands behind `sample`",
            ),
            (
                r#"{"span_metrics": {"filter_policies": [{"include": {"match_type": "regex", "attributes": [{"key": "name", "value": "a(b"}]}}]}}"#,
                "`processors.span_metrics.filter_policies.0.include.attributes.0.value` is",
            ),
            (
                r#"{"span_metrics": {"dimensions": ["service"]}}"#,
                "`processors.span_metrics.dimensions.0` names `service`",
            ),
            (r#"{"service_graph": {"dimensions": ["client"]}}"#, "`processors.service_graph.dimensions.0`"),
        ] {
            let error = error(json);
            assert!(error.starts_with(expected) && error.is_empty() == expected.is_empty(), "{json}: {error}");
        }
    }

    #[test]
    fn the_order_of_the_configuration_is_the_order_of_the_chain() {
        let json =
            r#"{"chain": {"spans": ["sample", "span_metrics", "attributes"], "logs": ["log_metrics", "enrich"]}}"#;
        let chains = chains(&serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!(chains.spans.names(), ["sample", "span_metrics", "attributes"]);
        assert_eq!(chains.logs.names(), ["log_metrics", "enrich"]);
        assert!(chains.objects.is_some());
    }
}
