//! Spans that wait for others of their trace, in one partition.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use afflux_schemas::otlp::common::ResourceView;
use afflux_schemas::otlp::trace::{SpanView, TracesView};

use super::known::{Id, Known};
use super::leaf::service;
use super::policy::{KINDS, Policies, RARE};
use super::probability::{ALWAYS, NEVER, fate, valid};
use super::select::{Fate, Judge, Selected, select};
use crate::chain::{At, Envelope};
use crate::span_metrics::template::fold;
use crate::window::Windowed;

/// What has become of an envelope.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decided {
    /// What is left of it.
    pub(super) envelope: Option<Envelope>,
    /// Spans kept, by what kept them as in [`KINDS`].
    pub(super) kept: [u64; KINDS.len()],
    /// Spans kept since they have no trace id.
    pub(super) without_trace: u64,
    /// Spans left out.
    pub(super) dropped: u64,
    /// Whether there was no room to wait any longer.
    pub(super) early: bool,
}

impl Decided {
    fn without_trace(envelope: Option<Envelope>, without_trace: u64) -> Self {
        Self { envelope, kept: [0; KINDS.len()], without_trace, dropped: 0, early: false }
    }
}

struct Waiting {
    /// Its record.
    number: u64,
    time_ms: i64,
    /// Of the envelope as it came.
    bytes: u64,
    envelope: Envelope,
}

/// The state of one partition.
pub(super) struct Window {
    policies: Arc<Policies>,
    known: Known,
    /// By rising number and time.
    waiting: VecDeque<Waiting>,
    bytes: u64,
}

impl Window {
    pub(super) fn new(policies: Arc<Policies>) -> Self {
        let known = Known::new(policies.leaves.len(), !policies.rates.is_empty());
        Self { policies, known, waiting: VecDeque::new(), bytes: 0 }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.waiting.is_empty() && self.bytes == 0
    }

    /// Takes in what an envelope tells of traces. Answers how many of its spans have a trace id, and how many have not.
    fn learn(&mut self, envelope: &Envelope) -> (u64, u64) {
        let (mut with, mut without) = (0, 0);
        for block in TracesView::new(&envelope.value).resource_spans() {
            let resource = block.resource();
            let of_resource = self.policies.of_resource(resource);
            for span in block.scope_spans().flat_map(|scope| scope.spans()) {
                let Some(id) = valid(span.trace_id()) else {
                    without += 1;
                    continue;
                };
                with += 1;
                let conditions = of_resource | self.policies.of_span(resource, &span);
                let counts = self.policies.names(!span.parent_span_id().is_empty());
                self.known.span(id, conditions, counts.then(|| name(resource, &span)));
            }
        }
        (with, without)
    }

    /// Decides on what has waited longest.
    fn decide(&mut self, waiting: Waiting, early: bool) -> Decided {
        let Waiting { number, time_ms, bytes, envelope } = waiting;
        self.bytes -= bytes;
        let Policies { wait_ms, rates, .. } = &*self.policies;
        self.known.forget_until(time_ms.saturating_sub(*wait_ms));
        self.known.choose(number, rates.iter().map(|rate| rate.traces), |trace, rate, first| {
            rates[rate].beside.may_hold(&|condition| trace.holds_since(condition, first))
        });
        let mut judge = Verdicts { policies: &self.policies, known: &self.known, last: None, kept: [0; KINDS.len()] };
        let Selected { value, kept, dropped } = select(&envelope.value, &mut judge);
        let envelope = value.map(|value| Envelope { value, items: kept, ..envelope });
        Decided { envelope, kept: judge.kept, without_trace: 0, dropped, early }
    }
}

/// A name of a trace: that of a span, and of its service.
fn name(resource: ResourceView<'_>, span: &SpanView<'_>) -> u64 {
    // Without a key of its own: the same in all processes.
    let mut hasher = DefaultHasher::new();
    // Names that differ in an id are one.
    let folded = fold(span.name());
    (service(resource), folded.as_deref().unwrap_or(span.name())).hash(&mut hasher);
    hasher.finish()
}

/// Finds out whether spans are kept, trace by trace.
struct Verdicts<'a> {
    policies: &'a Policies,
    known: &'a Known,
    /// Spans of a trace tend to stand together.
    last: Option<(Id, (u64, usize))>,
    kept: [u64; KINDS.len()],
}

impl Verdicts<'_> {
    /// The least randomness of spans that are kept, and the position in [`KINDS`] of what keeps them.
    fn of_trace(&self, id: &Id) -> (u64, usize) {
        let Some(trace) = self.known.trace(id) else { return (NEVER, RARE) };
        let holds = |condition| self.known.holds(trace, condition);
        let chosen = |rate| self.known.is_chosen(id, trace, rate);
        let mut best = (NEVER, RARE);
        for (kind, policy) in &self.policies.any {
            let threshold = policy.threshold(&holds, &chosen);
            if threshold < best.0 {
                best = (threshold, *kind);
            }
            if threshold == ALWAYS {
                return best;
            }
        }
        match &self.policies.rare {
            Some(rare) if self.known.is_rare(trace, rare.fewer_than) => (ALWAYS, RARE),
            _ => best,
        }
    }
}

impl Judge for Verdicts<'_> {
    fn resource(&mut self, _: ResourceView<'_>) {}

    fn span(&mut self, span: &SpanView<'_>) -> Fate {
        let Some(id) = valid(span.trace_id()) else { return Fate::Keep };
        let (threshold, kind) = match self.last {
            Some((last, verdict)) if last == *id => verdict,
            _ => self.last.insert((*id, self.of_trace(id))).1,
        };
        let fate = fate(span, threshold);
        self.kept[kind] += u64::from(fate != Fate::Drop);
        fate
    }
}

/// Keeps spans whose trace id is one, or those whose trace id is none.
struct Ids {
    valid: bool,
}

impl Judge for Ids {
    fn resource(&mut self, _: ResourceView<'_>) {}

    fn span(&mut self, span: &SpanView<'_>) -> Fate {
        if valid(span.trace_id()).is_some() == self.valid { Fate::Keep } else { Fate::Drop }
    }
}

impl Windowed for Window {
    type Item = Envelope;
    type Output = Decided;

    fn advance(&mut self, _: i64, now_ms: i64, emit: &mut dyn FnMut(Decided)) {
        let wait_ms = self.policies.wait_ms;
        let due = |waiting: &Waiting| waiting.time_ms.saturating_add(wait_ms) <= now_ms;
        while self.waiting.front().is_some_and(due)
            && let Some(waiting) = self.waiting.pop_front()
        {
            emit(self.decide(waiting, false));
        }
        self.known.forget_until(now_ms.saturating_sub(2 * wait_ms));
    }

    fn item(&mut self, envelope: &Envelope, _: &At<'_>, now_ms: i64, emit: &mut dyn FnMut(Decided)) {
        let bytes = envelope.value.len() as u64;
        let number = self.known.record(now_ms, bytes);
        let (with, without) = self.learn(envelope);
        let mut envelope = envelope.clone();
        if with == 0 {
            emit(Decided::without_trace(Some(envelope), without));
            return;
        }
        if without > 0 {
            let pick = |valid| select(&envelope.value, &mut Ids { valid }).value;
            let (at_once, others) = (pick(false), pick(true).unwrap_or_default());
            let at_once = at_once.map(|value| Envelope { value, items: without, ..envelope.clone() });
            emit(Decided::without_trace(at_once, without));
            envelope = Envelope { value: others, items: with, ..envelope };
        }
        self.waiting.push_back(Waiting { number, time_ms: now_ms, bytes, envelope });
        self.bytes += bytes;
        while self.bytes > self.policies.max_bytes
            && let Some(waiting) = self.waiting.pop_front()
        {
            emit(self.decide(waiting, true));
        }
        self.known.forget_beyond(self.policies.max_bytes.saturating_mul(2));
    }
}
