mod delivery;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::{Value, json};

use super::*;

const SECOND: i64 = 1_000_000_000;
const NOW: i64 = 1_760_000_000 * SECOND;

async fn server(change: impl FnOnce(&mut Options)) -> Loki {
    let mut options = Options { now: Some(NOW as u64), ..Options::default() };
    change(&mut options);
    Loki::start(options).await.unwrap()
}

/// Pushes one stream, with headers; status and words.
async fn push_as(loki: &Loki, headers: &[(&str, &str)], stream: Value, values: Value) -> (u16, String) {
    let body = json!({"streams": [{"stream": stream, "values": values}]});
    let mut request = reqwest::Client::new().post(format!("{}/loki/api/v1/push", loki.url())).json(&body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn push(loki: &Loki, values: Value) -> u16 {
    push_as(loki, &[], json!({"app": "a"}), values).await.0
}

/// Waits until the one request that gets no answer has come.
async fn hangs<T>(loki: &Loki, request: impl Future<Output = T>) {
    let come = async {
        while loki.count(Fault::StoreAndHang.word()) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = request => panic!("there is an answer"),
        () = come => {}
    }
}

fn at(time: i64) -> String {
    time.to_string()
}

fn lines(loki: &Loki) -> Vec<String> {
    loki.streams("fake").into_iter().flat_map(|stream| stream.entries).map(|entry| entry.line).collect()
}

#[tokio::test]
async fn valid_entries_are_stored_and_the_others_refused_with_the_reason() {
    let loki = server(|_| {}).await;
    let long = "x".repeat((256 << 10) + 1);
    let values = json!([
        [at(NOW), "fine"],
        [at(NOW - 8 * 86_400 * SECOND), "old"],
        [at(NOW + 601 * SECOND), "new"],
        [at(NOW), long],
        [at(NOW), "wide", {"a": "x".repeat(64 << 10)}],
        [at(NOW), "fine, too", {"a": "b"}],
    ]);
    let (status, words) = push_as(&loki, &[], json!({"app": "a"}), values).await;
    assert_eq!(status, 400);
    assert!(words.contains("has timestamp too old") && words.contains("max entry size '262144' bytes"), "{words}");
    assert_eq!(lines(&loki), ["fine", "fine, too"]);
    let refused = loki.refused().into_iter().collect::<Vec<_>>();
    let expected =
        ["greater_than_max_sample_age", "line_too_long", "structured_metadata_too_large", "too_far_in_future"];
    assert_eq!(refused, expected.map(|reason| (reason, 1)));
}

#[tokio::test]
async fn labels_are_limited_in_number_and_length() {
    let loki = server(|_| {}).await;
    let labels = |count: usize| (0..count).map(|i| (format!("l{i}"), "v".to_owned())).collect::<BTreeMap<_, _>>();
    let values = json!([[at(NOW), "x"]]);
    assert_eq!(push_as(&loki, &[], json!(labels(15)), values.clone()).await.0, 204);
    assert_eq!(push_as(&loki, &[], json!(labels(16)), values.clone()).await.0, 400);
    let mut named = labels(15);
    named.insert("service_name".into(), "not counted".into());
    assert_eq!(push_as(&loki, &[], json!(named), values.clone()).await.0, 204);
    assert_eq!(push_as(&loki, &[], json!({}), values.clone()).await.0, 400);
    assert_eq!(push_as(&loki, &[], json!({"a": "v".repeat(2049)}), values.clone()).await.0, 400);
    assert_eq!(push_as(&loki, &[], json!({"a".repeat(1025): "v"}), values).await.0, 400);
    let reasons: Vec<_> = loki.refused().into_keys().collect();
    let expected = ["label_name_too_long", "label_value_too_long", "max_label_names_per_series", "missing_labels"];
    assert_eq!(reasons, expected);
}

#[tokio::test]
async fn what_came_before_is_ignored_within_the_open_block() {
    // The five entries at first have 5 bytes, and 8 for each of two pairs.
    let loki = server(|options| options.limits.head_block_bytes = 22).await;
    let a = json!([[at(NOW), "a", {"k": "v"}], [at(NOW + 1), "b"]]);
    assert_eq!(push(&loki, a.clone()).await, 204);
    assert_eq!(push(&loki, a.clone()).await, 204);
    assert_eq!((lines(&loki).join(" "), loki.deduplicated()), ("a b".into(), 2));
    // Another line, other metadata or another time is another entry.
    assert_eq!(push(&loki, json!([[at(NOW), "a"], [at(NOW), "c"], [at(NOW + 2), "a", {"k": "v"}]])).await, 204);
    assert_eq!((loki.stored(), loki.deduplicated()), (5, 2));
    // A full block is no longer searched, but the last entry is known.
    assert_eq!(push(&loki, json!([[at(NOW + 3), "d"], [at(NOW + 3), "d"]])).await, 204);
    assert_eq!((loki.stored(), loki.deduplicated()), (6, 3));
    assert_eq!(push(&loki, a).await, 204);
    assert_eq!((loki.stored(), loki.deduplicated()), (8, 3), "twice");
}

#[tokio::test]
async fn what_is_stored_again_is_needless_where_its_client_was_told() {
    let loki = server(|options| options.limits.head_block_bytes = 1).await;
    let send = |n: i64| push_as(&loki, &[], json!({"app": "a"}), json!([[at(NOW + n), "x"]]));
    let doubled = || (loki.found().doubled(), loki.found().needless);
    for n in [1, 2, 1] {
        assert_eq!(send(n).await.0, 204);
    }
    assert_eq!(doubled(), (1, 1));
    loki.cut();
    assert_eq!(send(2).await.0, 204);
    assert_eq!(doubled(), (2, 1), "whoever is cut off may not have been told");
    loki.script(1, Fault::StoreAndHang);
    hangs(&loki, send(3)).await;
    for n in [4, 3] {
        assert_eq!(send(n).await.0, 204);
    }
    assert_eq!(doubled(), (3, 1));
}

/// An answer takes a while. Says when the first request has come.
static COME: AtomicBool = AtomicBool::new(false);
const A_WHILE: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_wait_for_an_answer_is_not_told() {
    let refuses: Refuses = |_| {
        COME.store(true, Ordering::Relaxed);
        tokio::task::block_in_place(|| std::thread::sleep(A_WHILE));
        false
    };
    let loki = server(|options| (options.limits.head_block_bytes, options.refuses) = (1, Some(refuses))).await;
    let send = |n: i64| push_as(&loki, &[], json!({"app": "a"}), json!([[at(NOW + n), "x"]]));
    let come = async {
        while !COME.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = send(1) => panic!("there is an answer"),
        () = come => {}
    }
    for n in [2, 1] {
        assert_eq!(send(n).await.0, 204);
    }
    assert_eq!((loki.found().doubled(), loki.found().needless), (1, 0));
}

#[tokio::test]
async fn entries_are_known_by_ids_and_time_and_those_that_are_not_wanted_are_refused() {
    let loki = server(|options| options.refuses = Some(|entry| entry.line == "bad")).await;
    let ids = json!({"trace_id": "0a", "span_id": "0b"});
    let values =
        json!([[at(NOW), "good", ids], [at(NOW + 1), "bad", ids], [at(NOW), "other", ids], [at(NOW + 2), "x"]]);
    let (status, words) = push_as(&loki, &[], json!({"app": "a"}), values).await;
    assert!(status == 400 && words.contains("not wanted: 0a0b@"), "{words}");
    let (one, other) = (format!("0a0b@{NOW}"), format!("@{}", NOW + 2));
    let found = loki.found();
    assert_eq!((found.entries[&one], found.entries[&other], found.entries.len(), found.doubled()), (2, 1, 2, 1));
    assert_eq!(loki.missing(&[one, other, format!("0a0b@{}", NOW + 1)].into()), 1);
    assert_eq!(loki.refused(), BTreeMap::from([("not_wanted", 1)]));
    loki.forget();
    assert_eq!((loki.found().entries.len(), loki.stored()), (0, 0));
}

#[tokio::test]
async fn an_entry_may_be_an_hour_behind_its_stream_and_older_in_a_shard_of_its_own() {
    let loki = server(|_| {}).await;
    let hour = 3600 * SECOND;
    assert_eq!(push(&loki, json!([[at(NOW), "a"], [at(NOW - hour), "b"]])).await, 204);
    assert_eq!(push(&loki, json!([[at(NOW - hour - 1), "c"], [at(NOW - 1), "d"]])).await, 400);
    assert_eq!(lines(&loki).join(" "), "a b d");
    assert_eq!(loki.refused().into_keys().collect::<Vec<_>>(), ["too_far_behind"]);
    let old = NOW - 100 * 86_400 * SECOND;
    let shard = |shard| [("X-Loki-Backfill-Shard", shard)];
    let stream = || json!({"app": "a"});
    assert_eq!(push_as(&loki, &shard("x"), stream(), json!([[at(old), "e"]])).await.0, 204);
    assert_eq!(push_as(&loki, &shard("x"), stream(), json!([[at(old - hour - 1), "f"]])).await.0, 400);
    assert_eq!(push_as(&loki, &shard("y"), stream(), json!([[at(old - hour - 1), "f"]])).await.0, 204);
    assert_eq!(push_as(&loki, &shard(&"z".repeat(129)), stream(), json!([[at(old), "g"]])).await.0, 400);
    let shards: Vec<_> = loki.streams("fake").into_iter().map(|stream| stream.shard).collect();
    assert_eq!(shards, ["", "x", "y"]);
}

#[tokio::test]
async fn names_of_structured_metadata_are_normalised_and_one_of_underscores_fails_the_request() {
    let loki = server(|_| {}).await;
    let metadata = json!({"b..c": "1", "9": "2", "a": "3", "empty": ""});
    assert_eq!(push(&loki, json!([[at(NOW), "x", metadata]])).await, 204);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(loki.streams("fake")[0].entries[0].metadata, [pair("a", "3"), pair("b_c", "1"), pair("key_9", "2")]);
    assert_eq!(push(&loki, json!([[at(NOW), "y"], [at(NOW), "z", {"..": "1"}]])).await, 500);
    assert_eq!(loki.stored(), 1);
    let nothing = reqwest::Client::new().post(format!("{}/loki/api/v1/push", loki.url())).json(&json!({"streams": []}));
    assert_eq!(nothing.send().await.unwrap().status().as_u16(), 422);
}

#[tokio::test]
async fn tenants_are_apart_and_needed_where_there_is_authentication() {
    let loki = server(|options| options.auth = true).await;
    let values = json!([[at(NOW), "x"]]);
    assert_eq!(push(&loki, values.clone()).await, 401);
    for tenant in ["a", "b"] {
        assert_eq!(push_as(&loki, &[("X-Scope-OrgID", tenant)], json!({"l": "v"}), values.clone()).await.0, 204);
    }
    assert_eq!(loki.tenants(), ["a", "b"]);
    assert_eq!(loki.streams("a").len(), 1);
}

#[tokio::test]
async fn a_token_is_needed_and_may_change() {
    let loki = server(|_| {}).await;
    let expect = |token: &str| loki.admit(Access::Authorization(format!("Bearer {token}")));
    expect("one");
    let bearer = |token| [("Authorization", token)];
    let values = json!([[at(NOW), "x"]]);
    assert_eq!(push(&loki, values.clone()).await, 401);
    assert_eq!(push_as(&loki, &bearer("Bearer one"), json!({"l": "v"}), values.clone()).await.0, 204);
    expect("two");
    assert_eq!(push_as(&loki, &bearer("Bearer one"), json!({"l": "v"}), values.clone()).await.0, 401);
    assert_eq!(push_as(&loki, &bearer("Bearer two"), json!({"l": "v"}), values.clone()).await.0, 204);
    loki.admit(Access::Nobody);
    assert_eq!(push_as(&loki, &bearer("Bearer two"), json!({"l": "v"}), values).await.0, 403);
}

#[tokio::test]
async fn a_tenant_that_sends_too_much_is_told_so_and_nothing_is_stored() {
    let loki = server(|options| options.rate = Some(Rate { per_second: 1.0, burst: 10.0 })).await;
    assert_eq!(push(&loki, json!([[at(NOW), "12345678"]])).await, 204);
    assert_eq!(push(&loki, json!([[at(NOW), "a"], [at(NOW), "bcde"]])).await, 429);
    assert_eq!(push(&loki, json!([[at(NOW), "a", {"b": ""}]])).await, 204, "two bytes are left");
    assert_eq!(loki.stored(), 2);
    let loki = server(|options| options.limits.max_streams = 1).await;
    assert_eq!(push(&loki, json!([[at(NOW), "a"]])).await, 204);
    let (status, words) = push_as(&loki, &[], json!({"app": "b"}), json!([[at(NOW), "a"]])).await;
    assert!(status == 429 && words.starts_with("maximum active stream limit exceeded"), "{words}");
}

#[tokio::test]
async fn faults_come_when_they_are_asked_for() {
    let loki = server(|_| {}).await;
    let wait = Fault::RateLimited(Some(Duration::from_secs(7)));
    for fault in [wait, Fault::Reset, Fault::StoreAndReset, Fault::StoreAndClose, Fault::Unavailable] {
        loki.script(1, fault);
    }
    let values = json!([[at(NOW), "x"]]);
    let body = json!({"streams": [{"stream": {"l": "v"}, "values": values}]});
    let send = || reqwest::Client::new().post(format!("{}/loki/api/v1/push", loki.url())).json(&body).send();
    let answer = send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    assert!(send().await.is_err() && loki.stored() == 0);
    assert!(send().await.is_err() && loki.stored() == 1);
    assert!(send().await.is_err() && loki.deduplicated() == 1);
    assert_eq!(send().await.unwrap().status().as_u16(), 503);
    assert_eq!((send().await.unwrap().status().as_u16(), loki.deduplicated()), (204, 2));
    loki.always(Some(Fault::ServerError));
    assert_eq!(send().await.unwrap().status().as_u16(), 500);
    loki.always(Some(Fault::StoreAndHang));
    hangs(&loki, send()).await;
    assert_eq!(loki.deduplicated(), 3);
    loki.always(None);
    assert_eq!(send().await.unwrap().status().as_u16(), 204);
    loki.sometimes(1, 1, &[Fault::RateLimited(None)]);
    assert_eq!(send().await.unwrap().headers().get("retry-after"), None);
    let outcomes: Vec<_> = loki.arrivals().iter().map(|arrival| arrival.outcome).collect();
    assert_eq!(
        outcomes.join(" "),
        "told_to_wait reset stored_and_reset stored_and_closed unavailable stored server_error stored_and_hung stored \
         slowed_down"
    );
}

#[tokio::test]
async fn protobuf_must_be_in_snappy_and_named() {
    let loki = server(|_| {}).await;
    let client = reqwest::Client::new();
    let url = format!("{}/loki/api/v1/push", loki.url());
    let time = [&[0x08][..], &varint(NOW as u64 / SECOND as u64)].concat();
    let entry = [&field(1, &time)[..], &field(2, b"x"), &field(3, &[field(1, b"k"), field(2, b"v")].concat())].concat();
    let stream = [field(1, br#"{app="a"}"#), field(2, &entry)].concat();
    let plain = field(1, &stream);
    let body = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    let send = |kind: &'static str, encoding: Option<&'static str>, body: Vec<u8>| {
        let request = client.post(&url).header(CONTENT_TYPE, kind).body(body);
        let request = if let Some(encoding) = encoding { request.header(CONTENT_ENCODING, encoding) } else { request };
        async { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(send("application/x-protobuf", None, plain).await, 400);
    assert_eq!(send("", None, body.clone()).await, 400);
    assert_eq!(send("application/x-protobuf", Some("br"), body.clone()).await, 400);
    assert_eq!(send("application/x-protobuf", Some("snappy"), body.clone()).await, 204);
    assert_eq!(send("application/x-protobuf", None, body).await, 204);
    assert_eq!(loki.deduplicated(), 1);
    let stored = loki.streams("fake");
    let entry = StoredEntry { time: NOW, line: "x".into(), metadata: vec![("k".into(), "v".into())] };
    assert_eq!(stored[0].labels, BTreeMap::from([("app".into(), "a".into())]));
    assert_eq!(stored[0].entries, [entry]);
}

fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(value.len() as u64), value].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[tokio::test]
async fn otlp_is_mapped_to_labels_and_structured_metadata() {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use prost::Message as _;
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let request = json!({"resourceLogs": [{
        "resource": {"attributes": [text("service.name", "cart"), text("host.name", "h")]},
        "scopeLogs": [{"logRecords": [{"timeUnixNano": at(NOW), "body": {"stringValue": "x"}, "attributes": [text("a.b", "c")]}]}],
    }]});
    let request: ExportLogsServiceRequest = serde_json::from_value(request).unwrap();
    let loki = server(|_| {}).await;
    let post = reqwest::Client::new().post(format!("{}/otlp/v1/logs", loki.url()));
    let post = post.header(CONTENT_TYPE, "application/x-protobuf").body(request.encode_to_vec());
    assert_eq!(post.send().await.unwrap().status().as_u16(), 204);
    let stored = loki.streams("fake");
    assert_eq!(stored[0].labels, BTreeMap::from([("service_name".into(), "cart".into())]));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(stored[0].entries[0].metadata, [pair("a_b", "c"), pair("host_name", "h")]);
}
