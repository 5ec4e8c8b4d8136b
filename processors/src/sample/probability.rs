//! Consistent probability sampling: a share of traces, by the randomness in their ids.

use std::collections::BTreeMap;

use afflux_schemas::otlp::common::ResourceView;
use afflux_schemas::otlp::trace::SpanView;

use super::config::{InvalidSample, ProbabilityConfig};
use super::leaf::service;
use super::select::{Fate, Judge};
use crate::span_metrics::weight;

/// The threshold that every span reaches.
pub(super) const ALWAYS: u64 = 0;
/// The threshold that no span reaches: randomness has 56 bits.
pub(super) const NEVER: u64 = 1 << 56;

/// Beyond it, weights are bounded ([`weight::MAX_WEIGHT`]).
const LEAST: f64 = 1.0 / weight::MAX_WEIGHT as f64;

/// The least randomness of spans that a ratio keeps, from [`ALWAYS`] to [`NEVER`].
pub(super) fn threshold(ratio: f64, path: impl FnOnce() -> String) -> Result<u64, InvalidSample> {
    if ratio == 0.0 || (LEAST..=1.0).contains(&ratio) {
        Ok(NEVER - (ratio * NEVER as f64).round() as u64)
    } else {
        Err(InvalidSample::Ratio { path: path(), ratio })
    }
}

/// What becomes of a span where only those go on whose randomness is at least `threshold`.
///
/// One that was sampled by a greater threshold before keeps that, and must reach it.
pub(super) fn fate(span: &SpanView<'_>, threshold: u64) -> Fate {
    if threshold == ALWAYS || threshold >= NEVER {
        return if threshold == ALWAYS { Fate::Keep } else { Fate::Drop };
    }
    let before = weight::threshold(span.trace_state()).unwrap_or(ALWAYS);
    if weight::randomness(span) < threshold.max(before) {
        Fate::Drop
    } else if before >= threshold {
        Fate::Keep
    } else {
        Fate::Mark(threshold)
    }
}

/// Whether a trace id is one: 16 bytes that are not all zero.
pub(super) fn valid(trace_id: &[u8]) -> Option<&[u8; 16]> {
    <&[u8; 16]>::try_from(trace_id).ok().filter(|id| **id != [0; 16])
}

/// Ratios made ready.
pub(super) struct Probability {
    others: u64,
    services: BTreeMap<String, u64>,
}

impl Probability {
    pub(super) fn new(config: &ProbabilityConfig) -> Result<Self, InvalidSample> {
        const PATH: &str = "processors.sample.probability";
        let others = threshold(config.ratio, || format!("{PATH}.ratio"))?;
        let ready = |(name, ratio): (&String, &f64)| {
            Ok((name.clone(), threshold(*ratio, || format!("{PATH}.services.{name}"))?))
        };
        Ok(Self { others, services: config.services.iter().map(ready).collect::<Result<_, InvalidSample>>()? })
    }

    /// Whether every span goes on as it is.
    pub(super) fn keeps_all(&self) -> bool {
        self.others == ALWAYS && self.services.values().all(|threshold| *threshold == ALWAYS)
    }

    pub(super) fn judge(&self) -> impl Judge + '_ {
        AtOnce { probability: self, threshold: self.others }
    }
}

struct AtOnce<'a> {
    probability: &'a Probability,
    /// Of the resource at hand.
    threshold: u64,
}

impl Judge for AtOnce<'_> {
    fn resource(&mut self, resource: ResourceView<'_>) {
        let Probability { others, services } = self.probability;
        if !services.is_empty() {
            self.threshold = services.get(service(resource)).copied().unwrap_or(*others);
        }
    }

    fn span(&mut self, span: &SpanView<'_>) -> Fate {
        // Without an id there is nothing to choose by.
        if valid(span.trace_id()).is_none() { Fate::Keep } else { fate(span, self.threshold) }
    }
}
