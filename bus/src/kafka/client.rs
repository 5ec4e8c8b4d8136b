//! What every librdkafka client of this bus shares: its log, its health, its knowledge of topics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{Client, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{IsError as _, KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{ClientContext, Statistics};

use super::cause::Cause;
use super::config::KafkaConfig;
use super::error::{Operation, is_unknown_topic};
use super::oauth;
use super::security::KafkaSasl;
use crate::error::{BusError, ErrorClass};
use crate::record::{PartitionId, Record};

/// How long a topic's partition count is answered from memory before it is asked for again.
const TOPIC_REFRESH: Duration = Duration::from_secs(60);
/// How long the client is asked for the cluster before it is asked what went wrong.
const GLANCE: Duration = Duration::from_millis(50);
/// Pause between two questions about a topic whose leaders are being elected.
const LEADER_RETRY: Duration = Duration::from_millis(50);

/// Locks a mutex whose data no panic leaves half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a call of librdkafka that waits for a broker, off the asynchronous threads.
pub(super) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, BusError> {
    // A panic inside is reported by the runtime; the runtime's own end is the only other cause.
    tokio::task::spawn_blocking(call).await.map_err(|_| BusError::Closed)
}

/// What the producer, the consumers and the administration of one bus share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: KafkaConfig,
    pub(super) topics: Topics,
    pub(super) health: Health,
    closed: AtomicBool,
}

impl Shared {
    pub(super) fn new(config: KafkaConfig) -> Self {
        Self { config, topics: Topics::default(), health: Health::default(), closed: AtomicBool::new(false) }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn check_open(&self) -> Result<(), BusError> {
        if self.is_closed() { Err(BusError::Closed) } else { Ok(()) }
    }

    /// The token that authenticates clients now, where a token does.
    pub(super) fn token(&self) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let sasl = self.config.sasl.as_ref();
        let key = format!("`{}.sasl.token_file`", self.config.section);
        match sasl.and_then(KafkaSasl::token_file) {
            Some(file) => oauth::read(file).map_err(|reason| format!("{key}: {reason}").into()),
            None => Err(format!("no token: set {key}").into()),
        }
    }

    /// Gives a client that nobody polls the token that it needs for its next requests.
    pub(super) fn authenticate<C: ClientContext>(&self, client: &Client<C>) -> Result<(), BusError> {
        if self.config.sasl.as_ref().is_none_or(|sasl| sasl.token_file().is_none()) {
            return Ok(());
        }
        let given = self.token().map_err(|error| error.to_string()).and_then(|token| oauth::give(client, token));
        // The file's writer may be late.
        let class = ErrorClass::Transient(None);
        given.map_err(|reason| BusError::Other { what: "authentication at kafka", reason, class })
    }

    /// What to say about a failure of `what`.
    pub(super) fn operation(&self, what: &'static str) -> Operation<'_> {
        Operation { what, brokers: &self.config.brokers, timeout: self.config.timeout }
    }

    /// The error of a question that any broker could have answered: silence means that none is reachable.
    pub(super) fn unanswered(&self, what: &'static str, error: &KafkaError) -> BusError {
        match self.operation(what).kafka_error(error) {
            BusError::TimedOut { .. } | BusError::Unreachable { .. } => self.unreachable(),
            other => other,
        }
    }

    /// Takes note of an error that concerns a client as a whole.
    pub(super) fn observe(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
        match error.rdkafka_error_code() {
            Some(Code::AllBrokersDown) => self.health.down.store(true, Ordering::Release),
            Some(code) => *lock(&self.health.cause) = Some(Cause::new(&self.config, code, reason)),
            None => {}
        }
    }

    /// Takes librdkafka's log. Connections that a broker ends are told there only, and not as errors.
    pub(super) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
        if facility == "FAIL" && message.contains("Disconnected") && !matches!(level, RDKafkaLogLevel::Debug) {
            // Before it stands which of librdkafka's threads has met it.
            let reason = message.split_once("]: ").map_or(message, |(_, reason)| reason);
            *lock(&self.health.cause) = Some(Cause::new(&self.config, Code::BrokerTransportFailure, reason));
        }
    }

    /// Waits until a broker answers. What no waiting can change is an error as soon as it is known.
    pub(super) fn await_broker<C: ClientContext>(&self, client: &Client<C>) -> Result<(), BusError> {
        let deadline = Instant::now() + self.config.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if client.fetch_cluster_id(left.min(GLANCE)).is_some() {
                return Ok(());
            }
            let refused = self.health.cause().filter(|cause| cause.is_known);
            match refused {
                Some(Cause { text, is_final: true, .. }) => {
                    return Err(BusError::Config(format!("no connection to {}: {text}", self.config.brokers)));
                }
                None if Instant::now() < deadline => {}
                _ => return Err(self.unreachable()),
            }
        }
    }

    /// Whether the last connection failed for the broker's certificate.
    pub(super) fn is_untrusted(&self) -> bool {
        self.health.cause().is_some_and(|cause| cause.is_untrusted)
    }

    /// What a broker has answered so far, after a moment.
    pub(super) fn glance<C: ClientContext>(&self, client: &Client<C>) -> Answer {
        match (client.fetch_cluster_id(GLANCE), self.health.cause()) {
            (Some(_), _) => Answer::Other,
            (None, Some(Cause { is_untrusted: true, .. })) => Answer::Untrusted,
            (None, Some(Cause { is_known: true, .. })) => Answer::Other,
            (None, _) => Answer::None,
        }
    }

    /// No broker answers, for the last reason that a client gave.
    pub(super) fn unreachable(&self) -> BusError {
        let reason = self.health.reason().unwrap_or_else(|| format!("no answer within {:?}", self.config.timeout));
        BusError::Unreachable { brokers: self.config.brokers.clone(), reason }
    }
}

/// What came of the first words with a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing yet.
    None,
    /// Its certificate is refused.
    Untrusted,
    /// Anything else: its certificate is accepted.
    Other,
}

/// Whether any broker answers, as far as the clients know.
#[derive(Debug, Default)]
pub(super) struct Health {
    down: AtomicBool,
    cause: Mutex<Option<Cause>>,
}

impl Health {
    pub(super) fn set_up(&self) {
        self.down.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Why the last connection failed; `None` before any did.
    fn reason(&self) -> Option<String> {
        lock(&self.cause).as_ref().map(|cause| cause.text.clone())
    }

    /// Why there is no connection, once every broker has been tried.
    fn cause(&self) -> Option<Cause> {
        let down = self.down.load(Ordering::Acquire);
        lock(&self.cause).clone().filter(|_| down)
    }
}

/// Passes librdkafka's log on. Lost connections are its daily bread, so nothing of it is above a warning.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // All clients get all options; that those of consumers say nothing to producers is no news.
        _ if facility == "CONFWARN" => tracing::debug!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::debug!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Debug => tracing::trace!(facility, message, "librdkafka"),
    }
}

/// Context of clients that have no callbacks of their own.
#[derive(Debug, Default)]
pub(super) struct PlainContext;

impl ClientContext for PlainContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl rdkafka::consumer::ConsumerContext for PlainContext {}

/// Partition counts of topics, from memory after the first question.
#[derive(Debug, Default)]
pub(super) struct Topics {
    known: Mutex<HashMap<Box<str>, Known>>,
}

/// Which of a topic's partitions must have a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaders {
    /// Whichever have one: an outage of some must not hold up the others.
    Any,
    /// All of them, as of a topic that was just created.
    All,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    partitions: u32,
    at: Instant,
}

impl Topics {
    /// The count in memory, and whether it is time to ask again.
    pub(super) fn cached(&self, topic: &str) -> Option<(u32, bool)> {
        lock(&self.known).get(topic).map(|known| (known.partitions, known.at.elapsed() > TOPIC_REFRESH))
    }

    /// Notes that a fresh answer is on its way.
    pub(super) fn refreshing(&self, topic: &str) {
        if let Some(known) = lock(&self.known).get_mut(topic) {
            known.at = Instant::now();
        }
    }

    /// Forgets a topic, so that the next question goes to a broker.
    pub(super) fn forget(&self, topic: &str) {
        lock(&self.known).remove(topic);
    }

    /// Names of all topics.
    pub(super) fn all<C: ClientContext>(&self, client: &Client<C>, shared: &Shared) -> Result<Vec<Arc<str>>, BusError> {
        let metadata = client.fetch_metadata(None, shared.config.timeout);
        let metadata = metadata.map_err(|error| shared.unanswered("names of topics", &error))?;
        Ok(metadata.topics().iter().map(|topic| Arc::from(topic.name())).collect())
    }

    /// Asks a broker, and waits for leaders as far as they are wanted.
    pub(super) fn fetch<C: ClientContext>(
        &self,
        client: &Client<C>,
        shared: &Shared,
        topic: &str,
        leaders: Leaders,
    ) -> Result<u32, BusError> {
        let deadline = Instant::now() + shared.config.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(LEADER_RETRY);
            let metadata = client
                .fetch_metadata(Some(topic), left)
                .map_err(|error| shared.unanswered("metadata of a topic", &error))?;
            let answer = metadata.topics().iter().find(|t| t.name() == topic);
            let code = answer.and_then(|t| t.error()).filter(|e| e.is_error()).map(Code::from);
            let unknown = code.is_some_and(is_unknown_topic) || answer.is_none();
            if unknown {
                self.forget(topic);
                return Err(BusError::UnknownTopic { topic: topic.to_owned() });
            }
            let partitions = answer.map_or(0, |t| t.partitions().len());
            let led = |t: &MetadataTopic| t.partitions().iter().all(|p| p.leader() >= 0);
            let ready = leaders == Leaders::Any || answer.is_some_and(led);
            if code.is_none() && ready && partitions > 0 {
                let known = Known { partitions: u32::try_from(partitions).unwrap_or(u32::MAX), at: Instant::now() };
                lock(&self.known).insert(topic.into(), known);
                return Ok(known.partitions);
            }
            if Instant::now() >= deadline {
                let code = code.unwrap_or(Code::OperationTimedOut);
                let reason = format!("topic {topic}: {code}");
                return Err(shared.operation("leaders of a topic").error(code, &reason));
            }
            std::thread::sleep(LEADER_RETRY);
        }
    }
}

/// Refuses a record that is over the limit, before anything is written.
pub(super) fn check_size(record: &Record, config: &KafkaConfig) -> Result<(), BusError> {
    let (size, limit) = (record.size(), config.max_record_bytes);
    if size > limit { Err(BusError::TooLarge { to: record.to.clone(), size, limit }) } else { Ok(()) }
}

/// A partition as librdkafka numbers it.
pub(super) fn raw_partition(partition: &PartitionId) -> Result<i32, BusError> {
    i32::try_from(partition.partition).map_err(|_| BusError::UnknownPartition(partition.clone()))
}

/// A partition as the bus numbers it.
pub(super) fn partition_id(topic: &str, partition: i32) -> PartitionId {
    PartitionId::new(Arc::<str>::from(topic), u32::try_from(partition).unwrap_or(0))
}
