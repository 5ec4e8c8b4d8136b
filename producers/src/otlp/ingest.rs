//! From a request's body to the bus, and the answer after the bus has it (D1).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use afflux_bus::{Bus, BusError, ErrorClass, Headers, PartitionId, Producer, Record};
use afflux_runtime::admin::{Health, State};
use afflux_runtime::metrics::{ComponentLabels, ReasonLabels};
use afflux_runtime::{Context, Metrics, Permit, Signal};
use afflux_schemas::otlp::split::Part;
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ITEMS, HEADER_SOURCE_CLUSTER, HEADER_TENANT, Topics};
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::NAME;
use super::answer::{Format, Receipt, Rejection};
use super::body::Allowance;
use super::compression::Encoding;
use super::config::Limits;
use super::decode::{Decoded, Shape, Target, decode};
use super::memory::{Held, Memory};
use super::refusal::Refusal;
use super::screen::Most;

/// Bytes that are decoded on the spot: below a millisecond of work. More goes to a thread of its own.
const INLINE_PROTOBUF: usize = 256 * 1024;
const INLINE_JSON: usize = 64 * 1024;
/// A few compressed bytes may come to the whole limit.
const INLINE_COMPRESSED: usize = 0;

/// How often a bus that does not take data is asked whether it does again.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// A group that nobody joins, to ask with.
const PROBE_GROUP: &str = "afflux-probe";

/// What a request costs besides its head and body: its task and stream.
const REQUEST_OVERHEAD: usize = 4 * 1024;

/// Names that clusters are given.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Of everything that is received.
    pub(super) all: Option<String>,
    /// Of what names none in its resource.
    pub(super) unnamed: Option<String>,
}

/// Everything that requests share.
pub(super) struct Ingest {
    pub(super) limits: Limits,
    pub(super) memory: Memory,
    /// Every task of the component.
    pub(super) tasks: TaskTracker,
    /// Cancelled when waiting for the bus has no point any more.
    pub(super) abandon: CancellationToken,
    bus: Arc<dyn Bus>,
    producer: OnceCell<Arc<dyn Producer>>,
    spans: Arc<str>,
    logs: Arc<str>,
    cluster: Option<String>,
    /// Cluster of what names none in its resource.
    unnamed: Option<String>,
    metrics: Arc<Metrics>,
    health: Health,
    /// Threads that may decode big requests: as many as there are cores.
    decoders: Arc<Semaphore>,
    failing: AtomicBool,
    /// What made the bus unusable for good.
    broken: Mutex<Option<BusError>>,
    /// Cancelled on shutdown, and when the bus is broken.
    pub(super) stop: CancellationToken,
}

/// A request of either protocol, its body read.
pub(super) struct Call {
    pub(super) shape: Shape,
    pub(super) body: Held,
    pub(super) tenant: Option<Bytes>,
}

impl Ingest {
    pub(super) fn new(limits: Limits, topics: &Topics, names: Names, context: &Context) -> Arc<Self> {
        let Names { all: cluster, unnamed } = names;
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        Arc::new(Self {
            memory: Memory::new(limits.in_flight_bytes.as_usize()),
            limits,
            tasks: TaskTracker::new(),
            abandon: CancellationToken::new(),
            bus: Arc::clone(&context.bus),
            producer: OnceCell::new(),
            spans: topics.ingest_spans().into(),
            logs: topics.ingest_logs().into(),
            cluster,
            unnamed,
            metrics: Arc::clone(&context.metrics),
            health: context.health.clone(),
            decoders: Arc::new(Semaphore::new(cores)),
            failing: AtomicBool::new(false),
            broken: Mutex::new(None),
            stop: context.shutdown.child_token(),
        })
    }

    /// Lets a request in: what it gives is to be kept until the answer.
    pub(super) fn admit(self: &Arc<Self>, headers: &HeaderMap) -> Result<Admission, Refusal> {
        let head: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let permit = self.memory.take(REQUEST_OVERHEAD + head)?;
        Ok(Admission { permit: Some(permit), ingest: Arc::clone(self) })
    }

    /// What the body of one request may take.
    pub(super) fn allowance(&self) -> Allowance {
        Allowance { bytes: self.limits.request_bytes.as_usize(), framing: 0, time: self.limits.body_timeout.0 }
    }

    /// Stores what the request holds; returns once it is durable or the client has to be told otherwise (D1).
    ///
    /// A dropped future, or a bus that is too slow, gives up the wait and not the writing: its bytes stay
    /// counted until the bus lets go of them.
    pub(super) async fn store(self: &Arc<Self>, call: Call) -> Result<Receipt, Refusal> {
        let patience = self.limits.ack_timeout.0;
        let deadline = Instant::now() + patience;
        let signal = call.shape.signal;
        let ready = timeout_at(deadline, self.ready(signal)).await;
        let (producer, partitions) = ready.map_err(|_| self.slow())?.map_err(|error| self.failed(error))?;
        let mut decoded = self.decode(call.shape, call.body, partitions, deadline).await?;
        let mut rejections = std::mem::take(&mut decoded.rejections);
        if !decoded.parts.is_empty() {
            if Instant::now() >= deadline {
                // Nothing is written yet, so that the retry is no repetition.
                return Err(Refusal::Busy);
            }
            let publish = Arc::clone(self).publish(producer, signal, decoded, call.tenant);
            let published = self.tasks.spawn(publish);
            match timeout_at(deadline, published).await {
                Ok(Ok(outcome)) => rejections.extend(outcome?),
                Ok(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
                Err(_) => return Err(self.slow()),
            }
        }
        for Rejection { items, label, .. } in &rejections {
            self.metrics.dropped_items.get_or_create(&reason(label)).inc_by(*items);
        }
        Ok(Receipt { rejections })
    }

    /// Counts a refusal.
    pub(super) fn refused(&self, refusal: &Refusal) {
        self.metrics.refused_requests.get_or_create(&reason(refusal.verdict().reason)).inc();
        tracing::debug!(%refusal, "request refused");
    }

    /// What made the bus unusable, if something did; answers once.
    pub(super) fn broken(&self) -> Option<BusError> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Opens the producer before the first request needs it. Then, for as long as the bus does not take data, asks
    /// whether it answers again: an instance that gets no requests because it is not ready would not find out.
    pub(super) async fn watch(&self) {
        if let Err(error) = self.producer().await {
            self.failed(error);
        }
        loop {
            sleep(PROBE_EVERY).await;
            let topics = [Arc::clone(&self.spans)];
            if self.failing.load(Ordering::Relaxed) && self.bus.lag(PROBE_GROUP, &topics).await.is_ok() {
                self.recovered();
            }
        }
    }

    async fn producer(&self) -> Result<&Arc<dyn Producer>, BusError> {
        self.producer.get_or_try_init(|| self.bus.producer()).await
    }

    async fn ready(&self, signal: Signal) -> Result<(Arc<dyn Producer>, u32), BusError> {
        let producer = self.producer().await?;
        let partitions = producer.partitions(self.topic(signal)).await?;
        Ok((Arc::clone(producer), partitions))
    }

    fn topic(&self, signal: Signal) -> &Arc<str> {
        match signal {
            Signal::Spans => &self.spans,
            Signal::Logs | Signal::Events => &self.logs,
        }
    }

    async fn decode(&self, shape: Shape, body: Held, partitions: u32, deadline: Instant) -> Result<Decoded, Refusal> {
        let inline = match (shape.encoding, shape.format) {
            (Encoding::Identity, Format::Protobuf) => INLINE_PROTOBUF,
            (Encoding::Identity, Format::Json) => INLINE_JSON,
            (Encoding::Gzip | Encoding::Zstd, _) => INLINE_COMPRESSED,
        };
        let target = Target {
            partitions,
            cluster: self.cluster.clone().unwrap_or_default(),
            record_bytes: self.limits.record_bytes.as_usize(),
            decompressed_bytes: self.limits.decompressed_bytes.as_usize(),
            most: Most { attributes: self.limits.attributes, events: self.limits.events, links: self.limits.links },
        };
        if body.bytes.len() <= inline {
            return decode(body, shape, &target, &self.memory);
        }
        let Ok(Ok(turn)) = timeout_at(deadline, Arc::clone(&self.decoders).acquire_owned()).await else {
            return Err(Refusal::Busy);
        };
        let memory = self.memory.clone();
        let work = move || {
            let decoded = decode(body, shape, &target, &memory);
            drop(turn);
            decoded
        };
        match self.tasks.spawn_blocking(work).await {
            Ok(decoded) => decoded,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Refusal::Stopping),
        }
    }

    /// Stores the parts; gives the items that are too large for the bus, if it took others.
    async fn publish(
        self: Arc<Self>,
        producer: Arc<dyn Producer>,
        signal: Signal,
        decoded: Decoded,
        tenant: Option<Bytes>,
    ) -> Result<Option<Rejection>, Refusal> {
        let Decoded { parts, bytes, permits, .. } = decoded;
        self.show_in_flight();
        let written = self.write(&*producer, signal, parts, tenant.as_ref()).await;
        drop(permits);
        self.show_in_flight();
        let (stored, rejection) = written?;
        let labels = ComponentLabels { component: NAME, signal: signal.as_str() };
        self.metrics.accepted_items.get_or_create(&labels).inc_by(stored);
        self.metrics.accepted_bytes.get_or_create(&labels).inc_by(bytes as u64);
        self.recovered();
        Ok(rejection)
    }

    /// Writes the parts; gives the number of items written and those that are too large for the bus.
    ///
    /// What fits goes in one call, which the local bus takes as a whole or not at all.
    async fn write(
        &self,
        producer: &dyn Producer,
        signal: Signal,
        parts: Vec<Part>,
        tenant: Option<&Bytes>,
    ) -> Result<(u64, Option<Rejection>), Refusal> {
        let items: Vec<u64> = parts.iter().map(|part| part.items).collect();
        let limit = producer.max_record_bytes();
        let (mut fitting, mut stored, mut large, mut first) = (Vec::with_capacity(items.len()), 0, 0, None);
        for (record, items) in self.records(signal, parts, tenant).into_iter().zip(items) {
            let size = record.size();
            if size <= limit {
                stored += items;
                fitting.push(record);
            } else {
                large += items;
                first.get_or_insert(Refusal::RecordTooLarge { size, limit });
            }
        }
        match first {
            Some(refusal) if fitting.is_empty() => return Err(refusal),
            _ => self.send(producer, fitting).await?.map_err(|error| self.failed(error))?,
        }
        Ok((stored, first.map(|refusal| rejection(large, &refusal))))
    }

    /// What the bus says to the records, unless the process ends before.
    async fn send(&self, producer: &dyn Producer, records: Vec<Record>) -> Result<Result<(), BusError>, Refusal> {
        tokio::select! {
            sent = producer.send(records) => Ok(sent),
            () = self.abandon.cancelled() => Err(Refusal::Stopping),
        }
    }

    fn recovered(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the bus answers again");
            self.health.set(State::Ready);
        }
    }

    fn records(&self, signal: Signal, parts: Vec<Part>, tenant: Option<&Bytes>) -> Vec<Record> {
        let topic = self.topic(signal);
        let timestamp_ms = now_ms();
        let record = |part: Part| {
            let mut headers = Headers::new();
            headers.push(HEADER_ITEMS, part.items.to_string());
            if let Some(cluster) = &self.cluster {
                headers.push(HEADER_CLUSTER, cluster.clone());
            } else if let Some(cluster) = &self.unnamed {
                headers.push(HEADER_SOURCE_CLUSTER, cluster.clone());
            }
            if let Some(tenant) = tenant {
                headers.push(HEADER_TENANT, tenant.clone());
            }
            let to = PartitionId { topic: Arc::clone(topic), partition: part.partition };
            Record { to, key: None, value: Some(part.value), timestamp_ms, headers }
        };
        parts.into_iter().map(record).collect()
    }

    /// Takes note of an error of the bus, and says what the client is told.
    fn failed(&self, error: BusError) -> Refusal {
        let refusal = Refusal::from(&error);
        match error.class() {
            ErrorClass::Fatal => {
                if self.stop.is_cancelled() {
                    return Refusal::Stopping;
                }
                tracing::error!(%error, "the bus is unusable");
                // The first error is the cause; later ones follow from it.
                self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                self.stop.cancel();
            }
            ErrorClass::Permanent if matches!(error, BusError::TooLarge { .. }) => {
                tracing::warn!(%error, "a record is too large for the bus; lower producers.otlp.limits.record_bytes");
            }
            ErrorClass::Transient(_) | ErrorClass::Permanent => self.trouble(&error.to_string()),
        }
        refusal
    }

    fn slow(&self) -> Refusal {
        let patience = self.limits.ack_timeout.0;
        self.trouble(&format!("the bus did not acknowledge within {patience:?}"));
        Refusal::AckTimeout(patience)
    }

    /// Says once that clients are being refused.
    fn trouble(&self, error: &str) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(error, "the bus does not take data; clients are told to retry");
            self.health.set(State::Failing(format!("bus: {error}")));
        }
    }

    fn show_in_flight(&self) {
        let labels = ComponentLabels { component: NAME, signal: "all" };
        let bytes = i64::try_from(self.memory.in_flight()).unwrap_or(i64::MAX);
        self.metrics.in_flight_bytes.get_or_create(&labels).set(bytes);
    }
}

/// A request that was let in.
pub(super) struct Admission {
    permit: Option<Permit>,
    ingest: Arc<Ingest>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.permit = None;
        self.ingest.show_in_flight();
    }
}

fn reason(reason: &'static str) -> ReasonLabels {
    ReasonLabels { component: NAME, reason }
}

fn rejection(items: u64, refusal: &Refusal) -> Rejection {
    Rejection { items, label: refusal.verdict().reason, reason: refusal.to_string() }
}

/// Milliseconds since the epoch; 0 before it.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
