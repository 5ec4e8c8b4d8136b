//! Publishing with durable acknowledgements.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use afflux_schemas::topics::{mirror_source, mirrored};
use async_trait::async_trait;
use rdkafka::client::OAuthToken;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Statistics};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::admin::Admin;
use super::client::{self, Leaders, Shared, blocking, lock, partition_id, raw_partition};
use super::error::is_unknown_topic;
use crate::contract::Producer;
use crate::error::BusError;
use crate::record::{PartitionId, Record};

/// Granularity of the queue's budget.
const PERMIT_BYTES: usize = 1024;
/// What a queued record costs besides its bytes.
const RECORD_OVERHEAD: usize = 256;
/// Grace after librdkafka's own timeout before a missing delivery report is given up.
const REPORT_GRACE: Duration = Duration::from_secs(5);
/// Pause between two questions about a topic that was just created.
const TOPIC_RETRY: Duration = Duration::from_millis(20);

/// A librdkafka producer and the thread that takes its delivery reports.
pub(super) type Native = ThreadedProducer<ReportContext>;

/// Takes delivery reports and errors of a producer.
#[derive(Debug)]
pub(super) struct ReportContext {
    shared: Arc<Shared>,
}

impl ClientContext for ReportContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.shared.log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.shared.observe(&error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.shared.token()
    }
}

impl ProducerContext for ReportContext {
    type DeliveryOpaque = Arc<Call>;

    fn delivery(&self, result: &DeliveryResult<'_>, call: Arc<Call>) {
        if result.is_ok() {
            self.shared.health.set_up();
        }
        call.report(result.as_ref().err().map(|(error, message)| {
            let to = partition_id(message.topic(), message.partition());
            if is_stuck(error) && !self.shared.health.is_down() {
                lock(&call.stuck).get_or_insert_with(|| to.clone());
            } else if is_purge(error) {
                lock(&call.purged).get_or_insert_with(|| to.clone());
            }
            let size = message.key_len() + message.payload_len();
            self.delivery_error(error, to, size)
        }));
    }
}

impl ReportContext {
    fn delivery_error(&self, error: &KafkaError, to: PartitionId, size: usize) -> BusError {
        match error.rdkafka_error_code() {
            Some(Code::UnknownPartition) => BusError::UnknownPartition(to),
            Some(code) if is_unknown_topic(code) => {
                self.shared.topics.forget(&to.topic);
                BusError::UnknownTopic { topic: to.topic.to_string() }
            }
            Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => {
                BusError::TooLarge { to, size, limit: self.shared.config.max_record_bytes }
            }
            Some(Code::MessageTimedOut) if self.shared.health.is_down() => self.shared.unreachable(),
            // A producer that has been closed or replaced drops what it still holds.
            Some(Code::PurgeQueue | Code::PurgeInflight) if self.shared.is_closed() => BusError::Closed,
            _ => self.shared.operation("acknowledgement").kafka_error(error),
        }
    }
}

/// Whether a partition took no record in all the time that it was given.
fn is_stuck(error: &KafkaError) -> bool {
    let codes = [Code::MessageTimedOut, Code::NotEnoughReplicas, Code::NotEnoughReplicasAfterAppend];
    error.rdkafka_error_code().is_some_and(|code| codes.contains(&code))
}

/// Whether a record was still waiting when its producer ended.
fn is_purge(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::PurgeQueue | Code::PurgeInflight))
}

/// Makes a librdkafka producer.
pub(super) fn native(mut config: ClientConfig, shared: &Arc<Shared>) -> Result<Native, BusError> {
    if config.get("debug").is_none() {
        // For the connections that a broker ends.
        config.set_log_level(RDKafkaLogLevel::Info);
    }
    Native::from_config_and_context(&config, ReportContext { shared: Arc::clone(shared) })
        .map_err(|error| shared.operation("creation of a producer").kafka_error(&error))
}

/// One call of `send`: complete when every record of it has been reported.
#[derive(Debug)]
pub(super) struct Call {
    waiting: AtomicUsize,
    first_error: Mutex<Option<BusError>>,
    /// The first partition that took nothing.
    stuck: Mutex<Option<PartitionId>>,
    /// The first partition of which something still waited when the producer ended.
    purged: Mutex<Option<PartitionId>>,
    done: Mutex<Option<oneshot::Sender<()>>>,
    /// The call's share of the queue, given back when the last record is reported.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Call {
    /// A call of that many records, and what resolves when all have been reported.
    pub(super) fn new(records: usize, permit: Option<OwnedSemaphorePermit>) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (done, receiver) = oneshot::channel();
        let call = Self {
            waiting: AtomicUsize::new(records),
            first_error: Mutex::default(),
            stuck: Mutex::default(),
            purged: Mutex::default(),
            done: Mutex::new(Some(done)),
            _permit: permit,
        };
        (Arc::new(call), receiver)
    }

    /// Takes one record's report.
    fn report(&self, error: Option<BusError>) {
        if let Some(error) = error {
            lock(&self.first_error).get_or_insert(error);
        }
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(done) = lock(&self.done).take()
        {
            // Nobody listens where the sender's future was dropped.
            let _ = done.send(());
        }
    }

    /// A partition that took nothing while brokers answered.
    pub(super) fn stuck(&self) -> Option<PartitionId> {
        lock(&self.stuck).clone()
    }

    /// A partition of which something still waited when the producer ended.
    pub(super) fn purged(&self) -> Option<PartitionId> {
        lock(&self.purged).clone()
    }

    /// Whether anything has gone wrong so far.
    pub(super) fn has_failed(&self) -> bool {
        lock(&self.first_error).is_some()
    }

    /// What went wrong first, once all have been reported.
    pub(super) fn result(&self) -> Result<(), BusError> {
        lock(&self.first_error).take().map_or(Ok(()), Err)
    }
}

/// Hands records to librdkafka, in order. Those that it refuses are reported as failed at once.
pub(super) fn enqueue(native: &Native, records: &[Record], call: &Arc<Call>, shared: &Shared) {
    for record in records {
        let outcome = raw_partition(&record.to).and_then(|partition| {
            let mut raw = BaseRecord::<[u8], [u8], _>::with_opaque_to(&record.to.topic, Arc::clone(call))
                .partition(partition)
                .timestamp(record.timestamp_ms);
            raw.key = record.key.as_deref();
            raw.payload = record.value.as_deref();
            raw.headers = headers(record);
            native.send(raw).map_err(|(error, _)| match error.rdkafka_error_code() {
                Some(Code::UnknownPartition) => {
                    shared.topics.forget(&record.to.topic);
                    BusError::UnknownPartition(record.to.clone())
                }
                Some(code) if is_unknown_topic(code) => {
                    shared.topics.forget(&record.to.topic);
                    BusError::UnknownTopic { topic: record.to.topic.to_string() }
                }
                _ => shared.operation("publishing").kafka_error(&error),
            })
        });
        if let Err(error) = outcome {
            call.report(Some(error));
        }
    }
}

fn headers(record: &Record) -> Option<OwnedHeaders> {
    let headers = &record.headers.0;
    (!headers.is_empty()).then(|| {
        let empty = OwnedHeaders::new_with_capacity(headers.len());
        headers.iter().fold(empty, |all, (key, value)| all.insert(Header { key, value: Some(&value[..]) }))
    })
}

/// The producer that all senders of a bus share.
pub(super) struct KafkaProducer {
    shared: Arc<Shared>,
    native: Mutex<Option<Native>>,
    admin: Arc<Admin>,
    queue: Arc<Semaphore>,
    queue_permits: u32,
}

impl KafkaProducer {
    pub(super) fn new(shared: Arc<Shared>, admin: Arc<Admin>) -> Result<Self, BusError> {
        let native = native(shared.config.producer(), &shared)?;
        let queue_permits = permits(shared.config.queue_bytes);
        Ok(Self {
            shared,
            native: Mutex::new(Some(native)),
            admin,
            queue: Arc::new(Semaphore::new(queue_permits as usize)),
            queue_permits,
        })
    }

    /// The client, made anew where librdkafka has declared the old one unusable.
    pub(super) fn native(&self) -> Result<Native, BusError> {
        let mut slot = lock(&self.native);
        let current = slot.as_ref().ok_or(BusError::Closed)?;
        if let Some((code, reason)) = current.client().fatal_error() {
            tracing::warn!(%code, reason, "producer replaced after a fatal error");
            let old = slot.replace(native(self.shared.config.producer(), &self.shared)?);
            // Its end waits for its thread.
            tokio::task::spawn_blocking(move || drop(old));
        }
        slot.clone().ok_or(BusError::Closed)
    }

    /// Refuses, before anything is written, what can never be written.
    pub(super) async fn check(&self, records: &[Record]) -> Result<(), BusError> {
        records.iter().try_for_each(|record| client::check_size(record, &self.shared.config))?;
        let mut seen = BTreeSet::new();
        for record in records {
            if !seen.insert(&record.to) {
                continue;
            }
            let (topic, partition) = (&record.to.topic, record.to.partition);
            // A partition beyond the count in memory may be new.
            if partition >= self.partitions(topic).await? && partition >= self.fetch_partitions(topic).await? {
                return Err(BusError::UnknownPartition(record.to.clone()));
            }
        }
        Ok(())
    }

    /// Waits until a topic that was just created is known everywhere.
    pub(super) async fn await_topic(&self, topic: &str) -> Result<u32, BusError> {
        let deadline = tokio::time::Instant::now() + self.shared.config.timeout;
        loop {
            let (shared, native, topic) = (Arc::clone(&self.shared), self.native()?, topic.to_owned());
            match blocking(move || shared.topics.fetch(native.client(), &shared, &topic, Leaders::All)).await? {
                Err(BusError::UnknownTopic { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(TOPIC_RETRY).await;
                }
                result => return result,
            }
        }
    }

    /// Asks a broker for the number of partitions.
    pub(super) async fn fetch_partitions(&self, topic: &str) -> Result<u32, BusError> {
        let (shared, native, topic) = (Arc::clone(&self.shared), self.native()?, topic.to_owned());
        blocking(move || shared.topics.fetch(native.client(), &shared, &topic, Leaders::Any)).await?
    }

    /// The topics with their patterns replaced by what matches them now.
    pub(super) async fn matching(&self, topics: &[Arc<str>]) -> Result<Vec<Arc<str>>, BusError> {
        if topics.iter().all(|topic| mirrored(topic).is_none()) {
            return Ok(topics.to_vec());
        }
        let (shared, native) = (Arc::clone(&self.shared), self.native()?);
        let all = blocking(move || shared.topics.all(native.client(), &shared)).await??;
        let matching = |topic: &Arc<str>| match mirrored(topic) {
            None => vec![Arc::clone(topic)],
            Some(of) => all.iter().filter(|name| mirror_source(name, of).is_some()).cloned().collect(),
        };
        Ok(topics.iter().flat_map(matching).collect())
    }

    async fn admit(&self, bytes: usize) -> Result<OwnedSemaphorePermit, BusError> {
        // A call larger than the whole queue waits until it is alone.
        let permits = permits(bytes).min(self.queue_permits);
        let admitted = Arc::clone(&self.queue).acquire_many_owned(permits);
        match tokio::time::timeout(self.shared.config.timeout, admitted).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(BusError::Closed),
            Err(_) => {
                let reason = format!("{} bytes wait for kafka's acknowledgement", self.shared.config.queue_bytes);
                Err(BusError::Full { reason })
            }
        }
    }

    /// Waits for what was sent, then ends the client.
    pub(super) async fn close(&self) {
        let drained = self.queue.acquire_many(self.queue_permits);
        let _ = tokio::time::timeout(self.shared.config.timeout + REPORT_GRACE, drained).await;
        self.queue.close();
        let native = lock(&self.native).take();
        let _ = blocking(move || drop(native)).await;
    }
}

#[async_trait]
impl Producer for KafkaProducer {
    fn max_record_bytes(&self) -> usize {
        self.shared.config.max_record_bytes
    }

    async fn partitions(&self, topic: &str) -> Result<u32, BusError> {
        self.shared.check_open()?;
        match self.shared.topics.cached(topic) {
            Some((partitions, false)) => Ok(partitions),
            Some((partitions, true)) => {
                // Answered from memory; the fresh count serves the calls that follow.
                let (shared, native, topic) = (Arc::clone(&self.shared), self.native()?, topic.to_owned());
                shared.topics.refreshing(&topic);
                tokio::task::spawn_blocking(move || {
                    shared.topics.fetch(native.client(), &shared, &topic, Leaders::Any)
                });
                Ok(partitions)
            }
            None => self.fetch_partitions(topic).await,
        }
    }

    async fn send(&self, records: Vec<Record>) -> Result<(), BusError> {
        self.shared.check_open()?;
        if records.is_empty() {
            return Ok(());
        }
        self.check(&records).await?;
        let bytes = records.iter().map(|record| record.size() + RECORD_OVERHEAD).sum();
        let permit = self.admit(bytes).await?;
        let (call, done) = Call::new(records.len(), Some(permit));
        enqueue(&self.native()?, &records, &call, &self.shared);
        drop(records);
        let patience = self.shared.config.timeout + REPORT_GRACE;
        match tokio::time::timeout(patience, done).await {
            Ok(_) => match call.result() {
                Err(BusError::TooLarge { to, size, limit }) => {
                    // The broker refused by the topic's own limit, which it does not tell by itself.
                    let limit = self.admin.max_message_bytes(&to.topic).await.unwrap_or(limit);
                    Err(BusError::TooLarge { to, size, limit })
                }
                result => result,
            },
            Err(_) => Err(BusError::TimedOut { what: "delivery reports", after: patience }),
        }
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 3)
}
