//! A bus, a store and a clock, with sinks that come and go, and the one check that counts: every row once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use afflux_bus::{Headers, PartitionId};
use afflux_runtime::admin::{HealthTable, State};
use afflux_runtime::config::{ByteSize, Period};
use afflux_runtime::{Component, ComponentError, Context, Metrics};
use afflux_schemas::topics::Topics;
use afflux_sinks::parquet::{Clock, NAME, ParquetConfig, ParquetSink};
use arrow_array::cast::AsArray;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use prost::Message;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bus::SimBus;
use crate::store::TestStore;

/// Longest that anything may take, on the paused clock.
const DEADLINE: Duration = Duration::from_secs(1800);
/// 2023-11-14T22:00:00Z in nanoseconds.
const T0: u64 = 1_699_999_200_000_000_000;

pub struct World {
    pub bus: SimBus,
    pub store: TestStore,
    /// Milliseconds by which wall time is ahead of the paused clock and the system's.
    pub wall_ahead_ms: Arc<AtomicI64>,
    pub config: ParquetConfig,
    expected: BTreeSet<String>,
}

/// A sink that runs.
pub struct Running {
    task: JoinHandle<Result<(), ComponentError>>,
    shutdown: CancellationToken,
    pub health: HealthTable,
    pub metrics: Arc<Metrics>,
}

pub fn spans(partition: u32) -> PartitionId {
    PartitionId::new("afflux.spans", partition)
}

/// A request of spans with these names, in the given hour after [`T0`].
pub fn request(names: &[String], hour: u64) -> Bytes {
    let span = |name: &String| Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: name.clone(),
        start_time_unix_nano: T0 + hour * 3_600_000_000_000,
        end_time_unix_nano: T0 + hour * 3_600_000_000_000 + 5,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: names.iter().map(span).collect(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

impl World {
    /// Partitions of `spans` and a sink that ends a range after about five records.
    pub fn new(partitions: u32) -> Self {
        let mut config = ParquetConfig { default_cluster: "home".into(), row_group_rows: 4, ..Default::default() };
        config.flush.bytes = ByteSize(600);
        config.flush.age = Period(Duration::from_secs(10));
        let (bus, store, expected) = (SimBus::default(), TestStore::new(), BTreeSet::new());
        (0..partitions).for_each(|partition| bus.create(&spans(partition)));
        Self { bus, store, wall_ahead_ms: Arc::default(), config, expected }
    }

    /// Appends records at these offsets, each with one to three spans in one of three hours and two clusters.
    pub fn append(&mut self, partition: &PartitionId, offsets: impl IntoIterator<Item = u64>) {
        for offset in offsets {
            let names: Vec<_> = (0..=offset % 3).map(|i| format!("{partition}/{offset}/{i}")).collect();
            let mut headers = Headers::new();
            if offset % 4 == 1 {
                headers.push("afflux-cluster", "away");
            }
            let value = request(&names, offset * 7 % 3);
            self.bus.append(partition, offset, 1_700_000_000_000 + offset as i64, Some(value), headers);
            self.expected.extend(names);
        }
    }

    /// Appends a record that is no request.
    pub fn append_malformed(&self, partition: &PartitionId, offset: u64) {
        self.bus.append(partition, offset, 1_700_000_000_000, Some("not protobuf".into()), Headers::new());
    }

    /// Starts a sink.
    pub fn start(&self) -> Running {
        self.start_with(self.config.clone())
    }

    pub fn start_with(&self, config: ParquetConfig) -> Running {
        let ahead = Arc::clone(&self.wall_ahead_ms);
        let system = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let started = tokio::time::Instant::now();
        let clock = Clock::new(move || {
            (system + started.elapsed()).as_millis() as i64 + ahead.load(Ordering::Relaxed)
        });
        let sink = ParquetSink::new(config, Topics::default())
            .unwrap()
            .with_store(Arc::new(self.store.clone()), Path::from("lake"))
            .with_clock(clock);
        let (health, metrics, shutdown) = (HealthTable::default(), Arc::new(Metrics::new()), CancellationToken::new());
        let context = Context {
            bus: Arc::new(self.bus.clone()),
            metrics: Arc::clone(&metrics),
            health: health.component(NAME),
            shutdown: shutdown.clone(),
        };
        let task = tokio::spawn((Box::new(sink) as Box<dyn Component>).run(context));
        Running { task, shutdown, health, metrics }
    }

    /// Waits until everything on the bus is committed.
    pub async fn drained(&self) {
        self.until("everything is committed", || self.bus.is_drained()).await;
    }

    /// Waits for a condition, on the paused clock.
    pub async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, waiting).await;
        assert!(waited.is_ok(), "{what}: never; operations {:?}", self.store.ops());
    }

    /// Runs one more sink until everything is committed, stops it, and checks the lake.
    pub async fn settle(&self) {
        self.store.plan(|_, _| crate::store::Fault::None);
        let sink = self.start();
        self.drained().await;
        sink.stop().await;
        self.check().await;
    }

    /// Every expected row is in the files once, and every file belongs to an intent.
    pub async fn check(&self) {
        let rows = self.rows().await;
        let doubled: Vec<_> = rows.iter().filter(|(_, count)| **count > 1).collect();
        assert!(doubled.is_empty(), "doubled: {doubled:?}\nfiles: {:#?}", self.paths().await);
        let found: BTreeSet<_> = rows.into_keys().collect();
        let missing: Vec<_> = self.expected.difference(&found).collect();
        assert!(missing.is_empty(), "missing: {missing:?}\nfiles: {:#?}", self.paths().await);
        let foreign: Vec<_> = found.difference(&self.expected).collect();
        assert!(foreign.is_empty(), "not expected: {foreign:?}");
        let paths = self.paths().await;
        for path in paths.iter().filter(|path| path.ends_with(".parquet")) {
            let (source, first) = path.rsplit('/').next().unwrap().strip_suffix(".parquet").unwrap().rsplit_once('-').unwrap();
            let (topic, partition) = source.rsplit_once('-').unwrap();
            let intent = format!("lake/_afflux/intents/{topic}/{partition}/{first}.json");
            let floors = format!("lake/_afflux/floors/{topic}/{partition}/");
            let below_floor = paths.iter().any(|floor| floor.starts_with(&floors) && floor[floors.len()..] > *first);
            assert!(paths.contains(&intent) || below_floor, "{path} belongs to no range");
        }
    }

    /// Names of the rows of all files, with how often each is there.
    pub async fn rows(&self) -> BTreeMap<String, usize> {
        let mut rows = BTreeMap::new();
        for path in self.paths().await.into_iter().filter(|path| path.ends_with(".parquet")) {
            let bytes = self.get(&path).await;
            for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
                let batch = batch.unwrap();
                for name in batch.column_by_name("name").unwrap().as_string::<i32>().iter().flatten() {
                    *rows.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
        rows
    }

    /// Every path of the store.
    pub async fn paths(&self) -> Vec<String> {
        let listed = self.store.lake.inner().list(None).try_collect::<Vec<_>>().await.unwrap();
        let mut paths: Vec<_> = listed.into_iter().map(|object| object.location.to_string()).collect();
        paths.sort();
        paths
    }

    /// The object at a path.
    pub async fn get(&self, path: &str) -> Bytes {
        self.store.lake.inner().get(&Path::parse(path).unwrap()).await.unwrap().bytes().await.unwrap()
    }

    /// All objects with their bytes.
    pub async fn contents(&self) -> BTreeMap<String, Bytes> {
        let mut contents = BTreeMap::new();
        for path in self.paths().await {
            let bytes = self.get(&path).await;
            contents.insert(path, bytes);
        }
        contents
    }
}

impl Running {
    /// Stops the sink as a signal to terminate would.
    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("the sink ends").unwrap().unwrap();
    }

    /// Ends the sink as `kill -9` would, as far as the bus and the store can tell.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits until that many items count as settled.
    pub async fn until_settled(&self, items: u64) {
        let line = format!("settled_items_total{{component=\"{NAME}\",signal=\"spans\"}} {items}");
        while !self.metrics.encode().contains(&line) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A metric by its name without prefix and with its labels; 0 where it is not there.
    pub fn metric(&self, name: &str) -> usize {
        let text = self.metrics.encode();
        let value = text.lines().find_map(|line| line.strip_prefix("afflux_")?.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    /// What the component says of itself.
    pub fn state(&self) -> State {
        self.health.snapshot()[NAME].clone()
    }

    /// What keeps it from working.
    pub fn problem(&self) -> Option<String> {
        match self.state() {
            State::Failing(problem) => Some(problem),
            _ => None,
        }
    }
}
