//! Topics and the offsets of groups, asked for and arranged from outside.

mod tail;
mod topics;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::Offset as RawOffset;
use rdkafka::{ClientConfig, TopicPartitionList};

use self::tail::Tails;
pub use self::topics::{TopicChange, TopicPlan};
use super::client::{PlainContext, Shared, blocking, lock, partition_id};
use super::config::READERS;
use crate::contract::{PartitionLag, Start};
use crate::error::{BusError, ErrorClass};
use crate::record::{Cleanup, PartitionId, TopicSpec};

/// Pause before a question about partitions without a leader is asked again.
const LEADER_RETRY: Duration = Duration::from_millis(50);
/// Segments into which a topic's byte limit is cut: what goes by size goes in such portions.
const SEGMENTS: u64 = 8;
/// Kafka's own bounds of a segment: it refuses smaller ones, and larger ones are its default.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (1 << 20)..=(1 << 30);

/// A client of the brokers' administration, and one per group whose lag is asked for.
pub(super) struct Admin {
    shared: Arc<Shared>,
    client: Arc<AdminClient<PlainContext>>,
    observers: Mutex<HashMap<Arc<str>, Arc<BaseConsumer<PlainContext>>>>,
    tails: Arc<Mutex<Tails>>,
}

impl Admin {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, BusError> {
        let client = AdminClient::from_config_and_context(&silent(shared.config.producer()), PlainContext)
            .map_err(|error| shared.operation("creation of an admin client").kafka_error(&error))?;
        Ok(Self { shared, client: Arc::new(client), observers: Mutex::default(), tails: Arc::default() })
    }

    /// Creates the topics that do not exist.
    pub(super) async fn create(&self, topics: &[TopicSpec]) -> Result<(), BusError> {
        if topics.is_empty() {
            return Ok(());
        }
        self.shared.authenticate(self.client.inner())?;
        let settings: Vec<_> = topics.iter().map(|topic| self.settings(topic)).collect();
        let replication = self.shared.config.replication.map_or(-1, i32::from);
        let new: Vec<NewTopic<'_>> = topics
            .iter()
            .zip(&settings)
            .map(|(topic, settings)| {
                let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
                let new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(replication));
                settings.iter().fold(new, |new, (key, value)| new.set(key, value))
            })
            .collect();
        let results = self
            .client
            .create_topics(&new, &self.options().operation_timeout(Some(self.shared.config.timeout)))
            .await
            .map_err(|error| self.shared.unanswered("creation of topics", &error))?;
        for result in results {
            match result {
                Ok(topic) => tracing::info!(topic, "topic created"),
                Err((_, Code::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(self
                        .shared
                        .operation("creation of topics")
                        .error(code, &format!("topic {topic}: {code}")));
                }
            }
        }
        Ok(())
    }

    fn settings(&self, topic: &TopicSpec) -> Vec<(&'static str, String)> {
        let limit = self.shared.config.max_message_bytes();
        let mut settings = vec![("max.message.bytes", limit.to_string())];
        if self.shared.config.replication.is_some_and(|replicas| replicas >= 3) {
            // Acknowledged by all in-sync replicas must not come to mean by the leader alone.
            settings.push(("min.insync.replicas", "2".to_owned()));
        }
        match topic.cleanup {
            Cleanup::Compact => settings.push(("cleanup.policy", "compact".to_owned())),
            Cleanup::Delete { max_age, max_bytes } => {
                let or_none = |limit: Option<u128>| limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string());
                settings.push(("cleanup.policy", "delete".to_owned()));
                settings.push(("retention.ms", or_none(max_age.map(|age| age.as_millis()))));
                settings.push(("retention.bytes", or_none(max_bytes.map(u128::from))));
                if let Some(bytes) = max_bytes {
                    let segment = (bytes / SEGMENTS).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
                    // A segment takes one whole batch at least.
                    settings.push(("segment.bytes", segment.max(limit as u64).to_string()));
                }
            }
        }
        settings
    }

    /// The size limit that a topic has; `None` where the broker does not say.
    pub(super) async fn max_message_bytes(&self, topic: &str) -> Option<usize> {
        self.shared.authenticate(self.client.inner()).ok()?;
        let answer = self.client.describe_configs(&[ResourceSpecifier::Topic(topic)], &self.options()).await.ok()?;
        let resource = answer.into_iter().next()?.ok()?;
        resource.get("max.message.bytes")?.value.as_ref()?.parse().ok()
    }

    /// Lag of a group in partitions that exist.
    pub(super) async fn lag(&self, group: &str, partitions: Vec<PartitionId>) -> Result<Vec<PartitionLag>, BusError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let (observer, shared) = (self.observer(group)?, Arc::clone(&self.shared));
        let tails = Arc::clone(&self.tails);
        blocking(move || {
            shared.authenticate(observer.client())?;
            let timeout = shared.config.timeout;
            let fail = |error: &KafkaError| shared.unanswered("lag of a group", error);
            let at = |offset| offset_list(partitions.iter().map(|p| (p, offset)));
            let committed = observer.committed_offsets(at(RawOffset::Invalid)?, timeout).map_err(|e| fail(&e))?;
            let start = observer.offsets_for_times(at(RawOffset::Beginning)?, timeout).map_err(|e| fail(&e))?;
            let end = observer.offsets_for_times(at(RawOffset::End)?, timeout).map_err(|e| fail(&e))?;
            let (committed, start, end) = (offsets(&committed)?, offsets(&start)?, offsets(&end)?);
            let lag = |partition| PartitionLag {
                committed: committed.get(&partition).copied(),
                start: start.get(&partition).copied().unwrap_or(0),
                end: end.get(&partition).copied().unwrap_or(0),
                partition,
            };
            let mut lags: Vec<_> = partitions.into_iter().map(lag).collect();
            lock(&tails).cut(&mut lags, &shared)?;
            Ok(lags)
        })
        .await?
    }

    /// Where to begin in partitions that exist, and where each ends now, open and aborted transactions included.
    pub(super) async fn ranges(
        &self,
        partitions: Vec<PartitionId>,
        from: Start,
    ) -> Result<Vec<(PartitionId, std::ops::Range<u64>)>, BusError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let (observer, shared) = (self.observer(READERS)?, Arc::clone(&self.shared));
        blocking(move || {
            let attempt = |offset| {
                let list = offset_list(partitions.iter().map(|partition| (partition, offset)))?;
                let answer = observer.offsets_for_times(list, shared.config.timeout);
                offsets(&answer.map_err(|error| shared.unanswered("offsets of a topic", &error))?)
            };
            // The leader of a new partition may be one that a broker does not know yet.
            let deadline = Instant::now() + shared.config.timeout;
            let ask = |offset| loop {
                match attempt(offset) {
                    Err(error) if matches!(error.class(), ErrorClass::Transient(_)) && Instant::now() < deadline => {
                        std::thread::sleep(LEADER_RETRY);
                    }
                    answer => return answer,
                }
            };
            let (oldest, end) = (ask(RawOffset::Beginning)?, ask(RawOffset::End)?);
            let since = match &from {
                // No record is so late: from the end on.
                Start::Timestamp(time) => Some(ask(RawOffset::Offset(*time))?),
                _ => None,
            };
            let range = |partition: &PartitionId| {
                let unknown = || BusError::UnknownPartition(partition.clone());
                let (oldest, end) = oldest.get(partition).zip(end.get(partition)).ok_or_else(unknown)?;
                let start = match (&from, &since) {
                    (Start::Offsets(offsets), _) => {
                        offsets.get(partition).map_or(*oldest, |offset| *offset.clamp(oldest, oldest.max(end)))
                    }
                    (_, Some(since)) => since.get(partition).copied().unwrap_or(*end),
                    _ => *oldest,
                };
                Ok((partition.clone(), start..*end))
            };
            partitions.iter().map(range).collect()
        })
        .await?
    }

    fn observer(&self, group: &str) -> Result<Arc<BaseConsumer<PlainContext>>, BusError> {
        let mut observers = lock(&self.observers);
        if let Some(observer) = observers.get(group) {
            return Ok(Arc::clone(observer));
        }
        let observer = BaseConsumer::from_config_and_context(&silent(self.shared.config.observer(group)), PlainContext)
            .map_err(|error| self.shared.operation("creation of a consumer").kafka_error(&error))?;
        let observer = Arc::new(observer);
        observers.insert(Arc::from(group), Arc::clone(&observer));
        Ok(observer)
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(self.shared.config.timeout))
    }

    /// Ends the clients that ask for lag.
    pub(super) async fn close(&self) {
        let (observers, tails) = (std::mem::take(&mut *lock(&self.observers)), Arc::clone(&self.tails));
        let _ = blocking(move || drop((observers, std::mem::take(&mut *lock(&tails))))).await;
    }
}

/// Keeps the log of a client from piling up where nobody polls it.
fn silent(mut config: ClientConfig) -> ClientConfig {
    config.set_log_level(RDKafkaLogLevel::Emerg);
    config
}

/// Partitions with an offset each, as librdkafka takes them.
pub(super) fn offset_list<'a>(
    offsets: impl Iterator<Item = (&'a PartitionId, RawOffset)>,
) -> Result<TopicPartitionList, BusError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(&partition.topic, super::client::raw_partition(partition)?, offset)
            .map_err(|error| BusError::Config(format!("offset of {partition}: {error}")))?;
    }
    Ok(list)
}

/// The offsets in an answer; partitions without one are left out.
pub(super) fn offsets(list: &TopicPartitionList) -> Result<HashMap<PartitionId, u64>, BusError> {
    let mut known = HashMap::new();
    for element in list.elements() {
        let partition = partition_id(element.topic(), element.partition());
        if let Err(error) = element.error() {
            return Err(match error.rdkafka_error_code() {
                Some(Code::UnknownPartition | Code::UnknownTopicOrPartition) => BusError::UnknownPartition(partition),
                _ => BusError::Other {
                    what: "offset of a partition",
                    reason: format!("{partition}: {error}"),
                    class: ErrorClass::Transient(None),
                },
            });
        }
        if let RawOffset::Offset(offset) = element.offset() {
            known.insert(partition, u64::try_from(offset).unwrap_or(0));
        }
    }
    Ok(known)
}
