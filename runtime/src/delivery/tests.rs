use std::sync::Arc;
use std::time::Duration;

use afflux_bus::PartitionId;
use afflux_schemas::topics::Topics;

use self::harness::{Fake, Sink, World, records_of, request};
use super::*;
use crate::admin::State;
use crate::config::{ByteSize, Period};
use crate::metrics::ReasonLabels;

mod faults;
mod harness;
mod keyed;
mod named;
mod replay;
mod tenants;

fn later(after: Option<Duration>) -> Answer {
    Answer::Later { reason: "busy", error: "busy".into(), after }
}

fn refused() -> Answer {
    Answer::Refused { reason: "bad", error: "one of these is bad".into() }
}

#[tokio::test]
async fn every_item_arrives_once_and_a_restart_goes_on_behind_it() {
    let world = World::new().await;
    world.publish(0, 0..100).await;
    world.publish(1, 100..200).await;
    let sink = Sink::start(&world, Fake::new(Kind::Logs));
    sink.until_stored(200).await;
    sink.stop().await;
    world.publish(1, 200..230).await;
    let sink = Sink::start(&world, Fake::new(Kind::Logs));
    sink.until_stored(30).await;
    let stored = sink.stored();
    sink.stop().await;
    assert_eq!(stored, (200..230).collect::<Vec<_>>(), "what was delivered before is not delivered again");
    assert_eq!(world.lag().await, 0);
    assert_eq!(world.dead_letters().await, [] as [Vec<u64>; 0]);
}

#[tokio::test]
async fn a_stop_delivers_what_is_on_the_bus_and_commits_it() {
    let world = World::new().await;
    world.publish(0, 0..10).await;
    let mut config = Sink::config();
    // Longer than the test: only the stop sends it.
    config.batch.age = Period(Duration::from_secs(600));
    let sink = Sink::start_with(&world, Fake::new(Kind::Logs), config);
    sink.until_ready().await;
    sink.stop().await;
    assert_eq!(world.lag().await, 0);
}

#[tokio::test]
async fn exactly_the_items_that_are_refused_become_dead_letters() {
    let world = World::new().await;
    for partition in 0..2 {
        for batch in 0..10 {
            let first = (partition * 10 + batch) * 100;
            world.publish(partition as u32, first..first + 100).await;
        }
    }
    let bad = [0, 99, 500, 501, 1999];
    let backend = Fake::new(Kind::Logs).answering(move |items, _| {
        if items.iter().any(|item| bad.contains(item)) { refused() } else { Answer::Stored }
    });
    let sink = Sink::start(&world, backend);
    sink.until_stored(2000 - bad.len()).await;
    sink.until_settled(2000).await;
    let (mut stored, metrics) = (sink.stored(), sink.metrics());
    sink.stop().await;
    stored.sort_unstable();
    let expected: Vec<u64> = (0..2000).filter(|item| !bad.contains(item)).collect();
    assert_eq!(stored, expected);
    let mut dead = world.dead_letters().await;
    dead.sort();
    assert_eq!(dead, bad.map(|item| vec![item]));
    let labels = ReasonLabels { component: harness::NAME, reason: "bad" };
    assert_eq!(metrics.dead_letters.get_or_create(&labels).get(), bad.len() as u64);
}

#[tokio::test]
async fn what_the_backend_itself_leaves_out_is_counted_and_what_it_refuses_is_a_dead_letter() {
    let world = World::new().await;
    world.publish(0, 0..10).await;
    let sink = Sink::start(&world, Fake::new(Kind::Logs).leaving_out(3).refusing(4));
    sink.until_settled(10).await;
    let (stored, metrics) = (sink.stored(), sink.metrics());
    sink.stop().await;
    assert_eq!(stored, [0, 1, 2, 5, 6, 7, 8, 9]);
    assert_eq!(world.dead_letters().await, [[4]]);
    let labels = ReasonLabels { component: harness::NAME, reason: "left_out" };
    assert_eq!(metrics.dropped_items.get_or_create(&labels).get(), 1);
}

#[tokio::test]
async fn a_backend_says_when_to_come_again_and_is_not_asked_before() {
    let world = World::new().await;
    world.publish(0, 0..5).await;
    let asked = Duration::from_millis(700);
    let backend = Fake::new(Kind::Logs)
        .answering(move |_, attempt| if attempt < 2 { later(Some(asked)) } else { Answer::Stored });
    let sink = Sink::start(&world, backend);
    sink.until_stored(5).await;
    let times = sink.attempts();
    sink.stop().await;
    assert_eq!(times.len(), 3);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= asked), "{times:?}");
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_made_again() {
    let world = World::new().await;
    world.publish(0, 0..5).await;
    let mut config = Sink::config();
    config.timeout = Period(Duration::from_millis(50));
    let sink = Sink::start_with(&world, Fake::new(Kind::Logs).hanging_first(), config);
    sink.until_stored(5).await;
    let metrics = sink.metrics();
    sink.stop().await;
    let labels = ReasonLabels { component: harness::NAME, reason: "timeout" };
    assert!(metrics.retries.get_or_create(&labels).get() >= 1);
}

#[tokio::test]
async fn a_backend_that_refuses_everything_stops_the_sink_which_says_so_and_goes_on_by_itself() {
    let world = World::new().await;
    world.publish(0, 0..5).await;
    let open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let backend = Fake::new(Kind::Logs).answering(move |_, _| {
        if gate.load(std::sync::atomic::Ordering::Relaxed) {
            return Answer::Stored;
        }
        Answer::Blocked { reason: "unauthorized", error: "answered 401".into() }
    });
    let sink = Sink::start(&world, backend);
    sink.until(|state| *state == State::Failing("answered 401".into())).await;
    let labels = ReasonLabels { component: harness::NAME, reason: "unauthorized" };
    assert_eq!(sink.metrics().blocked.get_or_create(&labels).get(), 1);
    assert_eq!(world.lag().await, 1, "its position stays");
    open.store(true, std::sync::atomic::Ordering::Relaxed);
    sink.until_stored(5).await;
    sink.until(|state| *state == State::Ready).await;
    assert_eq!(sink.metrics().blocked.get_or_create(&labels).get(), 0);
    assert_eq!(world.dead_letters().await, [] as [Vec<u64>; 0], "nothing is given up for it");
    sink.stop().await;
}

#[tokio::test]
async fn a_backend_that_takes_nothing_of_one_partition_holds_up_neither_the_other_nor_memory() {
    let world = World::new().await;
    let padding = 64 * 1024;
    for number in 0..400 {
        world.publish_padded(0, number..number + 1, padding).await;
    }
    world.publish(1, 1000..1100).await;
    let backend =
        Fake::new(Kind::Logs).answering(|items, _| if items[0] < 1000 { later(None) } else { Answer::Stored });
    let mut config = Sink::config();
    config.in_flight = ByteSize::mib(8);
    let sink = Sink::start_with(&world, backend, config);
    sink.until_stored(100).await;
    // Its share, and what one poll may bring on top.
    let limit = (4 << 20) + (1 << 20) + padding as i64 * 2;
    for _ in 0..20 {
        let held = sink.in_flight();
        assert!(held <= limit, "{held} bytes are held");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(sink.in_flight() >= 2 << 20, "it holds what it may");
    world.publish(1, 1100..1200).await;
    sink.until_stored(200).await;
    sink.kill().await;
}

#[tokio::test]
async fn dead_letters_hold_the_items_bytes_and_their_source() {
    let world = World::new().await;
    world.publish(0, 0..4).await;
    let backend =
        Fake::new(Kind::Logs).answering(|items, _| if items.contains(&2) { refused() } else { Answer::Stored });
    let sink = Sink::start(&world, backend);
    sink.until_settled(4).await;
    sink.stop().await;
    let letters = records_of(&world.bus, &Topics::default().dead_letters()).await;
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(letter.value, Some(request(2..3, 0)));
    let source = crate::dead_letter::source(&letter.headers);
    assert_eq!(source, Some(PartitionId::new(Topics::default().logs(), 0)));
    let header = |name| letter.headers.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
    assert_eq!(header(crate::dead_letter::HEADER_COMPONENT).as_deref(), Some(harness::NAME));
    assert_eq!(header(crate::dead_letter::HEADER_REASON).as_deref(), Some("bad"));
    assert_eq!(header(afflux_schemas::topics::HEADER_ITEMS).as_deref(), Some("1"));
}
