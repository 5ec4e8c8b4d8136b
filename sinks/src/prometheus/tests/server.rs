//! What servers answer, and what follows.

use std::sync::{Arc, Mutex};

use afflux_runtime::delivery::{Answer, Backend as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::{ProtocolConfig, WriteRequest};
use super::*;

/// A request as it came: its path, and the headers that matter, in order of name.
#[derive(Clone, Debug, PartialEq)]
struct Came {
    path: String,
    headers: Vec<String>,
    body: usize,
}

/// A server that gives one answer after another, and the last one for ever.
struct Server {
    url: String,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Server {
    /// Answers are status, further headers, and body.
    async fn start(answers: &[(u16, &str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers: Vec<String> = answers
            .iter()
            .map(|(status, headers, body)| {
                format!(
                    "HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                )
            })
            .collect();
        let came = Arc::new(Mutex::new(Vec::new()));
        let seen = came.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let request = take(&mut stream).await;
                seen.lock().unwrap().push(request);
                let _ = stream.write_all(answers[n.min(answers.len() - 1)].as_bytes()).await;
            }
        });
        Self { url, came }
    }

    /// The versions of the requests that came.
    fn versions(&self) -> Vec<String> {
        let version = |came: &Came| {
            let header = came.headers.iter().find_map(|h| h.strip_prefix("x-prometheus-remote-write-version: "));
            header.unwrap_or_default().to_owned()
        };
        self.came.lock().unwrap().iter().map(version).collect()
    }
}

async fn take(stream: &mut TcpStream) -> Came {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        bytes.extend_from_slice(&chunk[..read]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let mut headers: Vec<String> = lines.map(str::to_owned).collect();
        let length = headers.iter().find_map(|header| header.strip_prefix("content-length: ")).unwrap();
        let body = length.parse::<usize>().unwrap();
        if bytes.len() >= end + 4 + body {
            headers.retain(|header| !["accept", "host", "content-length"].iter().any(|name| header.starts_with(name)));
            headers.sort();
            return Came { path, headers, body };
        }
    }
}

const WRITTEN: &str =
    "X-Prometheus-Remote-Write-Samples-Written: 1\r\nX-Prometheus-Remote-Write-Histograms-Written: 0\r\n";
const NONE: &str = "X-Prometheus-Remote-Write-Samples-Written: 0\r\n";
const OLD: (u16, &str, &str) = (204, "", "");
const NEW: (u16, &str, &str) = (204, WRITTEN, "");

fn one(name: &str) -> Option<Bytes> {
    Some(series((name, "", SUM), &[], &[point(1000, 2000, Some(Value::Count(1)), &[])]))
}

fn zero(name: &str) -> Option<Bytes> {
    Some(series((name, "", SUM), &[], &[point(1000, 1000, Some(Value::Count(0)), &[])]))
}

/// What becomes of the first request of each batch, one after the other, at a server of those answers.
async fn answers(
    protocol: ProtocolConfig,
    script: &[(u16, &str, &str)],
    batches: impl IntoIterator<Item = Vec<Option<Bytes>>>,
) -> (Vec<Answer>, Vec<String>) {
    let server = Server::start(script).await;
    let sink = sink(PrometheusConfig { url: server.url.clone(), protocol, ..PrometheusConfig::default() });
    let mut answers = Vec::new();
    for records in batches {
        let encoded = sink.encode(&batch(records));
        answers.push(sink.attempt(&encoded.requests[0], 0).await);
    }
    (answers, server.versions())
}

#[tokio::test]
async fn requests_say_what_they_are_and_whose() {
    let server = Server::start(&[OLD, NEW]).await;
    let mut config = PrometheusConfig { protocol: ProtocolConfig::V1, ..PrometheusConfig::default() };
    config.url = format!("{}/api/v1/push", server.url);
    config.headers.insert("X-Own".into(), "mine".into());
    let mut records = batch([one("a")]);
    records.tenant = Some("shop".into());
    let old = sink(config.clone());
    let request = old.encode(&records).requests.remove(0);
    assert_eq!(old.attempt(&request, 0).await, Answer::Stored);
    let new = sink(PrometheusConfig {
        protocol: ProtocolConfig::V2,
        tenant: Some("own".into()),
        url: server.url.clone(),
        ..config
    });
    let again = new.encode(&records).requests.remove(0);
    assert_eq!(new.attempt(&again, 2).await, Answer::Stored);
    let agent = concat!("user-agent: afflux/", env!("CARGO_PKG_VERSION"));
    let came = |path: &str, headers: &[&str], request: &WriteRequest| Came {
        path: path.into(),
        headers: headers.iter().map(|&header| header.to_owned()).collect(),
        body: request.body().len(),
    };
    let first = came(
        "/api/v1/push",
        &[
            "content-encoding: snappy",
            "content-type: application/x-protobuf",
            agent,
            "x-own: mine",
            "x-prometheus-remote-write-version: 0.1.0",
            "x-scope-orgid: shop",
        ],
        &request,
    );
    let second = came(
        "/api/v1/write",
        &[
            "content-encoding: snappy",
            "content-type: application/x-protobuf;proto=io.prometheus.write.v2.Request",
            "retry-attempt: 2",
            agent,
            "x-own: mine",
            "x-prometheus-remote-write-version: 2.0.0",
            "x-scope-orgid: own",
        ],
        &again,
    );
    assert_eq!(*server.came.lock().unwrap(), [first, second]);
}

#[tokio::test]
async fn a_server_that_does_not_say_what_it_wrote_gets_it_again_in_1_0_from_then_on() {
    let two = || [vec![one("a")], vec![one("a")]];
    let stored = vec![Answer::Stored; 2];
    for script in [vec![OLD], vec![(415, "", "no such version"), OLD], vec![(400, "", "no series"), OLD]] {
        let (said, versions) = answers(ProtocolConfig::Auto, &script, two()).await;
        assert_eq!(
            (&said, &versions[..]),
            (&stored, &["2.0.0", "0.1.0", "0.1.0"].map(str::to_owned)[..]),
            "{script:?}"
        );
    }
    let (said, versions) = answers(ProtocolConfig::Auto, &[NEW], two()).await;
    assert_eq!((said, versions), (stored, vec!["2.0.0".to_owned(); 2]));
}

#[tokio::test]
async fn a_server_that_is_down_or_refuses_both_is_asked_in_2_0_again() {
    let script = [(503, "", "busy"), (400, "", "bad"), (400, "", "bad label"), NEW];
    let (said, versions) = answers(ProtocolConfig::Auto, &script, vec![vec![one("a")]; 3]).await;
    assert!(matches!(&said[0], Answer::Later { reason: "server_error", .. }), "{said:?}");
    assert!(
        matches!(&said[1], Answer::Refused { reason: "refused", error } if error.contains("bad label")),
        "{said:?}"
    );
    assert_eq!((&said[2], versions), (&Answer::Stored, ["2.0.0", "2.0.0", "0.1.0", "2.0.0"].map(str::to_owned).into()));
}

#[tokio::test]
async fn a_request_made_before_the_fall_back_is_sent_in_1_0() {
    let server = Server::start(&[OLD]).await;
    let sink = sink(PrometheusConfig { url: server.url.clone(), ..PrometheusConfig::default() });
    let both = series(
        ("a", "", SUM),
        &[],
        &[point(1000, 1000, Some(Value::Count(0)), &[]), point(1000, 2000, Some(Value::Count(1)), &[])],
    );
    let encoded = sink.encode(&batch([Some(both), one("b")]));
    for request in &encoded.requests {
        assert_eq!(sink.attempt(request, 0).await, Answer::Stored);
        let older = sink.in_v1(request).unwrap();
        assert_eq!((older.zeros, older.samples()), (request.zeros, request.samples()));
        let names = |request| wire::read(request).series.into_iter().map(|series| series.labels).collect::<Vec<_>>();
        assert_eq!(names(&older), names(request));
    }
    assert_eq!(server.versions(), ["2.0.0", "0.1.0", "0.1.0"]);
}

#[tokio::test]
async fn one_version_alone_falls_back_to_nothing() {
    for (protocol, script) in [
        (ProtocolConfig::V2, (204, "", "")),
        (ProtocolConfig::V2, (415, "", "")),
        (ProtocolConfig::V1, (415, "", "only 2.0")),
    ] {
        let (said, versions) = answers(protocol, &[script], [vec![one("a")]]).await;
        assert!(matches!(&said[0], Answer::Blocked { reason: "wrong_protocol", .. }), "{said:?}");
        assert_eq!(versions.len(), 1);
    }
    let (said, _) = answers(ProtocolConfig::V2, &[(400, "", "bad label")], [vec![one("a")]]).await;
    assert!(matches!(&said[0], Answer::Refused { reason: "refused", .. }), "{said:?}");
}

#[tokio::test]
async fn a_sample_that_is_there_or_that_comes_too_late_is_known() {
    let (order, duplicate) = ("out of order sample\n", "duplicate sample for timestamp");
    let (many, known) = (|| vec![one("a"), one("b")], |reason| Answer::Known { reason });
    for (status, words, reason) in [
        (400, order, "out_of_order"),
        (400, duplicate, "duplicate_sample"),
        (400, "send data to ingesters: user=shop: err: ... (err-mimir-sample-out-of-order)", "out_of_order"),
        (400, "the sample has been rejected (err-mimir-sample-duplicate-timestamp)", "duplicate_sample"),
        (409, "store locally for endpoint: conflict", "out_of_order"),
    ] {
        for (protocol, headers) in [(ProtocolConfig::V1, ""), (ProtocolConfig::V2, NONE)] {
            let batches = [vec![one("a")], vec![zero("a")], many()];
            let (said, _) = answers(protocol, &[(status, headers, words)], batches).await;
            assert_eq!(said[..2], [known(reason), known("already_stored")], "{words}");
            assert!(matches!(&said[2], Answer::Refused { reason: r, .. } if *r == reason), "{said:?}");
        }
    }
    for words in
        ["out of bounds", "too old sample", "err-mimir-sample-timestamp-too-old: not out of order", "label name"]
    {
        let (said, _) = answers(ProtocolConfig::V1, &[(400, "", words)], [vec![zero("a")]]).await;
        assert!(matches!(&said[0], Answer::Refused { reason: "refused", .. }), "{words}: {said:?}");
    }
}

#[tokio::test]
async fn what_a_server_of_2_0_did_not_write_is_counted() {
    let (said, _) = answers(ProtocolConfig::Auto, &[(200, WRITTEN, "")], [vec![one("a"), one("b"), one("c")]]).await;
    assert!(matches!(&said[0], Answer::PartlyStored { rejected: 2, .. }), "{said:?}");
}

#[tokio::test]
async fn nobody_there_and_nobody_let_in_is_no_fault_of_the_samples() {
    let (said, _) =
        answers(ProtocolConfig::Auto, &[(401, "", ""), (429, "Retry-After: 3\r\n", "")], vec![vec![one("a")]; 2]).await;
    assert!(matches!(&said[0], Answer::Blocked { reason: "unauthorized", .. }), "{said:?}");
    let after = Some(std::time::Duration::from_secs(3));
    assert!(matches!(&said[1], Answer::Later { after: a, .. } if *a == after), "{said:?}");
    let gone = sink(PrometheusConfig { url: "http://127.0.0.1:1".into(), ..PrometheusConfig::default() });
    let encoded = gone.encode(&batch([one("a")]));
    assert!(matches!(gone.attempt(&encoded.requests[0], 0).await, Answer::Later { reason: "unreachable", .. }));
}
