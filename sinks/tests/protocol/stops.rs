//! What the sink refuses to write, and how it says so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use afflux_runtime::admin::State;
use object_store::ObjectStoreExt;

use crate::store::Fault;
use crate::world::{World, spans};

const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;

#[tokio::test(start_paused = true)]
async fn a_recreated_topic_stops_its_partition_and_names_the_setting_while_others_go_on() {
    let mut world = World::new(2);
    world.append(&spans(0), 0..3);
    world.append(&spans(1), 0..3);
    world.settle().await;
    let before = world.contents().await;
    world.bus.recreate(&spans(0));
    world.bus.set_committed(&spans(0), None);
    world.bus.append(
        &spans(0),
        0,
        1_800_000_000_000,
        Some(crate::world::request(&["new".into()], 0)),
        Default::default(),
    );
    world.append(&spans(1), 3..6);

    let sink = world.start();
    world.until("the other partition is stored", || world.bus.committed(&spans(1)) == Some(6)).await;
    world.until("the stop is shown", || sink.problem().is_some()).await;

    let problem = sink.problem().unwrap();
    assert!(problem.contains("afflux.spans/0") && problem.contains("sinks.parquet.epoch"), "{problem}");
    assert_eq!(world.bus.committed(&spans(0)), None);
    sink.stop().await;
    let after = world.contents().await;
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)), "nothing was overwritten");

    // With a new epoch it is stored, beside the old rows.
    let mut config = world.config.clone();
    config.epoch = 1;
    let sink = world.start_with(config);
    world.drained().await;
    sink.stop().await;
    assert_eq!(world.rows().await.get("new"), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn a_range_whose_beginning_the_bus_has_forgotten_is_not_overwritten() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..4);
    let sink = world.start();
    world.store.plan(|_, op| if op.0 == "complete" { Fault::HangBefore } else { Fault::None });
    world.store.hung.notified().await;
    sink.kill().await;
    world.bus.expire(&spans(0), 2);
    world.store.plan(|_, _| Fault::None);
    let sink = world.start();
    world.until("the stop is shown", || sink.problem().is_some()).await;
    let problem = sink.problem().unwrap();
    assert!(problem.contains("range 0 to 3") && problem.contains("commit offset 4"), "{problem}");
    assert_eq!(world.rows().await.len(), 0);
    sink.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lost_offsets_double_nothing() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..17);
    world.settle().await;
    world.bus.set_committed(&spans(0), None);
    world.append(&spans(0), 17..20);
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn lost_offsets_double_nothing_where_the_bus_has_forgotten_a_part_of_a_range() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..17);
    world.settle().await;
    world.bus.set_committed(&spans(0), None);
    world.bus.expire(&spans(0), 2);
    world.append(&spans(0), 17..20);
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_offset_that_is_set_back_to_anywhere_doubles_nothing() {
    let mut stopped = 0;
    for offset in 0..17 {
        let mut world = World::new(1);
        world.append(&spans(0), 0..17);
        world.settle().await;
        world.bus.set_committed(&spans(0), Some(offset));
        let sink = world.start();
        world.until("all is stored, or the stop is shown", || world.bus.is_drained() || sink.problem().is_some()).await;
        if let Some(problem) = sink.problem() {
            // Whether its last range is complete nobody knows.
            assert!(problem.contains("within the range") && problem.contains("commit offset"), "{problem}");
            stopped += 1;
        }
        sink.stop().await;
        world.check().await;
    }
    assert!(stopped < 5, "only within the last range: {stopped}");
}

#[tokio::test(start_paused = true)]
async fn what_was_skipped_between_two_ranges_is_stored_once_the_offset_is_set_back_to_it() {
    for back_to in [12, 15, 50] {
        let mut world = World::new(1);
        world.append(&spans(0), 10..15);
        world.settle().await;
        // Somebody is in a hurry: 15 to 99 are skipped.
        let before = world.rows().await.len();
        world.append(&spans(0), 15..100);
        world.bus.set_committed(&spans(0), Some(100));
        world.append(&spans(0), 100..103);
        let sink = world.start();
        world.drained().await;
        sink.stop().await;
        let skipped = world.rows().await.len();
        assert!(skipped > before);
        world.bus.set_committed(&spans(0), Some(back_to));
        let sink = world.start();
        world.drained().await;
        sink.stop().await;
        let rows = world.rows().await;
        assert!(rows.values().all(|count| *count == 1), "{rows:?}");
        for offset in back_to.max(15)..103 {
            assert!(rows.contains_key(&format!("afflux.spans/0/{offset}/0")), "{offset} is missing");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_that_is_written_anew_ends_where_the_next_one_begins() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..17);
    world.settle().await;
    // Somebody wants the first range written again, and by more records at once.
    let first = "00000000000000000000";
    for path in world.paths().await.into_iter().filter(|path| path.contains(first)) {
        world.store.lake.inner().delete(&path.into()).await.unwrap();
    }
    world.bus.set_committed(&spans(0), Some(0));
    world.config.flush.bytes = afflux_runtime::config::ByteSize::mib(1);
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn old_intents_go_once_a_floor_is_above_them_and_nobody_writes_below_it() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..17);
    world.settle().await;
    let intents = |paths: &[String]| paths.iter().filter(|path| path.contains("/intents/")).count();
    let kept = intents(&world.paths().await);
    assert!(kept >= 3);

    world.wall_ahead_ms.fetch_add(WEEK_MS + 3_600_000, Ordering::Relaxed);
    world.append(&spans(0), 17..20);
    world.settle().await;

    let paths = world.paths().await;
    assert!(intents(&paths) < kept, "{paths:#?}");
    let floors: Vec<_> = paths.iter().filter(|path| path.contains("/floors/")).collect();
    assert_eq!(floors.len(), 1, "{floors:?}");

    // The group's offsets are lost: whatever the intents said, nothing below the floor is written.
    let before = world.contents().await;
    world.bus.set_committed(&spans(0), None);
    world.append(&spans(0), 20..23);
    world.settle().await;
    let after = world.contents().await;
    assert!(before.keys().all(|path| after.contains_key(path)));
}

#[tokio::test(start_paused = true)]
async fn young_intents_stay() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..17);
    world.settle().await;
    let before = world.contents().await;
    world.wall_ahead_ms.fetch_add(WEEK_MS - 3_600_000, Ordering::Relaxed);
    world.append(&spans(0), 17..20);
    world.settle().await;
    let after = world.contents().await;
    assert!(before.keys().all(|path| after.contains_key(path)));
}

#[tokio::test(start_paused = true)]
async fn a_kill_at_any_step_of_the_sweep_doubles_nothing() {
    for fault in [Fault::HangBefore, Fault::HangAfter] {
        for step in 0..12 {
            let mut world = World::new(1);
            world.append(&spans(0), 0..12);
            world.settle().await;
            world.wall_ahead_ms.fetch_add(WEEK_MS + 3_600_000, Ordering::Relaxed);
            world.append(&spans(0), 12..14);
            let mut seen = 0;
            world.store.plan(move |_, op| {
                let of_sweep =
                    op.0 == "remove" || op.1.contains("/floors") || (op.0 == "list" && op.1.contains("/intents"));
                seen += usize::from(of_sweep);
                if of_sweep && seen == step + 1 { fault } else { Fault::None }
            });
            let sink = world.start();
            tokio::select! {
                () = world.store.hung.notified() => {}
                () = async {
                    world.drained().await;
                    tokio::time::sleep(Duration::from_secs(5)).await;
                } => {}
            }
            sink.kill().await;
            world.bus.set_committed(&spans(0), None);
            world.settle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_recreated_topic_below_the_floor_is_refused() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..17);
    world.settle().await;
    world.wall_ahead_ms.fetch_add(WEEK_MS + 3_600_000, Ordering::Relaxed);
    world.append(&spans(0), 17..20);
    world.settle().await;
    world.bus.recreate(&spans(0));
    world.bus.set_committed(&spans(0), None);
    let request = crate::world::request(&["new".into()], 0);
    world.bus.append(&spans(0), 0, i64::MAX / 2, Some(request), Default::default());
    let sink = world.start();
    world.until("the stop is shown", || sink.problem().is_some()).await;
    assert!(sink.problem().unwrap().contains("sinks.parquet.epoch"), "{:?}", sink.problem());
    sink.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_is_shown_and_tried_again() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..3);
    world.store.plan(|_, _| Fault::Deny);
    let sink = world.start();
    world.until("the refusal is shown", || sink.problem().is_some()).await;
    let problem = sink.problem().unwrap();
    assert!(problem.contains("403") && problem.contains("check sinks.parquet.url"), "{problem}");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let attempts = world.store.ops().len();
    assert!((60..200).contains(&attempts), "once a minute or so: {attempts}");
    world.store.plan(|_, _| Fault::None);
    world.drained().await;
    assert_eq!(sink.state(), State::Ready);
    sink.stop().await;
    world.check().await;
}

#[tokio::test(start_paused = true)]
async fn an_intent_of_a_newer_version_stops_the_partition() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..3);
    world.settle().await;
    let path = "lake/_afflux/intents/afflux.spans/00000/00000000000000000000.json";
    let newer = String::from_utf8(world.get(path).await.to_vec()).unwrap().replace("\"layout\":2", "\"layout\":3");
    world.store.lake.inner().put(&path.into(), newer.into()).await.unwrap();
    world.bus.set_committed(&spans(0), None);
    let sink = world.start();
    world.until("the stop is shown", || sink.problem().is_some()).await;
    assert!(sink.problem().unwrap().contains("upgrade afflux"), "{:?}", sink.problem());
    sink.stop().await;
}
