//! The sink itself, from a bus to the server.

mod refused;

use std::collections::BTreeSet;
use std::sync::Arc;

use afflux_bus::local::{LocalBus, LocalConfig};
use afflux_bus::{Bus, Cleanup, Headers, PartitionId, PartitionLag, ReaderConfig, ReaderEvent, Record, TopicSpec};
use afflux_runtime::admin::HealthTable;
use afflux_runtime::config::Period;
use afflux_runtime::{Component as _, Context, Metrics};
use afflux_schemas::otlp::logs::LogsView;
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ITEMS, HEADER_TENANT, Topics};
use afflux_sinks::loki::{LokiConfig, Protocol, sink};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::*;

/// A bus with log records on it, and the sink that reads them.
struct World {
    bus: Arc<dyn Bus>,
    config: LokiConfig,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new(loki: &Loki) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bus: Arc<dyn Bus> = LocalBus::open(LocalConfig::new(dir.path())).unwrap();
        let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
        let spec = |name: String| TopicSpec { name: name.into(), partitions: 1, cleanup };
        bus.create_topics(&Topics::default().all().map(spec)).await.unwrap();
        let mut config = LokiConfig { url: Some(loki.url()), ..LokiConfig::default() };
        config.delivery.retry.initial = Period(Duration::from_millis(5));
        config.delivery.retry.max = Period(Duration::from_millis(20));
        Self { bus, config, _dir: dir }
    }

    async fn publish(&self, lines: &[&str], headers: &[(&str, &str)]) {
        self.publish_value(request_before(lines, 0), lines.len(), headers).await;
    }

    /// Log records of so many nanoseconds before the present.
    async fn publish_late(&self, count: usize, before: u64) {
        let lines: Vec<String> = (0..count).map(|i| format!("{i} at -{before}ns")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        self.publish_value(request_before(&lines, before), count, &[]).await;
    }

    async fn publish_value(&self, value: Bytes, items: usize, headers: &[(&str, &str)]) {
        let mut all = Headers::new();
        all.push(HEADER_CLUSTER, Bytes::from_static(b"eu-1"));
        all.push(HEADER_ITEMS, items.to_string());
        headers.iter().for_each(|(name, value)| all.push(*name, (*value).to_owned()));
        let to = PartitionId::new(Topics::default().logs(), 0);
        let record = Record { to, key: None, value: Some(value), timestamp_ms: 1, headers: all };
        self.bus.producer().await.unwrap().send(vec![record]).await.unwrap();
    }

    /// Runs the sink until everything is settled.
    async fn deliver(&self) {
        let shutdown = CancellationToken::new();
        let context = Context {
            bus: Arc::clone(&self.bus),
            metrics: Arc::new(Metrics::new()),
            health: HealthTable::default().component("sinks.loki"),
            shutdown: shutdown.clone(),
        };
        let sink = sink(&self.config, &Topics::default()).unwrap().unwrap();
        let running = tokio::spawn(Box::new(sink).run(context));
        let topics = [Topics::default().logs().into()];
        let left = || async {
            self.bus.lag("afflux-loki", &topics).await.unwrap().iter().map(PartitionLag::records).sum::<u64>()
        };
        while left().await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }

    /// Lines in all dead letters.
    async fn dead_letters(&self) -> Vec<String> {
        let config = ReaderConfig::new([Topics::default().dead_letters().into()]);
        let mut reader = self.bus.reader(config).await.unwrap();
        let mut lines = Vec::new();
        loop {
            match reader.next().await.unwrap() {
                ReaderEvent::Records(records) => records.iter().for_each(|record| {
                    lines.extend(lines_of(record.value.as_ref().unwrap()));
                }),
                ReaderEvent::CaughtUp(_) => {}
                ReaderEvent::Complete => return lines,
            }
        }
    }
}

/// Log records of so many nanoseconds before the present, each one nanosecond behind the last.
fn request_before(lines: &[&str], before: u64) -> Bytes {
    let logs = lines.iter().enumerate().map(|(i, line)| log(i as i64 - before as i64, line)).collect();
    request_of([("cart", logs)])
}

fn text(text: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(any_value::Value::StringValue(text.into())) })
}

/// A log record of so many nanoseconds after the present.
fn log(after: i64, line: &str) -> LogRecord {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    LogRecord { time_unix_nano: now.saturating_add_signed(after), body: text(line), ..LogRecord::default() }
}

/// The log records of each service.
fn request_of(services: impl IntoIterator<Item = (&'static str, Vec<LogRecord>)>) -> Bytes {
    let block = |(name, log_records)| {
        let service = KeyValue { key: "service.name".into(), value: text(name), ..KeyValue::default() };
        let resource = Some(Resource { attributes: vec![service], ..Resource::default() });
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }
    };
    ExportLogsServiceRequest { resource_logs: services.into_iter().map(block).collect() }.encode_to_vec().into()
}

fn lines_of(value: &[u8]) -> Vec<String> {
    let scopes = LogsView::new(value).resource_logs().flat_map(|block| block.scope_logs());
    scopes.flat_map(|scope| scope.log_records()).map(|log| log.body().as_str().unwrap().to_owned()).collect()
}

fn all(loki: &Loki, tenant: &str) -> Vec<String> {
    loki.streams(tenant).into_iter().flat_map(|stream| stream.entries).map(|entry| entry.line).collect()
}

#[tokio::test]
async fn just_what_loki_refuses_becomes_a_dead_letter_and_the_rest_is_there_once() {
    let options = Options { limits: Limits { max_line_size: 20, ..Limits::default() }, ..Options::default() };
    let loki = Loki::start(options).await.unwrap();
    let world = World::new(&loki).await;
    let long = "a line that this Loki does not take";
    let lines: Vec<String> =
        (0..50).map(|i| if [7, 31, 32].contains(&i) { format!("{long} {i}") } else { format!("line {i}") }).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    world.publish(&lines[..20], &[]).await;
    world.publish(&lines[20..], &[]).await;
    world.deliver().await;
    let (refused, taken): (Vec<&str>, Vec<&str>) = lines.iter().partition(|line| line.starts_with(long));
    let stored = all(&loki, "fake");
    assert_eq!(stored.len(), taken.len(), "each once");
    assert_eq!(stored.iter().map(String::as_str).collect::<BTreeSet<_>>(), taken.into_iter().collect());
    assert_eq!(world.dead_letters().await, refused);
    assert_eq!(
        (loki.deduplicated(), loki.count("line_too_long")),
        (0, loki.arrivals().len()),
        "nothing was sent twice"
    );
    assert!(loki.arrivals().len() <= 2, "one request for each record");
    let labels = loki.streams("fake").remove(0).labels;
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["app=cart", "cluster=eu-1", "level=unknown", "source=otlp"]);
}

#[tokio::test]
async fn through_faults_nothing_is_lost_or_doubled() {
    let loki = Loki::start(Options::default()).await.unwrap();
    let world = World::new(&loki).await;
    for fault in [
        Fault::ServerError,
        Fault::StoreAndReset,
        Fault::RateLimited(None),
        Fault::Reset,
        Fault::Unavailable,
        Fault::StoreAndClose,
    ] {
        loki.script(1, fault);
    }
    for i in 0..5 {
        world.publish(&[&format!("{i} a"), &format!("{i} b")], &[]).await;
    }
    world.deliver().await;
    let mut stored = all(&loki, "fake");
    stored.sort();
    assert_eq!(stored.join(","), "0 a,0 b,1 a,1 b,2 a,2 b,3 a,3 b,4 a,4 b");
    assert!(world.dead_letters().await.is_empty());
    assert!(loki.deduplicated() > 0);
}

#[tokio::test]
async fn what_is_too_far_behind_is_sent_as_old_and_nothing_else_is() {
    const MINUTE: u64 = 60_000_000_000;
    // Less than the sink takes it for.
    let limits = Limits { order_window: 10 * MINUTE as i64, ..Limits::default() };
    let loki = Loki::start(Options { limits, ..Options::default() }).await.unwrap();
    let mut world = World::new(&loki).await;
    world.publish(&["newest"], &[]).await;
    world.deliver().await;
    world.publish_late(40, 20 * MINUTE).await;
    world.publish_late(10, 5 * MINUTE).await;
    world.deliver().await;
    world.publish_late(5, 30 * MINUTE).await;
    let before = loki.refused()["too_far_behind"];
    world.deliver().await;
    let (mut old, mut others) = (0, 0);
    for stream in loki.streams("fake") {
        *(if stream.shard.is_empty() { &mut others } else { &mut old }) += stream.entries.len();
    }
    assert_eq!((old, others), (45, 11));
    assert!(world.dead_letters().await.is_empty());
    assert_eq!(before, 40, "refused once");
    // Another process has to learn it anew.
    assert_eq!(loki.refused()["too_far_behind"], 45);
    world.config.backfill.enabled = false;
    world.publish_late(3, 20 * MINUTE + 1).await;
    world.deliver().await;
    assert_eq!(world.dead_letters().await.len(), 3);
}

#[tokio::test]
async fn what_may_be_too_far_behind_is_sent_as_old_unasked() {
    const HOUR: u64 = 3_600_000_000_000;
    let loki = Loki::start(Options::default()).await.unwrap();
    let world = World::new(&loki).await;
    world.publish(&["newest"], &[]).await;
    world.publish_late(40, 2 * HOUR).await;
    world.publish_late(10, HOUR / 2).await;
    world.deliver().await;
    let old = loki.streams("fake").into_iter().filter(|stream| !stream.shard.is_empty());
    assert_eq!(old.map(|stream| stream.entries.len()).sum::<usize>(), 40);
    assert_eq!((loki.stored(), loki.refused().len(), loki.deduplicated()), (51, 0, 0));
}

#[tokio::test]
async fn a_rate_limit_slows_down_and_costs_nothing() {
    let rate = Some(Rate { per_second: 2000.0, burst: 100.0 });
    let loki = Loki::start(Options { rate, ..Options::default() }).await.unwrap();
    let mut world = World::new(&loki).await;
    world.config.delivery.batch.items = 1;
    for i in 0..30 {
        world.publish(&[&format!("{i:020}")], &[]).await;
    }
    world.deliver().await;
    assert_eq!(loki.stored(), 30);
    assert!(loki.refused()["rate_limited"] > 0);
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test]
async fn tenants_are_those_of_records_unless_one_is_configured() {
    let options = Options { auth: true, ..Options::default() };
    let loki = Loki::start(options.clone()).await.unwrap();
    let mut world = World::new(&loki).await;
    world.publish(&["a"], &[(HEADER_TENANT, "one")]).await;
    world.publish(&["b"], &[(HEADER_TENANT, "two")]).await;
    world.publish(&["c"], &[(HEADER_TENANT, "no|tenant")]).await;
    world.deliver().await;
    assert_eq!((all(&loki, "one"), all(&loki, "two")), (vec!["a".to_owned()], vec!["b".to_owned()]));
    assert_eq!(world.dead_letters().await, ["c"]);
    let other = Loki::start(options).await.unwrap();
    world.config.url = Some(other.url());
    world.config.tenant = Some("all".into());
    world.publish(&["d"], &[(HEADER_TENANT, "one")]).await;
    world.publish(&["e"], &[]).await;
    world.deliver().await;
    assert_eq!(all(&other, "all"), ["d", "e"]);
}

#[tokio::test]
async fn otlp_is_an_option() {
    let loki = Loki::start(Options::default()).await.unwrap();
    let mut world = World::new(&loki).await;
    world.config.protocol = Protocol::Otlp;
    world.publish(&["a", "b"], &[]).await;
    world.deliver().await;
    let stored = loki.streams("fake");
    let labels: Vec<_> = stored[0].labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["k8s_cluster_name=eu-1", "service_name=cart"]);
    assert_eq!(all(&loki, "fake"), ["a", "b"]);
}
