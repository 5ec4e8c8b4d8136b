//! Writes what was read to the bus, in its order, however often it must be asked.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use afflux_bus::{BusError, ErrorClass, Generation, Headers, PartitionId, Producer, Received, Record};
use afflux_runtime::Backoff;
use afflux_runtime::dead_letter::{self, Refusal};
use afflux_schemas::otlp::split;
use afflux_schemas::topics::{HEADER_ITEMS, HEADER_SOURCE_CLUSTER};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::engine::{Chunk, Wake};

/// Delays between attempts.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(100);
pub(super) const LAST_RETRY: Duration = Duration::from_secs(10);
/// Bytes that go to the bus in one call, about: enough that a sync to disk does not count.
const TOGETHER: usize = 8 * 1024 * 1024;
/// How long a bus that does not answer is waited for when the process is asked to stop.
const FAREWELL: Duration = Duration::from_secs(5);
/// Reason of a dead letter that is larger than the bus allows.
const TOO_LARGE: &str = "too_large";
/// The component that a replay of a dead letter is for: whoever reads the topic that the record was bound for.
const READER: &str = "processors";

/// Where records go.
#[derive(Clone)]
pub(super) struct To {
    pub(super) producer: Arc<dyn Producer>,
    pub(super) logs: Arc<str>,
    /// Topic and partitions.
    pub(super) dead_letters: (Arc<str>, u32),
    /// Cluster of this process.
    pub(super) cluster: Option<String>,
}

/// The side that writes.
pub(super) struct Publisher {
    pub(super) to: To,
    pub(super) board: Arc<Board>,
    pub(super) shutdown: CancellationToken,
    pub(super) wakes: Sender<Wake>,
}

impl Publisher {
    /// Publishes until nothing more comes, and tells what the bus has acknowledged. On shutdown it gives up where the bus
    /// takes nothing: what was not acknowledged is read again.
    ///
    /// # Errors
    /// The bus is unusable.
    pub(super) async fn run(self, mut chunks: UnboundedReceiver<Chunk>) -> Result<(), BusError> {
        let mut outcome = Ok(());
        while let Some(first) = chunks.recv().await {
            let (mut records, mut positions) = (Vec::new(), Vec::new());
            let (mut bytes, mut items, mut next) = (0, 0, Some(first));
            while let Some(chunk) = next {
                bytes += chunk.bytes();
                items += chunk.requests.iter().map(|request| request.items).sum::<u64>();
                positions.extend_from_slice(&chunk.positions);
                self.records(chunk, &mut records);
                next = if bytes < TOGETHER { chunks.try_recv().ok() } else { None };
            }
            match self.send(records).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            self.board.stored(items, bytes);
            // Whoever reads has ended only if the process is about to.
            let _ = self.wakes.send(Wake::Acked { bytes, positions });
        }
        let _ = self.wakes.send(Wake::Published);
        outcome
    }

    fn records(&self, chunk: Chunk, records: &mut Vec<Record>) {
        let timestamp_ms = dead_letter::now_ms();
        for request in chunk.requests {
            let headers = self.headers(request.items);
            let to = PartitionId { topic: Arc::clone(&self.to.logs), partition: chunk.partition };
            records.push(Record { to, key: None, value: Some(request.value), timestamp_ms, headers });
        }
    }

    /// Sends until the bus has acknowledged; `false` where the process is asked to stop first.
    async fn send(&self, mut records: Vec<Record>) -> Result<bool, BusError> {
        if records.is_empty() {
            return Ok(true);
        }
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let sent = tokio::select! {
                sent = self.to.producer.send(records.clone()) => sent,
                () = self.farewell() => return Ok(false),
            };
            let error = match sent {
                Ok(()) => {
                    self.board.bus(None);
                    let dead = records.iter().filter(|record| record.to.topic == self.to.dead_letters.0).count();
                    (0..dead).for_each(|_| self.board.dead(TOO_LARGE));
                    return Ok(true);
                }
                Err(error) => error,
            };
            if let BusError::TooLarge { to, size, .. } = &error {
                // Kafka measures what comes together, so each is tried by itself before anything is made of it.
                if records.len() > 1 {
                    return self.send_apart(records).await;
                }
                if self.shrink(&mut records, to, *size) {
                    continue;
                }
            }
            let ErrorClass::Transient(after) = error.class() else { return Err(error) };
            tracing::warn!(%error, "the bus does not take log lines; retrying");
            self.board.bus(Some(error.to_string()));
            self.board.retried();
            tokio::select! {
                () = backoff.wait(after) => {}
                () = self.shutdown.cancelled() => return Ok(false),
            }
        }
    }

    async fn send_apart(&self, records: Vec<Record>) -> Result<bool, BusError> {
        for record in records {
            if !Box::pin(self.send(vec![record])).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn farewell(&self) {
        self.shutdown.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    }

    fn headers(&self, items: u64) -> Headers {
        let mut headers = Headers::new();
        headers.push(HEADER_ITEMS, items.to_string());
        if let Some(cluster) = &self.to.cluster {
            headers.push(HEADER_SOURCE_CLUSTER, cluster.clone());
        }
        headers
    }

    /// Makes what has that size or more smaller, where it is bound for `to`; `false` where nothing can be.
    fn shrink(&self, records: &mut Vec<Record>, to: &PartitionId, size: usize) -> bool {
        let (mut shrunk, mut smaller) = (false, Vec::with_capacity(records.len() + 1));
        for mut record in records.drain(..) {
            if record.to != *to || record.size() < size {
                smaller.push(record);
                continue;
            }
            let halves = self.halves(&record);
            if halves.len() > 1 {
                shrunk = true;
                smaller.extend(halves);
            } else {
                shrunk |= self.replace(&mut record);
                smaller.push(record);
            }
        }
        *records = smaller;
        shrunk
    }

    /// The lines of a record in two records; nothing of what is no more than one line.
    fn halves(&self, record: &Record) -> Vec<Record> {
        let items = dead_letter::items(&record.headers);
        if record.to.topic != self.to.logs || items < 2 {
            return Vec::new();
        }
        let halves = split::at_item(&record.value.clone().unwrap_or_default(), items / 2).into_iter();
        let half =
            |half: split::Part| Record { value: Some(half.value), headers: self.headers(half.items), ..record.clone() };
        halves.map(half).collect()
    }

    /// Puts a dead letter in the place of a line that is too large (D7), and a short one in the place of such a letter.
    fn replace(&self, record: &mut Record) -> bool {
        let (topic, partitions) = &self.to.dead_letters;
        if record.to.topic == *topic {
            return dead_letter::shorten(record);
        }
        let error = format!(
            "a line of {} bytes is too large for {}; lower producers.files.limits.line_bytes",
            record.size(),
            record.to
        );
        tracing::error!(%error, "record refused by the bus");
        let refused = Received {
            from: record.to.clone(),
            generation: Generation(0),
            offset: 0,
            timestamp_ms: record.timestamp_ms,
            key: None,
            value: record.value.clone(),
            headers: record.headers.clone(),
        };
        let refusal = Refusal { component: READER, reason: TOO_LARGE, error: &error, time_ms: dead_letter::now_ms() };
        *record = dead_letter::dead_letter(&refused, topic.clone(), *partitions, refusal);
        true
    }
}
