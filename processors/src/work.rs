//! The pure part of the stage: records in, one transaction's outputs and offsets out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use afflux_bus::{Generation, Offset, PartitionId, Received, Record};
use afflux_runtime::dead_letter::{self, Refusal};
use afflux_runtime::metrics::{ComponentLabels, ReasonLabels};
use afflux_runtime::{Metrics, Signal};
use afflux_schemas::encoding::Encoding;
use afflux_schemas::topics::{HEADER_ATTEMPTS, HEADER_ENCODING};

use crate::chain::{Chain, Envelope};
use crate::intake::{self, Leftover, Refused, Source};
use crate::merge::{Merger, Output};
use crate::stage::NAME;

/// Reason of a dead letter that is larger than the bus allows.
const TOO_LARGE: &str = "too_large";
/// Reason for passing over a replay that another component asked for.
const FOR_ANOTHER: &str = "replay_of_another";

/// One transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    outputs: Vec<Output>,
    dead: Dead,
    pub(crate) offsets: Vec<Offset>,
    tallies: [Tally; 2],
    passed_over: u64,
}

/// Dead letters, each with its reason. They count once they are committed.
type Dead = Vec<(Record, &'static str)>;

impl Batch {
    /// What is written.
    pub(crate) fn records(&self) -> Vec<Record> {
        let outputs = self.outputs.iter().map(|output| &output.record);
        outputs.chain(self.dead.iter().map(|(letter, _)| letter)).cloned().collect()
    }
}

impl Batch {
    /// The input partitions that the outputs to a partition were made of.
    pub(crate) fn sources_of(&self, to: &PartitionId) -> BTreeSet<PartitionId> {
        let outputs = self.outputs.iter().filter(|output| output.record.to == *to);
        let outputs = outputs.filter_map(|output| output.origin().map(|(partition, _)| partition.clone()));
        let dead = self.dead.iter().filter(|(letter, _)| letter.to == *to);
        outputs.chain(dead.filter_map(|(letter, _)| dead_letter::source(&letter.headers))).collect()
    }
}

/// What a transaction settles, per signal.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    items: u64,
    bytes: u64,
}

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

/// What is in hand since the last commit.
pub(crate) struct Work {
    /// Our own topics before those of others, whose names may look like those of mirrored ones.
    sources: Vec<Source>,
    paths: [Path; 2],
    dead_letters: DeadLetters,
    cluster: Arc<str>,
    metrics: Arc<Metrics>,
    merger: Merger,
    dead: Dead,
    next: BTreeMap<PartitionId, (Generation, u64)>,
    tallies: [Tally; 2],
    /// Items of replays for others.
    passed_over: u64,
}

impl Work {
    pub(crate) fn new(
        sources: Vec<Source>,
        paths: [Path; 2],
        merger: Merger,
        dead_letters: DeadLetters,
        cluster: Arc<str>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (dead, next, tallies) = (Vec::new(), BTreeMap::new(), Default::default());
        Self { sources, paths, dead_letters, cluster, metrics, merger, dead, next, tallies, passed_over: 0 }
    }

    /// Bytes read since the last commit.
    pub(crate) fn bytes(&self) -> u64 {
        self.tallies.iter().map(|t| t.bytes).sum()
    }

    /// Processes one record. A refused one becomes a dead letter within the same transaction (D7).
    pub(crate) fn take(&mut self, record: Received) {
        let Some(at) = self.sources.iter().rposition(|source| source.is_of(&record.from.topic)) else {
            tracing::error!(partition = %record.from, "record of a topic that was not asked for");
            return;
        };
        let signal = self.sources[at].signal;
        let index = usize::from(signal == self.paths[1].signal);
        self.tallies[index].bytes += record.size() as u64;
        self.next.insert(record.from.clone(), (record.generation, record.offset + 1));
        if dead_letter::is_for_another(&record.headers, NAME) {
            self.passed_over += dead_letter::items(&record.headers);
            return;
        }
        match self.process(&record, at, index) {
            Ok(None) => {}
            Ok(Some(Leftover { value, refused })) => self.refuse(&Received { value: Some(value), ..record }, &refused),
            Err(refused) => self.refuse(&record, &refused),
        }
    }

    fn refuse(&mut self, record: &Received, refused: &Refused) {
        tracing::error!(partition = %record.from, offset = record.offset, error = %refused, "record refused");
        let letter = self.dead_letter(record, refused.reason(), &refused.to_string());
        self.dead.push((letter, refused.reason()));
    }

    fn process(&mut self, record: &Received, at: usize, index: usize) -> Result<Option<Leftover>, Refused> {
        let Path { partitions, chain, .. } = &mut self.paths[index];
        let (merger, tally) = (&mut self.merger, &mut self.tallies[index]);
        let (from, attempts) = ((&record.from, record.offset), dead_letter::attempts(&record.headers));
        intake::open(record, &self.sources[at], *partitions, &self.cluster, |envelope: Envelope, partition| {
            tally.items += envelope.items;
            chain.process(envelope, &mut |out| merger.push(out, from, attempts, partition));
        })
    }

    /// Closes what is in hand; `None` where nothing is.
    pub(crate) fn close(&mut self) -> Option<Batch> {
        if self.next.is_empty() {
            return None;
        }
        let offsets = std::mem::take(&mut self.next)
            .into_iter()
            .map(|(partition, (generation, next))| Offset { partition, generation, next })
            .collect();
        Some(Batch {
            outputs: self.merger.take(),
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
        for (_, reason) in &batch.dead {
            self.metrics.dead_letters.get_or_create(&ReasonLabels { component: NAME, reason }).inc();
        }
        if batch.passed_over > 0 {
            let labels = ReasonLabels { component: NAME, reason: FOR_ANOTHER };
            self.metrics.dropped_items.get_or_create(&labels).inc_by(batch.passed_over);
        }
    }

    /// Counts an attempt that failed.
    pub(crate) fn retried(&self) {
        self.metrics.retries.get_or_create(&ReasonLabels { component: NAME, reason: "bus" }).inc();
    }
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
