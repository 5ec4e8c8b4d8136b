//! Random answers, kills and restarts: nothing is missing in the end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::harness::{Fake, Sink, World};
use super::{later, refused};
use crate::delivery::{Answer, Kind};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_failures_lost_answers_and_kills_every_item_is_stored_or_a_dead_letter() {
    for seed in 0..6 {
        let mut random = SmallRng::seed_from_u64(seed);
        let world = World::new().await;
        let bad: BTreeSet<u64> = (0..6).map(|_| random.random_range(0..3000)).collect();
        let seen = Arc::default();
        for batch in 0..30 {
            world.publish(batch % 2, u64::from(batch) * 100..u64::from(batch + 1) * 100).await;
            if batch % 6 == 5 {
                let sink = Sink::start(&world, backend(&bad, random.random()).sharing(&seen));
                tokio::time::sleep(Duration::from_millis(random.random_range(5..120))).await;
                sink.kill().await;
            }
        }
        let sink = Sink::start(&world, backend(&bad, random.random()).sharing(&seen));
        let all: BTreeSet<u64> = (0..3000).collect();
        while world.lag().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let stored: BTreeSet<u64> = sink.stored().into_iter().collect();
        sink.stop().await;
        let dead: BTreeSet<u64> = world.dead_letters().await.into_iter().flatten().collect();
        assert_eq!(dead, bad, "seed {seed}: only what is bad is a dead letter");
        let missing: Vec<_> = all.difference(&bad).filter(|item| !stored.contains(item)).collect();
        assert_eq!(missing, [] as [&u64; 0], "seed {seed}");
        assert!(stored.is_disjoint(&bad), "seed {seed}");
    }
}

/// Fails at random, and refuses requests that hold bad items.
fn backend(bad: &BTreeSet<u64>, seed: u64) -> Fake {
    let (bad, random) = (bad.clone(), Mutex::new(SmallRng::seed_from_u64(seed)));
    Fake::new(Kind::Logs).answering(move |items, _| match random.lock().unwrap().random_range(0..10) {
        0 | 1 => later(None),
        2 => later(Some(Duration::from_millis(3))),
        3 => Answer::Blocked { reason: "unauthorized", error: "answered 401".into() },
        _ if items.iter().any(|item| bad.contains(item)) => refused(),
        _ => Answer::Stored,
    })
}
