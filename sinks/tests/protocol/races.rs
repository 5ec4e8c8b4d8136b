//! Several writers of one partition: rebalances, zombies, stale positions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use object_store::ObjectStoreExt;
use serde_json::json;

use crate::store::Fault;
use crate::world::{World, request, spans};

fn is_intent(op: &(&'static str, String)) -> bool {
    op.0 == "create" && op.1.contains("/intents/")
}

#[tokio::test(start_paused = true)]
async fn a_range_is_written_out_before_its_partition_goes_to_another_member() {
    let mut world = World::new(2);
    world.append(&spans(0), 0..2);
    world.append(&spans(1), 0..2);
    let first = world.start();
    world.until("records wait for their age", || world.bus.outstanding_bytes() > 0).await;

    let second = world.start();
    world.until("both own a partition", || world.bus.owner(&spans(0)) != world.bus.owner(&spans(1))).await;

    let handed_over = [spans(0), spans(1)].iter().filter(|p| world.bus.committed(p) == Some(2)).count();
    assert_eq!(handed_over, 1, "the one that moved is stored, the other one still waits");
    world.drained().await;
    first.stop().await;
    second.stop().await;
    world.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_zombie_that_claimed_first_dictates_the_range() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..4);
    let zombie = world.start();
    world.until("the zombie holds records", || world.bus.outstanding_bytes() > 0).await;
    // It gets its intent through and then stands still.
    world.store.plan(|_, op| if op.0 == "complete" { Fault::HangBefore } else { Fault::None });
    world.store.hung.notified().await;
    world.store.plan(|_, _| Fault::None);
    world.append(&spans(0), 4..9);
    let heir = world.start();
    world.bus.rob(&spans(0));
    world.drained().await;
    zombie.kill().await;
    heir.stop().await;
    world.check().await;
    let firsts: Vec<_> = world.paths().await.into_iter().filter(|path| path.contains("/intents/")).collect();
    assert!(firsts[1].ends_with("/00000000000000000004.json"), "the zombie's range ended at 3: {firsts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_finds_its_range_taken_gives_its_uploads_up_and_writes_the_other_range() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..4);
    // Just before it claims 0 to 3, another writer claims 0 to 1 and dies.
    let fingerprint = json!({
        "offset": 0,
        "timestamp_ms": 1_700_000_000_000_i64,
        "crc32c": crc32c::crc32c(&request(&["afflux.spans/0/0/0".into()], 0)),
    });
    let theirs = json!({
        "layout": 2, "writer": 1, "first": 0, "last": 1, "default_cluster": "home", "fingerprint": fingerprint,
    });
    let lake = Arc::clone(&world.store.lake);
    let mut first = true;
    world.store.plan(move |_, op| {
        if is_intent(op) && std::mem::take(&mut first) {
            let path = op.1.as_str().into();
            let put = lake.inner().put(&path, theirs.to_string().into());
            put.now_or_never().expect("memory does not wait").unwrap();
        }
        Fault::None
    });
    let sink = world.start();
    world.drained().await;
    sink.stop().await;
    world.check().await;
    let intents: Vec<_> = world.paths().await.into_iter().filter(|path| path.contains("/intents/")).collect();
    assert_eq!(intents.len(), 2);
    assert!(intents[1].ends_with("/00000000000000000002.json"), "{intents:?}");
}

#[tokio::test(start_paused = true)]
async fn a_position_older_than_ten_minutes_is_read_again_before_a_range_is_claimed() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..3);
    let sink = world.start();
    world.until("records are held", || world.bus.outstanding_bytes() > 0).await;
    // The machine sleeps; meanwhile another one stored these records and its intents are long gone.
    world.wall_ahead_ms.fetch_add(11 * 60 * 1000, Ordering::Relaxed);
    world.bus.set_committed(&spans(0), Some(3));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!world.store.ops().iter().any(is_intent), "no range is claimed from a stale position");
    // Restored, the records are read again from there.
    world.bus.set_committed(&spans(0), Some(0));
    sink.stop().await;
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_young_position_is_not_read_again() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..3);
    let sink = world.start();
    world.until("records are held", || world.bus.outstanding_bytes() > 0).await;
    world.wall_ahead_ms.fetch_add(9 * 60 * 1000, Ordering::Relaxed);
    world.bus.set_committed(&spans(0), Some(3));
    world.until("the range is claimed", || world.store.ops().iter().any(is_intent)).await;
    sink.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_the_store_has_lost_is_written_again() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..3);
    let sink = world.start();
    let mut first = true;
    world.store.plan(move |_, op| {
        let lost = op.0 == "complete" && std::mem::take(&mut first);
        if lost { Fault::Gone } else { Fault::None }
    });
    world.drained().await;
    sink.stop().await;
    world.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_position_is_read_again_before_every_attempt_to_claim() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..4);
    world.store.plan(|_, op| if is_intent(op) { Fault::Fail } else { Fault::None });
    let sink = world.start();
    world.until("it claims", || world.store.ops().iter().any(is_intent)).await;
    // While the store refuses, another writer stores the range, and after a week its intent is swept.
    world.bus.set_committed(&spans(0), Some(4));
    world.wall_ahead_ms.fetch_add(8 * 24 * 3_600_000, Ordering::Relaxed);
    world.store.plan(|_, _| Fault::None);
    tokio::time::sleep(Duration::from_secs(120)).await;
    sink.stop().await;
    assert_eq!(world.paths().await, Vec::<String>::new(), "a stale range was written");
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_vanishes_while_it_is_looked_at_is_not_put_again() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..4);
    let path = "lake/_afflux/intents/afflux.spans/00000/00000000000000000000.json";
    let lake = Arc::clone(&world.store.lake);
    let mut turn = 0;
    world.store.plan(move |_, op| {
        if op.1 != path {
            return Fault::None;
        }
        turn += 1;
        match (turn, op.0) {
            // It is there when ours is put, and gone when it is read.
            (2, "create") => drop(lake.inner().put(&path.into(), "{}".into()).now_or_never().unwrap()),
            (3, "read") => drop(lake.inner().delete(&path.into()).now_or_never().unwrap()),
            _ => {}
        }
        Fault::None
    });
    let sink = world.start();
    world.drained().await;
    let ops = world.store.ops();
    sink.stop().await;
    world.check().await;
    let beginnings = ops.iter().filter(|op| op.0 == "list" && op.1.contains("/floors/")).count();
    assert_eq!(beginnings, 2, "the writer begins anew: {ops:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_commit_whose_partition_stays_does_not_leave_it_without_a_writer() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..4);
    world.bus.fence_commits(1);
    let sink = world.start();
    world.drained().await;
    sink.stop().await;
    world.check().await;
}
