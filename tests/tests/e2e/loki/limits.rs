//! Limits: what is cut, what is given up, and what waits or goes in parts.

use std::time::Duration;

use afflux_tests::afflux::Afflux;
use afflux_tests::load::Load;
use afflux_tests::loki::{self, Limits, Loki, Rate};
use serde_json::Value;

use super::{acked, held, holds, lines, now, options, send, send_lines};

const DAY: u64 = 86_400_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_too_long_is_cut_says_so_and_is_counted() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let loki = Loki::start(loki::Options::default()).await?;
    let afflux = Afflux::start(dir.path(), &options(dir.path(), &loki)).await?;
    let long = "é".repeat(200_000);
    send_lines(&afflux, &[(now(), &long), (now(), "short")]).await?;
    afflux.settles("sinks.loki", "logs", 2).await?;
    let mark = " …[truncated from 400000 bytes]";
    let cut = format!("{}{mark}", "é".repeat(((256 << 10) - mark.len()) / 2));
    assert!(lines(&loki) == [cut, "short".into()], "{:?}", lines(&loki).iter().map(String::len).collect::<Vec<_>>());
    let series = r#"afflux_changed_items_total{component="sinks.loki",reason="line_truncated"}"#;
    assert_eq!(afflux.metric(series).await?, Some(1.0));
    assert_eq!(afflux.dead_letters()?, [] as [Value; 0]);
    assert!(loki.refused().is_empty(), "{:?}", loki.refused());
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_old_an_entry_is_a_dead_letter_by_lokis_word_whoever_finds_it() -> anyhow::Result<()> {
    // With 0s it is Loki that refuses it.
    for (max_age, refused_by_loki) in [("7d", false), ("0s", true)] {
        let dir = tempfile::tempdir()?;
        let loki = Loki::start(loki::Options::default()).await?;
        let options = options(dir.path(), &loki)
            .env("AFFLUX__SINKS__LOKI__LIMITS__MAX_AGE", max_age)
            .env("AFFLUX__SINKS__LOKI__BACKFILL__ENABLED", "false");
        let afflux = Afflux::start(dir.path(), &options).await?;
        let old = now() - 8 * DAY;
        send_lines(&afflux, &[(now(), "a"), (old, "old"), (now(), "b")]).await?;
        afflux.settles("sinks.loki", "logs", 3).await?;
        assert_eq!(lines(&loki), ["a", "b"]);
        let reason = "greater_than_max_sample_age";
        let letters = afflux.dead_letters()?;
        assert_eq!((letters.len(), &letters[0]["reason"]), (1, &reason.into()), "{letters:?}");
        assert_eq!(held(&afflux, &letters[0])?, [format!("@{old}")]);
        let series = format!(r#"afflux_dead_letters_total{{component="sinks.loki",reason="{reason}"}}"#);
        assert_eq!(afflux.metric(&series).await?, Some(1.0));
        assert_eq!(loki.refused().contains_key(reason), refused_by_loki, "with {max_age}");
        afflux.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_is_kept_to_at_growing_intervals_and_costs_nothing() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let rate = Some(Rate { per_second: 30_000.0, burst: 40_000.0 });
    let loki = Loki::start(loki::Options { rate, ..loki::Options::default() }).await?;
    let options = options(dir.path(), &loki)
        .env("AFFLUX__TOPICS__PARTITIONS", "1")
        .env("AFFLUX__SINKS__LOKI__LIMITS__MAX_REQUEST_SIZE", "16KiB")
        .env("AFFLUX__SINKS__LOKI__DELIVERY__CONCURRENCY", "1");
    let afflux = Afflux::start(dir.path(), &options).await?;
    let load = Load::new(rand::random());
    send(&load, &afflux, 12).await;
    holds(&loki, &load, &acked(&load)).await?;
    assert!(loki.refused().contains_key("rate_limited"), "no limit was met");
    let mut refusals = 0_u32;
    for pair in loki.arrivals().windows(2) {
        refusals = if pair[0].outcome == "rate_limited" { refusals + 1 } else { 0 };
        if refusals > 0 {
            // Half of what is configured is the least.
            let least = Duration::from_millis((10_u64 << (refusals - 1).min(5)).min(250));
            let waited = pair[1].at - pair[0].at;
            assert!(waited >= least, "came again after {waited:?} when refused {refusals} times");
        }
    }
    assert_eq!((afflux.dead_letters()?.len(), loki.found().doubled()), (0, 0), "given up, or doubled");
    assert_eq!(afflux.problem().await?, None, "whoever is told to wait is well");
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_sent_in_parts() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let limits = Limits { max_body_bytes: 4000, ..Limits::default() };
    let loki = Loki::start(loki::Options { limits, ..loki::Options::default() }).await?;
    let options = options(dir.path(), &loki).env("AFFLUX__SINKS__LOKI__DELIVERY__BATCH__AGE", "500ms");
    let afflux = Afflux::start(dir.path(), &options).await?;
    let load = Load::new(rand::random());
    send(&load, &afflux, 10).await;
    holds(&loki, &load, &acked(&load)).await?;
    assert!(loki.count("too_large") > 0, "nothing was too large");
    afflux.settles("sinks.loki", "logs", acked(&load).len()).await?;
    assert_eq!(afflux.dead_letters()?, [] as [Value; 0]);
    assert_eq!(loki.deduplicated(), 0, "parts are sent once");
    afflux.stop().await
}
