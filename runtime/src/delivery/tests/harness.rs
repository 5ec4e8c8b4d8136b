//! A bus in a directory, a backend that does as it is told, and a sink between them.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afflux_bus::local::{LocalBus, LocalConfig};
use afflux_bus::{
    Bus, Cleanup, Headers, PartitionId, PartitionLag, ReaderConfig, ReaderEvent, Received, Record, TopicSpec,
};
use afflux_schemas::otlp::concat;
use afflux_schemas::topics::{HEADER_ITEMS, Topics};
use afflux_schemas::wire::{Fields, LEN, Reader, key, put_fixed64_field, put_len_field};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{HealthTable, State};
use crate::component::{Component as _, ComponentError, Context};
use crate::config::Period;
use crate::delivery::{Answer, Backend, Batch, Delivery, DeliveryConfig, Encoded, Input, Kind, Named, Order, Refused};
use crate::metrics::{ComponentLabels, Metrics};

pub(super) const NAME: &str = "sinks.fake";
pub(super) const PARTITIONS: u32 = 2;
/// Longer than any step of a test takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request of log records whose times are the numbers, each with so many bytes more.
pub(super) fn request(numbers: Range<u64>, padding: usize) -> Bytes {
    let mut scope = Vec::new();
    for number in numbers {
        let mut record = Vec::new();
        put_fixed64_field(&mut record, 1, number + 1);
        if padding > 0 {
            put_len_field(&mut record, 3, &vec![b'x'; padding]);
        }
        put_len_field(&mut scope, 2, &record);
    }
    let (mut resource, mut request) = (Vec::new(), Vec::new());
    put_len_field(&mut resource, 2, &scope);
    put_len_field(&mut request, 1, &resource);
    request.into()
}

/// The numbers of a request's log records.
pub(super) fn numbers(request: &[u8]) -> Vec<u64> {
    let inner = |bytes, field| Fields::new(bytes).filter(move |f| f.key == key(field, LEN)).map(|f| f.value);
    let records = inner(request, 1).flat_map(|r| inner(r, 2)).flat_map(|s| inner(s, 2));
    let number = |record| {
        let mut reader = Reader::new(record);
        reader.key().and_then(|_| reader.fixed64()).unwrap() - 1
    };
    records.map(number).collect()
}

/// A bus with every topic.
pub(super) struct World {
    pub(super) bus: Arc<dyn Bus>,
    _dir: tempfile::TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bus: Arc<dyn Bus> = LocalBus::open(LocalConfig::new(dir.path())).unwrap();
        let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
        let spec = |name: String| TopicSpec { name: name.into(), partitions: PARTITIONS, cleanup };
        bus.create_topics(&Topics::default().all().map(spec)).await.unwrap();
        Self { bus, _dir: dir }
    }

    pub(super) async fn publish(&self, partition: u32, numbers: Range<u64>) {
        self.publish_padded(partition, numbers, 0).await;
    }

    pub(super) async fn publish_padded(&self, partition: u32, numbers: Range<u64>, padding: usize) {
        self.publish_with(partition, request(numbers, padding), &[]).await;
    }

    pub(super) async fn publish_at(&self, partition: u32, numbers: Range<u64>, timestamp_ms: i64) {
        let mut headers = Headers::new();
        headers.push(HEADER_ITEMS, (numbers.end - numbers.start).to_string());
        let to = PartitionId::new(Topics::default().logs(), partition);
        self.send(Record { to, key: None, value: Some(request(numbers, 0)), timestamp_ms, headers }).await;
    }

    pub(super) async fn publish_with(&self, partition: u32, value: Bytes, headers: &[(&str, &str)]) {
        let items = numbers(&value).len();
        let mut all = Headers::new();
        all.push(HEADER_ITEMS, items.to_string());
        headers.iter().for_each(|(name, value)| all.push(*name, (*value).to_owned()));
        let to = PartitionId::new(Topics::default().logs(), partition);
        self.send(Record { to, key: None, value: Some(value), timestamp_ms: 1, headers: all }).await;
    }

    /// A sample of a series.
    pub(super) async fn publish_sample(&self, partition: u32, series: &str, sample: Option<u64>) {
        let to = PartitionId::new(Topics::default().series(), partition);
        let value = sample.map(|sample| request(sample..sample + 1, 0));
        let key = Some(Bytes::copy_from_slice(series.as_bytes()));
        self.send(Record { to, key, value, timestamp_ms: 1, headers: Headers::new() }).await;
    }

    async fn send(&self, record: Record) {
        self.bus.producer().await.unwrap().send(vec![record]).await.unwrap();
    }

    /// Records that the sink has not settled.
    pub(super) async fn lag(&self) -> u64 {
        let topics = [Topics::default().logs().into(), Topics::default().series().into()];
        self.bus.lag("afflux-fake", &topics).await.unwrap().iter().map(PartitionLag::records).sum()
    }

    /// The numbers in each dead letter.
    pub(super) async fn dead_letters(&self) -> Vec<Vec<u64>> {
        let letters = records_of(&self.bus, &Topics::default().dead_letters()).await;
        letters.iter().map(|letter| numbers(letter.value.as_ref().unwrap())).collect()
    }
}

/// All records of a topic.
pub(super) async fn records_of(bus: &Arc<dyn Bus>, topic: &str) -> Vec<Received> {
    let mut reader = bus.reader(ReaderConfig::new([topic.into()])).await.unwrap();
    let mut all = Vec::new();
    loop {
        match reader.next().await.unwrap() {
            ReaderEvent::Records(records) => all.extend(records),
            ReaderEvent::CaughtUp(_) => {}
            ReaderEvent::Complete => return all,
        }
    }
}

type Answering = Box<dyn Fn(&[u64], u32) -> Answer + Send + Sync>;
/// Tenant, and numbers in the order in which they were sent.
type Sent = (Option<String>, Vec<u64>);

/// A backend that does as it is told.
pub(super) struct Fake {
    kind: Kind,
    answer: Answering,
    hang_first: bool,
    left_out: Option<u64>,
    refused: Option<u64>,
    /// Most numbers in a request.
    most: usize,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) attempts: Vec<Instant>,
    /// Requests whose answer was that all is stored.
    pub(super) stored: Vec<Sent>,
    /// Of each batch, the keys.
    pub(super) keys: Vec<Vec<Bytes>>,
    /// Of each batch, whether it was one of a replay.
    pub(super) replays: Vec<bool>,
}

/// What one attempt sends.
pub(super) struct Request {
    sent: Sent,
    keys: Vec<Bytes>,
    replay: bool,
}

impl Fake {
    pub(super) fn new(kind: Kind) -> Self {
        let answer: Answering = Box::new(|_, _| Answer::Stored);
        Self { kind, answer, hang_first: false, left_out: None, refused: None, most: usize::MAX, seen: Arc::default() }
    }

    pub(super) fn answering(self, answer: impl Fn(&[u64], u32) -> Answer + Send + Sync + 'static) -> Self {
        Self { answer: Box::new(answer), ..self }
    }

    /// The first attempt of each request is not answered.
    pub(super) fn hanging_first(self) -> Self {
        Self { hang_first: true, ..self }
    }

    pub(super) fn leaving_out(self, number: u64) -> Self {
        Self { left_out: Some(number), ..self }
    }

    pub(super) fn refusing(self, number: u64) -> Self {
        Self { refused: Some(number), ..self }
    }

    /// Several requests of a batch.
    pub(super) fn of_at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    pub(super) fn sharing(self, seen: &Arc<Mutex<Seen>>) -> Self {
        Self { seen: Arc::clone(seen), ..self }
    }
}

#[async_trait]
impl Backend for Fake {
    type Request = Request;

    fn name(&self) -> &'static str {
        NAME
    }

    fn inputs(&self) -> Vec<Input> {
        let topics = Topics::default();
        let topic = if self.kind == Kind::Series { topics.series() } else { topics.logs() };
        vec![Input { topic: topic.into(), kind: self.kind }]
    }

    fn order(&self) -> Order {
        if self.kind == Kind::Series { Order::ByKey } else { Order::Any }
    }

    fn encode(&self, batch: &Batch) -> Encoded<Request> {
        let mut encoded = Encoded::default();
        let mut all = Vec::new();
        for (at, record) in batch.records.iter().enumerate() {
            let values = numbers(record.value.as_ref().unwrap_or(&Bytes::new()));
            for number in values {
                if Some(number) == self.left_out {
                    encoded.dropped.push(("left_out", 1));
                } else if Some(number) == self.refused {
                    let value = Some(concat([&request(number..number + 1, 0)[..]].into_iter()));
                    let error = "can never be sent".into();
                    encoded.refused.push(Refused { record: at, value, items: 1, reason: "unsendable", error });
                } else {
                    all.push(number);
                }
            }
        }
        let keys = batch.records.iter().filter(|record| record.value.is_some()).filter_map(|r| r.key.clone());
        let (tenant, keys): (Option<String>, Vec<Bytes>) = (batch.tenant.as_deref().map(Into::into), keys.collect());
        let request = |numbers: &[u64]| Request {
            sent: (tenant.clone(), numbers.into()),
            keys: keys.clone(),
            replay: batch.replay,
        };
        encoded.requests.extend(all.chunks(self.most).map(request));
        encoded
    }

    async fn attempt(&self, request: &Request, attempt: u32) -> Answer {
        let lock = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        lock().attempts.push(Instant::now());
        if self.hang_first && attempt == 0 {
            std::future::pending::<()>().await;
        }
        let answer = (self.answer)(&request.sent.1, attempt);
        let except: Option<Vec<Named>> = match &answer {
            Answer::Stored => Some(Vec::new()),
            Answer::StoredExcept { refused, again } => Some([&refused[..], &again[..]].concat()),
            _ => None,
        };
        if let Some(except) = except {
            let mut seen = lock();
            let (tenant, mut numbers) = request.sent.clone();
            numbers.retain(|number| except.iter().all(|item| item.id != number.to_le_bytes()));
            seen.stored.push((tenant, numbers));
            seen.keys.push(request.keys.clone());
            seen.replays.push(request.replay);
        }
        // Others get their turn between an answer and its consequences.
        tokio::task::yield_now().await;
        answer
    }

    fn locate(&self, batch: &Batch, items: &[Named]) -> Option<Vec<Refused>> {
        let find = |item: &Named| {
            let number = u64::from_le_bytes(item.id.as_slice().try_into().ok()?);
            let holds = |record: &Received| record.value.as_ref().is_some_and(|value| numbers(value).contains(&number));
            let record = batch.records.iter().position(holds)?;
            let value = Some(request(number..number + 1, 0));
            Some(Refused { record, value, items: 1, reason: item.reason, error: item.error.to_string() })
        };
        items.iter().map(find).collect()
    }

    fn named(&self, requests: &[Request]) -> Option<Vec<Named>> {
        let name = |number: &u64| Named { id: number.to_le_bytes().into(), reason: "rest", error: "".into() };
        Some(requests.iter().flat_map(|request| &request.sent.1).map(name).collect())
    }
}

/// A running sink.
pub(super) struct Sink {
    seen: Arc<Mutex<Seen>>,
    metrics: Arc<Metrics>,
    health: HealthTable,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ComponentError>>,
    kind: Kind,
}

impl Sink {
    pub(super) fn config() -> DeliveryConfig {
        let mut config = DeliveryConfig::default();
        config.batch.age = Period(Duration::from_millis(20));
        config.retry.initial = Period(Duration::from_millis(1));
        config.retry.max = Period(Duration::from_millis(20));
        config
    }

    pub(super) fn start(world: &World, backend: Fake) -> Self {
        Self::start_with(world, backend, Self::config())
    }

    pub(super) fn start_with(world: &World, backend: Fake, config: DeliveryConfig) -> Self {
        let (metrics, health, shutdown) = (Arc::new(Metrics::new()), HealthTable::default(), CancellationToken::new());
        let (seen, kind) = (Arc::clone(&backend.seen), backend.kind);
        let context = Context {
            bus: Arc::clone(&world.bus),
            metrics: Arc::clone(&metrics),
            health: health.component(NAME),
            shutdown: shutdown.clone(),
        };
        let task = tokio::spawn(Box::new(Delivery::new(backend, config, &Topics::default())).run(context));
        Self { seen, metrics, health, shutdown, task, kind }
    }

    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Numbers that are stored, as often as they were.
    pub(super) fn stored(&self) -> Vec<u64> {
        self.requests().into_iter().flat_map(|(_, numbers)| numbers).collect()
    }

    pub(super) fn requests(&self) -> Vec<Sent> {
        self.seen.lock().unwrap().stored.clone()
    }

    /// Of the requests that are stored, whether they are of a replay.
    pub(super) fn replays(&self) -> Vec<bool> {
        self.seen.lock().unwrap().replays.clone()
    }

    pub(super) fn attempts(&self) -> Vec<Instant> {
        self.seen.lock().unwrap().attempts.clone()
    }

    pub(super) fn in_flight(&self) -> i64 {
        let labels = ComponentLabels { component: NAME, signal: self.kind.as_str() };
        self.metrics.in_flight_bytes.get_or_create(&labels).get()
    }

    pub(super) async fn until_stored(&self, count: usize) {
        self.wait_for(|| self.stored().len() >= count, "items are stored").await;
    }

    pub(super) async fn until_settled(&self, items: u64) {
        let labels = ComponentLabels { component: NAME, signal: self.kind.as_str() };
        let settled = || self.metrics.settled_items.get_or_create(&labels).get() >= items;
        self.wait_for(settled, "items are settled").await;
    }

    pub(super) async fn until_ready(&self) {
        self.until(|state| *state == State::Ready).await;
    }

    pub(super) async fn until(&self, is: impl Fn(&State) -> bool) {
        self.wait_for(|| self.health.snapshot().get(NAME).is_some_and(&is), "the sink is in that state").await;
    }

    async fn wait_for(&self, is: impl Fn() -> bool, what: &str) {
        let started = Instant::now();
        while !is() {
            assert!(started.elapsed() < PATIENCE, "waited in vain until {what}: {:?}", self.health.snapshot());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Ends it in the midst of whatever it does.
    pub(super) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}
