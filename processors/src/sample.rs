//! Sampling: which spans go on.
//!
//! # By probability
//! A share of traces is kept by the 56 random bits that their spans carry, as OpenTelemetry's consistent samplers do: a
//! span is kept where they are at least a threshold. What a smaller share keeps a greater one keeps too. Spans that are
//! kept say the threshold in their trace state (`ot=th:`), so that they count for those that are not
//! ([`weight`](crate::span_metrics::weight)). One that was sampled before by a greater threshold keeps that, and must
//! reach it. There is no state.
//!
//! # By what traces hold
//! With `tail`, spans wait for others of their trace. *The time of a record* is here the stream time with which it came:
//! its own, or a greater one if it is late. A span in a record of time *t* is decided upon when stream time reaches
//! *t* + `wait`, by all spans of its trace that came in records of times above *t* − `wait` until then. So of a trace
//! that came within less than `wait` all spans are decided upon alike; of one that takes longer, what lies around the
//! spans that policies ask for is kept. Traces are looked at within one partition, where all of their spans lie, and
//! so are rates and what is rare.
//!
//! Spans leave in the order in which they came, under the timestamp, headers and destination of their record. A policy
//! answers with the least randomness of spans that it keeps: none for one that looks at spans, a threshold for
//! `probability`, the greatest for `and`, the least for `or`; that of all policies decides, and is what spans say in their
//! trace state. So those of a trace that was kept for an error count once, and others of the share that was kept count for
//! the rest.
//!
//! Where no more records come to a partition, stream time stands still, and spans of the last `wait` stay, while the
//! offsets of their records are committed. They leave when the next record comes; after a restart they are read again.
//! Nothing leaves while records are read again, so that a windowed step has to stand before this one.
//!
//! # Rates
//! A trace belongs to the second of its first record in the span's window. Before the first record of a second is
//! decided upon, of the traces with spans in that second, and with what stands beside the rate in `and`, those are chosen
//! whose ids have the greatest randomness. So no more are ever kept of a second than the rate says. A trace that has
//! spans in several seconds takes a place in each of them.
//!
//! # Bounds
//! If more than `max_bytes` wait, the oldest records are decided upon early, with what is known then. That is so for a
//! record if records came within `wait` after it that have, together with it, more bytes; whether any were kept makes no
//! difference. What is known of traces is forgotten when records since have more than twice as many bytes; it takes some
//! hundred bytes for each trace in each record, and more for names.
//!
//! # Horizon
//! Say that a span in a record of time *t* is due, or decided upon early, at a record before which stream time is *s*;
//! then *t* > *s* − `wait`. What is known of its trace, and how many traces share its names, comes from records of times
//! above *t* − `wait`, less those that too many bytes followed, which are counted from there on: from times above
//! *s* − 2 `wait`. The second of a rate begins less than a second before the first of those; its traces are chosen from
//! what came from its first record on until that is decided upon, which is due to time and to bytes after it. So nothing
//! decides that is older than twice `wait` and, with rates, a second.
//!
//! That times are stream times and not those that records say makes no difference to what is read again. A record that
//! came with a stream time above *T* came with or behind a record that says so; repeats begin no later than with that
//! one (see [`window`](crate::window)).

mod config;
mod known;
mod leaf;
mod mark;
mod policy;
mod probability;
mod seconds;
mod select;
mod window;

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::PartitionId;
use afflux_runtime::Signal;

pub use config::{
    AttributePolicy, ErrorPolicy, InvalidSample, LatencyPolicy, PolicyConfig, ProbabilityConfig, ProbabilityPolicy,
    RareBy, RareConfig, RatePolicy, SampleConfig, ServicePolicy, TailConfig,
};

use self::policy::{KINDS, Policies};
use self::probability::Probability;
use self::select::select;
use self::window::{Decided, Window};
use crate::chain::{At, Envelope, Next, Step};
use crate::window::Replay;

/// The step's name.
pub const NAME: &str = "sample";

/// The step that leaves spans out.
pub struct Sample {
    way: Way,
}

enum Way {
    AtOnce(Probability),
    Tail(Box<Replay<Window>>),
}

impl Sample {
    /// A step so configured.
    ///
    /// # Errors
    /// [`InvalidSample`] names the key at fault.
    pub fn new(config: &SampleConfig) -> Result<Self, InvalidSample> {
        let Some(tail) = &config.tail else {
            return Ok(Self { way: Way::AtOnce(Probability::new(&config.probability)?) });
        };
        if config.probability != ProbabilityConfig::default() {
            return Err(InvalidSample::Beside);
        }
        let policies = Arc::new(Policies::new(tail)?);
        let horizon = policies.horizon();
        let replay = Replay::new(horizon, move || Window::new(Arc::clone(&policies)));
        Ok(Self { way: Way::Tail(Box::new(replay)) })
    }
}

impl Step for Sample {
    fn name(&self) -> &'static str {
        NAME
    }

    fn horizon(&self) -> Duration {
        match &self.way {
            Way::AtOnce(_) => Duration::ZERO,
            Way::Tail(replay) => replay.rewind(),
        }
    }

    fn process(&mut self, envelope: Envelope, at: &At<'_>, next: &mut Next<'_>) {
        match &mut self.way {
            _ if envelope.signal != Signal::Spans => next.pass(envelope),
            Way::AtOnce(probability) if probability.keeps_all() => next.pass(envelope),
            Way::AtOnce(probability) => {
                let selected = select(&envelope.value, &mut probability.judge());
                next.drop("sampled_out", selected.dropped);
                if let Some(value) = selected.value {
                    next.pass(Envelope { value, items: selected.kept, ..envelope });
                }
            }
            Way::Tail(replay) => {
                // No record is late: what counts is when it came.
                let at = At { timestamp_ms: at.stream_time_ms, ..*at };
                replay.item(&at, &envelope, &mut |decided| settle(decided, next));
            }
        }
    }

    fn assigned(&mut self, partition: &PartitionId) {
        if let Way::Tail(replay) = &mut self.way {
            replay.assigned(partition);
        }
    }

    fn revoked(&mut self, partition: &PartitionId) {
        if let Way::Tail(replay) = &mut self.way {
            replay.revoked(partition);
        }
    }
}

/// Hands on what was kept, and counts it.
fn settle(decided: Decided, next: &mut Next<'_>) {
    let Decided { envelope, kept, without_trace, dropped, early } = decided;
    next.drop("sampled_out", dropped);
    for (word, spans) in KINDS.into_iter().zip(kept) {
        next.note(word, spans);
    }
    next.note("kept_without_trace_id", without_trace);
    if early {
        next.note("decided_early", kept.iter().sum::<u64>() + dropped);
    }
    if let Some(envelope) = envelope {
        next.pass(envelope);
    }
}

#[cfg(test)]
mod tests;
