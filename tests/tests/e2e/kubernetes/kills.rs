//! `kill -9` at any moment of a stream of updates: none missing, none twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use afflux_tests::afflux::Afflux;
use afflux_tests::kafka::KafkaServer;
use afflux_tests::kubernetes::{EVENTS, event, oracle};
use afflux_tests::topic;
use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{World, publishes};

const KILLS: usize = 30;
const UPDATES: usize = 10_000;
/// Events among which the updates are.
const EVENTS_IN_ALL: usize = 500;

/// Kills a process again and again in the middle of updates; then lets it catch up.
async fn kills(world: &World, seed: u64) -> anyhow::Result<Afflux> {
    // What is overtaken before the first list was never promised.
    world.happen(super::LAST - 1..super::LAST, 1);
    let first = world.start().await?;
    publishes(&first, 1).await?;
    first.kill()?;
    // How many updates there may be so far: each round has its share.
    let quota = AtomicUsize::new(0);
    let (updates, killed) = tokio::join!(update(world, &quota, seed), async {
        let mut random = StdRng::seed_from_u64(seed);
        for kill in 0..KILLS {
            // Some are killed while they start; the moment of the others counts from what they have published first.
            let starting = kill % 4 == 3;
            let afflux =
                if starting { Afflux::spawn(world.dir.path(), &world.options)? } else { world.start().await? };
            quota.store(UPDATES * (kill + 1) / KILLS, Ordering::Relaxed);
            if !starting {
                publishes(&afflux, 1).await?;
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(0..600))).await;
            afflux.kill()?;
        }
        anyhow::Ok(())
    });
    killed?;
    ensure!(updates == UPDATES, "{updates} updates");
    world.start().await
}

/// Writes updates of random events as long as the quota allows, and then all that are left; how many.
async fn update(world: &World, quota: &AtomicUsize, seed: u64) -> usize {
    let mut random = StdRng::seed_from_u64(!seed);
    let mut counts = [0_i64; EVENTS_IN_ALL];
    for updates in 0..UPDATES {
        while updates >= quota.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let n = random.random_range(0..EVENTS_IN_ALL);
        counts[n] += 1;
        world.server.put(EVENTS, event::event(n, counts[n]));
        if random.random_ratio(1, 2) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if random.random_ratio(1, 100) {
            world.server.bookmark();
        }
    }
    UPDATES
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_kills_in_ten_thousand_updates_on_the_local_bus() -> anyhow::Result<()> {
    let seed = afflux_tests::faults::seed();
    let world = World::new("").await?;
    let afflux = kills(&world, seed).await?;
    let (events, gaps) = world.settle(afflux).await?;
    assert_eq!(oracle::check(&world.server, &events, &gaps)?, 0);
    assert_eq!(gaps, [], "seed {seed}");
    check_increments(&events);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_kills_in_ten_thousand_updates_on_kafka() -> anyhow::Result<()> {
    let Some(kafka) = KafkaServer::shared() else { return Ok(()) };
    let seed = afflux_tests::faults::seed();
    let prefix = format!("k8s-kills-{seed}");
    let mut world = World::new("").await?;
    world.options = world.options.clone().on_kafka(&kafka.brokers(), &prefix);
    let afflux = kills(&world, seed).await?;
    let last = world.server.put(EVENTS, event::event(super::LAST, 1));
    let topic = format!("{prefix}.ingest.events");
    let records = topic::read(&kafka.brokers(), &[&topic], |records| {
        oracle::published(records).is_ok_and(|(events, _)| events.iter().any(|event| event.version == last))
    })
    .await
    .with_context(|| afflux.log())?;
    afflux.stop().await?;
    let (events, gaps) = oracle::published(&records)?;
    assert_eq!(oracle::check(&world.server, &events, &gaps)?, 0);
    assert_eq!(gaps, [], "seed {seed}");
    check_increments(&events);
    Ok(())
}

/// Each update counts one.
fn check_increments(events: &[oracle::Published]) {
    let wrong: Vec<_> = events.iter().filter(|event| event.increment != Some(1)).collect();
    assert!(wrong.is_empty(), "{} increments are not 1, such as {:?}", wrong.len(), wrong[0]);
}
