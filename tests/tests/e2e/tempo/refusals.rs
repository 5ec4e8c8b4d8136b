//! What a backend refuses: bad spans, requests that are too large or too many, and everything.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use afflux_tests::afflux::{Afflux, run};
use afflux_tests::load::{Load, span_ids};
use afflux_tests::tempo::{Access, Settings, Tempo};
use anyhow::{Context as _, ensure};

use super::{PATIENCE, acked, holds, options, send};

/// Which spans are refused: one in a thousand, as ids are random.
fn is_bad(span_id: &[u8]) -> bool {
    span_id.last_chunk::<4>().is_some_and(|end| u32::from_be_bytes(*end) % 1000 == 7)
}

fn is_bad_text(id: &str) -> bool {
    u32::from_str_radix(&id[id.len() - 8..], 16).is_ok_and(|end| is_bad(&end.to_be_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_span_in_a_thousand_is_a_dead_letter_and_no_other() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let refuses = Some((|span| is_bad(&span.span_id)) as afflux_tests::tempo::Refuses);
    let tempo = Tempo::start(Settings { refuses, ..Settings::default() }).await?;
    let afflux = Afflux::start(dir.path(), &options(dir.path(), &tempo, "grpc")).await?;
    let load = Load::new(rand::random());
    let mut bad = BTreeSet::new();
    while bad.len() < 4 || acked(&load).len() < 4000 {
        send(&load, &afflux, 10).await;
        bad = acked(&load).into_iter().filter(|id| is_bad_text(id)).collect();
    }
    let good = acked(&load).into_iter().filter(|id| !bad.contains(id)).collect();
    holds(&tempo, &load, &good).await?;
    afflux.settles("sinks.tempo", "spans", acked(&load).len()).await?;
    assert_eq!(tempo.found().spans.len(), good.len());

    let mut refused = BTreeSet::new();
    for letter in afflux.dead_letters()? {
        assert_eq!((&letter["reason"], &letter["component"]), (&"refused".into(), &"sinks.tempo".into()), "{letter}");
        let id = letter["id"].as_str().context("an id")?;
        let raw = run(&["dead-letters", "show", id, "--raw", "--admin", &format!("127.0.0.1:{}", afflux.admin)])?;
        let spans = span_ids(&raw.stdout.into());
        assert_eq!(spans.len(), 1, "{letter} holds one span");
        refused.extend(spans);
    }
    assert_eq!(refused, bad);
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_sent_in_parts() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let settings = Settings { max_message_bytes: 20_000, ..Settings::default() };
    let tempo = Tempo::start(settings).await?;
    let options = options(dir.path(), &tempo, "grpc").env("AFFLUX__SINKS__TEMPO__DELIVERY__BATCH__AGE", "500ms");
    let afflux = Afflux::start(dir.path(), &options).await?;
    let load = Load::new(rand::random());
    send(&load, &afflux, 10).await;
    holds(&tempo, &load, &acked(&load)).await?;
    assert!(tempo.count("too_large") > 0, "nothing was too large");
    afflux.settles("sinks.tempo", "spans", acked(&load).len()).await?;
    assert_eq!(afflux.dead_letters()?, [] as [serde_json::Value; 0]);
    assert_eq!(tempo.found().duplicates, 0, "parts are sent once");
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_is_kept_to_and_parts_of_what_exceeds_the_burst_get_through() -> anyhow::Result<()> {
    const ASKED: Duration = Duration::from_secs(1);
    let dir = tempfile::tempdir()?;
    let settings = Settings { rate: Some((40_000, 40_000)), retry_after: Some(ASKED), ..Settings::default() };
    let tempo = Tempo::start(settings).await?;
    let options = options(dir.path(), &tempo, "grpc")
        .env("AFFLUX__TOPICS__PARTITIONS", "1")
        .env("AFFLUX__SINKS__TEMPO__DELIVERY__BATCH__AGE", "1s")
        .env("AFFLUX__SINKS__TEMPO__DELIVERY__CONCURRENCY", "1");
    let afflux = Afflux::start(dir.path(), &options).await?;
    let load = Load::new(rand::random());
    send(&load, &afflux, 6).await;
    holds(&tempo, &load, &acked(&load)).await?;
    assert!(tempo.count("over_burst") > 0 && tempo.count("over_rate") > 0, "no limit was met");
    let arrivals = tempo.arrivals();
    for pair in arrivals.windows(2).filter(|pair| pair[0].outcome == "over_rate") {
        let waited = pair[1].at - pair[0].at;
        assert!(waited >= ASKED, "came again after {waited:?}");
    }
    assert_eq!(afflux.dead_letters()?, [] as [serde_json::Value; 0]);
    assert_eq!(afflux.problem().await?, None, "whoever is told to wait is well");
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_partly_rejected_is_accounted_and_not_sent_again() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let tempo = Tempo::start(Settings::default()).await?;
    let afflux = Afflux::start(dir.path(), &options(dir.path(), &tempo, "grpc")).await?;
    tempo.reject(Some(3));
    let load = Load::new(rand::random());
    send(&load, &afflux, 3).await;
    holds(&tempo, &load, &acked(&load)).await?;
    afflux.settles("sinks.tempo", "spans", acked(&load).len()).await?;
    let series = r#"afflux_dropped_items_total{component="sinks.tempo",reason="rejected"}"#;
    let rejected = afflux.metric(series).await?.unwrap_or_default();
    assert!((rejected - 3.0 * tempo.count("partial") as f64).abs() < 0.5 && rejected > 0.0, "{rejected}");
    assert_eq!(tempo.found().duplicates, 0);
    afflux.stop().await
}

/// Everything is refused until the cause is gone: nothing is lost, it shows, and it goes on by itself.
async fn stops_and_goes_on(protocol: &str, settings: Settings, cause: Access, words: &str) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let tempo = Tempo::start(settings).await?;
    tempo.admit(cause);
    let token = dir.path().join("token");
    std::fs::write(&token, "wrong-token-never-shown")?;
    let options = options(dir.path(), &tempo, protocol)
        .env("AFFLUX__SINKS__TEMPO__AUTH__BEARER__TOKEN_FILE", token.display().to_string());
    let afflux = Afflux::start(dir.path(), &options).await?;
    let load = Load::new(rand::random());
    send(&load, &afflux, 5).await;
    let reason = afflux.fails("sinks.tempo", words).await?;
    let (_, status) = afflux.ask("status").await?;
    assert!(status.contains(words), "{status}");
    let series = r#"afflux_blocked{component="sinks.tempo",reason="unauthorized"}"#;
    assert_eq!(afflux.metric(series).await?, Some(1.0));
    afflux.falls_behind("sinks.tempo").await?;
    assert_eq!((tempo.found().spans.len(), afflux.dead_letters()?.len()), (0, 0));

    std::fs::write(&token, "right-token-never-shown\n")?;
    tempo.admit(Access::Authorization("Bearer right-token-never-shown".into()));
    holds(&tempo, &load, &acked(&load)).await?;
    let started = Instant::now();
    while afflux.problem().await?.is_some() {
        ensure!(started.elapsed() < PATIENCE, "it is still not ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(afflux.metric(series).await?, Some(0.0));
    assert_eq!(afflux.dead_letters()?.len(), 0);
    for text in [reason, status, afflux.log(), afflux.ask("metrics").await?.1] {
        assert!(!text.contains("never-shown"), "a token is shown");
    }
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc_a_wrong_token_stops_the_sink_until_its_file_is_mended() -> anyhow::Result<()> {
    let cause = Access::Authorization("Bearer right-token-never-shown".into());
    stops_and_goes_on("grpc", Settings::default(), cause, "gRPC status 16: who are you?; check `auth`").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_a_client_that_may_not_stops_the_sink_until_it_may() -> anyhow::Result<()> {
    stops_and_goes_on("http", Settings::default(), Access::Nobody, "answered 403: not for you; check `auth`").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_tenant_the_sink_stops_and_says_so_until_one_is_configured() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let tempo = Tempo::start(Settings { multitenant: true, ..Settings::default() }).await?;
    let load = Load::new(rand::random());
    for tenant in ["", "not a tenant"] {
        let options = options(dir.path(), &tempo, "grpc").env("AFFLUX__SINKS__TEMPO__TENANT", tenant);
        let afflux = Afflux::start(dir.path(), &options).await?;
        send(&load, &afflux, 2).await;
        afflux.fails("sinks.tempo", "`tenant`").await?;
        assert_eq!(afflux.dead_letters()?.len(), 0);
        afflux.kill()?;
    }
    let options = options(dir.path(), &tempo, "grpc").env("AFFLUX__SINKS__TEMPO__TENANT", "team-a");
    let afflux = Afflux::start(dir.path(), &options).await?;
    holds(&tempo, &load, &acked(&load)).await?;
    assert_eq!(tempo.tenants(), ["team-a".to_owned()].into());
    afflux.stop().await
}
