//! Each limit with a case of its own, and what is refused for its time.

use std::time::Duration;

use afflux_runtime::config::{ByteSize, Period};

use super::*;
use crate::loki::config::{LabelConfig, LabelsConfig};

fn with(change: impl FnOnce(&mut LokiConfig)) -> LokiConfig {
    let mut config = LokiConfig::default();
    change(&mut config);
    config
}

fn logs(resource: &[(&str, &str)], logs: Vec<LogRecord>) -> Batch {
    batch(vec![record(vec![block(resource, logs)])])
}

#[test]
fn a_label_that_is_too_long_is_cut_and_kept_whole_as_structured_metadata() {
    let config = with(|config| config.limits.max_label_value_length = 5);
    let info = |line| LogRecord { severity_number: 9, ..log(NOW, line) };
    let encoded = encoded(&config, &logs(&[("service.name", "größer als")], vec![info("a"), info("b")]));
    assert_eq!(encoded.changed, [("label_value_truncated", 2)]);
    let read = read(&encoded.requests);
    assert!(read[0].labels.contains(r#"app="grö""#), "{}", read[0].labels);
    assert_eq!(read[0].metadata, ["app_extracted=größer als"]);
}

#[test]
fn of_too_many_labels_the_last_become_structured_metadata() {
    let extra = ["x", "y", "z"].map(|name| LabelConfig { name: name.into(), from: vec![name.into()] }).into();
    let config = with(|config| {
        config.labels = LabelsConfig { extra, ..LabelsConfig::default() };
        config.limits.max_label_names = 6;
    });
    let resource = [("service.name", "a"), ("z", "3"), ("x", "1"), ("y", "2")];
    let mut line = log(NOW, "");
    line.severity_number = 9;
    let encoded = encoded(&config, &logs(&resource, vec![line]));
    assert_eq!(encoded.changed, [("label_to_metadata", 1)]);
    let read = read(&encoded.requests);
    // Five, and room for the `service_name` that Loki adds.
    assert_eq!(read[0].labels, r#"{app="a", cluster="eu-1", level="info", source="otlp", x="1"}"#);
    assert_eq!(read[0].metadata, ["y=2", "z=3"]);
}

#[test]
fn there_is_always_a_label() {
    let none = ["cluster", "namespace", "container", "source", "level"];
    let extra = none.map(|name| LabelConfig { name: name.into(), from: Vec::new() }).into();
    let config = with(|config| config.labels = LabelsConfig { extra, ..LabelsConfig::default() });
    let read = read(&encoded(&config, &logs(&[], vec![log(NOW, "")])).requests);
    assert_eq!(read[0].labels, r#"{source="otlp"}"#);
    assert_eq!(read[0].metadata, ["level=unknown"]);
}

#[test]
fn a_line_that_is_too_long_is_cut_and_says_so() {
    let config = with(|config| config.limits.max_line_size = ByteSize(256));
    let long = "x".repeat(257);
    let encoded = encoded(&config, &logs(&[], vec![log(NOW, &long[..256]), log(NOW + 1, &long)]));
    assert_eq!(encoded.changed, [("line_truncated", 1)]);
    let read = read(&encoded.requests);
    assert_eq!(read[0].line, long[..256]);
    assert_eq!(read[1].line.len(), 256);
    assert!(read[1].line.ends_with("xxx …[truncated from 257 bytes]"), "{}", read[1].line);
}

#[test]
fn metadata_that_is_too_much_is_left_out_from_behind_and_counted_in_its_place() {
    let line = LogRecord {
        trace_id: vec![1; 16],
        attributes: texts(&[("a", "1"), ("b", &"x".repeat(100)), ("c", "3")]),
        ..log(NOW, "")
    };
    let batch = logs(&[("r1", "4"), ("r2", "5")], vec![line, log(NOW, "")]);
    let few = encoded(&with(|config| config.limits.max_structured_metadata_entries = 5), &batch);
    assert_eq!(few.changed, [("metadata_left_out", 1)]);
    let wide = "b=".to_owned() + &"x".repeat(100);
    let trace = "trace_id=01010101010101010101010101010101";
    assert_eq!(read(&few.requests)[0].metadata, [trace, "a=1", &wide, "c=3", "afflux_left_out=2"]);
    assert_eq!(read(&few.requests)[1].metadata, ["r1=4", "r2=5"]);
    let small = with(|config| config.limits.max_structured_metadata_size = ByteSize(100));
    let small = read(&encoded(&small, &batch).requests);
    assert_eq!(small[0].metadata, [trace, "a=1", "c=3", "r1=4", "r2=5", "afflux_left_out=1"]);
    // Exactly at the limits nothing is touched.
    let bytes = (8 + 32) + 2 + 101 + 2 + 3 + 3;
    for (entries, bytes, changed) in [(6, bytes, 0), (6, bytes - 1, 1), (5, bytes, 1)] {
        let config = with(|config| {
            config.limits.max_structured_metadata_entries = entries;
            config.limits.max_structured_metadata_size = ByteSize(bytes);
        });
        assert_eq!(encoded(&config, &batch).changed.len(), changed, "{entries} {bytes}");
    }
    let no_limit = with(|config| {
        config.limits.max_structured_metadata_entries = 0;
        config.limits.max_structured_metadata_size = ByteSize(0);
    });
    assert_eq!(read(&encoded(&no_limit, &batch).requests)[0].metadata.len(), 6);
}

/// Lines that a request holds, read by the bus's own types.
fn lines(value: &[u8]) -> Vec<String> {
    let request = ExportLogsServiceRequest::decode(value).unwrap();
    let scopes = request.resource_logs.into_iter().flat_map(|block| block.scope_logs);
    let body = |log: LogRecord| match log.body.and_then(|body| body.value) {
        Some(Value::StringValue(line)) => line,
        other => panic!("{other:?}"),
    };
    scopes.flat_map(|scope| scope.log_records).map(body).collect()
}

#[test]
fn what_is_too_old_or_in_the_future_is_refused_and_just_that() {
    let day = 86_400 * SECOND;
    let a = vec![log(NOW, "now"), log(NOW - 8 * day, "old"), log(NOW + 700 * SECOND, "new")];
    let b = vec![log(NOW - 9 * day, "older"), log(NOW - 7 * day, "last"), log(NOW + 600 * SECOND, "first")];
    let mixed = record(vec![block(&[("service.name", "a")], a), block(&[("service.name", "b")], b)]);
    let old = record(vec![block(&[], vec![log(NOW - 30 * day, "ancient")])]);
    let encoded = encoded(&LokiConfig::default(), &batch(vec![mixed, old.clone()]));
    let sent: Vec<_> = read(&encoded.requests).into_iter().map(|read| read.line).collect();
    assert_eq!(sent, ["now", "first", "last"], "what is late goes alone");
    let entries: Vec<_> = encoded.requests.iter().map(|request| (request.entries, request.shard.is_some())).collect();
    assert_eq!(entries, [(2, false), (1, true)]);
    let refused: Vec<_> = encoded.refused.iter().map(|r| (r.record, r.reason, r.items)).collect();
    assert_eq!(
        refused,
        [(0, "greater_than_max_sample_age", 2), (0, "too_far_in_future", 1), (1, "greater_than_max_sample_age", 1)]
    );
    assert_eq!(lines(encoded.refused[0].value.as_ref().unwrap()), ["old", "older"]);
    assert_eq!(lines(encoded.refused[1].value.as_ref().unwrap()), ["new"]);
    assert_eq!(encoded.refused[2].value, None, "the whole record");
}

#[test]
fn a_replay_sends_what_is_old_in_shards_of_one_bucket_each() {
    let day = 86_400 * SECOND;
    let bucket = 1800 * SECOND;
    let base = (NOW - 30 * day) / bucket * bucket;
    let times = [base, base + bucket, base + bucket - 1, NOW - 100 * SECOND, NOW + 700 * SECOND];
    let old = logs(&[], times.iter().map(|time| log(*time, &time.to_string())).collect());
    let replay = Batch { replay: true, ..old.clone() };
    let told = encoded(&LokiConfig::default(), &replay);
    let requests: Vec<_> = told.requests.iter().map(|request| (request.shard.clone(), request.entries)).collect();
    let shard = |time: u64| Some(format!("afflux-{}", time / SECOND));
    assert_eq!(requests, [(None, 1), (shard(base), 2), (shard(base + bucket), 1)]);
    assert_eq!(told.refused.len(), 1, "the future stays refused");
    let off = encoded(&with(|config| config.backfill.enabled = false), &replay);
    assert_eq!(off.refused.iter().map(|refused| refused.items).sum::<u64>(), 4);
    assert!(encoded(&LokiConfig::default(), &old).requests.iter().all(|request| request.shard.is_none()));
}

#[test]
fn what_is_late_goes_in_requests_of_one_stream() {
    let minute = 60 * SECOND;
    let logs = || vec![log(NOW - 49 * minute, "soon"), log(NOW - 51 * minute, "late"), log(NOW - 52 * minute, "later")];
    let blocks = ["a", "b", "c"].map(|app| block(&[("service.name", app)], logs()));
    let batch = batch(vec![record(blocks.into())]);
    let parts = |config: &LokiConfig| {
        let requests = encoded(config, &batch).requests;
        let part = |request: &LokiRequest| (push(request).streams.len(), request.entries, request.shard.is_some());
        requests.iter().map(part).collect::<Vec<_>>()
    };
    assert_eq!(parts(&LokiConfig::default()), [(3, 3, false), (1, 2, true), (1, 2, true), (1, 2, true)]);
    let two = with(|config| config.limits.max_streams_per_request = 2);
    assert_eq!(parts(&two), [(2, 2, false), (1, 1, false), (1, 2, true), (1, 2, true), (1, 2, true)]);
    let off = with(|config| config.backfill.enabled = false);
    assert_eq!(parts(&off), [(3, 3, false), (1, 2, false), (1, 2, false), (1, 2, false)]);
    let wide = with(|config| config.limits.order_window = Period(Duration::from_secs(2 * 3600)));
    assert_eq!(parts(&wide), [(3, 9, false)]);
    // The newest entry may lie that far ahead.
    let ahead = with(|config| config.limits.max_future = Period(Duration::from_secs(20 * 60)));
    assert_eq!(parts(&ahead), [(1, 3, true), (1, 3, true), (1, 3, true)]);
}

/// Loki may have been away for long since a request was made.
#[tokio::test]
async fn a_request_whose_entries_have_become_late_is_made_anew() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use afflux_runtime::delivery::{Answer, Backend as _};

    let now = Arc::new(AtomicU64::new(NOW));
    let clock = Arc::clone(&now);
    let config = with(|config| config.url = Some("http://127.0.0.1:1".into()));
    let loki = crate::loki::Loki::new(&config, Vec::new()).unwrap().with_clock(move || clock.load(Ordering::Relaxed));
    let logs = batch(vec![record(vec![block(&[("service.name", "a")], vec![log(NOW, "x")])])]);
    let request = loki.encode(&logs).requests.remove(0);
    for (minutes, outdated) in [(0, false), (49, false), (51, true)] {
        now.store(NOW + minutes * 60 * SECOND, Ordering::Relaxed);
        let answer = loki.attempt(&request, 1).await;
        assert_eq!(matches!(answer, Answer::Otherwise { .. }), outdated, "{answer:?} after {minutes} minutes");
    }
    let again = loki.encode(&logs).requests.remove(0);
    assert!(again.shard.is_some());
    assert!(matches!(loki.attempt(&again, 0).await, Answer::Later { .. }), "nobody is there");
}

#[test]
fn requests_stay_below_their_size_and_hold_every_entry_once() {
    let config = with(|config| config.limits.max_request_size = ByteSize(2000));
    let blocks: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|app| block(&[("service.name", app)], (0..20).map(|i| log(NOW + i, &"x".repeat(100))).collect()))
        .collect();
    let huge = block(&[("service.name", "d")], vec![log(NOW, &"y".repeat(5000))]);
    let batch = batch(vec![record(blocks), record(vec![huge])]);
    let cut = encoded(&config, &batch);
    let whole = encoded(&LokiConfig::default(), &batch);
    assert_eq!(read(&cut.requests), read(&whole.requests));
    assert_eq!(whole.requests.len(), 1);
    let sizes: Vec<_> = cut.requests.iter().map(|r| snap::raw::decompress_len(&r.body).unwrap()).collect();
    assert!(sizes.len() >= 5 && sizes[..sizes.len() - 1].iter().all(|size| (1000..=2000).contains(size)), "{sizes:?}");
    assert!(*sizes.last().unwrap() > 5000, "what is larger goes alone");
    assert_eq!(cut.requests.last().unwrap().entries, 1);
}

#[test]
fn what_is_no_request_is_refused_and_what_is_nothing_is_counted() {
    let nothing = Received { value: None, ..record(Vec::new()) };
    let malformed = Received { value: Some(vec![0xff; 3].into()), ..record(vec![block(&[], vec![log(NOW, "")])]) };
    let good = record(vec![block(&[], vec![log(NOW, "good")])]);
    let encoded = encoded(&LokiConfig::default(), &batch(vec![nothing, malformed, good]));
    assert_eq!(encoded.dropped, [("empty", 1)]);
    assert_eq!((encoded.refused[0].record, encoded.refused[0].reason, encoded.refused[0].items), (1, "malformed", 1));
    assert_eq!(read(&encoded.requests).len(), 1);
}

#[test]
fn nothing_to_send_is_no_request() {
    let empty = record(vec![block(&[("a", "b")], Vec::new())]);
    assert!(encoded(&LokiConfig::default(), &batch(vec![empty])).requests.is_empty());
}

#[test]
fn messages_in_pieces_are_read_as_protobuf_joins_them() {
    let mut value = record(vec![block(&[("service.name", "a")], vec![log(NOW, "x")])]).value.unwrap().to_vec();
    // The same block once more, its resource in two messages.
    let one = ResourceLogs { resource: block(&[("service.name", "b")], vec![]).resource, ..ResourceLogs::default() };
    let two = block(&[("k8s.namespace.name", "n")], vec![log(NOW, "y")]);
    let pieces = [one.encode_to_vec(), two.encode_to_vec()].concat();
    afflux_schemas::wire::put_len_field(&mut value, 1, &pieces);
    let received = Received { value: Some(value.into()), ..record(Vec::new()) };
    let read = read(&encoded(&LokiConfig::default(), &batch(vec![received])).requests);
    assert!(read[1].labels.contains(r#"app="b""#) && read[1].labels.contains(r#"namespace="n""#), "{read:?}");
}
