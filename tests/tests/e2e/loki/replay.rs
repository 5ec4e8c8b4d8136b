//! What is on the bus, once more.

use afflux_tests::afflux::Afflux;
use afflux_tests::load::Load;
use afflux_tests::loki::{self, Loki, StoredStream};

use super::{acked, holds, now, options, send, send_lines};

const HOUR: u64 = 3_600_000_000_000;

fn again(afflux: &Afflux) -> anyhow::Result<String> {
    afflux.operate(&["replay", "--sink", "loki", "--from", "1h"])
}

/// All streams, with entries in an order that does not depend on when they came.
fn sorted(loki: &Loki) -> Vec<StoredStream> {
    let mut streams = loki.streams("fake");
    streams.iter_mut().for_each(|stream| stream.entries.sort());
    streams
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_loki_has_lost_is_there_again_after_a_replay() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let loki = Loki::start(loki::Options::default()).await?;
    let afflux = Afflux::start(dir.path(), &options(dir.path(), &loki)).await?;
    let load = Load::new(rand::random());
    send(&load, &afflux, 10).await;
    holds(&loki, &load, &acked(&load)).await?;
    let before = sorted(&loki);

    loki.forget();
    let items = acked(&load).len();
    let said = again(&afflux)?;
    assert!(said.ends_with(&format!(" with {items} items delivered again, 0 dead letters\n")), "{said}");
    holds(&loki, &load, &acked(&load)).await?;
    assert!(sorted(&loki) == before, "it is not what it was");
    // Open blocks hold all of it.
    again(&afflux)?;
    assert!(loki.deduplicated() >= items as u64 && sorted(&loki) == before, "what is there is ignored");
    assert_eq!(afflux.dead_letters()?.len(), 0);
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_behind_goes_to_streams_of_its_own_and_so_does_a_dead_letter_that_was_too_old() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let loki = Loki::start(loki::Options::default()).await?;
    let afflux = Afflux::start(dir.path(), &options(dir.path(), &loki)).await?;
    let (new, behind, old) = (now(), now() - 2 * HOUR, now() - 8 * 24 * HOUR);
    send_lines(&afflux, &[(new, "new")]).await?;
    afflux.settles("sinks.loki", "logs", 1).await?;
    send_lines(&afflux, &[(behind, "behind"), (old, "old")]).await?;
    afflux.settles("sinks.loki", "logs", 3).await?;
    let letters = afflux.dead_letters()?;
    let reasons: Vec<_> = letters.iter().filter_map(|letter| letter["reason"].as_str()).collect();
    assert_eq!(reasons, ["greater_than_max_sample_age"]);
    let held = || -> Vec<_> {
        let lines = |stream: StoredStream| {
            let StoredStream { shard, entries, .. } = stream;
            entries.into_iter().map(move |entry| (shard.clone(), entry.line))
        };
        loki.streams("fake").into_iter().flat_map(lines).collect()
    };
    let shard = |time| format!("afflux-{}", time / (HOUR / 2) * 1800);
    let entry = |shard: &str, line: &str| (shard.to_owned(), line.to_owned());
    assert_eq!(held(), [entry("", "new"), entry(&shard(behind), "behind")]);

    afflux.operate(&["dead-letters", "replay", "--reason", "greater_than_max_sample_age", "--yes"])?;
    afflux.settles("sinks.loki", "logs", 4).await?;
    assert_eq!(held(), [entry("", "new"), entry(&shard(old), "old"), entry(&shard(behind), "behind")]);
    assert_eq!(afflux.dead_letters()?.len(), 0);

    let said = again(&afflux)?;
    assert!(said.ends_with(" with 4 items delivered again, 0 dead letters\n"), "{said}");
    assert_eq!(held().len(), 3, "all of it came again");
    afflux.stop().await
}
