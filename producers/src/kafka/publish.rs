//! Writes copies to the bus, however often it must be asked.

use std::sync::Arc;

use afflux_bus::{BusError, ErrorClass, Generation, Producer, Received, Record};
use afflux_runtime::dead_letter::{self, Refusal};
use afflux_runtime::metrics::ReasonLabels;
use afflux_runtime::{Backoff, Context, Metrics};
use tokio_util::sync::CancellationToken;

use super::KafkaSources;
use super::health::Board;
use super::source::{FIRST_RETRY, LAST_RETRY};

/// Reason of a dead letter that is larger than the bus allows.
const TOO_LARGE: &str = "too_large";
/// The component that a replay of a dead letter is for: whoever reads the topic that the copy was bound for.
const READER: &str = "processors";

/// Where copies go: topics, each with its number of partitions.
#[derive(Clone)]
pub(super) struct To {
    pub(super) producer: Arc<dyn Producer>,
    /// As [`copied`](super::copy::copied) has them.
    pub(super) topics: [(Arc<str>, u32); 4],
    pub(super) dead_letters: (Arc<str>, u32),
}

/// What came of publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// The bus holds everything.
    All,
    /// The process is asked to stop, and the bus did not answer.
    Stopped,
}

/// The side of one source that writes.
pub(super) struct Publisher {
    source: String,
    to: To,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
}

impl Publisher {
    pub(super) fn new(source: String, to: To, board: Arc<Board>, context: &Context) -> Self {
        Self { source, to, board, metrics: Arc::clone(&context.metrics), shutdown: context.shutdown.clone() }
    }

    /// Publishes copies, in their order. One that the bus never takes becomes a dead letter (D7).
    ///
    /// # Errors
    /// The bus is unusable.
    pub(super) async fn publish(&self, mut records: Vec<Record>) -> Result<Published, BusError> {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let error = match self.to.producer.send(records.clone()).await {
                Ok(()) => {
                    self.board.bus_works(&self.source);
                    self.count(&records);
                    return Ok(Published::All);
                }
                Err(error) => error,
            };
            if let BusError::TooLarge { to, size, .. } = &error {
                let large = |record: &&mut Record| record.to == *to && record.size() >= *size;
                let mut replaced = false;
                for record in records.iter_mut().filter(large) {
                    replaced |= self.replace(record);
                }
                if replaced {
                    continue;
                }
            }
            let ErrorClass::Transient(after) = error.class() else { return Err(error) };
            tracing::warn!(%error, source = self.source, "bus does not take copies; retrying");
            self.board.bus_failed(&self.source, &error.to_string());
            self.metrics.retries.get_or_create(&ReasonLabels { component: KafkaSources::NAME, reason: "bus" }).inc();
            tokio::select! {
                () = backoff.wait(after) => {}
                () = self.shutdown.cancelled() => return Ok(Published::Stopped),
            }
        }
    }

    /// Puts a dead letter in the place of a copy that is too large, and a short one in the place of such a dead letter.
    fn replace(&self, record: &mut Record) -> bool {
        let (topic, partitions) = &self.to.dead_letters;
        if record.to.topic == *topic {
            return dead_letter::shorten(record);
        }
        let error =
            format!("a record of {} bytes, copied from {}, is too large for {}", record.size(), self.source, record.to);
        tracing::error!(%error, "record refused by the bus");
        // The position is where it was bound for, so that a replay goes there; its headers tell the origin.
        let refused = Received {
            from: record.to.clone(),
            generation: Generation(0),
            offset: 0,
            timestamp_ms: record.timestamp_ms,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        };
        let refusal = Refusal { component: READER, reason: TOO_LARGE, error: &error, time_ms: dead_letter::now_ms() };
        *record = dead_letter::dead_letter(&refused, topic.clone(), *partitions, refusal);
        true
    }

    fn count(&self, records: &[Record]) {
        let dead = records.iter().filter(|record| record.to.topic == self.to.dead_letters.0).count();
        if dead > 0 {
            let labels = ReasonLabels { component: KafkaSources::NAME, reason: TOO_LARGE };
            self.metrics.dead_letters.get_or_create(&labels).inc_by(dead as u64);
        }
    }
}
