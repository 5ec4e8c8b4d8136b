//! The pure part of the stage: records in, one transaction's outputs and offsets out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use afflux_bus::{Generation, Offset, PartitionId, Received, Record};
use afflux_runtime::dead_letter;
use afflux_runtime::metrics::{ComponentLabels, ReasonLabels};
use afflux_runtime::{Metrics, Signal};

use crate::chain::{Chain, Envelope};
use crate::intake::{self, Leftover, Refused, Source};
use crate::merge::{Merger, source};
use crate::stage::NAME;

/// Reason of a dead letter that is larger than the bus allows.
const TOO_LARGE: &str = "too_large";

/// One transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) outputs: Vec<Record>,
    pub(crate) offsets: Vec<Offset>,
    tallies: [Tally; 2],
}

impl Batch {
    /// The input partitions that the outputs to a partition were made of.
    pub(crate) fn sources_of(&self, to: &PartitionId) -> BTreeSet<PartitionId> {
        self.outputs.iter().filter(|output| output.to == *to).filter_map(made_of).collect()
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
    dead: Vec<Record>,
    next: BTreeMap<PartitionId, (Generation, u64)>,
    tallies: [Tally; 2],
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
        Self { sources, paths, dead_letters, cluster, metrics, merger, dead, next, tallies }
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
        match self.process(&record, at, index) {
            Ok(None) => {}
            Ok(Some(Leftover { value, refused })) => self.refuse(&Received { value: Some(value), ..record }, &refused),
            Err(refused) => self.refuse(&record, &refused),
        }
    }

    fn refuse(&mut self, record: &Received, refused: &Refused) {
        tracing::error!(partition = %record.from, offset = record.offset, error = %refused, "record refused");
        self.dead.push(self.dead_letter(record, refused.reason(), &refused.to_string()));
    }

    fn process(&mut self, record: &Received, at: usize, index: usize) -> Result<Option<Leftover>, Refused> {
        let Path { partitions, chain, .. } = &mut self.paths[index];
        let (merger, tally) = (&mut self.merger, &mut self.tallies[index]);
        intake::open(record, &self.sources[at], *partitions, &self.cluster, |envelope: Envelope, partition| {
            tally.items += envelope.items;
            chain.process(envelope, &mut |out| merger.push(out, &record.from, record.offset, partition));
        })
    }

    /// Closes what is in hand; `None` where nothing is.
    pub(crate) fn close(&mut self) -> Option<Batch> {
        if self.next.is_empty() {
            return None;
        }
        let mut outputs = self.merger.take();
        outputs.append(&mut self.dead);
        let offsets = std::mem::take(&mut self.next)
            .into_iter()
            .map(|(partition, (generation, next))| Offset { partition, generation, next })
            .collect();
        Some(Batch { outputs, offsets, tallies: std::mem::take(&mut self.tallies) })
    }

    /// Replaces the outputs to that partition of at least that size by dead letters, which the bus says are too large
    /// for it; and such a dead letter by one without value and foreign headers. Says whether anything came of it.
    pub(crate) fn replace_large(&self, batch: &mut Batch, to: &PartitionId, size: usize) -> bool {
        let mut replaced = false;
        for output in &mut batch.outputs {
            if output.to != *to || output.size() < size {
                continue;
            }
            let error = format!("a record of {} bytes is too large for {to}", output.size());
            tracing::error!(%error, "record refused by the bus");
            if output.to.topic == self.dead_letters.topic {
                replaced |= dead_letter::shorten(output);
                continue;
            }
            let refused = origin(output);
            *output = self.dead_letter(&refused, TOO_LARGE, &error);
            replaced = true;
        }
        replaced
    }

    fn dead_letter(&self, record: &Received, reason: &'static str, error: &str) -> Record {
        self.metrics.dead_letters.get_or_create(&ReasonLabels { component: NAME, reason }).inc();
        let DeadLetters { topic, partitions } = &self.dead_letters;
        dead_letter::dead_letter(record, topic.clone(), *partitions, NAME, reason, error)
    }

    /// Counts a committed transaction.
    pub(crate) fn settled(&self, batch: &Batch) {
        for (path, tally) in self.paths.iter().zip(&batch.tallies) {
            let labels = ComponentLabels { component: NAME, signal: path.signal.as_str() };
            self.metrics.settled_items.get_or_create(&labels).inc_by(tally.items);
            self.metrics.settled_bytes.get_or_create(&labels).inc_by(tally.bytes);
        }
    }

    /// Counts an attempt that failed.
    pub(crate) fn retried(&self) {
        self.metrics.retries.get_or_create(&ReasonLabels { component: NAME, reason: "bus" }).inc();
    }
}

/// The input partition of an output or a dead letter.
fn made_of(output: &Record) -> Option<PartitionId> {
    source(&output.headers).map(|(partition, _)| partition).or_else(|| dead_letter::source(&output.headers))
}

/// An output as a record of the position that it was made of.
fn origin(output: &Record) -> Received {
    let (from, offset) = source(&output.headers).unwrap_or_else(|| (output.to.clone(), 0));
    Received {
        from,
        generation: Generation(0),
        offset,
        timestamp_ms: output.timestamp_ms,
        key: output.key.clone(),
        value: output.value.clone(),
        headers: output.headers.clone(),
    }
}
