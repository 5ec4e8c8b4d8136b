//! The pure part of the stage: records in, one transaction's outputs and offsets out.

use std::collections::BTreeMap;
use std::sync::Arc;

use afflux_bus::{Generation, Offset, PartitionId, Received, Record};
use afflux_runtime::dead_letter::{self, Refusal};
use afflux_runtime::metrics::{ComponentLabels, ReasonLabels, StepLabels, StepReasonLabels};
use afflux_runtime::{Metrics, Signal};
use afflux_schemas::encoding::Encoding;
use afflux_schemas::topics::{HEADER_ATTEMPTS, HEADER_ENCODING};

use crate::chain::{self, Chain};
use crate::derive::Derived;
use crate::enrich::gate::Gate;
use crate::intake::{self, Leftover, Refused, Source};
use crate::merge::{Merger, Output};
use crate::stage::NAME;

mod batch;
mod opened;
mod waiting;

pub(crate) use batch::Batch;
pub(crate) use opened::Opened;
pub(crate) use waiting::{Through, Waiting};

use batch::{Dead, Tally};

/// Reason of a dead letter that is larger than the bus allows.
const TOO_LARGE: &str = "too_large";
/// Reason for passing over a replay that another component asked for.
const FOR_ANOTHER: &str = "replay_of_another";

/// Spans, log records, events.
pub(crate) const SIGNALS: usize = 3;

/// The way of one signal through the stage.
pub(crate) struct Path {
    pub(crate) signal: Signal,
    /// Partitions of the topic that it goes to.
    pub(crate) partitions: u32,
    pub(crate) chain: Chain,
}

/// Where dead letters go.
pub(crate) struct DeadLetters {
    pub(crate) topic: Arc<str>,
    pub(crate) partitions: u32,
}

/// An input partition as it is read.
#[derive(Clone, Copy, Debug, Default)]
struct Input {
    /// Below lies what was committed: it comes again so that windowed steps find back to their state.
    position: u64,
    /// Of all records since the assignment; `None` before the first.
    stream_time_ms: Option<i64>,
}

/// What a transaction settles of an input partition.
#[derive(Clone, Copy, Debug)]
struct Settles {
    generation: Generation,
    first: u64,
    next: u64,
    /// The greatest timestamp.
    timestamp_ms: i64,
}

/// What is in hand since the last commit.
pub(crate) struct Work {
    /// Our own topics before those of others, whose names may look like those of mirrored ones.
    sources: Vec<Source>,
    paths: [Path; SIGNALS],
    dead_letters: DeadLetters,
    cluster: Arc<str>,
    metrics: Arc<Metrics>,
    merger: Merger,
    derived: Derived,
    gate: Option<Gate<Opened>>,
    /// Behind the gate, for each path whose steps look ahead.
    waiting: [Option<Waiting>; SIGNALS],
    dead: Dead,
    inputs: BTreeMap<PartitionId, Input>,
    next: BTreeMap<PartitionId, Settles>,
    tallies: [Tally; SIGNALS],
    /// Items of replays for others.
    passed_over: u64,
}

impl Work {
    pub(crate) fn new(
        sources: Vec<Source>,
        paths: [Path; SIGNALS],
        (merger, derived): (Merger, Derived),
        dead_letters: DeadLetters,
        cluster: Arc<str>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (inputs, next) = (BTreeMap::new(), BTreeMap::new());
        let waiting = paths.each_ref().map(|path| path.chain.ahead().map(Waiting::new));
        let (dead, tallies, passed_over) = (Vec::new(), Default::default(), 0);
        Self {
            sources,
            paths,
            dead_letters,
            cluster,
            metrics,
            merger,
            derived,
            gate: None,
            waiting,
            dead,
            inputs,
            next,
            tallies,
            passed_over,
        }
    }

    /// The ways of the signals.
    pub(crate) fn paths(&self) -> &[Path; SIGNALS] {
        &self.paths
    }

    /// Keeps records until their pods are known.
    pub(crate) fn wait_at(mut self, gate: Option<Gate<Opened>>) -> Self {
        self.gate = gate;
        self
    }

    /// A partition has come, again perhaps.
    pub(crate) fn assigned(&mut self, partition: &PartitionId, position: u64) {
        self.inputs.insert(partition.clone(), Input { position, stream_time_ms: None });
        self.waiting.iter_mut().flatten().for_each(|waiting| waiting.forget(partition));
        self.paths.iter_mut().for_each(|path| path.chain.assigned(partition));
    }

    /// A partition has gone.
    pub(crate) fn revoked(&mut self, partition: &PartitionId) {
        self.inputs.remove(partition);
        self.gate.iter_mut().for_each(|gate| gate.revoked(partition));
        self.waiting.iter_mut().flatten().for_each(|waiting| waiting.forget(partition));
        self.paths.iter_mut().for_each(|path| path.chain.revoked(partition));
    }

    /// Bytes processed since the last commit.
    pub(crate) fn bytes(&self) -> u64 {
        self.tallies.iter().map(|t| t.bytes).sum()
    }

    /// Takes in one record: processes it, or keeps it before the chain. A refused one becomes a dead letter within the
    /// transaction that settles it (D7).
    pub(crate) fn take(&mut self, record: Received) {
        let Some(at) = self.sources.iter().rposition(|source| source.is_of(&record.from.topic)) else {
            tracing::error!(partition = %record.from, "record of a topic that was not asked for");
            return;
        };
        let signal = self.sources[at].signal;
        let path = self.paths.iter().position(|path| path.signal == signal).unwrap_or_default();
        let input = self.inputs.entry(record.from.clone()).or_default();
        // A record from the future would end all windows, and be read again as the last one for as long.
        let time_ms = intake::not_ahead(record.timestamp_ms);
        let stream_time_ms = input.stream_time_ms.map_or(time_ms, |time| time.max(time_ms));
        input.stream_time_ms = Some(stream_time_ms);
        let repeat = record.offset < input.position;
        if repeat && self.paths[path].chain.horizon().is_zero() {
            return;
        }
        let opened = self.open(record, at, path, (time_ms, stream_time_ms), repeat);
        let partition = opened.from.clone();
        match &mut self.gate {
            Some(gate) if !repeat => {
                gate.push(&partition, opened, stream_time_ms);
                self.release_from(&partition);
            }
            _ => self.arrive(opened),
        }
    }

    fn open(&self, record: Received, source: usize, path: usize, times: (i64, i64), repeat: bool) -> Opened {
        let mut opened = Opened::new(&record, path, times, repeat);
        if dead_letter::is_for_another(&record.headers, NAME) {
            opened.passed_over = dead_letter::items(&record.headers);
            return opened;
        }
        let (source, partitions) = (&self.sources[source], self.paths[path].partitions);
        let envelopes = &mut opened.envelopes;
        opened.refused =
            match intake::open(&record, source, partitions, &self.cluster, |envelope| envelopes.push(envelope)) {
                Ok(None) => None,
                Ok(Some(Leftover { value, refused })) => Some((Received { value: Some(value), ..record }, refused)),
                Err(refused) => Some((record, refused)),
            };
        opened
    }

    /// Whether anything waits at the gate. What waits behind it waits for records and not for the clock.
    pub(crate) fn is_waiting(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| !gate.is_empty())
    }

    /// Whether there is anything to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// Processes what has waited long enough at the gate.
    pub(crate) fn release(&mut self) {
        let partitions = self.gate.as_ref().map(Gate::partitions).unwrap_or_default();
        partitions.iter().for_each(|partition| self.release_from(partition));
    }

    fn release_from(&mut self, partition: &PartitionId) {
        let now_ms = self.inputs.get(partition).and_then(|input| input.stream_time_ms).unwrap_or_default();
        while let Some(opened) = self.gate.as_mut().and_then(|gate| gate.pop(partition, now_ms)) {
            self.arrive(opened);
        }
    }

    /// A record comes to its chain, or to what waits before it.
    fn arrive(&mut self, opened: Opened) {
        let path = opened.path;
        match self.waiting[path].take() {
            Some(mut waiting) => {
                waiting.arrive(opened, self);
                self.waiting[path] = Some(waiting);
            }
            None => self.process(opened, false),
        }
    }

    fn settle(&mut self, from: &PartitionId, generation: Generation, offset: u64, timestamp_ms: i64) {
        let first = Settles { generation, first: offset, next: offset + 1, timestamp_ms };
        let settles = self.next.entry(from.clone()).or_insert(first);
        let timestamp_ms = settles.timestamp_ms.max(timestamp_ms);
        *settles = Settles { generation, first: settles.first, next: offset + 1, timestamp_ms };
    }

    fn refuse(&mut self, record: &Received, refused: &Refused) {
        tracing::error!(partition = %record.from, offset = record.offset, error = %refused, "record refused");
        let letter = self.dead_letter(record, refused.reason(), &refused.to_string());
        self.dead.push((letter, refused.reason()));
    }

    /// Closes what is in hand; `None` where nothing is.
    pub(crate) fn close(&mut self) -> Option<Batch> {
        if self.next.is_empty() {
            return None;
        }
        let next = std::mem::take(&mut self.next);
        let steps = self.paths.each_mut().map(|path| path.chain.close(&mut self.derived));
        let time = next.values().map(|settles| settles.timestamp_ms).max().unwrap_or_default();
        let metrics = self.derived.take(time.min(dead_letter::now_ms()), &source_header(&next));
        let offset = |(partition, Settles { generation, next, .. })| Offset { partition, generation, next };
        let offsets = next.into_iter().map(offset).collect();
        Some(Batch {
            outputs: self.merger.take(),
            metrics,
            steps,
            dead: std::mem::take(&mut self.dead),
            offsets,
            tallies: std::mem::take(&mut self.tallies),
            passed_over: std::mem::take(&mut self.passed_over),
        })
    }

    /// Makes smaller what goes to that partition and has at least that size, which the bus says is too large for it:
    /// outputs are split, of single items that are too large dead letters are made, and of such a dead letter one
    /// without value and foreign headers. Says whether anything came of it.
    pub(crate) fn make_smaller(&self, batch: &mut Batch, to: &PartitionId, size: usize) -> bool {
        let mut changed = false;
        let large = |record: &Record| record.to == *to && record.size() >= size;
        for (letter, _) in batch.dead.iter_mut().filter(|(letter, _)| large(letter)) {
            changed |= dead_letter::shorten(letter);
        }
        for output in std::mem::take(&mut batch.outputs) {
            if !large(&output.record) {
                batch.outputs.push(output);
                continue;
            }
            changed = true;
            match output.split() {
                Some(smaller) => batch.outputs.extend(smaller),
                None => {
                    let size = output.record.size();
                    let error = format!("a single item of {size} bytes, with its resource, is too large for {to}");
                    tracing::error!(%error, "record refused by the bus");
                    let letter = self.dead_letter(&origin(&output), TOO_LARGE, &error);
                    batch.dead.push((letter, TOO_LARGE));
                }
            }
        }
        changed
    }

    fn dead_letter(&self, record: &Received, reason: &'static str, error: &str) -> Record {
        let DeadLetters { topic, partitions } = &self.dead_letters;
        let refusal = Refusal { component: NAME, reason, error, time_ms: dead_letter::now_ms() };
        dead_letter::dead_letter(record, topic.clone(), *partitions, refusal)
    }

    /// Counts a committed transaction.
    pub(crate) fn settled(&self, batch: &Batch) {
        for (path, tally) in self.paths.iter().zip(&batch.tallies) {
            let labels = ComponentLabels { component: NAME, signal: path.signal.as_str() };
            self.metrics.settled_items.get_or_create(&labels).inc_by(tally.items);
            self.metrics.settled_bytes.get_or_create(&labels).inc_by(tally.bytes);
        }
        for (path, steps) in self.paths.iter().zip(&batch.steps) {
            steps.iter().for_each(|(step, tally)| self.count(path.signal, step, tally));
        }
        for (_, reason) in &batch.dead {
            self.metrics.dead_letters.get_or_create(&ReasonLabels { component: NAME, reason }).inc();
        }
        if batch.passed_over > 0 {
            let labels = ReasonLabels { component: NAME, reason: FOR_ANOTHER };
            self.metrics.dropped_items.get_or_create(&labels).inc_by(batch.passed_over);
        }
    }

    fn count(&self, signal: Signal, step: &'static str, tally: &chain::Tally) {
        let (component, signal) = (NAME, signal.as_str());
        self.metrics.step_items.get_or_create(&StepLabels { component, signal, step }).inc_by(tally.items);
        for (reason, items) in &tally.dropped {
            let labels = StepReasonLabels { component, signal, step, reason };
            self.metrics.step_dropped_items.get_or_create(&labels).inc_by(*items);
        }
        for (reason, items) in &tally.outcomes {
            let labels = StepReasonLabels { component, signal, step, reason };
            self.metrics.step_outcomes.get_or_create(&labels).inc_by(*items);
        }
    }

    /// Counts an attempt that failed.
    pub(crate) fn retried(&self) {
        self.metrics.retries.get_or_create(&ReasonLabels { component: NAME, reason: "bus" }).inc();
    }
}

impl Through for Work {
    fn foresee(&mut self, opened: &Opened) {
        let (chain, at) = (&mut self.paths[opened.path].chain, opened.at());
        opened.envelopes.iter().for_each(|envelope| chain.foresee(envelope, &at));
    }

    fn process(&mut self, mut opened: Opened, early: bool) {
        let Path { chain, .. } = &mut self.paths[opened.path];
        let (merger, tally) = (&mut self.merger, &mut self.tallies[opened.path]);
        let envelopes = std::mem::take(&mut opened.envelopes);
        let at = opened.at();
        if opened.repeat {
            envelopes.into_iter().for_each(|envelope| chain.let_go(envelope, &at, early, &mut |_| {}));
            return;
        }
        tally.bytes += opened.bytes as u64;
        for envelope in envelopes {
            tally.items += envelope.items;
            chain.let_go(envelope, &at, early, &mut |out| merger.push(out, &opened.from));
        }
        self.passed_over += opened.passed_over;
        self.settle(&opened.from, opened.generation, opened.offset, opened.timestamp_ms);
        if let Some((record, refused)) = opened.refused {
            self.refuse(&record, &refused);
        }
    }
}

/// `topic/partition/first-last` of every input partition, with commas between them.
fn source_header(settles: &BTreeMap<PartitionId, Settles>) -> String {
    let range = |(partition, Settles { first, next, .. }): (&PartitionId, &Settles)| {
        format!("{partition}/{first}-{}", next.saturating_sub(1))
    };
    settles.iter().map(range).collect::<Vec<_>>().join(",")
}

/// An output as a record of the position that it was made of.
fn origin(output: &Output) -> Received {
    let record = output.record.clone();
    let mut headers = record.headers;
    // Whatever it was read in.
    headers.set(HEADER_ENCODING, Encoding::OtlpProto.as_str());
    let (from, offset) = output.origin().map_or((record.to, 0), |(from, part)| {
        headers.set(HEADER_ATTEMPTS, part.attempts.to_string());
        (from.clone(), part.offset)
    });
    let (key, value, timestamp_ms) = (record.key, record.value, record.timestamp_ms);
    Received { from, generation: Generation(0), offset, timestamp_ms, key, value, headers }
}
