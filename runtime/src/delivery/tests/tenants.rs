//! Whose items are sent together, and who is held up by whom.

use std::sync::atomic::{AtomicUsize, Ordering};

use afflux_schemas::topics::{HEADER_REPLAY_TO, HEADER_TENANT};

use super::*;

#[tokio::test]
async fn tenants_are_not_mixed_and_a_replay_for_another_component_is_passed_over() {
    let world = World::new().await;
    world.publish_with(0, request(0..3, 0), &[(HEADER_TENANT, "a")]).await;
    world.publish_with(0, request(3..6, 0), &[(HEADER_TENANT, "b")]).await;
    world.publish_with(0, request(6..9, 0), &[(HEADER_REPLAY_TO, "sinks.other")]).await;
    world.publish_with(0, request(9..12, 0), &[(HEADER_REPLAY_TO, harness::NAME), (HEADER_TENANT, "a")]).await;
    let sink = Sink::start(&world, Fake::new(Kind::Logs));
    sink.until_settled(9).await;
    let (mut requests, replays) = (sink.requests(), sink.replays());
    sink.stop().await;
    requests.sort();
    let tenant = |name: &str| Some(name.to_owned());
    let expected = [(tenant("a"), vec![0, 1, 2]), (tenant("a"), vec![9, 10, 11]), (tenant("b"), vec![3, 4, 5])];
    assert_eq!(requests, expected, "dead letters that come again are in batches of their own");
    assert_eq!(replays.iter().filter(|replay| **replay).count(), 1);
    assert_eq!(world.lag().await, 0);
}

#[tokio::test]
async fn a_tenant_that_is_not_let_in_does_not_take_the_others_out_of_service() {
    let world = World::new().await;
    world.publish_with(0, request(0..3, 0), &[(HEADER_TENANT, "stranger")]).await;
    let backend = Fake::new(Kind::Logs).answering(|items, _| match items[0] {
        0 => Answer::Blocked { reason: "unauthorized", error: "answered 403".into() },
        _ => Answer::Stored,
    });
    let sink = Sink::start(&world, backend);
    sink.until(|state| matches!(state, State::Failing(_))).await;
    world.publish_with(0, request(3..6, 0), &[(HEADER_TENANT, "known")]).await;
    sink.until_stored(3).await;
    sink.until_ready().await;
    assert_eq!(world.dead_letters().await, [] as [Vec<u64>; 0]);
    sink.kill().await;
    assert_eq!(world.lag().await, 2, "its position stays");
}

#[tokio::test]
async fn behind_a_batch_that_does_not_arrive_no_more_is_sent_than_memory_may_hold() {
    let world = World::new().await;
    world.publish(0, 0..1).await;
    let (padding, in_flight) = (64 * 1024, ByteSize::mib(2));
    for number in 1..200 {
        world.publish_padded(0, number..number + 1, padding).await;
    }
    let mut config = Sink::config();
    config.in_flight = in_flight;
    config.batch.items = 1;
    let backend = Fake::new(Kind::Logs).answering(|items, _| if items[0] == 0 { later(None) } else { Answer::Stored });
    let sink = Sink::start_with(&world, backend, config);
    let most = in_flight.as_usize() / padding;
    sink.until_stored(most - 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let stored = sink.stored().len();
    // Those that were on their way when the limit was reached come on top.
    assert!(stored <= most + 4, "{stored} were sent behind it");
    sink.kill().await;
}

#[tokio::test]
async fn one_that_waits_to_be_sent_does_not_wait_for_those_that_have_overtaken_it() {
    let world = World::new().await;
    world.publish_with(0, request(0..1, 0), &[(HEADER_TENANT, "small")]).await;
    let (padding, in_flight) = (64 * 1024, ByteSize::mib(2));
    for number in 1..100 {
        world.publish_with(0, request(number..number + 1, padding), &[(HEADER_TENANT, "large")]).await;
    }
    let mut config = Sink::config();
    config.in_flight = in_flight;
    // The small one is gathered for longer than it takes to send more of the other than memory may hold.
    config.batch.bytes = ByteSize(2 * padding as u64);
    config.batch.age = Period(Duration::from_secs(2));
    let sink = Sink::start_with(&world, Fake::new(Kind::Logs), config);
    sink.until_stored(100).await;
    sink.stop().await;
    assert_eq!(world.lag().await, 0);
}

#[tokio::test]
async fn what_is_to_be_sent_otherwise_is_encoded_anew() {
    let world = World::new().await;
    world.publish(0, 0..5).await;
    let times = AtomicUsize::new(0);
    let backend = Fake::new(Kind::Logs).answering(move |_, attempt| match times.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Answer::Otherwise { reason: "too_far_behind", error: "old".into() },
        2 => {
            assert_eq!(attempt, 0, "it is another request");
            later(None)
        }
        _ => Answer::Stored,
    });
    let sink = Sink::start(&world, backend);
    sink.until_settled(5).await;
    assert_eq!(sink.stored(), [0, 1, 2, 3, 4]);
    sink.stop().await;
    assert_eq!(world.dead_letters().await, [] as [Vec<u64>; 0]);
}
