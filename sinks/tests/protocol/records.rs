//! What ends a range, and what becomes of records that are no rows.

use std::time::Duration;

use afflux_bus::{Headers, PartitionId};
use afflux_runtime::admin::State;
use afflux_runtime::config::{ByteSize, Period};
use bytes::Bytes;

use crate::store::Fault;
use crate::world::{World, request, spans};

fn intents(paths: &[String]) -> usize {
    paths.iter().filter(|path| path.contains("/intents/")).count()
}

#[tokio::test(start_paused = true)]
async fn a_range_ends_by_bytes() {
    let mut world = World::new(1);
    world.config.flush.age = Period(Duration::from_secs(3600));
    world.append(&spans(0), 0..40);
    let sink = world.start();
    let began = tokio::time::Instant::now();
    world.until("some ranges are committed", || world.bus.committed(&spans(0)) > Some(20)).await;
    assert!(began.elapsed() < Duration::from_secs(60));
    sink.stop().await;
    world.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_range_ends_when_its_oldest_record_has_waited_long_enough() {
    let mut world = World::new(1);
    world.config.flush.bytes = ByteSize::mib(1);
    world.append(&spans(0), 0..2);
    let began = tokio::time::Instant::now();
    let sink = world.start();
    tokio::time::sleep(Duration::from_secs(6)).await;
    world.append(&spans(0), 2..4);
    world.drained().await;
    let took = began.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&took), "{took:?}");
    assert_eq!(intents(&world.paths().await), 1, "the younger records went along");
    sink.stop().await;
    world.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_writes_out_what_waits() {
    let mut world = World::new(3);
    world.config.flush.age = Period(Duration::from_secs(3600));
    for partition in 0..3 {
        world.append(&spans(partition), 0..2);
    }
    let sink = world.start();
    world.until("all is read", || world.bus.outstanding_bytes() > 300).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    sink.stop().await;
    assert!(world.bus.is_drained());
    world.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_reads_on_for_what_the_processors_commit_as_they_drain() {
    let mut world = World::new(1);
    world.config.flush.age = Period(Duration::from_secs(3600));
    world.append(&spans(0), 0..2);
    let sink = world.start();
    world.until("all is read", || world.bus.outstanding_bytes() > 0).await;
    tokio::join!(sink.stop(), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.append(&spans(0), 2..4);
    });
    assert!(world.bus.is_drained());
    world.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_store_hangs_ends_in_time_and_leaves_the_records_on_the_bus() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..2);
    let sink = world.start();
    world.until("all is read", || world.bus.outstanding_bytes() > 0).await;
    world.store.plan(|_, _| Fault::HangBefore);
    let began = tokio::time::Instant::now();
    sink.stop().await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(world.bus.committed(&spans(0)), None);
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_malformed_record_becomes_a_dead_letter_and_holds_up_nothing() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..2);
    world.append_malformed(&spans(0), 2);
    world.bus.append(&spans(0), 3, 7, None, Headers::new());
    world.append(&spans(0), 4..6);
    world.bus.fail_publications(2);
    let sink = world.start();
    world.drained().await;
    let metrics = sink.metrics.encode();
    sink.stop().await;
    world.check().await;
    let letters = world.bus.published();
    assert_eq!(letters.len(), 2);
    let header = |name: &str| std::str::from_utf8(letters[0].headers.get(name).unwrap()).unwrap().to_owned();
    assert_eq!(letters[0].value.as_deref(), Some(&b"not protobuf"[..]));
    assert_eq!(&*letters[0].to.topic, "afflux.dead-letters");
    assert_eq!(header("afflux-dead-letter-topic"), "afflux.spans");
    assert_eq!(header("afflux-dead-letter-partition"), "0");
    assert_eq!(header("afflux-dead-letter-offset"), "2");
    assert_eq!(header("afflux-dead-letter-component"), "sinks.parquet");
    assert_eq!(header("afflux-dead-letter-reason"), "malformed");
    assert!(header("afflux-dead-letter-error").contains("malformed"), "{}", header("afflux-dead-letter-error"));
    assert!(metrics.contains(r#"dead_letters_total{component="sinks.parquet",reason="malformed"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"dead_letters_total{component="sinks.parquet",reason="empty"} 1"#), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_range_of_malformed_records_alone_is_committed_under_an_intent_of_its_own() {
    let world = World::new(1);
    world.append_malformed(&spans(0), 0);
    world.append_malformed(&spans(0), 1);
    world.settle().await;
    assert_eq!(world.paths().await, ["lake/_afflux/intents/afflux.spans/00000/00000000000000000000.json"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_is_counted() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..3);
    let sink = world.start();
    world.drained().await;
    sink.until_settled(6).await;
    let metrics = sink.metrics.encode();
    assert!(metrics.contains(r#"settled_items_total{component="sinks.parquet",signal="spans"} 6"#), "{metrics}");
    assert!(metrics.contains(r#"in_flight_bytes{component="sinks.parquet",signal="spans"} 0"#), "{metrics}");
    sink.stop().await;
}

#[tokio::test(start_paused = true)]
async fn logs_go_to_their_own_table() {
    let world = World::new(1);
    let logs = PartitionId::new("afflux.logs", 0);
    // An empty request is valid, and the same for both signals.
    world.bus.append(&logs, 0, 1, Some(bytes::Bytes::new()), Headers::new());
    world.settle().await;
    assert_eq!(world.bus.committed(&logs), Some(1));
    assert!(world.bus.published().is_empty());
}

#[tokio::test(start_paused = true)]
async fn memory_stays_within_the_budget_while_the_store_stands_still() {
    let mut world = World::new(4);
    world.config.in_flight = ByteSize::mib(16);
    world.config.flush.bytes = ByteSize::mib(64);
    world.config.row_group_rows = 1_000_000;
    let mut random = 1_u64;
    let mut letter = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'0' + (random >> 58) as u8)
    };
    for offset in 0..20 {
        for partition in 0..4 {
            let name: String = (0..1 << 20).map(|_| letter()).collect();
            world.bus.append(&spans(partition), offset, 1, Some(request(&[name], 0)), Headers::new());
        }
    }
    world.store.plan(|_, op| if op.0 == "part" { Fault::Fail } else { Fault::None });
    let sink = world.start();
    world.until("all wait", || world.bus.paused().len() == 4).await;
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let in_flight = sink.metric(r#"in_flight_bytes{component="sinks.parquet",signal="spans"}"#);
        // One poll brings up to three records of each partition.
        assert!(in_flight <= (16 + 12) << 20, "{} MiB", in_flight >> 20);
    }
    // Letters of six bits shrink by a quarter.
    let outstanding = world.bus.outstanding_bytes();
    assert!((16 << 20..38 << 20).contains(&outstanding), "{} MiB", outstanding >> 20);
    assert!(matches!(sink.state(), State::Failing(_)), "{:?}", sink.state());
    world.store.plan(|_, _| Fault::None);
    world.drained().await;
    assert_eq!(sink.state(), State::Ready);
    sink.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_files_do_not_get_through_holds_up_no_other() {
    let mut world = World::new(2);
    world.append(&spans(0), 0..40);
    world.append(&spans(1), 0..40);
    world.store.plan(|_, op| if op.1.contains("afflux.spans-00000-") { Fault::Fail } else { Fault::None });
    let sink = world.start();
    world.until("the other one is stored", || world.bus.committed(&spans(1)) == Some(40)).await;
    assert_eq!(world.bus.committed(&spans(0)), None);
    world.store.plan(|_, _| Fault::None);
    world.drained().await;
    sink.stop().await;
    world.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_down_is_shown_until_it_is_back_even_without_traffic() {
    let mut world = World::new(1);
    world.append(&spans(0), 0..2);
    let sink = world.start();
    world.drained().await;
    assert_eq!(sink.state(), State::Ready);
    world.bus.set_down(true);
    world.until("the outage is shown", || sink.problem().is_some_and(|problem| problem.contains("down"))).await;
    world.bus.set_down(false);
    world.until("it is over", || sink.state() == State::Ready).await;
    sink.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_of_very_many_hours_is_stored_and_one_of_too_many_is_a_dead_letter() {
    let world = World::new(1);
    let scattered = |hours: u64| {
        let request = |hour| request(&[format!("{hours}/{hour}")], hour);
        Bytes::from((0..hours).flat_map(|hour| request(hour).to_vec()).collect::<Vec<_>>())
    };
    for (offset, hours) in [(0, 1024), (1, 1025)] {
        world.bus.append(&spans(0), offset, 7, Some(scattered(hours)), Headers::new());
    }
    let sink = world.start();
    world.drained().await;
    sink.stop().await;
    let rows = world.rows().await;
    assert_eq!(rows.len(), 1024);
    assert!(rows.iter().all(|(name, count)| name.starts_with("1024/") && *count == 1));
    let letters = world.bus.published();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].headers.get("afflux-dead-letter-reason").unwrap(), "scattered");
}

#[tokio::test(start_paused = true)]
async fn a_replay_for_another_is_passed_over_and_one_for_the_sink_is_stored() {
    let world = World::new(1);
    for (offset, to) in [(0, "processors"), (1, "sinks.parquet"), (2, "processors")] {
        let headers = Headers(vec![("afflux-replay-to".into(), to.into()), ("afflux-items".into(), "1".into())]);
        world.bus.append(&spans(0), offset, 7, Some(request(&[format!("for {to}")], 0)), headers);
    }
    let sink = world.start();
    world.drained().await;
    assert_eq!(sink.metric("dropped_items_total{component=\"sinks.parquet\",reason=\"replay_of_another\"}"), 2);
    sink.stop().await;
    assert_eq!(world.bus.committed(&spans(0)), Some(3));
    assert_eq!(world.rows().await.into_keys().collect::<Vec<_>>(), ["for sinks.parquet"]);
}
