use std::sync::Mutex;
use std::time::Duration;

use afflux_bus::local::{LocalBus, LocalConfig};
use afflux_bus::{Cleanup, Headers, PartitionId, PartitionLag, Record, TopicSpec};
use afflux_runtime::Metrics;
use afflux_runtime::admin::{HealthTable, State};
use afflux_runtime::metrics::SourceLabels;
use afflux_schemas::topics::HEADER_ORIGIN;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::otlp::tests::bus::{FakeBus, Handle, Mode};

const PARTITIONS: u32 = 2;
const TOPIC: &str = "afflux.ingest.spans";

/// A source on a local bus, which may be away.
struct Region {
    /// Stands for the cluster; each connection has one of its own, which it closes.
    dir: tempfile::TempDir,
    away: Mutex<Option<&'static str>>,
}

impl Region {
    async fn with(records: u64) -> Arc<Self> {
        let region = Self { dir: tempfile::tempdir().unwrap(), away: Mutex::default() };
        let bus = region.open();
        let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
        let topic = |name: String| TopicSpec { name: name.into(), partitions: PARTITIONS, cleanup };
        bus.create_topics(&Topics::default().all().map(topic)).await.unwrap();
        let record = |n: u64| Record {
            to: PartitionId::new(TOPIC, u32::try_from(n % 2).unwrap()),
            key: None,
            value: Some(n.to_string().into()),
            timestamp_ms: 1,
            headers: Headers::new(),
        };
        bus.producer().await.unwrap().send((0..records).map(record).collect()).await.unwrap();
        bus.close().await;
        Arc::new(region)
    }

    fn open(&self) -> Arc<dyn Bus> {
        LocalBus::open(LocalConfig::new(self.dir.path())).unwrap()
    }

    /// What the group has not committed.
    async fn lag(&self) -> u64 {
        let bus = self.open();
        let lag = bus.lag(config::DEFAULT_GROUP, &[TOPIC.into()]).await.unwrap();
        bus.close().await;
        lag.iter().map(PartitionLag::records).sum()
    }
}

#[async_trait]
impl Connect for Region {
    async fn connect(&self) -> Result<Arc<dyn Bus>, BusError> {
        if let Some(reason) = *self.away.lock().unwrap() {
            return Err(BusError::Unreachable { brokers: "region:9092".into(), reason: reason.into() });
        }
        Ok(self.open())
    }
}

struct Running {
    fake: Arc<FakeBus>,
    table: HealthTable,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), ComponentError>>,
}

impl Running {
    /// Copies from those sources, named `0`, `1` and so on, to a bus in that mode.
    fn start(regions: &[Arc<Region>], mode: Mode) -> Self {
        let fake = FakeBus::new(PARTITIONS);
        fake.set(mode);
        let (table, metrics, shutdown) = (HealthTable::default(), Arc::new(Metrics::new()), CancellationToken::new());
        let source = |(at, region): (usize, &Arc<Region>)| {
            let (group, topics) = (config::DEFAULT_GROUP.into(), Topics::default());
            let config = SourceConfig { name: at.to_string(), group, topics, fetch_bytes: 1 << 20 };
            (config, Arc::clone(region) as Arc<dyn Connect>)
        };
        let sources = KafkaSources::new(regions.iter().enumerate().map(source).collect(), Topics::default()).unwrap();
        let context = Context {
            bus: Arc::new(Handle(Arc::clone(&fake))),
            metrics: Arc::clone(&metrics),
            health: table.component(KafkaSources::NAME),
            shutdown: shutdown.clone(),
        };
        let task = tokio::spawn(Box::new(sources).run(context));
        Self { fake, table, metrics, shutdown, task }
    }

    fn state(&self) -> State {
        self.table.snapshot()[KafkaSources::NAME].clone()
    }

    async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let wait = async {
            while !reached(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .unwrap_or_else(|_| panic!("{what}: {:?}", self.state()));
    }

    fn copied(&self, source: &str) -> u64 {
        let labels = SourceLabels { component: KafkaSources::NAME, source: source.into() };
        self.metrics.copied_records.get_or_create(&labels).get()
    }

    async fn stop(self) -> Arc<FakeBus> {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("stops").unwrap().unwrap();
        self.fake
    }
}

fn origins(fake: &FakeBus) -> Vec<String> {
    let origin = |record: &Record| String::from_utf8(record.headers.get(HEADER_ORIGIN).unwrap().to_vec()).unwrap();
    fake.records().iter().map(origin).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_are_copied_with_their_origins_and_not_again_after_a_restart() {
    let regions = [Region::with(6).await, Region::with(4).await];
    let running = Running::start(&regions, Mode::Ack);
    running.until("copied", |running| running.copied("0") == 6 && running.copied("1") == 4).await;
    running.until("ready", |running| running.state() == State::Ready).await;
    let mut found = origins(&*running.stop().await);
    found.sort();
    let expected = [("0", 3), ("1", 2)].map(|(name, each)| {
        (0..2).flat_map(move |partition| (0..each).map(move |offset| format!("{name}:{TOPIC}/{partition}/{offset}")))
    });
    assert_eq!(found, expected.into_iter().flatten().collect::<Vec<_>>());
    let again = Running::start(&regions, Mode::Ack);
    again.until("ready", |running| running.state() == State::Ready).await;
    assert!(again.stop().await.records().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_before_the_bus_has_acknowledged_it() {
    let region = Region::with(4).await;
    let running = Running::start(&[Arc::clone(&region)], Mode::Hang);
    running.fake.begun(1).await;
    running.task.abort();
    let _ = running.task.await;
    // The local bus of the connection is released with its last task.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(region.lag().await, 4, "the bus has not answered");
    let running = Running::start(&[Arc::clone(&region)], Mode::Ack);
    running.until("copied", |running| running.copied("0") == 4).await;
    running.stop().await;
    assert_eq!(region.lag().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_is_named_and_holds_up_no_other_and_is_read_when_it_is_there() {
    let regions = [Region::with(2).await, Region::with(2).await];
    *regions[1].away.lock().unwrap() = Some("refused");
    let running = Running::start(&regions, Mode::Ack);
    running.until("the other", |running| running.copied("0") == 2).await;
    let away = State::Degraded("source 1: no broker reachable at region:9092: refused".into());
    running.until("degraded", |running| running.state() == away).await;
    assert!(running.table.ready());
    *regions[1].away.lock().unwrap() = None;
    running.until("back", |running| running.copied("1") == 2 && running.state() == State::Ready).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bus_does_not_take_is_sent_again_in_its_order_and_a_stop_leaves_it_at_the_source() {
    let region = Region::with(4).await;
    let full = Mode::Fail(|| BusError::Full { reason: "disk".into() });
    let running = Running::start(&[Arc::clone(&region)], full);
    running.until("failing", |running| matches!(running.state(), State::Failing(why) if why.contains("disk"))).await;
    running.stop().await;
    assert_eq!(region.lag().await, 4);

    let running = Running::start(&[Arc::clone(&region)], full);
    running.fake.begun(2).await;
    running.fake.set(Mode::Ack);
    running.until("copied", |running| running.copied("0") == 4 && running.state() == State::Ready).await;
    let found = origins(&*running.stop().await);
    for partition in 0..2 {
        let of = format!("0:{TOPIC}/{partition}/");
        let mine: Vec<_> = found.iter().filter(|origin| origin.starts_with(&of)).cloned().collect();
        assert_eq!(mine, [format!("{of}0"), format!("{of}1")]);
    }
    assert_eq!(region.lag().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_bus_never_takes_becomes_a_dead_letter_and_the_others_pass() {
    let region = Region::with(2).await;
    let bus = region.open();
    let large = Record {
        to: PartitionId::new(TOPIC, 0),
        key: None,
        value: Some(vec![b'x'; 4096].into()),
        timestamp_ms: 1,
        headers: Headers::new(),
    };
    bus.producer().await.unwrap().send(vec![large]).await.unwrap();
    bus.close().await;
    let running = Running::start(&[Arc::clone(&region)], Mode::Limit(2048));
    running.until("copied", |running| running.copied("0") == 3).await;
    let text = running.metrics.encode();
    let records = running.stop().await.records();
    let (dead, alive): (Vec<_>, Vec<_>) =
        records.iter().partition(|r| *r.to.topic == *Topics::default().dead_letters());
    assert_eq!((dead.len(), alive.len()), (1, 2));
    let origin = dead[0].headers.get(HEADER_ORIGIN).unwrap();
    assert_eq!(&origin[..], format!("0:{TOPIC}/0/1").as_bytes());
    assert!(text.contains(r#"dead_letters_total{component="producers.kafka",reason="too_large"} 1"#), "{text}");
    assert_eq!(region.lag().await, 0);
}
