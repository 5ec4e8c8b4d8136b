//! Answers that say which items they are about.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// All is stored except those among the numbers.
fn except(numbers: &[u64], among: &[u64], again: bool) -> Answer {
    let named = |number: &u64| Named { id: number.to_le_bytes().into(), reason: "bad", error: "these are bad".into() };
    let items: Vec<Named> = among.iter().filter(|number| numbers.contains(number)).map(named).collect();
    match (items.is_empty(), again) {
        (true, _) => Answer::Stored,
        (false, true) => Answer::StoredExcept { refused: Vec::new(), again: items },
        (false, false) => Answer::StoredExcept { refused: items, again: Vec::new() },
    }
}

async fn until_settled_of(world: &World, backend: Fake, items: u64) -> (Vec<u64>, usize) {
    let sink = Sink::start(world, backend);
    sink.until_settled(items).await;
    let (mut stored, attempts) = (sink.stored(), sink.attempts().len());
    sink.stop().await;
    assert_eq!(world.lag().await, 0);
    stored.sort_unstable();
    (stored, attempts)
}

#[tokio::test]
async fn items_that_are_named_become_dead_letters_and_nothing_is_sent_again() {
    let world = World::new().await;
    for first in [0, 100, 200] {
        world.publish(0, first..first + 100).await;
    }
    let bad = [7, 150, 151];
    let backend = Fake::new(Kind::Logs).answering(move |items, _| except(&bad, items, false));
    let (stored, attempts) = until_settled_of(&world, backend, 300).await;
    assert_eq!(stored, (0..300).filter(|item| !bad.contains(item)).collect::<Vec<_>>());
    assert!(attempts <= 3, "{attempts} attempts for three records");
    let mut dead = world.dead_letters().await;
    dead.sort();
    assert_eq!(dead, bad.map(|item| vec![item]));
}

#[tokio::test]
async fn items_that_may_be_taken_otherwise_are_encoded_anew_alone() {
    let world = World::new().await;
    world.publish(0, 0..100).await;
    let times = AtomicUsize::new(0);
    let backend = Fake::new(Kind::Logs).answering(move |items, attempt| {
        if times.fetch_add(1, Ordering::Relaxed) == 0 {
            return except(&[3, 99], items, true);
        }
        assert_eq!((items, attempt), (&[3, 99][..], 0));
        Answer::Stored
    });
    let (stored, attempts) = until_settled_of(&world, backend, 100).await;
    assert_eq!((stored, attempts), ((0..100).collect(), 2));
    assert_eq!(world.dead_letters().await, [] as [Vec<u64>; 0]);
}

#[tokio::test]
async fn items_that_are_named_and_not_found_are_found_by_halving() {
    let world = World::new().await;
    world.publish(0, 0..100).await;
    let backend = Fake::new(Kind::Logs).answering(|items, _| match except(&[42], items, false) {
        // Of another batch.
        Answer::StoredExcept { .. } => except(&[1000], &[1000], false),
        answer => answer,
    });
    let (stored, _) = until_settled_of(&world, backend, 100).await;
    assert!((0..100).filter(|&item| item != 42).all(|item| stored.contains(&item)), "{stored:?}");
    assert_eq!(world.dead_letters().await, [[42]]);
}

/// Of one batch in requests of ten numbers.
async fn in_parts(answer: impl Fn(&[u64], u32) -> Answer + Send + Sync + 'static) -> (Vec<u64>, Vec<Vec<u64>>) {
    let world = World::new().await;
    for first in [0, 25, 50, 75] {
        world.publish(0, first..first + 25).await;
    }
    let backend = Fake::new(Kind::Logs).refusing(99).of_at_most(10).answering(answer);
    let mut config = Sink::config();
    config.batch.items = 100;
    config.batch.age = Period(Duration::from_secs(10));
    let sink = Sink::start_with(&world, backend, config);
    sink.until_settled(100).await;
    let mut stored = sink.stored();
    sink.stop().await;
    stored.sort_unstable();
    let mut dead = world.dead_letters().await;
    dead.sort();
    (stored, dead)
}

#[tokio::test]
async fn of_a_batch_of_several_requests_what_is_stored_is_not_sent_again_for_one_that_is_refused() {
    let (stored, dead) = in_parts(|items, _| match items.contains(&42) {
        // Another one is named before.
        false => except(&[5], items, false),
        true => refused(),
    })
    .await;
    assert_eq!(stored, (0..99).filter(|item| ![5, 42].contains(item)).collect::<Vec<_>>());
    assert_eq!(dead, [[5], [42], [99]]);
}

#[tokio::test]
async fn of_a_batch_of_several_requests_only_the_rest_is_encoded_anew() {
    let times = AtomicUsize::new(0);
    let (stored, dead) = in_parts(move |items, _| {
        let first_time = items.contains(&42) && times.fetch_add(1, Ordering::Relaxed) == 0;
        match first_time {
            true => Answer::Otherwise { reason: "late", error: "it has become another".into() },
            false => Answer::Stored,
        }
    })
    .await;
    assert_eq!((stored, dead), ((0..99).collect(), vec![vec![99]]));
}
