use std::collections::BTreeMap;

use afflux_bus::{Headers, PartitionId};
use afflux_runtime::Signal;
use afflux_schemas::otlp::metrics::read;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::*;
use crate::chain::{Chain, Route};

const SECOND: u64 = 1_000_000_000;

fn attributes(all: &[(&str, &str)]) -> Vec<KeyValue> {
    let attribute = |(key, value): &(&str, &str)| KeyValue {
        key: (*key).into(),
        value: Some(AnyValue { value: Some(Any::StringValue((*value).into())) }),
        ..KeyValue::default()
    };
    all.iter().map(attribute).collect()
}

fn log(severity: i32, seconds: u64) -> LogRecord {
    LogRecord { severity_number: severity, time_unix_nano: seconds * SECOND, ..LogRecord::default() }
}

fn run(config: &LogMetricsConfig, resource: &[(&str, &str)], log_records: Vec<LogRecord>) -> BTreeMap<String, u64> {
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource = Some(Resource { attributes: attributes(resource), ..Resource::default() });
    let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    let envelope = Envelope {
        signal: Signal::Logs,
        value: ExportLogsServiceRequest { resource_logs }.encode_to_vec().into(),
        items: 1,
        cluster: "eu".into(),
        timestamp_ms: 0,
        headers: Headers::new(),
        route: Route::default(),
    };
    let mut chain = Chain::new(vec![Box::new(LogMetrics::new(config).unwrap())]);
    let from = PartitionId::new("in", 0);
    let mut passed = 0;
    for repeat in [false, true] {
        let at = At { from: &from, offset: 0, timestamp_ms: 0, stream_time_ms: 0, repeat, counted: false };
        chain.process(envelope.clone(), &at, &mut |_| passed += 1);
    }
    assert_eq!(passed, 2);
    let mut derived = Derived::new("metrics".into(), 3, usize::MAX);
    chain.close(&mut derived);
    let mut told = BTreeMap::new();
    for record in derived.take(0, "") {
        read(record.value.as_deref().unwrap(), |series, point| {
            let Some(Value::Count(count)) = point.value else { panic!("{point:?}") };
            let labels: Vec<_> = series.labels.pairs().map(|(name, value)| format!("{name}={value}")).collect();
            let key = format!("{}{{{}}} @{}", series.metric, labels.join(","), point.time_unix_nano / SECOND);
            assert_eq!(told.insert(key, count), None);
        })
        .unwrap();
    }
    told
}

#[test]
fn log_records_are_counted_by_service_severity_and_their_own_time() {
    let observed = LogRecord { time_unix_nano: 0, observed_time_unix_nano: 100 * SECOND, ..log(9, 0) };
    let logs =
        vec![log(9, 100), log(12, 104), log(17, 100), log(24, 100), log(0, 100), log(1, 100), log(9, 105), observed];
    let expected = [
        ("logs_records_total{service=cart,severity=error} @105", 1),
        ("logs_records_total{service=cart,severity=fatal} @105", 1),
        ("logs_records_total{service=cart,severity=info} @105", 3),
        ("logs_records_total{service=cart,severity=info} @120", 1),
        ("logs_records_total{service=cart,severity=trace} @105", 1),
        ("logs_records_total{service=cart,severity=unspecified} @105", 1),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(series, count)| (series.to_owned(), count)).into();
    assert_eq!(run(&LogMetricsConfig::default(), &[("service.name", "cart")], logs), expected);
}

#[test]
fn kubernetes_events_are_counted_by_namespace_category_and_type() {
    let event = |more: &[(&str, &str)]| LogRecord {
        event_name: KUBERNETES_EVENT.into(),
        attributes: attributes(more),
        ..log(13, 100)
    };
    let logs = vec![
        event(&[("k8s.event.category", "oom"), ("k8s.event.type", "Warning")]),
        event(&[("k8s.event.category", "oom"), ("k8s.event.type", "Warning"), ("k8s.namespace.name", "other")]),
        event(&[]),
    ];
    let expected = [
        ("k8s_events_total{namespace=other,category=oom,type=Warning} @105", 1),
        ("k8s_events_total{namespace=shop,category=oom,type=Warning} @105", 1),
        ("k8s_events_total{namespace=shop} @105", 1),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(series, count)| (series.to_owned(), count)).into();
    assert_eq!(run(&LogMetricsConfig::default(), &[("k8s.namespace.name", "shop")], logs), expected);
}

#[test]
fn what_has_no_room_counts_in_one_series() {
    let mut config = LogMetricsConfig::default();
    config.cardinality.max_series = 1;
    let told = run(&config, &[("service.name", "cart")], vec![log(9, 100), log(17, 100), log(13, 100), log(9, 100)]);
    let expected = [
        ("logs_records_total{metric_overflow=true} @105", 2),
        ("logs_records_total{service=cart,severity=info} @105", 2),
    ];
    assert_eq!(told, expected.map(|(series, count)| (series.to_owned(), count)).into());
}
