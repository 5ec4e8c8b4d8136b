//! What goes wrong around the process: each time a clear error, or the protocol's own answer, and nothing lost.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use afflux_producers::generate::Corpus;
use afflux_tests::afflux::{Afflux, Options, free_ports, query};
use afflux_tests::load::Load;
use anyhow::ensure;

const CATCH_UP: Duration = Duration::from_secs(60);

/// The exit code of a process that should not have started, and what it said.
async fn refused(dir: &Path, options: &Options) -> anyhow::Result<(Option<i32>, String)> {
    let mut afflux = Afflux::spawn(dir, options)?;
    let status = afflux.wait().await?;
    Ok((status.code(), afflux.log()))
}

#[tokio::test]
async fn a_second_process_on_the_same_data_directory_is_refused_and_told_the_owner() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options::up(&dir.path().join("data"));
    let first = Afflux::start(dir.path(), &options).await?;
    let (code, log) = refused(dir.path(), &options).await?;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("is in use by process") && log.contains(&first.id().to_string()), "{log}");
    assert!(first.is_ready().await, "the first process suffered");
    first.stop().await
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_key() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let [port] = free_ports()?;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port))?;
    for key in ["producers.otlp.grpc.listen", "producers.otlp.http.listen", "admin.listen"] {
        let variable = format!("AFFLUX__{}", key.replace('.', "__").to_uppercase());
        let address = format!("127.0.0.1:{port}");
        let options = Options::up(&dir.path().join("data")).env(&variable, address.clone());
        let (code, log) = refused(dir.path(), &options).await?;
        assert_eq!(code, Some(1), "{key}: {log}");
        assert!(log.contains(key) && log.contains(&address), "{key}: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_the_nearest_known_one_and_exit_code_2() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options::up(&dir.path().join("data")).config("producers: {otlp: {gprc: {listen: \"127.0.0.1:1\"}}}");
    let (code, log) = refused(dir.path(), &options).await?;
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("producers.otlp.gprc") && log.contains("producers.otlp.grpc"), "{log}");
    Ok(())
}

#[tokio::test]
async fn damaged_requests_get_the_protocols_answer_and_good_ones_still_pass() -> anyhow::Result<()> {
    const MIB: usize = 1 << 20;
    let dir = tempfile::tempdir()?;
    let options = Options::up(&dir.path().join("data"))
        .env("AFFLUX__PRODUCERS__OTLP__LIMITS__REQUEST_BYTES", "1MiB")
        .env("AFFLUX__PRODUCERS__OTLP__LIMITS__DECOMPRESSED_BYTES", "4MiB");
    let afflux = Afflux::start(dir.path(), &options).await?;
    let url = format!("http://127.0.0.1:{}/v1/traces", afflux.http);
    let client = reqwest::Client::new();
    let protobuf = "application/x-protobuf";
    let (bomb, oversized) = (gzip_of_zeros(128 * MIB)?, vec![0; MIB + 1]);
    assert!(bomb.len() < MIB, "the bomb must pass the limit before decompression");
    let cases: [(&str, &str, &[u8], u16); 7] = [
        (protobuf, "", b"\x0a\x7ftruncated", 400),
        ("text/plain", "", b"hello", 415),
        (protobuf, "gzip", b"not gzip at all", 400),
        (protobuf, "br", b"x", 415),
        ("application/json", "", b"{\"resourceSpans\": [", 400),
        (protobuf, "gzip", &bomb, 413),
        (protobuf, "", &oversized, 413),
    ];
    for (content_type, encoding, body, expected) in cases {
        let mut request = client.post(&url).header("content-type", content_type);
        if !encoding.is_empty() {
            request = request.header("content-encoding", encoding);
        }
        let answer = request.body(body.to_vec()).send().await?;
        assert_eq!(answer.status().as_u16(), expected, "{content_type} {encoding} {} bytes", body.len());
        if expected != 415 {
            assert_eq!(answer.headers()["content-type"], content_type, "errors come in the request's own format");
        }
    }
    let (_, peak) = afflux.usage()?;
    assert!(peak < 128 * MIB as u64, "{} MiB resident after a bomb of 128 MiB", peak >> 20);

    let body = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[
        {"traceId":"0102030405060708090a0b0c0d0e0f","spanId":"0102030405060708","name":"short"},
        {"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"whole"}]}]}]}"#;
    let answer = client.post(&url).header("content-type", "application/json").body(body).send().await?;
    assert_eq!(answer.status(), 200);
    let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await?)?;
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "1", "{answer}");

    let load = Load::new(3);
    assert!(load.send_one(afflux.http, 10).await);
    assert!(!afflux.log().contains("panicked"), "{}", afflux.log());
    afflux.stop().await?;
    let rows = query(&dir.path().join("data/lake"), "SELECT name FROM spans WHERE name IN ('short', 'whole')")?;
    assert_eq!(rows, [serde_json::json!({"name": "whole"})]);
    Ok(())
}

#[tokio::test]
async fn items_that_cannot_be_stored_are_named_and_the_others_are_stored() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options::up(&dir.path().join("data")).env("AFFLUX__PRODUCERS__OTLP__LIMITS__ATTRIBUTES", "20");
    let afflux = Afflux::start(dir.path(), &options).await?;
    // Larger than any record of the local bus, smaller than any request that the receiver refuses.
    let large = "x".repeat(17 << 20);
    let crowd = vec![r#"{"key":"a","value":{"intValue":1}}"#; 21].join(",");
    let span = |id: u8, rest: &str| {
        format!(r#"{{"traceId":"{id:02x}02030405060708090a0b0c0d0e0f10","spanId":"{id:02x}02030405060708",{rest}}}"#)
    };
    let spans = [
        span(1, r#""name":"first""#),
        span(2, &format!(r#""name":"{large}""#)),
        span(3, &format!(r#""name":"crowded","attributes":[{crowd}]"#)),
        span(4, r#""name":"alone \ud800""#),
        span(5, r#""name":"last""#),
    ];
    let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(","));
    let client = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{}/v1/traces", afflux.http);
    let answer = client.post(&url).header("content-type", "application/json").body(body).send().await?;
    assert_eq!(answer.status(), 200);
    let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await?)?;
    let partial = &answer["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], "2", "{answer}");
    let reason = partial["errorMessage"].as_str().unwrap_or_default();
    assert!(reason.starts_with("a span has over 20 attributes, the limit of this receiver; a record of "), "{reason}");
    afflux.stop().await?;
    let rows = query(&dir.path().join("data/lake"), "SELECT name FROM spans ORDER BY trace_id")?;
    let names = ["first", "alone \u{fffd}", "last"].map(|name| serde_json::json!({"name": name}));
    assert_eq!(rows, names);
    Ok(())
}

fn gzip_of_zeros(bytes: usize) -> anyhow::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), bytes as u64), &mut encoder)?;
    Ok(encoder.finish()?)
}

/// A file system in memory of its own, unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None`, after a printed notice, where this process may not mount; an error instead under `CI=true`.
    fn mount(path: PathBuf, size: &str) -> anyhow::Result<Option<Self>> {
        std::fs::create_dir_all(&path)?;
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path).output()?;
        if output.status.success() {
            return Ok(Some(Self(path)));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "cannot mount a tmpfs: {said}");
        eprintln!("SKIPPED, cannot mount a tmpfs (needs root): {said}");
        Ok(None)
    }

    fn grow(&self, size: &str) -> anyhow::Result<()> {
        let status = Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0).status()?;
        ensure!(status.success(), "cannot remount {}", self.0.display());
        Ok(())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_clients_for_a_while_and_loses_nothing() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(disk) = Tmpfs::mount(dir.path().join("bus"), "24m")? else { return Ok(()) };
    let lake = dir.path().join("data/lake");
    let options = Options::up(&dir.path().join("data"))
        .env("AFFLUX__BUS__LOCAL__DIR", disk.0.display().to_string())
        .env("AFFLUX__BUS__LOCAL__SEGMENT_BYTES", "2MiB")
        .env("AFFLUX__PRODUCERS__OTLP__LIMITS__ACK_TIMEOUT", "2s")
        .env("AFFLUX__SINKS__PARQUET__FLUSH__AGE", "500ms");
    let afflux = Afflux::start(dir.path(), &options).await?;
    let load = Load::new(5);
    // 24 MiB hold about 100 requests of 512 spans, twice: as ingested and as processed.
    let mut full = false;
    for _ in 0..400 {
        full = !load.send_one(afflux.http, 512).await;
        if full {
            break;
        }
    }
    assert!(full, "the disk never filled up");
    let url = format!("http://127.0.0.1:{}/v1/traces", afflux.http);
    let probe = reqwest::Client::new().post(&url).header("content-type", "application/x-protobuf");
    let answer = probe.body(Corpus::new(6, 0).next_request(512).traces).send().await?;
    assert_eq!(answer.status(), 503, "a full disk is a reason to come back");
    assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
    let probe = reqwest::Client::new().post(&url).header("content-type", "application/x-protobuf");
    let answer = probe.body(bytes::Bytes::new()).send().await?;
    assert_eq!(answer.status(), 200, "an empty request needs no disk");

    disk.grow("512m")?;
    let started = Instant::now();
    while !load.send_one(afflux.http, 16).await {
        assert!(started.elapsed() < CATCH_UP, "no recovery after space came back\n{}", afflux.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    everything_is_stored_once(afflux, &lake, &load, started).await
}

/// Ids of everything in the lake.
fn stored(lake: &Path) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT trace_id || span_id AS id FROM spans UNION ALL SELECT coalesce(trace_id, '') \
               || coalesce(span_id, '') || '@' || CAST(CAST(time AS BIGINT) AS VARCHAR) AS id FROM logs";
    let rows = query(lake, sql)?;
    Ok(rows.iter().filter_map(|r| Some(r["id"].as_str()?.to_owned())).collect())
}

async fn everything_is_stored_once(afflux: Afflux, lake: &Path, load: &Load, started: Instant) -> anyhow::Result<()> {
    let acked = load.snapshot().acked;
    loop {
        let found: std::collections::HashSet<_> = stored(lake)?.into_iter().collect();
        if acked.is_subset(&found) || started.elapsed() > CATCH_UP {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(!afflux.log().contains("panicked"), "{}", afflux.log());
    afflux.stop().await?;
    let found = stored(lake)?;
    let distinct: std::collections::HashSet<_> = found.iter().collect();
    assert_eq!(distinct.len(), found.len(), "items stored twice");
    let missing = acked.iter().filter(|id| !distinct.contains(id)).count();
    assert_eq!(missing, 0, "acknowledged items lost to a full disk, of {}", acked.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_lake_is_shown_and_holds_up_no_client() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(disk) = Tmpfs::mount(dir.path().join("lake"), "1m")? else { return Ok(()) };
    let options = Options::up(&dir.path().join("data"))
        .env("AFFLUX__SINKS__PARQUET__URL", disk.0.display().to_string())
        .env("AFFLUX__SINKS__PARQUET__FLUSH__AGE", "300ms");
    let afflux = Afflux::start(dir.path(), &options).await?;
    let load = Load::new(8);
    let started = Instant::now();
    while afflux.is_ready().await {
        assert!(load.send_one(afflux.http, 512).await, "a client was held up\n{}", afflux.log());
        assert!(started.elapsed() < CATCH_UP, "the disk never filled up");
    }
    for _ in 0..10 {
        assert!(load.send_one(afflux.http, 512).await, "a client was held up\n{}", afflux.log());
    }
    let metric = "afflux_retries_total{component=\"sinks.parquet\",reason=\"store_unavailable\"}";
    assert!(afflux.metric(metric).await?.unwrap_or_default() > 0.0, "{}", afflux.log());

    disk.grow("512m")?;
    let started = Instant::now();
    while !afflux.is_ready().await {
        assert!(started.elapsed() < CATCH_UP, "no recovery after space came back\n{}", afflux.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    everything_is_stored_once(afflux, &disk.0, &load, started).await
}
