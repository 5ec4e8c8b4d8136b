//! Numbered spans: what goes in one by one is found again at an output topic, or is missing, or is there twice.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use afflux_bus::{Headers, PartitionId, Producer, Record};
use afflux_schemas::topics::HEADER_ITEMS;
use anyhow::{Context as _, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, TopicPartitionList};

/// Spans of one record.
const SPANS: u64 = 10;
/// Pause of a sender between two records.
const PAUSE: Duration = Duration::from_millis(4);
/// Names that spans have in turn.
const NAMES: [&str; 5] = ["alpha", "beta", "gamma", "delta", "epsilon"];
/// How long the end of a topic may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A source of numbered spans, in records of ten.
///
/// Each is sent once. One whose send failed may have been written all the same, so it may be found once or not at
/// all; one that was acknowledged has to be found.
#[derive(Clone, Debug, Default)]
pub struct Numbered {
    /// Whether records look like those of our receivers, which keep their partition; others are split anew.
    keeps_partition: bool,
    next: Arc<AtomicU64>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    acked: HashSet<u64>,
}

/// What a reader of the output makes of the numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Spans that were acknowledged.
    pub acked: usize,
    /// Acknowledged and not found.
    pub missing: Vec<u64>,
    /// Found more than once.
    pub doubled: Vec<u64>,
    /// Found and never sent.
    pub unknown: Vec<u64>,
}

impl Verdict {
    /// Whether every acknowledged span was found once, and nothing else than what was sent.
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.doubled.is_empty() && self.unknown.is_empty()
    }
}

impl Numbered {
    /// A source whose records keep their partition.
    pub fn that_keeps_partitions() -> Self {
        Self { keeps_partition: true, ..Self::default() }
    }

    /// Sends to every partition of a topic in turn, with that many senders, until told to stop.
    pub async fn send(&self, producer: Arc<dyn Producer>, topic: &str, senders: usize, stop: Arc<AtomicBool>) {
        let partitions = producer.partitions(topic).await.unwrap_or(1);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..senders {
            let (source, producer, stop) = (self.clone(), Arc::clone(&producer), Arc::clone(&stop));
            let topic: Arc<str> = topic.into();
            tasks.spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    source.send_one(&*producer, &topic, partitions).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        tasks.join_all().await;
    }

    /// Sends so many records to the partitions of a topic in turn.
    pub async fn send_records(&self, producer: &dyn Producer, topic: &str, records: usize) {
        let (partitions, topic) = (producer.partitions(topic).await.unwrap_or(1), Arc::from(topic));
        for _ in 0..records {
            self.send_one(producer, &topic, partitions).await;
        }
    }

    async fn send_one(&self, producer: &dyn Producer, topic: &Arc<str>, partitions: u32) {
        let first = self.next.fetch_add(SPANS, Ordering::AcqRel);
        let numbers = first..first + SPANS;
        let partition = u32::try_from(first / SPANS % u64::from(partitions)).unwrap_or_default();
        let mut headers = Headers::new();
        if self.keeps_partition {
            headers.push(HEADER_ITEMS, SPANS.to_string());
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let record = Record {
            to: PartitionId { topic: Arc::clone(topic), partition },
            key: None,
            value: Some(request(numbers.clone()).into()),
            timestamp_ms: i64::try_from(now.as_millis()).unwrap_or_default(),
            headers,
        };
        if producer.send(vec![record]).await.is_ok() {
            self.known().acked.extend(numbers);
        }
    }

    /// Spans acknowledged so far.
    pub fn acked(&self) -> usize {
        self.known().acked.len()
    }

    /// Judges what was found, with how often.
    pub fn judge(&self, found: &HashMap<u64, usize>) -> Verdict {
        let known = self.known();
        let mut verdict = Verdict {
            acked: known.acked.len(),
            missing: known.acked.iter().filter(|number| !found.contains_key(number)).copied().collect(),
            doubled: found.iter().filter(|(_, count)| **count > 1).map(|(number, _)| *number).collect(),
            unknown: found.keys().filter(|number| **number >= self.next.load(Ordering::Acquire)).copied().collect(),
        };
        verdict.missing.sort_unstable();
        verdict.doubled.sort_unstable();
        verdict
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An export request of spans that bear these numbers as their ids.
fn request(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let span = |number: u64| Span {
        trace_id: u128::from(number + 1).to_be_bytes().to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        // Several series.
        name: NAMES[number as usize % NAMES.len()].into(),
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        ..Span::default()
    };
    let scope = ScopeSpans { spans: numbers.map(span).collect(), ..ScopeSpans::default() };
    let resource = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource] }.encode_to_vec()
}

/// Adds the numbers in a request to those found.
pub fn count(request: &[u8], found: &mut HashMap<u64, usize>) -> anyhow::Result<()> {
    let request = ExportTraceServiceRequest::decode(request)?;
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    for span in scopes.flat_map(|scope| &scope.spans) {
        let id = <[u8; 8]>::try_from(&*span.span_id).map_err(|_| anyhow::anyhow!("a span id of other length"))?;
        *found.entry(u64::from_be_bytes(id).wrapping_sub(1)).or_default() += 1;
    }
    Ok(())
}

/// Reads a Kafka topic to its end, committed transactions only.
pub fn read_committed(brokers: &str, topic: &str) -> anyhow::Result<HashMap<u64, usize>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "numbered-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let partitions = metadata.topics().first().context("no such topic")?.partitions();
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut open: BTreeSet<i32> = partitions.iter().map(rdkafka::metadata::MetadataPartition::id).collect();
    let mut found = HashMap::new();
    while !open.is_empty() {
        match consumer.poll(PATIENCE) {
            None => anyhow::bail!("the end of {topic} did not come in {PATIENCE:?}"),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(message)) => {
                let value = message.payload().context("a record without a value")?;
                ensure!(!value.is_empty(), "an empty record");
                count(value, &mut found)?;
            }
        }
    }
    Ok(found)
}
