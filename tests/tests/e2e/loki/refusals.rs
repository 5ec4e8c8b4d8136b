//! What a backend refuses: bad entries, and everything.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use afflux_tests::afflux::Afflux;
use afflux_tests::load::Load;
use afflux_tests::loki::{self, Access, Loki, StoredEntry};
use anyhow::ensure;

use super::{PATIENCE, acked, held, holds, options, send};

/// Which entries are refused: one in a thousand, as ids are random.
fn is_bad(span_id: &str) -> bool {
    let end = span_id.get(span_id.len().saturating_sub(8)..).and_then(|end| u32::from_str_radix(end, 16).ok());
    end.is_some_and(|end| end % 1000 == 7)
}

fn is_bad_id(id: &str) -> bool {
    id.split_once('@').is_some_and(|(ids, _)| is_bad(ids))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_entry_in_a_thousand_is_a_dead_letter_and_no_other() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let refuses = Some((|entry: &StoredEntry| is_bad(entry.metadata("span_id"))) as loki::Refuses);
    let loki = Loki::start(loki::Options { refuses, ..loki::Options::default() }).await?;
    let afflux = Afflux::start(dir.path(), &options(dir.path(), &loki)).await?;
    let load = Load::new(rand::random());
    let mut bad = BTreeSet::new();
    while bad.len() < 2 || acked(&load).len() < 2000 {
        send(&load, &afflux, 10).await;
        bad = acked(&load).into_iter().filter(|id| is_bad_id(id)).collect();
    }
    let good = acked(&load).into_iter().filter(|id| !bad.contains(id)).collect();
    holds(&loki, &load, &good).await?;
    afflux.settles("sinks.loki", "logs", acked(&load).len()).await?;
    let found = loki.found();
    assert_eq!((found.entries.len(), found.doubled()), (good.len(), 0));
    assert!(found.deduplicated > 0, "what was sent again with the halves was known");

    let mut refused = BTreeSet::new();
    for letter in afflux.dead_letters()? {
        assert_eq!((&letter["reason"], &letter["component"]), (&"refused".into(), &"sinks.loki".into()), "{letter}");
        let ids = held(&afflux, &letter)?;
        assert_eq!(ids.len(), 1, "{letter} holds one log record");
        assert!(ids.iter().all(|id| refused.insert(id.clone())), "{letter} came before");
    }
    assert_eq!(refused, bad);
    afflux.stop().await
}

/// Everything is refused until the cause is gone: nothing is lost, it shows, and it goes on by itself.
async fn stops_and_goes_on(cause: Access, words: &str) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let loki = Loki::start(loki::Options::default()).await?;
    loki.admit(cause);
    let token = dir.path().join("token");
    std::fs::write(&token, "wrong-token-never-shown")?;
    let options =
        options(dir.path(), &loki).env("AFFLUX__SINKS__LOKI__AUTH__BEARER__TOKEN_FILE", token.display().to_string());
    let afflux = Afflux::start(dir.path(), &options).await?;
    let load = Load::new(rand::random());
    send(&load, &afflux, 5).await;
    let reason = afflux.fails("sinks.loki", words).await?;
    let (_, status) = afflux.ask("status").await?;
    assert!(status.contains(words), "{status}");
    let series = r#"afflux_blocked{component="sinks.loki",reason="unauthorized"}"#;
    assert_eq!(afflux.metric(series).await?, Some(1.0));
    afflux.falls_behind("sinks.loki").await?;
    assert_eq!((loki.stored(), afflux.dead_letters()?.len()), (0, 0));

    std::fs::write(&token, "right-token-never-shown\n")?;
    loki.admit(Access::Authorization("Bearer right-token-never-shown".into()));
    holds(&loki, &load, &acked(&load)).await?;
    let started = Instant::now();
    while afflux.problem().await?.is_some() {
        ensure!(started.elapsed() < PATIENCE, "it is still not ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(afflux.metric(series).await?, Some(0.0));
    assert_eq!((afflux.dead_letters()?.len(), loki.found().doubled()), (0, 0), "given up, or doubled");
    for text in [reason, status, afflux.log(), afflux.ask("metrics").await?.1, afflux.ask("status").await?.1] {
        assert!(!text.contains("never-shown"), "a token is shown");
    }
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_stops_the_sink_until_its_file_is_mended() -> anyhow::Result<()> {
    let cause = Access::Authorization("Bearer right-token-never-shown".into());
    stops_and_goes_on(cause, "answered 401: who are you?; check `auth` and `tenant`").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_may_not_stops_the_sink_until_it_may() -> anyhow::Result<()> {
    stops_and_goes_on(Access::Nobody, "answered 403: not for you; check `auth` and `tenant`").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_tenant_the_sink_stops_and_says_so_until_one_is_configured() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let loki = Loki::start(loki::Options { auth: true, ..loki::Options::default() }).await?;
    let load = Load::new(rand::random());
    let afflux = Afflux::start(dir.path(), &options(dir.path(), &loki)).await?;
    send(&load, &afflux, 3).await;
    let words = "answered 401: no org id; check `auth` and `tenant`";
    afflux.fails("sinks.loki", words).await?;
    assert!(afflux.ask("status").await?.1.contains(words));
    let series = r#"afflux_blocked{component="sinks.loki",reason="unauthorized"}"#;
    assert_eq!(afflux.metric(series).await?, Some(1.0));
    assert_eq!((loki.stored(), afflux.dead_letters()?.len()), (0, 0));
    afflux.kill()?;

    let options = options(dir.path(), &loki).env("AFFLUX__SINKS__LOKI__TENANT", "team-a");
    let afflux = Afflux::start(dir.path(), &options).await?;
    holds(&loki, &load, &acked(&load)).await?;
    assert_eq!(loki.tenants(), ["team-a"]);
    assert_eq!((afflux.problem().await?, afflux.dead_letters()?.len()), (None, 0));
    afflux.stop().await
}
