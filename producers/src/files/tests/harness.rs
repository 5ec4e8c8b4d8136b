//! Starts the component, writes files, and shows what came to the bus.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use afflux_runtime::admin::{HealthTable, State};
use afflux_runtime::metrics::{ComponentLabels, ReasonLabels};
use afflux_runtime::{Component, Context, Metrics};
use afflux_schemas::topics::Topics;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::{Files, FilesConfig, NAME};
use crate::otlp::tests::bus::{FakeBus, Handle, Mode};

pub(super) const PARTITIONS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(30);

/// A line as it came to the bus.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) path: String,
    pub(super) fingerprint: String,
    pub(super) offset: i64,
    pub(super) body: String,
    pub(super) iostream: String,
    pub(super) time: u64,
    pub(super) severity: i32,
}

/// A directory of files, with what is remembered of them.
pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) config: FilesConfig,
}

impl World {
    /// Reads `*.log` below the directory. Everything that is waited for comes soon.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("logs")).unwrap();
        let mut config = FilesConfig {
            paths: vec![format!("{}/logs/*.log", dir.path().display())],
            positions: dir.path().join("state/positions"),
            ..FilesConfig::default()
        };
        config.positions_interval.0 = Duration::from_millis(10);
        config.flush_after.0 = Duration::from_millis(500);
        config.poll_interval.0 = Duration::from_millis(50);
        config.scan_interval.0 = Duration::from_millis(500);
        Self { dir, config }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("logs").join(name)
    }

    pub(super) fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub(super) fn start(&self, mode: Mode) -> Running {
        Running::start(self.config.clone(), mode)
    }

    /// What one run brings until `done`, which then ends in order.
    pub(super) async fn run(&self, done: impl Fn(&[Line]) -> bool) -> Vec<Line> {
        let running = self.start(Mode::Ack);
        running.until("lines", |running| done(&running.lines())).await;
        running.stop().await
    }

    /// Offsets that are kept on disk, by path and fingerprint.
    pub(super) fn positions(&self) -> BTreeMap<(PathBuf, u64), u64> {
        let bytes = fs::read(&self.config.positions).unwrap_or_default();
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return BTreeMap::new() };
        let json: serde_json::Value = serde_json::from_slice(&bytes[end + 1..]).unwrap();
        let entry = |file: &serde_json::Value| {
            let fingerprint = file["fingerprint"].as_u64().unwrap();
            ((file["path"].as_str().unwrap().into(), fingerprint), file["offset"].as_u64().unwrap())
        };
        json["files"].as_array().unwrap().iter().map(entry).collect()
    }
}

/// The component at work.
pub(super) struct Running {
    pub(super) fake: Arc<FakeBus>,
    pub(super) metrics: Arc<Metrics>,
    table: HealthTable,
    shutdown: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl Running {
    fn start(config: FilesConfig, mode: Mode) -> Self {
        let fake = FakeBus::new(PARTITIONS);
        fake.set(mode);
        let (table, metrics, shutdown) = (HealthTable::default(), Arc::new(Metrics::new()), CancellationToken::new());
        let context = Context {
            bus: Arc::new(Handle(Arc::clone(&fake))),
            metrics: Arc::clone(&metrics),
            health: table.component(NAME),
            shutdown: shutdown.clone(),
        };
        let files = Files::new(config, Topics::default()).unwrap().cluster(Some("here".into()));
        let task = tokio::spawn(async move { Box::new(files).run(context).await.unwrap() });
        Self { fake, metrics, table, shutdown, task }
    }

    pub(super) fn state(&self) -> State {
        self.table.snapshot()[NAME].clone()
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        lines_of(&self.fake)
    }

    pub(super) async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let wait = async {
            while !reached(self) {
                assert!(!self.task.is_finished(), "ended before {what}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{what}: {:?}, {:#?}", self.state(), self.lines().iter().take(50).collect::<Vec<_>>());
    }

    pub(super) async fn until_lines(&self, count: usize) -> Vec<Line> {
        let items = |running: &Self| {
            let items = |record: &afflux_bus::Record| afflux_runtime::dead_letter::items(&record.headers);
            running.fake.records().iter().map(items).sum::<u64>()
        };
        self.until(&format!("{count} lines"), |running| items(running) >= count as u64).await;
        self.lines()
    }

    /// Stops it in order; gives all that came.
    pub(super) async fn stop(self) -> Vec<Line> {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("stops").unwrap();
        lines_of(&self.fake)
    }

    /// Ends it as a kill does, in as far as nothing is written any more.
    pub(super) async fn kill(self) -> Vec<Line> {
        self.task.abort();
        let _ = self.task.await;
        // The thread that reads ends when it hears of it.
        tokio::time::sleep(Duration::from_millis(50)).await;
        lines_of(&self.fake)
    }

    pub(super) fn changed(&self, reason: &'static str) -> u64 {
        self.metrics.changed_items.get_or_create(&ReasonLabels { component: NAME, reason }).get()
    }

    pub(super) fn dead(&self, reason: &'static str) -> u64 {
        self.metrics.dead_letters.get_or_create(&ReasonLabels { component: NAME, reason }).get()
    }

    pub(super) fn open_files(&self) -> i64 {
        self.metrics.open_files.get_or_create(&ComponentLabels { component: NAME, signal: "logs" }).get()
    }
}

/// What came to the topic of log lines.
fn lines_of(fake: &FakeBus) -> Vec<Line> {
    let topic = Topics::default().ingest_logs();
    let records = fake.records();
    let records = records.iter().filter(|record| *record.to.topic == *topic);
    records.flat_map(|record| lines(record.value.as_ref().unwrap())).collect()
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let attribute = attributes.iter().find(|attribute| attribute.key == key);
    match attribute.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn lines(value: &[u8]) -> Vec<Line> {
    afflux_schemas::otlp::validate::logs(value).unwrap();
    let mut lines = Vec::new();
    for block in ExportLogsServiceRequest::decode(value).unwrap().resource_logs {
        let resource = block.resource.unwrap().attributes;
        for record in block.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
            let Some(Value::StringValue(body)) = record.body.unwrap().value else { panic!("no text") };
            assert!(record.observed_time_unix_nano > 0);
            lines.push(Line {
                path: text(&resource, "log.file.path"),
                fingerprint: text(&record.attributes, "log.file.fingerprint"),
                offset: text(&record.attributes, "log.file.record_offset").parse().unwrap(),
                iostream: text(&record.attributes, "log.iostream"),
                body,
                time: record.time_unix_nano,
                severity: record.severity_number,
            });
        }
    }
    lines
}

/// Bodies in the order in which they came.
pub(super) fn bodies(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.body.as_str()).collect()
}

/// Copies a file and empties it, as `copytruncate` does.
pub(super) fn copy_truncate(path: &Path, copy: &Path) {
    fs::copy(path, copy).unwrap();
    File::options().write(true).truncate(true).open(path).unwrap();
}

/// Makes a file look an hour old.
pub(super) fn age(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
}

/// Compresses a file as the kubelet does: under another name first.
pub(super) fn compress(path: &Path) {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(&fs::read(path).unwrap()).unwrap();
    let packed = path.with_file_name(format!("{}.gz", path.file_name().unwrap().to_str().unwrap()));
    fs::write(packed.with_extension("tmp"), out.finish().unwrap()).unwrap();
    fs::rename(packed.with_extension("tmp"), packed).unwrap();
    fs::remove_file(path).unwrap();
}
