//! The OpenTelemetry Collector's Kafka exporter and receiver as peers.

mod rich;
mod whole;

use std::collections::BTreeMap;
use std::path::Path;

use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{Bus as _, BusError, Received};
use afflux_producers::generate::corpus::Corpus;
use afflux_schemas::partition::trace_partition;
use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::collector::{Collector, Config, program};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::topic;
use anyhow::Context as _;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use whole::{Logs, Spans, logs_of, spans_of};

/// Partitions of our output topics, and of those that a Collector writes.
const OURS: u32 = 5;
const THEIRS: u32 = 3;
/// Start of the corpus's clock.
const START: u64 = 1_767_323_045_000_000_000;

/// A broker and a Collector's program, or a printed notice.
fn peers() -> anyhow::Result<Option<(String, &'static Path)>> {
    let Some(program) = program()? else { return Ok(None) };
    Ok(KafkaServer::shared().map(|kafka| (kafka.brokers(), program)))
}

/// Sends a request by OTLP over HTTP.
async fn post(port: u16, signal: &str, body: Bytes) -> anyhow::Result<()> {
    let request = reqwest::Client::new().post(format!("http://127.0.0.1:{port}/v1/{signal}"));
    request.header("content-type", "application/x-protobuf").body(body).send().await?.error_for_status()?;
    Ok(())
}

/// Sends some requests of a corpus, and gives what they held.
async fn send(port: u16, mut corpus: Corpus) -> anyhow::Result<(Spans, Logs)> {
    let (mut spans, mut logs) = (Spans::new(), Logs::new());
    for _ in 0..6 {
        let batch = corpus.next_request(100);
        spans.extend(spans_of(&ExportTraceServiceRequest::decode(batch.traces.clone())?));
        post(port, "traces", batch.traces).await?;
        if !batch.logs.is_empty() {
            logs.extend(logs_of(&ExportLogsServiceRequest::decode(batch.logs.clone())?));
            post(port, "logs", batch.logs).await?;
        }
    }
    Ok((spans, logs))
}

/// How to run receiver and processors on topics of that prefix, reading those of others: name, signal, encoding.
fn options(brokers: &str, prefix: &str, ingest: &[(String, &str, &str)]) -> Options {
    let entry = |(topic, signal, encoding): &(String, &str, &str)| {
        format!("{{topic: {topic}, signal: {signal}, encoding: {encoding}, cluster: edge}}")
    };
    let ingest: Vec<_> = ingest.iter().map(entry).collect();
    let config = format!(
        "bus: {{kind: kafka}}\ntopics: {{prefix: {prefix}, partitions: {OURS}}}\nprocessors: {{ingest: [{}]}}",
        ingest.join(", ")
    );
    Options::run("producers,processors").config(&config).env("AFFLUX__BUS__KAFKA__BROKERS", brokers)
}

/// What our output topic holds, each item once; says in which partition each span is.
async fn spans_on(brokers: &str, topic: &str, count: usize) -> anyhow::Result<(Spans, BTreeMap<String, u32>)> {
    let records = topic::read(brokers, &[topic], |records| items(records, traces) >= count).await?;
    let (mut spans, mut partitions) = (Spans::new(), BTreeMap::new());
    for record in &records {
        for (id, span) in spans_of(&traces(record)) {
            assert!(spans.insert(id.clone(), span).is_none(), "{id} came twice");
            partitions.insert(id, record.from.partition);
        }
    }
    Ok((spans, partitions))
}

fn traces(record: &Received) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(record.value.clone().unwrap_or_default()).expect("a trace request")
}

fn logs(record: &Received) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest::decode(record.value.clone().unwrap_or_default()).expect("a log request")
}

fn items<T: whole::Counted>(records: &[Received], decode: fn(&Received) -> T) -> usize {
    records.iter().map(|record| decode(record).items()).sum()
}

fn assert_by_trace(partitions: &BTreeMap<String, u32>, of: u32) {
    for (id, partition) in partitions {
        let trace_id = afflux_schemas::hex::decode::<16>(&id[..32]).expect("32 digits");
        assert_eq!(trace_partition(&trace_id, of), *partition, "{id}");
    }
}

/// Fails with the first difference rather than with everything.
fn assert_same<T: PartialEq + std::fmt::Debug>(found: &BTreeMap<String, T>, expected: &BTreeMap<String, T>) {
    for (id, item) in expected {
        assert_eq!(found.get(id), Some(item), "{id}");
    }
    assert_eq!(found.len(), expected.len(), "items that nobody sent");
}

/// Adds what exports OTLP to `topics.spans` and `topics.logs`; gives the port that it is received on.
fn exports(
    config: &mut Config,
    brokers: &str,
    name: &str,
    topics: &str,
    (encoding, keys): (&str, &str),
) -> anyhow::Result<u16> {
    let port = config.otlp(name)?;
    let signal = |name: &str| format!("{{topic: {topics}.{name}, encoding: {encoding}}}");
    let settings = format!(
        "{{brokers: ['{brokers}'], producer: {{required_acks: all}}, traces: {}, logs: {}{keys}, \
         record_headers: [{{name: team, value: a}}, {{name: team, value: b}}]}}",
        signal("spans"),
        signal("logs")
    );
    config.exporter(&format!("kafka/{name}"), &settings);
    for pipeline in ["traces", "logs"] {
        config.pipeline(&format!("{pipeline}/{name}"), &format!("otlp/{name}"), &format!("kafka/{name}"));
    }
    Ok(port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_collector_exports_in_otlp_is_processed_once_and_whole_and_by_trace() -> anyhow::Result<()> {
    let Some((brokers, program)) = peers()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let mut config = Config::new();
    let (mut ports, mut ingest) = (Vec::new(), Vec::new());
    for (name, encoding, keys) in [
        ("proto", "otlp_proto", ""),
        ("proto-keys", "otlp_proto", ", partition_traces_by_id: true, partition_logs_by_resource_attributes: true"),
        ("json", "otlp_json", ""),
        ("json-keys", "otlp_json", ", partition_traces_by_id: true, partition_logs_by_trace_id: true"),
    ] {
        ports.push(exports(&mut config, &brokers, name, &format!("collector.{name}"), (encoding, keys))?);
        for signal in ["spans", "logs"] {
            let topic = format!("collector.{name}.{signal}");
            topic::create(&brokers, &[(&topic, THEIRS)]).await?;
            ingest.push((topic, signal, encoding));
        }
    }
    ports.push(exports(&mut config, &brokers, "own", "from-collector.ingest", ("otlp_proto", ""))?);
    let _collector = Collector::start(program, dir.path(), "exporter", &config).await?;
    let afflux = Afflux::start(dir.path(), &options(&brokers, "from-collector", &ingest)).await?;
    let (mut spans, mut log_records) = (Spans::new(), Logs::new());
    for (seed, port) in ports.into_iter().enumerate() {
        let (more, more_logs) = send(port, Corpus::new(100 + seed as u64, START)).await?;
        spans.extend(more);
        log_records.extend(more_logs);
    }
    assert!(spans.len() == 3000 && log_records.len() > 100, "{} {}", spans.len(), log_records.len());

    let (found, partitions) =
        spans_on(&brokers, "from-collector.spans", spans.len()).await.with_context(|| afflux.log())?;
    assert_same(&found, &spans);
    assert_by_trace(&partitions, OURS);
    let count = log_records.len();
    let records = topic::read(&brokers, &["from-collector.logs"], |records| items(records, logs) >= count).await?;
    let mut found = Logs::new();
    for (id, log) in records.iter().flat_map(|record| logs_of(&logs(record))) {
        assert!(found.insert(id.clone(), log).is_none(), "{id} came twice");
    }
    assert_same(&found, &log_records);
    for record in &records {
        let teams: Vec<_> =
            record.headers.0.iter().filter(|(name, _)| &**name == "team").map(|(_, team)| &team[..]).collect();
        assert_eq!(teams, [b"a", b"b"], "headers of others are passed on");
    }
    // Where a Collector partitions by trace id it does so as we do.
    let keyed = topic::read(&brokers, &["collector.proto-keys.spans"], |records| !records.is_empty()).await?;
    let partitions =
        keyed.iter().flat_map(|record| spans_of(&traces(record)).into_keys().map(|id| (id, record.from.partition)));
    assert_by_trace(&partitions.collect(), THEIRS);
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_reads_our_topics() -> anyhow::Result<()> {
    let Some((brokers, program)) = peers()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let afflux = Afflux::start(dir.path(), &options(&brokers, "to-collector", &[])).await?;
    let mut config = Config::new();
    for (name, signal, topic) in
        [("spans", "traces", "spans"), ("logs", "logs", "logs"), ("ingest", "traces", "ingest.spans")]
    {
        let out = format!("read-by-collector.{name}");
        topic::create(&brokers, &[(&out, 1)]).await?;
        let reader = format!(
            "{{brokers: ['{brokers}'], group_id: collector-{name}, initial_offset: earliest, \
             {signal}: {{topics: [to-collector.{topic}], encoding: otlp_proto}}}}"
        );
        config.receiver(&format!("kafka/{name}"), &reader);
        let writer = format!("{{brokers: ['{brokers}'], {signal}: {{topic: {out}, encoding: otlp_json}}}}");
        config.exporter(&format!("kafka/{name}"), &writer);
        config.pipeline(&format!("{signal}/{name}"), &format!("kafka/{name}"), &format!("kafka/{name}"));
    }
    let _collector = Collector::start(program, dir.path(), "receiver", &config).await?;
    let (spans, log_records) = send(afflux.http, Corpus::new(200, START)).await?;

    // Read with the serializers of another implementation.
    let traces = |record: &Received| -> ExportTraceServiceRequest {
        serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("OTLP in JSON")
    };
    for topic in ["read-by-collector.spans", "read-by-collector.ingest"] {
        let records = topic::read(&brokers, &[topic], |records| items(records, traces) >= spans.len()).await?;
        assert_eq!(items(&records, traces), spans.len(), "{topic}");
        assert_same(&records.iter().flat_map(|record| spans_of(&traces(record))).collect(), &spans);
    }
    let logs = |record: &Received| -> ExportLogsServiceRequest {
        serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("OTLP in JSON")
    };
    let topics = ["read-by-collector.logs"];
    let records = topic::read(&brokers, &topics, |records| items(records, logs) >= log_records.len()).await?;
    assert_eq!(items(&records, logs), log_records.len());
    assert_same(&records.iter().flat_map(|record| logs_of(&logs(record))).collect(), &log_records);
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_others_that_is_missing_is_named_and_not_created() -> anyhow::Result<()> {
    let Some(kafka) = KafkaServer::shared() else { return Ok(()) };
    let (brokers, dir) = (kafka.brokers(), tempfile::tempdir()?);
    let name = "nobody.writes.this";
    let mut afflux = Afflux::spawn(dir.path(), &options(&brokers, "missing", &[(name.into(), "spans", "otlp_proto")]))?;
    let status = afflux.wait().await?;
    assert!(!status.success() && afflux.log().contains(name), "{status}: {}", afflux.log());
    let said =
        format!("topic {name} of `processors.ingest` does not exist, and afflux does not create topics of others");
    let log = afflux.log();
    let printed: Vec<_> = log.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(printed.len() == 1 && printed[0].matches(&said).count() == 1, "{log}");
    let bus = KafkaBus::connect(KafkaConfig::new(&brokers)).await?;
    let partitions = bus.producer().await?.partitions(name).await;
    assert!(matches!(partitions, Err(BusError::UnknownTopic { .. })), "{partitions:?}");
    bus.close().await;
    Ok(())
}

/// Adds what exports spans in that encoding to `collector.ENCODING`, and what reads them there and writes them to
/// `translated.ENCODING` in OTLP; gives the port that they are received on.
async fn translates(config: &mut Config, brokers: &str, encoding: &str) -> anyhow::Result<u16> {
    let (topic, out) = (format!("collector.{encoding}"), format!("translated.{encoding}"));
    topic::create(brokers, &[(&topic, 1), (&out, 1)]).await?;
    let port = config.otlp(encoding)?;
    let exporter = |topic: &str, encoding: &str| {
        format!("{{brokers: ['{brokers}'], traces: {{topic: {topic}, encoding: {encoding}}}}}")
    };
    let (there, back) = (format!("kafka/{encoding}"), format!("kafka/back-{encoding}"));
    config.exporter(&there, &exporter(&topic, encoding));
    config.exporter(&back, &exporter(&out, "otlp_proto"));
    let receiver = format!(
        "{{brokers: ['{brokers}'], group_id: {encoding}, initial_offset: earliest, \
         traces: {{topics: [{topic}], encoding: {encoding}}}}}"
    );
    config.receiver(&there, &receiver);
    config.pipeline(&format!("traces/{encoding}"), &format!("otlp/{encoding}"), &there);
    config.pipeline(&format!("traces/back-{encoding}"), &there, &back);
    Ok(port)
}

/// What the formats cannot carry, and is therefore not compared with what was sent: attributes of scopes, schema URLs,
/// dropped counts; of Jaeger attributes and trace states of links, and lists and maps other than as text; of Zipkin
/// types other than text, the case of names, nanoseconds, flags, and attributes of events that are lists or maps.
/// Everything else is compared, first with what the Collector's own translator makes of the same records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_jaeger_and_zipkin_are_read_as_the_collector_reads_them() -> anyhow::Result<()> {
    let Some((brokers, program)) = peers()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let (mut config, mut ports, mut ingest) = (Config::new(), Vec::new(), Vec::new());
    let encodings = ["jaeger_proto", "jaeger_json", "zipkin_proto", "zipkin_json"];
    for encoding in encodings {
        ports.push(translates(&mut config, &brokers, encoding).await?);
        ingest.push((format!("collector.{encoding}"), "spans", encoding));
    }
    let _collector = Collector::start(program, dir.path(), "translator", &config).await?;
    let afflux = Afflux::start(dir.path(), &options(&brokers, "legacy", &ingest)).await?;
    let (mut sent, mut translated) = (BTreeMap::new(), BTreeMap::new());
    for (seed, (encoding, port)) in encodings.into_iter().zip(ports).enumerate() {
        let (mut spans, _) = send(port, Corpus::new(300 + seed as u64, START).without_logs()).await?;
        let rich = rich::request(seed as u8 + 1);
        spans.extend(spans_of(&rich));
        post(port, "traces", rich.encode_to_vec().into()).await?;
        let (back, _) = spans_on(&brokers, &format!("translated.{encoding}"), spans.len()).await?;
        assert_eq!(back.len(), spans.len());
        translated.extend(back.into_iter().map(|(id, span)| (id, (encoding, span))));
        sent.extend(spans);
    }
    let (mut found, partitions) = spans_on(&brokers, "legacy.spans", sent.len()).await.with_context(|| afflux.log())?;
    assert_by_trace(&partitions, OURS);
    assert_eq!(found.len(), sent.len());
    for (id, (encoding, theirs)) in translated {
        let ours = found.remove(&id).unwrap_or_else(|| panic!("{id} is missing"));
        ours.assert_as_translated(&theirs, encoding);
        ours.assert_as_sent(&sent[&id], encoding);
    }
    golden(&brokers, &encodings).await?;
    afflux.stop().await
}

/// With `AFFLUX_GOLDEN` naming a folder, keeps the rich records and what the Collector makes of them.
async fn golden(brokers: &str, encodings: &[&str]) -> anyhow::Result<()> {
    let Some(folder) = std::env::var_os("AFFLUX_GOLDEN") else { return Ok(()) };
    for encoding in encodings {
        let rich = |record: &Received, of: fn(&Received) -> ExportTraceServiceRequest| {
            spans_of(&of(record)).keys().any(|id| id.starts_with(rich::MARK))
        };
        let back = topic::read(brokers, &[&format!("translated.{encoding}")], |records| !records.is_empty()).await?;
        let back: Vec<_> = back.iter().filter(|record| rich(record, traces)).collect();
        let raw = topic::read(brokers, &[&format!("collector.{encoding}")], |records| !records.is_empty()).await?;
        let raw = raw.iter().filter(|record| {
            let value = record.value.clone().unwrap_or_default();
            rich::is_marked(&value)
        });
        let line = |value: &[u8]| value.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
        let mut text = String::new();
        raw.for_each(|record| text += &line(record.value.as_deref().unwrap_or_default()));
        text += "\n";
        back.iter().for_each(|record| text += &line(record.value.as_deref().unwrap_or_default()));
        std::fs::write(Path::new(&folder).join(format!("{encoding}.txt")), text)?;
    }
    Ok(())
}
