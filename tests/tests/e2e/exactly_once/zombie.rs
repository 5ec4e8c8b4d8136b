//! A member that was silent for too long writes nothing when it comes back.

use std::time::{Duration, Instant};

use afflux_tests::numbered::{Numbered, read_committed};
use afflux_tests::proxy::{Api, Proxy};
use anyhow::{Context as _, ensure};

use super::stage::{Site, Stage};

/// The broker's error codes for a member that the group has lost, and for a producer whose transaction it has ended.
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_PRODUCER_EPOCH: i16 = 47;
/// How long the held request may take to come.
const REQUEST: Duration = Duration::from_secs(30);

/// The request waits in the network while its sender is frozen and another member takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombies_transaction_is_refused_and_it_is_told_why() -> anyhow::Result<()> {
    let Some(site) = Site::open().await? else { return Ok(()) };
    for (api, refusal) in [(Api::TxnOffsetCommit, UNKNOWN_MEMBER_ID), (Api::EndTxn, INVALID_PRODUCER_EPOCH)] {
        let mut stage = Stage::start(&site, &format!("zombie-{}", api as i16), 1).await?;
        let (producer, source) = (stage.producer().await?, Numbered::default());
        let proxy = &site.proxies[0];
        proxy.hold(api);
        let before = proxy.held();
        source.send_records(&*producer, &stage.ingest(), 60).await;
        let held = async {
            while proxy.held() == before {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(REQUEST, held).await?;
        stage.members[0].process.signal("STOP")?;
        let frozen = stage.members.remove(0);

        stage.spawn(1)?;
        // Before the broker ends the transaction by itself.
        stage.spans_caught_up().await?;
        proxy.release();
        let code = error_code(proxy, api).await?;
        frozen.process.signal("CONT")?;
        // Whatever it notices first, the answer or the time that has passed.
        let told = frozen.process.says("transaction started over", REQUEST).await?;
        eprintln!("{api:?} of a zombie is answered {code}; {told}");
        assert_eq!(code, refusal, "{told}");

        source.send_records(&*producer, &stage.ingest(), 60).await;
        stage.members.push(frozen);
        stage.caught_up().await?;
        stage.stop().await?;
        let (brokers, topic) = (site.kafka.brokers(), stage.output());
        let found = tokio::task::spawn_blocking(move || read_committed(&brokers, &topic)).await??;
        let verdict = source.judge(&found);
        assert_eq!(verdict.acked, 1200);
        assert!(verdict.is_exact(), "{verdict:?}");
    }
    Ok(())
}

/// The first error code in the broker's answer to the held request.
async fn error_code(proxy: &Proxy, api: Api) -> anyhow::Result<i16> {
    let started = Instant::now();
    loop {
        if let Some(answer) = proxy.answer() {
            let at = match api {
                // A tag count, the throttle time and one topic with its name, of which the first partition's number.
                Api::TxnOffsetCommit => 7 + usize::from(*answer.get(6).context("a short answer")?) - 1 + 1 + 4,
                // The throttle time.
                _ => 4,
            };
            return Ok(i16::from_be_bytes(answer.get(at..at + 2).context("a short answer")?.try_into()?));
        }
        ensure!(started.elapsed() < REQUEST, "no answer");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
