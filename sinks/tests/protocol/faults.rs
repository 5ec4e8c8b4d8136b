//! Failures, lost answers and kills at every single step, and at random ones.

use std::time::Duration;

use crate::store::{Fault, Op};
use crate::world::{World, spans};

/// Two partitions with holes in their offsets: about three ranges each.
fn world() -> World {
    let mut world = World::new(2);
    world.append(&spans(0), (0..14).filter(|offset| offset % 5 != 3));
    world.append(&spans(1), [0, 1, 5, 6, 7, 8, 30, 31]);
    world
}

/// The operations of an undisturbed run.
async fn steps() -> Vec<Op> {
    let world = world();
    world.settle().await;
    world.store.ops()
}

#[tokio::test(start_paused = true)]
async fn an_undisturbed_run_stores_every_row_once() {
    let steps = steps().await;
    let count = |name: &str| steps.iter().filter(|(op, _)| *op == name).count();
    assert!(count("create") >= 4, "several ranges: {steps:?}");
    assert!(count("complete") > count("create"), "several files to a range: {steps:?}");
    assert_eq!(count("upload"), count("complete"));
}

#[tokio::test(start_paused = true)]
async fn a_failure_or_a_lost_answer_at_any_step_changes_nothing() {
    let undisturbed = {
        let world = world();
        world.settle().await;
        world.contents().await
    };
    for fault in [Fault::Fail, Fault::Lose] {
        for step in 0..steps().await.len() {
            let world = world();
            world.store.plan(move |index, _| if index == step { fault } else { Fault::None });
            let sink = world.start();
            world.drained().await;
            sink.stop().await;
            world.check().await;
            let contents = world.contents().await;
            assert_eq!(contents.keys().collect::<Vec<_>>(), undisturbed.keys().collect::<Vec<_>>(), "{fault:?} at {step}");
            assert_eq!(contents, undisturbed, "{fault:?} at {step}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_before_or_after_any_step_loses_and_doubles_nothing() {
    for fault in [Fault::HangBefore, Fault::HangAfter] {
        for step in 0..steps().await.len() {
            let world = world();
            world.store.plan(move |index, _| if index == step { fault } else { Fault::None });
            let sink = world.start();
            tokio::select! {
                () = world.store.hung.notified() => {}
                () = world.drained() => {}
            }
            sink.kill().await;
            // The next one would cut ranges differently, were it free to.
            let mut config = world.config.clone();
            config.flush.bytes.0 = 1700;
            config.default_cluster = "elsewhere".into();
            world.store.plan(|_, _| Fault::None);
            let next = world.start_with(config);
            world.drained().await;
            next.stop().await;
            world.check().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failing_commits_are_tried_again_whether_they_happened_or_not() {
    let world = world();
    world.bus.fail_commits(7);
    world.settle().await;
    assert!(world.bus.commits() > 7);
}

#[tokio::test(start_paused = true)]
async fn random_faults_kills_and_robberies_lose_and_double_nothing() {
    for seed in 0..150 {
        random_run(seed).await;
    }
}

async fn random_run(seed: u64) {
    let mut random = Random(seed);
    let mut world = World::new(3);
    let mut ends = [0; 3];
    for partition in 0..3 {
        let offsets: Vec<u64> = (0..20).filter(|_| random.below(3) != 0).collect();
        ends[partition as usize] = 20;
        world.append(&spans(partition), offsets);
    }
    let mut faults = Random(seed ^ 0xfa17);
    world.store.plan(move |_, _| match faults.below(40) {
        0 => Fault::Fail,
        1 => Fault::Lose,
        2 => Fault::HangBefore,
        3 => Fault::HangAfter,
        _ => Fault::None,
    });
    let mut sinks = Vec::new();
    for _ in 0..12 {
        match random.below(6) {
            0 | 1 => {
                let mut config = world.config.clone();
                config.flush.bytes.0 = 200 + random.below(2000) as u64;
                sinks.push(world.start_with(config));
            }
            2 if !sinks.is_empty() => sinks.remove(random.below(sinks.len())).kill().await,
            3 => world.bus.rob(&spans(random.below(3) as u32)),
            4 => world.bus.fail_commits(random.below(3) as u32),
            _ => {
                let partition = random.below(3);
                let from = ends[partition];
                ends[partition] = from + 6;
                world.append(&spans(partition as u32), (from..from + 6).filter(|offset| offset % 4 != 2));
            }
        }
        tokio::time::sleep(Duration::from_millis(random.below(20_000) as u64)).await;
    }
    for sink in sinks {
        sink.kill().await;
    }
    world.settle().await;
}

/// A seeded source of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}
