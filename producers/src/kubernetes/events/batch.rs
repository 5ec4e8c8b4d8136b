//! What goes into one transaction.

use afflux_bus::{Generation, Received, Record};
use afflux_runtime::dead_letter::{self, Refusal};
use afflux_runtime::metrics::{ComponentLabels, ReasonLabels};

use super::super::NAME;
use super::super::encode::Counted;
use super::session::{End, Session};

/// Events of one transaction at most, and their bytes, about.
const MOST_EVENTS: usize = 1000;
const MOST_BYTES: usize = 2 << 20;
/// The component that a replay of a dead letter is for.
const READER: &str = "processors";

/// See the module.
#[derive(Default)]
pub(super) struct Batch {
    events: Vec<Counted>,
    /// Gaps, and what could not be read.
    others: Vec<Record>,
    bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, event: Counted) {
        self.bytes += event.0.size();
        self.events.push(event);
    }

    pub(super) fn push_record(&mut self, record: Record) {
        self.bytes += record.size();
        self.others.push(record);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.others.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.events.len() + self.others.len() >= MOST_EVENTS || self.bytes >= MOST_BYTES
    }
}

impl Session<'_> {
    /// Writes what is gathered, and how far it goes.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        let now_ms = dead_letter::now_ms();
        let batch = std::mem::take(&mut self.batch);
        let mut records = batch.others;
        let items = batch.events.len() as u64;
        for record in self.target.records(&batch.events, now_ms) {
            records.push(self.fitting(record, now_ms));
        }
        let bytes: usize = records.iter().map(Record::size).sum();
        let cluster = &self.of.cluster;
        let checkpoint = self.progress.encode(&cluster.name, &cluster.uid, now_ms);
        self.store.commit(records, Some(checkpoint), now_ms).await?;
        self.of.board.bus_works(super::STREAM);
        self.committed = true;
        (self.written, self.unwritten) = (tokio::time::Instant::now(), false);
        let (labels, metrics) = (ComponentLabels { component: NAME, signal: "events" }, &self.of.board.metrics);
        metrics.accepted_items.get_or_create(&labels).inc_by(items);
        metrics.accepted_bytes.get_or_create(&labels).inc_by(bytes as u64);
        Ok(())
    }

    /// The record, or a dead letter in the place of one that is too large for the bus (D7).
    fn fitting(&self, record: Record, now_ms: i64) -> Record {
        if record.size() <= self.most_bytes {
            return record;
        }
        let error = format!("a record of {} bytes is over the limit of {}", record.size(), self.most_bytes);
        let mut letter = self.dead_letter(record, "too_large", &error, now_ms);
        if letter.size() > self.most_bytes {
            dead_letter::shorten(&mut letter);
        }
        letter
    }

    /// What cannot be published, with its reason.
    pub(super) fn dead_letter(&self, record: Record, reason: &'static str, error: &str, now_ms: i64) -> Record {
        tracing::error!(cluster = &*self.of.cluster.name, error, "an event becomes a dead letter");
        let labels = ReasonLabels { component: NAME, reason };
        self.of.board.metrics.dead_letters.get_or_create(&labels).inc();
        // The position is where it was bound for, so that a replay goes there.
        let refused = Received {
            from: record.to,
            generation: Generation(0),
            offset: 0,
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        let refusal = Refusal { component: READER, reason, error, time_ms: now_ms };
        let (topic, partitions) = &self.dead_letters;
        dead_letter::dead_letter(&refused, topic.clone(), *partitions, refusal)
    }
}
