//! Receivers in several clusters that write to one Kafka.

use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::kafka::KafkaServer;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use super::{log, stored};

/// Two spans, one of a resource that names its cluster where one is given.
fn spans(first: u64, named: Option<&str>) -> Vec<u8> {
    let resource_spans = |number: u64, cluster: Option<&str>| {
        let attribute = |name: &str| KeyValue {
            key: "k8s.cluster.name".into(),
            value: Some(AnyValue { value: Some(Value::StringValue(name.into())) }),
            ..Default::default()
        };
        let span = Span {
            trace_id: u128::from(number).to_be_bytes().to_vec(),
            span_id: number.to_be_bytes().to_vec(),
            name: "by hand".into(),
            start_time_unix_nano: 1,
            end_time_unix_nano: 2,
            ..Span::default()
        };
        let attributes = cluster.into_iter().map(attribute).collect();
        ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }
    };
    let resource_spans = vec![resource_spans(first, None), resource_spans(first + 1, named)];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

async fn post(process: &Afflux, signal: &str, body: Vec<u8>) -> anyhow::Result<()> {
    let request = reqwest::Client::new().post(format!("http://127.0.0.1:{}/v1/{signal}", process.http));
    request.header("content-type", "application/x-protobuf").body(body).send().await?.error_for_status()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_carry_the_cluster_of_their_resource_else_of_their_receiver_else_of_their_processor() -> anyhow::Result<()>
{
    let Some(kafka) = tokio::task::block_in_place(KafkaServer::shared) else { return Ok(()) };
    let (dir, brokers) = (tempfile::tempdir()?, kafka.brokers());
    let lake = dir.path().join("lake");
    let options = |role: &str, cluster: &str| {
        Options::run(role)
            .config(&format!("bus: {{kind: kafka}}\n{cluster}\nsinks: {{parquet: {{flush: {{age: 500ms}}}}}}"))
            .env("AFFLUX__BUS__KAFKA__BROKERS", brokers.clone())
            .env("AFFLUX__TOPICS__PREFIX", "two-clusters")
            .env("AFFLUX__PROCESSORS__GROUP", "two-clusters")
            .env("AFFLUX__SINKS__PARQUET__GROUP", "two-clusters-sink")
            .env("AFFLUX__SINKS__PARQUET__URL", lake.display().to_string())
    };
    let receivers = ["cluster: east", "cluster: west", ""];
    let mut running = Vec::new();
    for cluster in receivers {
        running.push(Afflux::start(dir.path(), &options("producers", cluster)).await?);
    }
    let stage = Afflux::start(dir.path(), &options("processors,sinks", "cluster: central")).await?;
    for (number, process) in (1_u64..).zip(&running) {
        post(process, "traces", spans(number * 10, None)).await?;
        post(process, "traces", spans(number * 10 + 2, Some("named"))).await?;
        post(process, "logs", log(number)).await?;
    }
    stage.settles("sinks.parquet", "spans", 12).await?;
    stage.settles("sinks.parquet", "logs", 3).await?;
    for process in running.into_iter().chain([stage]) {
        process.stop().await?;
    }
    let counts = |counts: &[(&str, u64)]| counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<Vec<_>>();
    let expected = counts(&[("central", 3), ("east", 3), ("named", 3), ("west", 3)]);
    assert_eq!(stored(&lake, "spans", "span_id")?, expected);
    assert_eq!(stored(&lake, "logs", "time")?, counts(&[("central", 1), ("east", 1), ("west", 1)]));
    Ok(())
}
