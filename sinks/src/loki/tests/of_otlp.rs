//! Batches for Loki's OTLP endpoint, and parts of requests.

use afflux_runtime::config::ByteSize;

use super::*;
use crate::loki::config::Protocol;
use crate::loki::otlp;
use crate::loki::pick::pick;

fn config() -> LokiConfig {
    LokiConfig { protocol: Protocol::Otlp, ..LokiConfig::default() }
}

fn decoded(request: &LokiRequest) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest::decode(&request.body[..]).unwrap()
}

#[test]
fn a_batch_is_one_request_of_the_bytes_as_they_are() {
    let a = record(vec![block(&[("k8s.cluster.name", "x")], vec![log(NOW, "a"), log(1, "older than any limit")])]);
    let b = record(vec![block(&[("k8s.cluster.name", "y")], vec![log(NOW, "b")])]);
    let encoded = otlp::encode(&config(), &batch(vec![a.clone(), b.clone()]), NOW);
    assert_eq!(encoded.requests[0].body, [a.value.unwrap(), b.value.unwrap()].concat());
    assert_eq!((encoded.requests.len(), encoded.requests[0].entries), (1, 3));
    assert!(encoded.refused.is_empty() && encoded.requests[0].shard.is_none());
}

#[test]
fn cluster_and_time_are_added_where_they_are_missing() {
    let observed = LogRecord { observed_time_unix_nano: 7, ..log(0, "b") };
    let received = record(vec![
        block(&[("service.name", "cart")], vec![log(0, "a"), observed, log(NOW, "c")]),
        ResourceLogs { resource: None, ..block(&[], vec![log(NOW, "d")]) },
    ]);
    let request = decoded(&otlp::encode(&config(), &batch(vec![received]), NOW).requests[0]);
    let times: Vec<_> =
        request.resource_logs[0].scope_logs[0].log_records.iter().map(|log| log.time_unix_nano).collect();
    assert_eq!(times, [NOW, 0, NOW], "the first one's is when it was written to the bus");
    let resources = request.resource_logs.into_iter().map(|block| block.resource.unwrap().attributes);
    let expected =
        [texts(&[("service.name", "cart"), ("k8s.cluster.name", "eu-1")]), texts(&[("k8s.cluster.name", "eu-1")])];
    assert_eq!(resources.collect::<Vec<_>>(), expected);
}

#[test]
fn requests_stay_below_their_size() {
    let received = || record(vec![block(&[], (0..10).map(|i| log(NOW + i, &"x".repeat(100))).collect())]);
    let mut config = config();
    config.limits.max_request_size = ByteSize(3000);
    let encoded = otlp::encode(&config, &batch(vec![received(), received(), received(), received(), received()]), NOW);
    assert_eq!(encoded.requests.iter().map(|request| request.entries).collect::<Vec<_>>(), [20, 20, 10]);
}

#[test]
fn a_replay_is_cut_by_shard() {
    let bucket = 1800 * SECOND;
    let old = (NOW - 40 * 86_400 * SECOND) / bucket * bucket;
    let logs = vec![log(old, "a"), log(NOW, "b"), log(old + bucket, "c"), log(old + 1, "d")];
    let replay = Batch { replay: true, ..batch(vec![record(vec![block(&[("k8s.cluster.name", "x")], logs)])]) };
    let encoded = otlp::encode(&config(), &replay, NOW);
    let told: Vec<_> = encoded.requests.iter().map(|request| (request.shard.as_deref(), request.entries)).collect();
    let shards = [old, old + bucket].map(|time| format!("afflux-{}", time / SECOND));
    assert_eq!(told, [(None, 1), (Some(&*shards[0]), 2), (Some(&*shards[1]), 1)]);
    assert_eq!(decoded(&encoded.requests[1]).resource_logs[0].scope_logs[0].log_records.len(), 2);
}

#[test]
fn picked_items_keep_what_encloses_them_and_nothing_else() {
    let mut wide = block(&[("a", "1")], vec![log(1, "0"), log(2, "1")]);
    wide.scope_logs.push(ScopeLogs {
        scope: scope("lib", "2"),
        log_records: vec![log(3, "2")],
        schema_url: "s".into(),
    });
    wide.schema_url = "r".into();
    let whole =
        ExportLogsServiceRequest { resource_logs: vec![wide, block(&[("b", "2")], vec![log(4, "3"), log(5, "4")])] };
    let picked = |positions: &[u64]| ExportLogsServiceRequest::decode(pick(&whole.encode_to_vec(), positions)).unwrap();
    assert_eq!(picked(&[0, 1, 2, 3, 4]), whole);
    assert_eq!(picked(&[]), ExportLogsServiceRequest::default());
    let mut expected = whole.clone();
    expected.resource_logs[0].scope_logs.remove(0);
    expected.resource_logs[1].scope_logs[0].log_records.remove(0);
    assert_eq!(picked(&[2, 4]), expected);
    expected.resource_logs.remove(1);
    assert_eq!(picked(&[2]), expected);
}
