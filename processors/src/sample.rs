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
//! With `tail`, spans wait for others of their trace: the step looks [ahead](crate::chain::Step::ahead), and records wait
//! before the chain ([`waiting`](crate::work::Waiting)). *The time of a record* is here the stream time with which it came:
//! its own, or a greater one if it is late. A span in a record of time *t* is decided upon when stream time reaches
//! *t* + `wait`, by all spans of its trace that came in records of times above *t* − `wait` until then. So of a trace
//! that came within less than `wait` all spans are decided upon alike; of one that takes longer, what lies around the
//! spans that policies ask for is kept. Traces are looked at within one partition, where all of their spans lie, and
//! so are rates and what is rare. Policies look at spans as they were received, before any step has changed them.
//!
//! Spans leave in the order in which they came, under the timestamp, headers and destination of their record. A policy
//! answers with the least randomness of spans that it keeps: none for one that looks at spans, a threshold for
//! `probability`, the greatest for `and`, the least for `or`; that of all policies decides, and is what spans say in their
//! trace state. So those of a trace that was kept for an error count once, and others of the share that was kept count for
//! the rest.
//!
//! Where no more records come to a partition, stream time stands still, and the records of the last `wait` stay, as lag.
//! They leave when the next record comes. None is committed before it has gone through: whatever the settings are after a
//! restart, it is read again and decided upon by them.
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
//! Say that a record of time *t* is at the committed position or behind it. Which record lets it go depends on what lies
//! from it on. What is known of its traces then, and how many traces share their names, comes from records of times above
//! *t* − `wait`, less those that too many bytes followed, which are counted from there on. The second of a rate begins less
//! than a second before the first of those; its traces are chosen from what came from its first record on until that is
//! decided upon, which is due to time and to bytes after it. So nothing decides that is older than *t* less `wait` and, with
//! rates, a second. The last record before the position has no greater time than *t*, and from it the way back is measured.
//!
//! Where a record below the position is decided upon again, it may be with less; nothing comes of that but the choice of a
//! second that is older than all that counts. A windowed step behind this one would need more, and is refused.
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

use std::collections::BTreeMap;
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
use crate::chain::{Ahead, At, Envelope, Next, Step};

/// The step's name.
pub const NAME: &str = "sample";

/// The step that leaves spans out.
pub struct Sample {
    way: Way,
}

enum Way {
    AtOnce(Probability),
    Tail(Tail),
}

/// Sampling by what traces hold.
struct Tail {
    policies: Arc<Policies>,
    partitions: BTreeMap<PartitionId, Window>,
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
        Ok(Self { way: Way::Tail(Tail { policies, partitions: BTreeMap::new() }) })
    }
}

impl Step for Sample {
    fn name(&self) -> &'static str {
        NAME
    }

    fn horizon(&self) -> Duration {
        match &self.way {
            Way::AtOnce(_) => Duration::ZERO,
            Way::Tail(tail) => tail.policies.horizon(),
        }
    }

    fn ahead(&self) -> Option<Ahead> {
        match &self.way {
            Way::AtOnce(_) => None,
            Way::Tail(Tail { policies, .. }) => Some(Ahead {
                wait: Duration::from_millis(policies.wait_ms.unsigned_abs()),
                max_bytes: policies.max_bytes,
            }),
        }
    }

    fn foresee(&mut self, envelope: &Envelope, at: &At<'_>) {
        if let Way::Tail(tail) = &mut self.way
            && envelope.signal == Signal::Spans
            && let Some(window) = tail.partitions.get_mut(at.from)
        {
            window.foresee(envelope, at);
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
            Way::Tail(tail) => match tail.partitions.get_mut(at.from) {
                Some(window) => settle(window.decide(envelope, at, next.is_early()), next),
                // Of a partition that is not assigned nothing comes.
                None => next.pass(envelope),
            },
        }
    }

    fn assigned(&mut self, partition: &PartitionId) {
        if let Way::Tail(Tail { policies, partitions }) = &mut self.way {
            partitions.insert(partition.clone(), Window::new(Arc::clone(policies)));
        }
    }

    fn revoked(&mut self, partition: &PartitionId) {
        if let Way::Tail(tail) = &mut self.way {
            tail.partitions.remove(partition);
        }
    }
}

/// Hands on what was kept, and counts it.
fn settle(decided: Decided, next: &mut Next<'_>) {
    let Decided { envelope, kept, without_trace, dropped } = decided;
    next.drop("sampled_out", dropped);
    for (word, spans) in KINDS.into_iter().zip(kept) {
        next.note(word, spans);
    }
    next.note("kept_without_trace_id", without_trace);
    if next.is_early() {
        next.note("decided_early", kept.iter().sum::<u64>() + dropped);
    }
    if let Some(envelope) = envelope {
        next.pass(envelope);
    }
}

#[cfg(test)]
mod tests;
