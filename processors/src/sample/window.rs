//! What is known of the traces of one partition, and what becomes of their spans by it.

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
}

/// A record that was foreseen and is not decided upon.
struct Foreseen {
    offset: u64,
    /// Of its last envelope.
    number: u64,
}

/// What is known in one partition.
pub(super) struct Window {
    policies: Arc<Policies>,
    known: Known,
    /// By rising offset and number.
    foreseen: VecDeque<Foreseen>,
}

impl Window {
    pub(super) fn new(policies: Arc<Policies>) -> Self {
        let known = Known::new(policies.leaves.len(), !policies.rates.is_empty());
        Self { policies, known, foreseen: VecDeque::new() }
    }

    /// Records of which something is known, and records that wait.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.known.len(), self.foreseen.len())
    }

    /// Takes in what has come.
    pub(super) fn foresee(&mut self, envelope: &Envelope, at: &At<'_>) {
        let again = self.foreseen.back().is_some_and(|last| last.offset == at.offset);
        if !again {
            self.forget_beyond();
            self.known.forget_until(at.stream_time_ms.saturating_sub(2 * self.policies.wait_ms));
        }
        let number = self.known.record(at.stream_time_ms, envelope.value.len() as u64);
        self.learn(envelope);
        match self.foreseen.back_mut() {
            Some(last) if again => last.number = number,
            _ => self.foreseen.push_back(Foreseen { offset: at.offset, number }),
        }
    }

    /// Decides on what was foreseen, by what is known now.
    pub(super) fn decide(&mut self, envelope: Envelope, at: &At<'_>, early: bool) -> Decided {
        // What comes early comes at a record that was foreseen, and has yet to make others forgotten.
        if !early {
            self.forget_beyond();
        }
        while self.foreseen.pop_front_if(|first| first.offset < at.offset).is_some() {}
        let number = self.foreseen.front().filter(|first| first.offset == at.offset).map(|first| first.number);
        let Policies { wait_ms, rates, .. } = &*self.policies;
        self.known.forget_until(at.stream_time_ms.saturating_sub(*wait_ms));
        self.known.choose(number.unwrap_or_default(), rates.iter().map(|rate| rate.traces), |trace, rate, first| {
            rates[rate].beside.may_hold(&|condition| trace.holds_since(condition, first))
        });
        let mut judge = Verdicts::new(&self.policies, &self.known);
        let Selected { value, dropped, .. } = select(&envelope.value, &mut judge);
        let (kept, without_trace) = (judge.kept, judge.without_trace);
        let items = kept.iter().sum::<u64>() + without_trace;
        let envelope = value.map(|value| Envelope { value, items, ..envelope });
        Decided { envelope, kept, without_trace, dropped }
    }

    /// What waits has no more than `max_bytes`, and what is known of it is kept.
    fn forget_beyond(&mut self) {
        self.known.forget_beyond(self.policies.max_bytes.saturating_mul(2));
    }

    /// Takes in what an envelope tells of traces.
    fn learn(&mut self, envelope: &Envelope) {
        for block in TracesView::new(&envelope.value).resource_spans() {
            let resource = block.resource();
            let of_resource = self.policies.of_resource(resource);
            for span in block.scope_spans().flat_map(|scope| scope.spans()) {
                let Some(id) = valid(span.trace_id()) else { continue };
                let conditions = of_resource | self.policies.of_span(resource, &span);
                let counts = self.policies.names(!span.parent_span_id().is_empty());
                self.known.span(id, conditions, counts.then(|| name(resource, &span)));
            }
        }
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
    without_trace: u64,
}

impl<'a> Verdicts<'a> {
    fn new(policies: &'a Policies, known: &'a Known) -> Self {
        Self { policies, known, last: None, kept: [0; KINDS.len()], without_trace: 0 }
    }

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
        let Some(id) = valid(span.trace_id()) else {
            self.without_trace += 1;
            return Fate::Keep;
        };
        let (threshold, kind) = match self.last {
            Some((last, verdict)) if last == *id => verdict,
            _ => self.last.insert((*id, self.of_trace(id))).1,
        };
        let fate = fate(span, threshold);
        self.kept[kind] += u64::from(fate != Fate::Drop);
        fate
    }
}
