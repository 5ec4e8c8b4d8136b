//! The place where processors plug in: a chain of steps over envelopes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{Headers, PartitionId};
use afflux_runtime::Signal;
use bytes::Bytes;
use serde_json::Value;

use crate::derive::Derived;

/// Telemetry on its way through a chain: an OTLP export request and what is known about it without decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the value holds.
    pub signal: Signal,
    /// A valid, canonical OTLP export request.
    pub value: Bytes,
    /// Spans or log records in the value.
    pub items: u64,
    /// Cluster that the items come from.
    pub cluster: Arc<str>,
    /// Milliseconds since the Unix epoch, from the record; of a record from the future, hardly later than now.
    pub timestamp_ms: i64,
    /// Headers to be written beside those of the envelope itself: tenant, and whatever the producer set.
    pub headers: Headers,
    /// The record that it was made of, and where it goes.
    pub route: Route,
}

/// Where an envelope comes from and where it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Offset of the record that it was made of.
    pub offset: u64,
    /// How often that record had been tried before.
    pub attempts: u32,
    /// Output partition.
    pub partition: u32,
}

/// The record of which a step is given a part.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// Where it lies.
    pub from: &'a PartitionId,
    /// Its position there.
    pub offset: u64,
    /// Its own time, milliseconds since the Unix epoch; of a record from the future, hardly later than when it was read.
    pub timestamp_ms: i64,
    /// The greatest such time up to this record in its partition, whether or not those records came to the step.
    pub stream_time_ms: i64,
    /// Whether its outputs were committed before: it is read again so that windowed steps find back to their state.
    /// Whatever comes out of the chain then is thrown away, so that other steps need not do anything.
    pub repeat: bool,
    /// Whether what is derived of it was committed before: it comes back from the dead letters because it was too large.
    pub counted: bool,
}

/// How far a step looks ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// In time of records.
    pub wait: Duration,
    /// Bytes of records that wait meanwhile, for each partition; of more, the oldest go on early.
    pub max_bytes: u64,
}

/// One processor.
///
/// A step is a pure function of its input and its own state; it does no I/O. It may change an envelope, split it or drop
/// it, and derive metrics. What it drops it drops by [`Next::drop`], which counts it (D7). It keeps no envelope for
/// later, since the position of its record is committed: what must wait waits before the chain, where a step looks
/// [ahead](Step::ahead).
///
/// State that outlives a transaction is either one that a record more or less makes no difference to, such as a cache, or
/// windowed: kept per input partition, a function of that partition's records within [`Step::horizon`], and built up
/// again from repeats ([`crate::window`]).
pub trait Step: Send {
    /// Name as in the configuration and in metrics, e.g. `span_metrics`.
    fn name(&self) -> &'static str;

    /// How far its windowed state reaches back, in time of records; zero where it has none.
    fn horizon(&self) -> Duration {
        Duration::ZERO
    }

    /// How far it must see ahead of what it processes. Records then wait before the chain until stream time is that much
    /// further, and pass with the stream time of their arrival; all steps have been shown by [`Step::foresee`] what came
    /// before the record that makes them due.
    fn ahead(&self) -> Option<Ahead> {
        None
    }

    /// An envelope has come, as it was received, and will be processed, in the same order. It comes again where it is a
    /// repeat. This is called where any step of the chain looks ahead.
    fn foresee(&mut self, envelope: &Envelope, at: &At<'_>) {
        let _ = (envelope, at);
    }

    /// Passes what becomes of one envelope to `next`, in order.
    fn process(&mut self, envelope: Envelope, at: &At<'_>, next: &mut Next<'_>);

    /// A partition has come, again perhaps: windowed state of it begins empty.
    fn assigned(&mut self, partition: &PartitionId) {
        let _ = partition;
    }

    /// A partition has gone, and windowed state of it with it.
    fn revoked(&mut self, partition: &PartitionId) {
        let _ = partition;
    }

    /// A transaction is closed: hands over the metrics derived since the last one, and counts in `tally` what has become of
    /// items only now.
    fn close(&mut self, derived: &mut Derived, tally: &mut Tally) {
        let _ = (derived, tally);
    }

    /// What it has to show beyond its counts, and the name under which the admin port shows it. It is asked for at the
    /// start and after commits, at most every five seconds.
    fn report(&self) -> Option<(&'static str, Value)> {
        None
    }
}

/// What follows a step.
pub struct Next<'c> {
    rest: &'c mut [Link],
    tally: &'c mut Tally,
    way: Way<'c>,
    out: &'c mut dyn FnMut(Envelope),
}

/// With what an envelope goes through the chain.
#[derive(Clone, Copy)]
struct Way<'c> {
    at: &'c At<'c>,
    early: bool,
}

impl Next<'_> {
    /// Hands an envelope on.
    pub fn pass(&mut self, envelope: Envelope) {
        run(self.rest, envelope, self.way, self.out);
    }

    /// Whether the envelope comes before its time, for want of room: less has been foreseen than was asked for.
    pub fn is_early(&self) -> bool {
        self.way.early
    }

    /// Counts items that go no further, by a fixed word that says why.
    pub fn drop(&mut self, reason: &'static str, items: u64) {
        if !self.way.at.repeat && items > 0 {
            *self.tally.dropped.entry(reason).or_default() += items;
        }
    }

    /// Counts what happened to items that go on, by a fixed word.
    pub fn note(&mut self, outcome: &'static str, items: u64) {
        if !self.way.at.repeat {
            self.tally.note(outcome, items);
        }
    }
}

/// What went through a step since the last commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Items that came.
    pub items: u64,
    /// Items that went no further, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// What happened to others, by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts what happened to items, by a fixed word.
    pub fn note(&mut self, outcome: &'static str, items: u64) {
        if items > 0 {
            *self.outcomes.entry(outcome).or_default() += items;
        }
    }
}

struct Link {
    step: Box<dyn Step>,
    tally: Tally,
}

/// Steps in order.
#[derive(Default)]
pub struct Chain {
    links: Vec<Link>,
}

impl Chain {
    /// A chain of those steps.
    pub fn new(steps: Vec<Box<dyn Step>>) -> Self {
        Self { links: steps.into_iter().map(|step| Link { step, tally: Tally::default() }).collect() }
    }

    /// Names of the steps, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.links.iter().map(|link| link.step.name()).collect()
    }

    /// See [`Step::report`].
    pub fn reports(&self) -> impl Iterator<Item = (&'static str, Value)> {
        self.links.iter().filter_map(|link| link.step.report())
    }

    /// How far the windowed state of any step reaches back.
    pub fn horizon(&self) -> Duration {
        self.links.iter().map(|link| link.step.horizon()).max().unwrap_or_default()
    }

    /// How far any step looks ahead.
    pub fn ahead(&self) -> Option<Ahead> {
        let both = |a: Ahead, b: Ahead| Ahead { wait: a.wait.max(b.wait), max_bytes: a.max_bytes.min(b.max_bytes) };
        self.links.iter().filter_map(|link| link.step.ahead()).reduce(both)
    }

    /// See [`Step::foresee`].
    pub fn foresee(&mut self, envelope: &Envelope, at: &At<'_>) {
        self.links.iter_mut().for_each(|link| link.step.foresee(envelope, at));
    }

    /// Passes one envelope through every step and hands what comes out to `out`.
    pub fn process(&mut self, envelope: Envelope, at: &At<'_>, out: &mut dyn FnMut(Envelope)) {
        run(&mut self.links, envelope, Way { at, early: false }, out);
    }

    /// As [`Chain::process`], perhaps before its time: see [`Next::is_early`].
    pub fn let_go(&mut self, envelope: Envelope, at: &At<'_>, early: bool, out: &mut dyn FnMut(Envelope)) {
        run(&mut self.links, envelope, Way { at, early }, out);
    }

    /// See [`Step::assigned`].
    pub fn assigned(&mut self, partition: &PartitionId) {
        self.links.iter_mut().for_each(|link| link.step.assigned(partition));
    }

    /// See [`Step::revoked`].
    pub fn revoked(&mut self, partition: &PartitionId) {
        self.links.iter_mut().for_each(|link| link.step.revoked(partition));
    }

    /// See [`Step::close`]. Answers what went through each step, in order.
    pub fn close(&mut self, derived: &mut Derived) -> Vec<(&'static str, Tally)> {
        let close = |link: &mut Link| {
            link.step.close(derived, &mut link.tally);
            (link.step.name(), std::mem::take(&mut link.tally))
        };
        self.links.iter_mut().map(close).collect()
    }
}

fn run(links: &mut [Link], envelope: Envelope, way: Way<'_>, out: &mut dyn FnMut(Envelope)) {
    match links.split_first_mut() {
        None => out(envelope),
        Some((Link { step, tally }, rest)) => {
            tally.items += if way.at.repeat { 0 } else { envelope.items };
            step.process(envelope, way.at, &mut Next { rest, tally, way, out });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Twice;
    impl Step for Twice {
        fn name(&self) -> &'static str {
            "twice"
        }
        fn process(&mut self, envelope: Envelope, _: &At<'_>, next: &mut Next<'_>) {
            next.pass(envelope.clone());
            next.note("doubled", 1);
            next.pass(Envelope { items: envelope.items + 1, ..envelope });
        }
    }

    /// Looks ahead, and counts what it has seen so.
    struct Looks(u64, u64);
    impl Step for Looks {
        fn name(&self) -> &'static str {
            "looks"
        }
        fn ahead(&self) -> Option<Ahead> {
            Some(Ahead { wait: Duration::from_secs(self.0), max_bytes: self.0 })
        }
        fn foresee(&mut self, envelope: &Envelope, _: &At<'_>) {
            self.1 += envelope.items;
        }
        fn process(&mut self, envelope: Envelope, _: &At<'_>, next: &mut Next<'_>) {
            next.pass(Envelope { items: self.1, ..envelope });
        }
    }

    struct DropEven;
    impl Step for DropEven {
        fn name(&self) -> &'static str {
            "drop_even"
        }
        fn horizon(&self) -> Duration {
            Duration::from_secs(7)
        }
        fn process(&mut self, envelope: Envelope, _: &At<'_>, next: &mut Next<'_>) {
            if envelope.items % 2 == 1 {
                next.pass(envelope);
            } else {
                next.drop("even", envelope.items);
            }
        }
    }

    fn envelope() -> Envelope {
        Envelope {
            signal: Signal::Spans,
            value: Bytes::new(),
            items: 1,
            cluster: "c".into(),
            timestamp_ms: 0,
            headers: Headers::new(),
            route: Route::default(),
        }
    }

    #[test]
    fn all_steps_are_shown_what_comes_as_it_came_and_the_furthest_look_counts() {
        let mut chain = Chain::new(vec![Box::new(Twice), Box::new(Looks(5, 0)), Box::new(Looks(7, 0))]);
        assert_eq!(chain.ahead(), Some(Ahead { wait: Duration::from_secs(7), max_bytes: 5 }));
        assert_eq!(Chain::new(vec![Box::new(Twice)]).ahead(), None);
        let from = PartitionId::new("t", 0);
        let at = At { from: &from, offset: 0, timestamp_ms: 0, stream_time_ms: 0, repeat: false, counted: false };
        (0..3).for_each(|_| chain.foresee(&envelope(), &at));
        let mut seen = Vec::new();
        chain.process(envelope(), &at, &mut |e| seen.push(e.items));
        assert_eq!(seen, [3, 3]);
    }

    #[test]
    fn what_one_step_emits_reaches_the_next_in_order_and_is_counted_unless_it_is_a_repeat() {
        let mut chain = Chain::new(vec![Box::new(Twice), Box::new(Twice), Box::new(DropEven)]);
        let from = PartitionId::new("t", 0);
        let mut seen = Vec::new();
        for repeat in [false, true] {
            let at = At { from: &from, offset: 0, timestamp_ms: 0, stream_time_ms: 0, repeat, counted: false };
            chain.process(envelope(), &at, &mut |e| seen.push(e.items));
        }
        assert_eq!(chain.names(), ["twice", "twice", "drop_even"]);
        assert_eq!(chain.horizon(), Duration::from_secs(7));
        assert_eq!(seen, [1, 3, 1, 3]);
        let tallies = chain.close(&mut Derived::new("m".into(), 1, usize::MAX));
        let told: Vec<_> = tallies.iter().map(|(name, t)| (*name, t.items, t.dropped.get("even").copied())).collect();
        assert_eq!(told, [("twice", 1, None), ("twice", 3, None), ("drop_even", 8, Some(4))]);
        assert_eq!(tallies[1].1.outcomes["doubled"], 2);
        assert_eq!(chain.close(&mut Derived::new("m".into(), 1, usize::MAX))[0].1, Tally::default());
    }
}
