//! Reading whole topics without a group: one thread and one client per topic.
//!
//! Per topic, because librdkafka tells the end of a partition without naming the topic.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::client::OAuthToken;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset as RawOffset;
use rdkafka::{ClientContext, Statistics};
use tokio::sync::mpsc;

use super::admin::{offset_list, offsets};
use super::client::{Shared, blocking};
use super::error::is_unknown_topic;
use super::message::received;
use crate::contract::{Reader, ReaderEvent};
use crate::error::{BusError, ErrorClass};
use crate::record::{PartitionId, Received};

/// How long the thread waits for a record before it looks at everything else.
const TICK: Duration = Duration::from_millis(20);
/// Pause while the caller is behind.
const BEHIND: Duration = Duration::from_millis(2);
/// Pause between two questions about a transaction that is still open, or after one that failed.
const RETRY: Duration = Duration::from_millis(50);
/// How long one question blocks the thread.
const QUESTION: Duration = Duration::from_secs(2);
/// Portions into which the bytes that may be held are cut: one is filled while others wait for the caller.
const PORTIONS: usize = 4;

/// Where to begin in a partition, and where it ended when the reader was opened.
type Ranges = Vec<(PartitionId, Range<u64>)>;

/// Passes librdkafka's log and errors on.
struct Context(Arc<Shared>);

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.observe(&error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.0.token()
    }
}

impl ConsumerContext for Context {}

/// See [`Reader`].
pub(super) struct KafkaReader {
    shared: Arc<Shared>,
    events: mpsc::Receiver<Result<ReaderEvent, BusError>>,
    /// Partitions that have not caught up.
    waiting: usize,
    complete: bool,
}

impl KafkaReader {
    /// `alive` is cloned for as long as a thread runs.
    pub(super) async fn open(
        shared: &Arc<Shared>,
        ranges: Ranges,
        fetch_bytes: usize,
        alive: &mpsc::Sender<()>,
    ) -> Result<Self, BusError> {
        let waiting = ranges.len();
        let (sender, events) = mpsc::channel(PORTIONS / 2);
        for ranges in ranges.chunk_by(|(one, _), (other, _)| one.topic == other.topic) {
            let (owned, events, alive) = (Arc::clone(shared), sender.clone(), alive.clone());
            let ranges = ranges.to_vec();
            let driver = blocking(move || Driver::new(owned, ranges, fetch_bytes / PORTIONS, events)).await??;
            let run = move || {
                driver.run();
                drop(alive);
            };
            std::thread::Builder::new()
                .name("kafka-reader".to_owned())
                .spawn(run)
                .map_err(|source| BusError::Full { reason: format!("no thread for a reader: {source}") })?;
        }
        Ok(Self { shared: Arc::clone(shared), events, waiting, complete: waiting == 0 })
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self) -> Result<ReaderEvent, BusError> {
        self.shared.check_open()?;
        if std::mem::take(&mut self.complete) {
            return Ok(ReaderEvent::Complete);
        }
        let event = self.events.recv().await.ok_or(BusError::Closed)?;
        if matches!(event, Ok(ReaderEvent::CaughtUp(_))) {
            self.waiting -= 1;
            self.complete = self.waiting == 0;
        }
        event
    }
}

/// One partition.
struct Position {
    partition: PartitionId,
    /// No lower offset is delivered.
    next: u64,
    /// Its end when the reader was opened.
    target: u64,
    caught_up: bool,
}

/// The thread of one topic.
struct Driver {
    shared: Arc<Shared>,
    consumer: BaseConsumer<Context>,
    positions: Vec<Position>,
    /// Bytes of one portion.
    limit: usize,
    events: mpsc::Sender<Result<ReaderEvent, BusError>>,
    /// What is to be sent, in order.
    outbox: VecDeque<Result<ReaderEvent, BusError>>,
    records: Vec<Received>,
    bytes: usize,
    /// Since when no broker answers.
    trouble: Option<Instant>,
}

impl Driver {
    fn new(
        shared: Arc<Shared>,
        ranges: Ranges,
        limit: usize,
        events: mpsc::Sender<Result<ReaderEvent, BusError>>,
    ) -> Result<Self, BusError> {
        let config = shared.config.reader(limit * PORTIONS);
        let consumer = BaseConsumer::from_config_and_context(&config, Context(Arc::clone(&shared)))
            .map_err(|error| shared.operation("creation of a reader").kafka_error(&error))?;
        let position = |(partition, range): (PartitionId, Range<u64>)| Position {
            partition,
            next: range.start,
            target: range.end,
            caught_up: false,
        };
        let positions = ranges.into_iter().map(position).collect();
        let (outbox, records) = (VecDeque::new(), Vec::new());
        Ok(Self { shared, consumer, positions, limit, events, outbox, records, bytes: 0, trouble: None })
    }

    fn is_over(&self) -> bool {
        self.events.is_closed() || self.shared.is_closed()
    }

    fn run(mut self) {
        if !self.begin() {
            return;
        }
        while !self.is_over() {
            self.fetch();
            self.close_portion();
            self.look_for_brokers();
            if !self.deliver() {
                return;
            }
        }
    }

    /// Waits until whatever was open at the opening is decided, then starts to fetch. From then on the end of a
    /// partition, as librdkafka tells it, is behind the target.
    fn begin(&mut self) -> bool {
        while !self.is_over() {
            match self.is_decided() {
                Ok(true) => {
                    let assigned = self.assign();
                    self.outbox.extend(assigned.err().map(Err));
                    return self.deliver();
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, "reader asks again");
                    self.trouble.get_or_insert_with(Instant::now);
                    self.look_for_brokers();
                    if !self.deliver() {
                        return false;
                    }
                }
            }
            std::thread::sleep(RETRY);
        }
        false
    }

    /// Whether no transaction is open any more below the targets.
    fn is_decided(&self) -> Result<bool, BusError> {
        let ask = offset_list(self.positions.iter().map(|p| (&p.partition, RawOffset::End)))?;
        let answer = self.consumer.offsets_for_times(ask, QUESTION);
        let stable = offsets(&answer.map_err(|error| self.shared.unanswered("end of a topic", &error))?)?;
        Ok(self.positions.iter().all(|p| stable.get(&p.partition).is_some_and(|end| *end >= p.target)))
    }

    /// Takes what librdkafka has, up to one portion.
    fn fetch(&mut self) {
        let mut patience = TICK;
        while self.outbox.is_empty() {
            let taken = match self.consumer.poll(patience) {
                None => return,
                Some(Ok(message)) => {
                    let number = message.partition();
                    let position = index(&self.positions, number);
                    position.map(|at| (at, Ok(received(&message, Arc::clone(&self.positions[at].partition.topic)))))
                }
                Some(Err(KafkaError::PartitionEOF(number))) => index(&self.positions, number).map(|at| (at, Err(()))),
                Some(Err(error)) => {
                    self.client_error(&error);
                    None
                }
            };
            patience = Duration::ZERO;
            match taken {
                Some((at, Ok(record))) => self.take(at, record),
                Some((at, Err(()))) => self.caught_up(at),
                None => {}
            }
        }
    }

    fn take(&mut self, at: usize, record: Received) {
        self.trouble = None;
        let position = &mut self.positions[at];
        if record.offset < position.next {
            return;
        }
        position.next = record.offset + 1;
        if self.bytes > 0 && self.bytes + record.size() > self.limit {
            self.close_portion();
        }
        self.bytes += record.size().max(1);
        self.records.push(record);
        if self.bytes >= self.limit {
            self.close_portion();
        }
        if self.positions[at].next >= self.positions[at].target {
            self.caught_up(at);
        }
    }

    fn caught_up(&mut self, at: usize) {
        let position = &mut self.positions[at];
        if std::mem::replace(&mut position.caught_up, true) {
            return;
        }
        let partition = position.partition.clone();
        self.close_portion();
        self.outbox.push_back(Ok(ReaderEvent::CaughtUp(partition)));
    }

    fn close_portion(&mut self) {
        if !self.records.is_empty() {
            self.bytes = 0;
            self.outbox.push_back(Ok(ReaderEvent::Records(std::mem::take(&mut self.records))));
        }
    }

    /// Hands everything over; `false` where nobody wants it any more.
    fn deliver(&mut self) -> bool {
        while let Some(event) = self.outbox.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) if !self.is_over() => {
                    self.outbox.push_front(event);
                    std::thread::sleep(BEHIND);
                }
                Err(_) => return false,
            }
        }
        true
    }

    fn client_error(&mut self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(code) if is_unknown_topic(code) => {
                let topic = self.positions.first().map_or_else(String::new, |p| p.partition.topic.to_string());
                self.outbox.push_back(Err(BusError::UnknownTopic { topic }));
            }
            Some(Code::AutoOffsetReset) => {
                let result = self.go_on();
                self.outbox.extend(result.err().map(Err));
            }
            Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::OperationTimedOut | Code::Resolve) => {
                self.trouble.get_or_insert_with(Instant::now);
            }
            _ => {
                let error = self.shared.operation("reading").kafka_error(error);
                match error.class() {
                    ErrorClass::Transient(_) => tracing::warn!(%error, "reader"),
                    _ => self.outbox.push_back(Err(error)),
                }
            }
        }
    }

    /// A position is no offset of its log: retention has passed it, and reading goes on at what is kept. A log that
    /// ends before it is another one.
    fn go_on(&mut self) -> Result<(), BusError> {
        let ask = |offset| {
            let list = offset_list(self.positions.iter().map(|p| (&p.partition, offset)))?;
            let answer = self.consumer.offsets_for_times(list, QUESTION);
            offsets(&answer.map_err(|error| self.shared.operation("offsets of a topic").kafka_error(&error))?)
        };
        let (oldest, end) = (ask(RawOffset::Beginning)?, ask(RawOffset::End)?);
        for Position { partition, next, .. } in &mut self.positions {
            let (Some(oldest), Some(end)) = (oldest.get(partition), end.get(partition)) else { continue };
            if *next > *end {
                let reason = format!("{partition} ends at {end}, before {next}, which was read: open the reader anew");
                return Err(BusError::Other { what: "reading", reason, class: ErrorClass::Fatal });
            }
            *next = (*next).max(*oldest);
        }
        self.assign()
    }

    /// Starts to fetch at the positions. Only a new assignment does that for a partition whose position was none.
    fn assign(&self) -> Result<(), BusError> {
        let start = |position: &Position| RawOffset::Offset(i64::try_from(position.next).unwrap_or(i64::MAX));
        let list = offset_list(self.positions.iter().map(|p| (&p.partition, start(p))))?;
        let fail = |error: KafkaError| self.shared.operation("start of a reader").kafka_error(&error);
        self.consumer.assign(&list).map_err(fail)
    }

    /// After signs that no broker is up: asks, and tells the caller when none answers for long.
    fn look_for_brokers(&mut self) {
        let Some(since) = self.trouble else { return };
        let topic = self.positions.first().map(|p| Arc::clone(&p.partition.topic));
        if self.consumer.fetch_metadata(topic.as_deref(), QUESTION / 4).is_ok() {
            self.trouble = None;
        } else if since.elapsed() >= self.shared.config.timeout {
            self.trouble = Some(Instant::now());
            self.outbox.push_back(Err(self.shared.unreachable()));
        }
    }
}

/// Which of the positions is that of a partition.
fn index(positions: &[Position], number: i32) -> Option<usize> {
    positions.iter().position(|p| i32::try_from(p.partition.partition) == Ok(number))
}
