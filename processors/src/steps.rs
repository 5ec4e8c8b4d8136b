//! From the configuration to the chains.

use crate::attributes::{Attributes, InvalidAttributes};
use crate::chain::{Chain, Step};
use crate::config::{LogStep, ProcessorsConfig, SpanStep};
use crate::enrich::{Enrich, InvalidEnrich, Shared};
use crate::log_metrics::{InvalidLogMetrics, LogMetrics};
use crate::sample::{InvalidSample, Sample};
use crate::service_graph::{InvalidGraph, ServiceGraph};
use crate::span_metrics::{InvalidSpanMetrics, SpanMetrics};

/// Why a chain cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidChain {
    /// A step that stands there before.
    #[error("`processors.chain.{signal}.{at}` is `{step}`, which stands in the list already; name every step once")]
    Twice {
        /// `spans` or `logs`.
        signal: &'static str,
        /// Position in the list, from 0.
        at: usize,
        /// The step's name.
        step: &'static str,
    },
    /// A windowed step whose input would not come again.
    #[error(
        "`processors.chain.spans.{at}` is `service_graph`, which stands behind `sample` with `tail`: spans come from there \
         later than they were read, so that it could not find back to its state after a restart; put it before `sample`"
    )]
    BehindTail {
        /// Position in the list, from 0.
        at: usize,
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

/// The chains of both signals, and what they share.
pub struct Chains {
    /// Of spans.
    pub spans: Chain,
    /// Of log records.
    pub logs: Chain,
    /// The table that `enrich` looks things up in, where it is in a chain: somebody has to fill it.
    pub objects: Option<Shared>,
}

/// The chains that are configured.
///
/// # Errors
/// [`InvalidChain`] names the key at fault.
pub fn chains(config: &ProcessorsConfig) -> Result<Chains, InvalidChain> {
    let enriches = config.chain.spans.contains(&SpanStep::Enrich) || config.chain.logs.contains(&LogStep::Enrich);
    let objects = Shared::new(&config.enrich)?;
    let span = |step: &SpanStep| span_step(*step, config, &objects);
    let log = |step: &LogStep| log_step(*step, config, &objects);
    let spans = config.chain.spans.iter().map(span).collect::<Result<Vec<_>, _>>()?;
    let logs = config.chain.logs.iter().map(log).collect::<Result<Vec<_>, _>>()?;
    for (signal, steps) in [("spans", &spans), ("logs", &logs)] {
        let again = |at: &usize| steps[..*at].iter().any(|earlier| earlier.name() == steps[*at].name());
        if let Some(at) = (0..steps.len()).find(again) {
            return Err(InvalidChain::Twice { signal, at, step: steps[at].name() });
        }
    }
    let place = |step| config.chain.spans.iter().position(|known| *known == step);
    if let (Some(sample), Some(at), true) =
        (place(SpanStep::Sample), place(SpanStep::ServiceGraph), config.sample.tail.is_some())
        && sample < at
    {
        return Err(InvalidChain::BehindTail { at });
    }
    Ok(Chains { spans: Chain::new(spans), logs: Chain::new(logs), objects: enriches.then_some(objects) })
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
