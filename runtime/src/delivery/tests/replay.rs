//! A sink that is fed again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use afflux_schemas::topics::Topics;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::harness::{Fake, Seen, Sink, World};
use super::{later, refused};
use crate::delivery::{Answer, Delivery, Kind, Progress, Replay, Replays, Span};

/// Longer than any step of a test takes.
const PATIENCE: Duration = Duration::from_secs(30);

async fn replayed(world: &World, backend: Fake, of: Span) -> Progress {
    let replay: Box<dyn Replay> = Box::new(Delivery::new(backend, Sink::config(), &Topics::default()));
    let (told, mut progress) = mpsc::channel(1);
    let mut last = Progress::default();
    let telling = async {
        while let Some(progress) = progress.recv().await {
            last = progress;
        }
    };
    let replaying = replay.replay(Arc::clone(&world.bus), of, told);
    let (result, ()) = timeout(PATIENCE, async { tokio::join!(replaying, telling) }).await.unwrap();
    result.unwrap();
    last
}

fn stored(seen: &Arc<Mutex<Seen>>) -> Vec<u64> {
    let mut stored: Vec<u64> = seen.lock().unwrap().stored.iter().flat_map(|(_, numbers)| numbers.clone()).collect();
    stored.sort_unstable();
    stored
}

#[tokio::test]
async fn records_of_a_time_are_delivered_again_and_the_group_stays_where_it_is() {
    let world = World::new().await;
    for (partition, numbers, time_ms) in [(0, 0..10, 100), (0, 10..20, 200), (1, 20..30, 150), (1, 30..40, 300)] {
        world.publish_at(partition, numbers, time_ms).await;
    }
    let live = Sink::start(&world, Fake::new(Kind::Logs));
    live.until_settled(40).await;
    live.stop().await;
    world.publish_at(0, 40..50, 400).await;
    let seen = Arc::default();
    let of = Span { from_ms: 150, until_ms: Some(300) };
    let progress = replayed(&world, Fake::new(Kind::Logs).sharing(&seen), of).await;
    assert_eq!(stored(&seen), (10..30).collect::<Vec<_>>());
    assert!(seen.lock().unwrap().replays.iter().all(|replay| *replay), "the backend is told what it is");
    let expected = Progress { records: 2, items: 20, newest_ms: Some(400), done: true, ..Progress::default() };
    assert_eq!(progress, expected);
    assert_eq!(world.lag().await, 1, "what is new still waits for the group");

    let all = Arc::default();
    let of = Span { from_ms: 0, until_ms: None };
    replayed(&world, Fake::new(Kind::Logs).sharing(&all), of).await;
    assert_eq!(stored(&all), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_replay_retries_halves_and_makes_dead_letters_as_the_sink_does() {
    let world = World::new().await;
    world.publish_at(0, 0..100, 100).await;
    let seen = Arc::default();
    let backend = Fake::new(Kind::Logs).sharing(&seen).answering(|items, attempt| {
        if attempt < 2 {
            return later(None);
        }
        if items.contains(&7) { refused() } else { Answer::Stored }
    });
    let progress = replayed(&world, backend, Span { from_ms: 0, until_ms: None }).await;
    assert_eq!(stored(&seen), (0..100).filter(|item| *item != 7).collect::<Vec<_>>());
    assert_eq!(world.dead_letters().await, [[7]]);
    assert_eq!((progress.dead_letters, progress.items), (1, 100));
}

#[tokio::test]
async fn one_replay_of_a_sink_runs_at_a_time_and_ends_when_nobody_listens() {
    let world = World::new().await;
    world.publish_at(0, 0..10, 100).await;
    let replays = Replays::new(Arc::clone(&world.bus), |sink| {
        if sink != "fake" {
            return Err(format!("no sink `{sink}`"));
        }
        let backend = Fake::new(Kind::Logs).answering(|_, _| later(None));
        Ok(Box::new(Delivery::new(backend, Sink::config(), &Topics::default())) as Box<dyn Replay>)
    });
    let of = Span { from_ms: 0, until_ms: None };
    assert_eq!(replays.start("other", of).err().as_deref(), Some("no sink `other`"));
    let mut told = replays.start("fake", of).unwrap();
    assert!(!told.recv().await.unwrap().unwrap().done);
    assert!(replays.start("fake", of).is_err_and(|why| why.contains("on its way already")));
    drop(told);
    let free = async {
        while replays.start("fake", of).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, free).await.unwrap();
}
