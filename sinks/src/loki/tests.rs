//! From requests on the bus to what Loki reads, and what a naive model makes of the same.

mod goldens;
mod limited;
mod model;
mod of_otlp;

use afflux_bus::{Generation, Headers, PartitionId, Received};
use afflux_runtime::delivery::{Batch, Encoded, Kind};
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ITEMS};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::behind::Oldest;
use super::config::LokiConfig;
use super::encode::encode;
use super::policy::Policy;
use super::request::LokiRequest;

/// The present of all tests, nanoseconds since the Unix epoch.
const NOW: u64 = 1_760_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

#[derive(Clone, PartialEq, Message)]
struct Push {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    time: Option<Time>,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// An entry as it is read back: labels, time, line and structured metadata as `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq)]
struct Read {
    labels: String,
    time: u64,
    line: String,
    metadata: Vec<String>,
}

fn push(request: &LokiRequest) -> Push {
    let body = snap::raw::Decoder::new().decompress_vec(&request.body).unwrap();
    Push::decode(&body[..]).unwrap()
}

fn read(requests: &[LokiRequest]) -> Vec<Read> {
    let mut all = Vec::new();
    for request in requests {
        let push = push(request);
        assert_eq!(push.streams.iter().map(|stream| stream.entries.len() as u64).sum::<u64>(), request.entries);
        for stream in push.streams {
            for entry in stream.entries {
                let time = entry.time.unwrap_or_default();
                let pair = |pair: Pair| format!("{}={}", pair.name, pair.value);
                all.push(Read {
                    labels: stream.labels.clone(),
                    time: time.seconds as u64 * SECOND + time.nanos as u64,
                    line: entry.line,
                    metadata: entry.metadata.into_iter().map(pair).collect(),
                });
            }
        }
    }
    all
}

fn any_value(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn text(text: &str) -> Option<AnyValue> {
    any_value(Value::StringValue(text.into()))
}

fn attribute(key: &str, value: Option<AnyValue>) -> KeyValue {
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn texts(attributes: &[(&str, &str)]) -> Vec<KeyValue> {
    attributes.iter().map(|(key, value)| attribute(key, text(value))).collect()
}

fn log(time: u64, line: &str) -> LogRecord {
    LogRecord { time_unix_nano: time, body: text(line), ..LogRecord::default() }
}

fn block(resource: &[(&str, &str)], log_records: Vec<LogRecord>) -> ResourceLogs {
    ResourceLogs {
        resource: Some(Resource { attributes: texts(resource), ..Resource::default() }),
        scope_logs: vec![ScopeLogs { log_records, ..ScopeLogs::default() }],
        ..ResourceLogs::default()
    }
}

fn record(blocks: Vec<ResourceLogs>) -> Received {
    let items: usize = blocks.iter().flat_map(|block| &block.scope_logs).map(|scope| scope.log_records.len()).sum();
    let mut headers = Headers::new();
    headers.set(HEADER_CLUSTER, "eu-1");
    headers.set(HEADER_ITEMS, items.to_string());
    Received {
        from: PartitionId::new("afflux.logs", 0),
        generation: Generation(1),
        offset: 0,
        timestamp_ms: (NOW / 1_000_000) as i64,
        key: None,
        value: Some(ExportLogsServiceRequest { resource_logs: blocks }.encode_to_vec().into()),
        headers,
    }
}

fn batch(records: Vec<Received>) -> Batch {
    Batch { kind: Kind::Logs, tenant: None, replay: false, records }
}

fn encoded(config: &LokiConfig, batch: &Batch) -> Encoded<LokiRequest> {
    config.validate().unwrap();
    encode(&Policy::new(&config.labels), config, batch, NOW, Oldest::new())
}

/// What becomes of log records of one resource, by the defaults.
fn entries(resource: &[(&str, &str)], logs: Vec<LogRecord>) -> Vec<Read> {
    let encoded = encoded(&LokiConfig::default(), &batch(vec![record(vec![block(resource, logs)])]));
    assert!(encoded.refused.is_empty() && encoded.dropped.is_empty() && encoded.changed.is_empty(), "{encoded:?}");
    read(&encoded.requests)
}

fn scope(name: &str, version: &str) -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: name.into(), version: version.into(), ..InstrumentationScope::default() })
}
