//! What cannot be delivered: kept, listed, replayed once through the component that refused it, or dropped.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{
    Bus, Cleanup, Generation, Headers, LocalBus, LocalConfig, PartitionId, ReaderConfig, ReaderEvent, Received, Record,
    TopicSpec,
};
use afflux_runtime::dead_letter::{Refusal, dead_letter, now_ms};
use afflux_schemas::topics::{HEADER_CLUSTER, Topics};
use afflux_tests::afflux::{Afflux, Options, run};
use afflux_tests::kafka::KafkaServer;
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
/// The limit under which a large span is refused. Afterwards it is the default.
const NARROW: &str = "64KiB";
const LARGE: usize = 200 * 1024;

/// A bus that the test and the process use in turn.
enum Place<'a> {
    Local(&'a Path),
    Kafka(&'a KafkaServer, &'a str),
}

impl Place<'_> {
    async fn open(&self) -> anyhow::Result<Arc<dyn Bus>> {
        Ok(match self {
            Self::Local(dir) => LocalBus::open(LocalConfig::new(dir.join("bus")))?,
            Self::Kafka(server, _) => KafkaBus::connect(KafkaConfig::new(server.brokers())).await?,
        })
    }

    fn topics(&self) -> Topics {
        Topics::new(if let Self::Kafka(_, prefix) = self { *prefix } else { "afflux" })
    }

    /// What to add to a configuration file.
    fn yaml(&self) -> String {
        match self {
            Self::Local(dir) => format!("bus: {{kind: local, local: {{dir: \"{}\"}}}}", dir.join("bus").display()),
            Self::Kafka(server, prefix) => {
                format!(
                    "bus: {{kind: kafka, kafka: {{brokers: \"{}\"}}}}\ntopics: {{prefix: {prefix}}}",
                    server.brokers()
                )
            }
        }
    }

    /// Arguments of an operator: the admin port, or a configuration that names the brokers.
    fn operator(&self, dir: &Path, afflux: &Afflux) -> anyhow::Result<[String; 2]> {
        if let Self::Local(_) = self {
            return Ok(["--admin".to_owned(), format!("127.0.0.1:{}", afflux.admin)]);
        }
        let config = dir.join("operator.yaml");
        std::fs::write(&config, format!("{}\nlog: {{level: error}}\n", self.yaml()))?;
        Ok(["-c".to_owned(), config.display().to_string()])
    }

    fn options(&self, limit: Option<&str>) -> Options {
        let options = Options::run("processors").config(&self.yaml());
        let key = if let Self::Local(_) = self { "LOCAL" } else { "KAFKA" };
        match limit {
            Some(limit) => options.env(&format!("AFFLUX__BUS__{key}__MAX_RECORD_BYTES"), limit),
            None => options,
        }
    }
}

fn span(name: &str) -> Span {
    Span { trace_id: vec![1; 16], span_id: vec![2; 8], name: name.to_owned(), ..Span::default() }
}

fn traces(names: &[&str]) -> Bytes {
    let spans = names.iter().map(|name| span(name)).collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

fn logs() -> Bytes {
    let log_records = vec![LogRecord { time_unix_nano: 1, ..LogRecord::default() }];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
        .encode_to_vec()
        .into()
}

fn record(topic: &str, value: Option<Bytes>, cluster: &'static [u8]) -> Record {
    let mut headers = Headers::new();
    headers.push(HEADER_CLUSTER, Bytes::from_static(cluster));
    headers.push("foreign", "kept");
    let key = Some(Bytes::from_static(b"key"));
    Record { to: PartitionId::new(topic, 0), key, value, timestamp_ms: 1_700_000_000_000, headers }
}

async fn everything(bus: &dyn Bus, topic: String) -> anyhow::Result<Vec<Received>> {
    let mut reader = bus.reader(ReaderConfig::new([topic.into()])).await?;
    let mut all = Vec::new();
    loop {
        match reader.next().await? {
            ReaderEvent::Records(records) => all.extend(records),
            ReaderEvent::CaughtUp(_) => {}
            ReaderEvent::Complete => return Ok(all),
        }
    }
}

/// Names of all spans on the output topic, in order of name.
async fn span_names(bus: &dyn Bus, topics: &Topics) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for record in everything(bus, topics.spans()).await? {
        let request = ExportTraceServiceRequest::decode(record.value.context("a value")?)?;
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        names.extend(scopes.flat_map(|scope| scope.spans).map(|span| span.name[..span.name.len().min(12)].to_owned()));
    }
    names.sort();
    Ok(names)
}

/// `afflux dead-letters`, which must end with that exit code: its JSON lines, and what it said.
fn dead_letters(at: &[&str], arguments: &[&str], code: i32) -> anyhow::Result<(Vec<Value>, String)> {
    let output = run(&[&["dead-letters"], arguments, at].concat())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(code), "{arguments:?}: {}: {said}", output.status);
    let text = String::from_utf8(output.stdout)?;
    Ok((text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(), said))
}

fn counted(letters: &[Value], field: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for letter in letters {
        *counts.entry(letter[field].to_string().trim_matches('"').to_owned()).or_default() += 1;
    }
    counts
}

/// Waits until so many dead letters are open.
async fn until_open(at: &[&str], filter: &[&str], count: usize) -> anyhow::Result<Vec<Value>> {
    let started = Instant::now();
    loop {
        let (letters, _) = dead_letters(at, &[&["list"], filter].concat(), 0)?;
        if letters.len() == count {
            return Ok(letters);
        }
        ensure!(started.elapsed() < PATIENCE, "{} instead of {count} open: {letters:#?}", letters.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn until_lag_is_gone(place: &Place<'_>, afflux: &Afflux) -> anyhow::Result<()> {
    let topics = place.topics();
    let started = Instant::now();
    for topic in [topics.ingest_spans(), topics.ingest_logs()] {
        let series = format!("afflux_lag_records{{component=\"processors\",topic=\"{topic}\",partition=\"0\"}}");
        // On Kafka the marker of the replay's transaction may stay.
        while afflux.metric(&series).await?.is_none_or(|lag| lag > 1.0) {
            ensure!(started.elapsed() < PATIENCE, "{topic} is not read:\n{}", afflux.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

async fn publish(place: &Place<'_>) -> anyhow::Result<()> {
    let (bus, topics) = (place.open().await?, place.topics());
    let names = [topics.ingest_spans(), topics.ingest_logs(), topics.spans(), topics.logs(), topics.dead_letters()];
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    bus.create_topics(&names.map(|name| TopicSpec { name: name.into(), partitions: 1, cleanup })).await?;
    let (spans, large) = (topics.ingest_spans(), "l".repeat(LARGE));
    let truncated = traces(&["truncated"]);
    let small = "s".repeat(20_000);
    let many: Vec<&str> = vec![&small; 10];
    bus.producer()
        .await?
        .send(vec![
            record(&spans, Some(traces(&["before"])), b"eu"),
            record(&spans, Some(truncated.slice(..truncated.len() - 3)), b"eu"),
            record(&spans, Some(logs()), b"eu"),
            record(&topics.ingest_logs(), Some(traces(&["no log"])), b"eu"),
            record(&spans, None, b"eu"),
            record(&spans, Some(Bytes::new()), b"eu"),
            record(&spans, Some(traces(&["cluster"])), b"\xff"),
            record(&spans, Some(traces(&[&large])), b"eu"),
            // Of ten spans that fit only one by one, or a few together.
            record(&spans, Some(traces(&many)), b"eu"),
            record(&spans, Some(traces(&["after"])), b"eu"),
        ])
        .await?;
    bus.close().await;
    Ok(())
}

async fn poison_is_kept_and_goes_back_once(place: Place<'_>, dir: &Path) -> anyhow::Result<()> {
    publish(&place).await?;
    let afflux = Afflux::start(dir, &place.options(Some(NARROW))).await?;
    let at = place.operator(dir, &afflux)?;
    let at = at.each_ref().map(String::as_str);

    let letters = until_open(&at, &[], 6).await?;
    let reasons = counted(&letters, "reason");
    let expected = [("bad_cluster_header", 1), ("empty", 1), ("malformed", 3), ("too_large", 1)];
    assert_eq!(reasons, expected.map(|(reason, count)| (reason.to_owned(), count)).into());
    assert_eq!(counted(&letters, "attempts"), [("1".to_owned(), 6)].into());
    let large = letters.iter().find(|letter| letter["reason"] == "too_large").context("a large one")?;
    assert!(large["error"].as_str().is_some_and(|error| error.contains("a single item of 2")), "{large}");
    let truncated = letters.iter().find(|letter| letter["offset"] == 1).context("the truncated one")?;
    let id = truncated["id"].as_str().context("an id")?;
    let shown = run(&[&["dead-letters", "show", id], &at[..]].concat())?;
    let shown = String::from_utf8(shown.stdout)?;
    assert!(shown.contains("foreign: kept") && shown.contains("not as an OTLP request"), "{shown}");
    let raw = run(&[&["dead-letters", "show", id, "--raw"], &at[..]].concat())?.stdout;
    assert_eq!(raw.len() as u64, truncated["bytes"].as_u64().unwrap_or_default());

    // Nothing by accident.
    assert!(dead_letters(&at, &["replay", "--yes"], 2)?.1.contains("--everything"));
    assert!(dead_letters(&at, &["drop", "--everything"], 2)?.1.contains("--yes"));
    assert_eq!(dead_letters(&at, &["replay", "--everything", "--dry-run"], 0)?.0.len(), 6);
    assert!(dead_letters(&at, &["drop", "0:999999", "--yes"], 1)?.1.contains("0:999999"));

    // What is malformed stays so: refused once more, and its former letter is settled.
    let (replayed, _) = dead_letters(&at, &["replay", "--reason", "malformed", "--yes"], 0)?;
    assert_eq!(counted(&replayed, "state"), [("replayed".to_owned(), 3)].into());
    let started = Instant::now();
    loop {
        let letters = until_open(&at, &["--reason", "malformed"], 3).await?;
        if counted(&letters, "attempts") == [("2".to_owned(), 3)].into() {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "{letters:#?}");
    }
    let (all, _) = dead_letters(&at, &["list", "--all"], 0)?;
    assert_eq!(counted(&all, "state"), [("open".to_owned(), 6), ("replayed".to_owned(), 3)].into());
    let (dropped, _) = dead_letters(&at, &["drop", "--reason", "malformed", "--since", "1h", "--yes"], 0)?;
    assert_eq!(dropped.len(), 3);
    assert_eq!(dead_letters(&at, &["list", "--reason", "malformed"], 0)?.0.len(), 0);
    afflux.stop().await?;

    passes_once_under_a_wider_limit(&place, dir).await
}

/// The large span passes, once, however often it is asked for.
async fn passes_once_under_a_wider_limit(place: &Place<'_>, dir: &Path) -> anyhow::Result<()> {
    let afflux = Afflux::start(dir, &place.options(None)).await?;
    let at = place.operator(dir, &afflux)?;
    let at = at.each_ref().map(String::as_str);
    let (replayed, _) = dead_letters(&at, &["replay", "--reason", "too_large", "--yes"], 0)?;
    assert_eq!(replayed.len(), 1);
    let (again, said) = dead_letters(&at, &["replay", "--reason", "too_large", "--yes"], 0)?;
    assert!(again.is_empty() && said.contains("0 replayed"), "{said}");
    until_lag_is_gone(place, &afflux).await?;
    let (left, _) = dead_letters(&at, &["list"], 0)?;
    assert_eq!(counted(&left, "reason").into_keys().collect::<Vec<_>>(), ["bad_cluster_header", "empty"]);
    afflux.stop().await?;

    let (bus, topics) = (place.open().await?, place.topics());
    let mut expected = vec!["after".to_owned(), "before".to_owned(), "l".repeat(12)];
    expected.extend(vec!["s".repeat(12); 10]);
    assert_eq!(span_names(&*bus, &topics).await?, expected);
    bus.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_local_bus_poison_is_kept_and_goes_back_once() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    poison_is_kept_and_goes_back_once(Place::Local(dir.path()), dir.path()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_kafka_poison_is_kept_and_goes_back_once() -> anyhow::Result<()> {
    let Some(kafka) = KafkaServer::shared() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    poison_is_kept_and_goes_back_once(Place::Kafka(kafka, "poison"), dir.path()).await
}

/// Operators that are killed, and two at a time: what was refused goes back once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_kafka_nothing_goes_back_twice_however_operators_end() -> anyhow::Result<()> {
    const LETTERS: u64 = 6_000;
    let Some(kafka) = KafkaServer::shared() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let place = Place::Kafka(kafka, "operators");
    let (bus, topics) = (place.open().await?, place.topics());
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    let spec = |name: String| TopicSpec { name: name.into(), partitions: 2, cleanup };
    bus.create_topics(&[spec(topics.ingest_spans()), spec(topics.dead_letters())]).await?;
    let letters = (0..LETTERS).map(|offset| {
        let Record { to, key, value, timestamp_ms, headers } =
            record(&topics.ingest_spans(), Some(offset.to_string().into()), b"eu");
        let from = PartitionId { partition: (offset % 2) as u32, ..to };
        let refused = Received { from, generation: Generation(0), offset, timestamp_ms, key, value, headers };
        let refusal = Refusal { component: "processors", reason: "malformed", error: "by a test", time_ms: now_ms() };
        dead_letter(&refused, topics.dead_letters().into(), 2, refusal)
    });
    bus.producer().await?.send(letters.collect()).await?;

    let config = dir.path().join("operator.yaml");
    std::fs::write(&config, format!("{}\nlog: {{level: error}}\n", place.yaml()))?;
    let operator = || {
        let mut command = Command::new(afflux_tests::afflux::binary()?);
        command.args(["dead-letters", "replay", "--everything", "--yes", "-c"]).arg(&config);
        anyhow::Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
    };
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    for _ in 0..4 {
        let mut killed = operator()?;
        let lines = BufReader::new(killed.stdout.take().context("a pipe")?).lines();
        // It goes on while the lines are read: anywhere in a transaction.
        lines.take(random.random_range(1..700)).try_for_each(|line| line.map(drop))?;
        killed.kill()?;
        killed.wait()?;
    }
    let midway = everything(&*bus, topics.ingest_spans()).await?.len() as u64;
    assert!((1..LETTERS).contains(&midway), "{midway} were replayed before the last operators began");
    let [one, other] = [operator()?, operator()?].map(Child::wait_with_output);
    let ended = [one?.status.code(), other?.status.code()];
    assert!(ended.iter().all(|code| [Some(0), Some(1)].contains(code)), "{ended:?}");
    assert!(operator()?.wait_with_output()?.status.success());

    let mut back: Vec<u64> = Vec::new();
    for record in everything(&*bus, topics.ingest_spans()).await? {
        back.push(std::str::from_utf8(&record.value.context("a value")?)?.parse()?);
    }
    back.sort_unstable();
    assert_eq!(back, (0..LETTERS).collect::<Vec<_>>());
    bus.close().await;
    Ok(())
}
