//! The local stack without containers: its own configuration files, with Afflux's roles as processes, a real Kafka, a real
//! Prometheus, an S3 server and scripted Loki and Tempo. Then every question that dashboards and alerts ask.

mod dashboards;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use afflux_tests::afflux::{Afflux, Options, query_with};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::kubernetes::{ApiServer, EVENTS, event};
use afflux_tests::load::Load;
use afflux_tests::loki::{self, Loki};
use afflux_tests::prometheus::{self, Prometheus};
use afflux_tests::python;
use afflux_tests::s3::S3Server;
use afflux_tests::tempo::{self, Tempo};
use anyhow::{Context as _, ensure};

const AFFLUX: &str = include_str!("../../../deploy/afflux/afflux.yaml");
const PROMETHEUS: &str = include_str!("../../../deploy/prometheus/prometheus.yml");
const ALERTS: &str = include_str!("../../../deploy/prometheus/alerts.yml");
const COMPOSE: [&str; 2] =
    [include_str!("../../../docker-compose.yml"), include_str!("../../../deploy/two-clusters.yml")];
const VARIABLES: &str = include_str!("../../../.env");

const PATIENCE: Duration = Duration::from_secs(120);
/// How long the shop is busy: rates need two scrapes, and counters that grow between them.
const BUSY: Duration = Duration::from_secs(25);
const EVENTS_COUNT: usize = 60;

/// The backends, and where they are.
struct Backends {
    kafka: &'static KafkaServer,
    store: S3Server,
    loki: Loki,
    tempo: Tempo,
    prometheus: Prometheus,
}

impl Backends {
    /// A role with the stack's configuration; only addresses differ.
    fn role(&self, only: &str) -> Options {
        let mut options = Options::run(only)
            .config(AFFLUX)
            .env("AFFLUX__BUS__KAFKA__BROKERS", self.kafka.brokers())
            .env("AFFLUX__TOPICS__PREFIX", "stack")
            .env("AFFLUX__SINKS__LOKI__URL", self.loki.url())
            .env("AFFLUX__SINKS__TEMPO__ENDPOINT", self.tempo.endpoint())
            .env("AFFLUX__SINKS__PROMETHEUS__URL", self.prometheus.write_url())
            .env("AFFLUX__SINKS__PARQUET__S3__ENDPOINT", self.store.endpoint());
        for (name, value) in self.store.environment() {
            options = options.env(name, value);
        }
        options
    }
}

/// Prometheus' configuration of the stack, with where the roles are and more haste.
fn scraping(roles: [(&str, u16); 3]) -> String {
    let mut config = PROMETHEUS.replace("scrape_interval: 15s", "scrape_interval: 1s");
    for (role, port) in roles {
        config = config.replace(&format!("afflux-{role}:9464"), &format!("127.0.0.1:{port}"));
    }
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stack_holds_the_demos_traffic_in_every_backend_and_no_panel_is_empty() -> anyhow::Result<()> {
    let (Some(kafka), Some(python), Some(program)) =
        (KafkaServer::shared(), python::interpreter()?, prometheus::program()?)
    else {
        return Ok(());
    };
    let (dir, cluster) = (tempfile::tempdir()?, ApiServer::start().await?);
    let backends = Backends {
        kafka,
        store: S3Server::start(python, "telemetry").await?,
        loki: Loki::start(loki::Options::default()).await?,
        tempo: Tempo::start(tempo::Settings::default()).await?,
        prometheus: Prometheus::configured(program, PROMETHEUS, &[("alerts.yml", ALERTS)]).await?,
    };
    let kubeconfig = cluster.kubeconfig(dir.path())?.display().to_string();
    let producers = backends
        .role("producers")
        .config(&format!("producers: {{kubernetes: {{kubeconfig: {kubeconfig}, cluster: eu}}}}"));
    for n in 0..EVENTS_COUNT / 2 {
        cluster.put(EVENTS, event::event(n, 1));
    }
    let producers = Afflux::start(dir.path(), &producers).await?;
    let processors = Afflux::start(dir.path(), &backends.role("processors")).await?;
    let sinks = Afflux::start(dir.path(), &backends.role("sinks")).await?;
    let roles = [("producers", producers.admin), ("processors", processors.admin), ("sinks", sinks.admin)];
    backends.prometheus.reload(&scraping(roles)).await?;

    let load = Load::new(70);
    let busy = Instant::now();
    while busy.elapsed() < BUSY {
        assert!(load.send_one(producers.http, 200).await, "a request was refused");
        let n = EVENTS_COUNT / 2 + usize::try_from(busy.elapsed().as_secs())?;
        cluster.put(EVENTS, event::event(n.min(EVENTS_COUNT - 1), i64::try_from(busy.elapsed().as_millis())?));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let asked = dashboards::prometheus(&backends.prometheus).await?;
    eprintln!("{asked} questions of dashboards to Prometheus");
    dashboards::loki(&backends.loki)?;

    let acked = load.snapshot().acked;
    let (logs, spans): (BTreeSet<_>, BTreeSet<_>) = acked.into_iter().partition(|id| id.contains('@'));
    assert!(spans.len() > 1000 && logs.len() > 100, "too little to mean anything");
    for (signal, count) in [("spans", spans.len()), ("logs", logs.len())] {
        sinks.settles("sinks.parquet", signal, count).await?;
    }
    holds(&backends, &spans, &logs).await?;
    for process in [producers, processors, sinks] {
        process.stop().await?;
    }
    let sql = "SELECT (SELECT count(*) FROM spans) AS spans, (SELECT count(*) FROM logs) AS logs";
    let rows = query_with("s3://telemetry/lake", sql, &backends.store.environment())?;
    assert_eq!((&rows[0]["spans"], &rows[0]["logs"]), (&spans.len().into(), &logs.len().into()), "rows of the lake");
    Ok(())
}

/// Waits until Loki, Tempo and Prometheus hold all that was acknowledged.
async fn holds(backends: &Backends, spans: &BTreeSet<String>, logs: &BTreeSet<String>) -> anyhow::Result<()> {
    let (spans, logs) = (spans.iter().cloned().collect(), logs.iter().cloned().collect());
    let begun = Instant::now();
    loop {
        let missing = (backends.tempo.missing(&spans), backends.loki.missing(&logs));
        let counted = calls(&backends.prometheus).await?;
        if missing == (0, 0) && counted == spans.len() as f64 {
            return Ok(());
        }
        let expected = spans.len();
        ensure!(begun.elapsed() < PATIENCE, "{missing:?} are missing, {counted} calls of {expected}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Spans that Prometheus knows of.
async fn calls(prometheus: &Prometheus) -> anyhow::Result<f64> {
    let all = prometheus.raw("traces_spanmetrics_calls_total").await?;
    Ok(all.values().filter_map(|raw| raw.samples.last()).map(|(_, value)| value).sum())
}

/// What Prometheus' own tool says of the stack's files.
#[test]
fn prometheus_takes_its_files_and_each_alert_fires_when_it_should() -> anyhow::Result<()> {
    let Some(promtool) = prometheus::tool()? else { return Ok(()) };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus");
    for arguments in [["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(&dir).output().context("promtool")?;
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        ensure!(output.status.success(), "{arguments:?}: {said}");
    }
    let rules: BTreeSet<&str> = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let tests = std::fs::read_to_string(dir.join("alerts_test.yml"))?;
    let untested: Vec<_> = rules.iter().filter(|name| !tests.contains(&format!("alertname: {name}"))).collect();
    ensure!(rules.len() >= 6 && untested.is_empty(), "alerts without a test: {untested:?} of {rules:?}");
    Ok(())
}

/// What the compose files mount is there, and every image has a version.
#[test]
fn compose_files_mount_what_there_is_and_pin_every_image() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let variables: Vec<(&str, &str)> = VARIABLES.lines().filter_map(|line| line.split_once('=')).collect();
    let (mut mounts, mut images) = (0, 0);
    for (file, at) in COMPOSE.iter().zip([&root, &root.join("deploy")]) {
        for line in file.lines().map(str::trim) {
            let source = line.trim_start_matches("- ").split(':').next().unwrap_or_default();
            if source.starts_with("./") || source.starts_with("../") {
                assert!(at.join(source).exists(), "{line}: there is no {source}");
                mounts += 1;
            }
            if let Some(image) = line.strip_prefix("image: ") {
                if image.ends_with(":local") || image.starts_with("${AFFLUX_IMAGE") {
                    continue; // Built from these sources.
                }
                let set = |image: String, (name, value): &(&str, &str)| image.replace(&format!("${{{name}}}"), value);
                let image = variables.iter().fold(image.to_owned(), set);
                let version = image.rsplit_once(':').map_or("", |(_, version)| version);
                assert!(version.starts_with(|first: char| first.is_ascii_digit() || first == 'v'), "{line}: {image}");
                images += 1;
            }
        }
    }
    assert!(mounts >= 10 && images > 6, "{mounts} mounts, {images} images");
}
