//! Where an order must be kept: a backend that takes samples only in the order of their times.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::harness::{Fake, Sink, World};
use super::later;
use crate::delivery::{Answer, Kind};

const SERIES: u64 = 20;
const SAMPLES: u64 = 40;

/// Sample `n` of a series: a number that says both.
const fn number(series: u64, sample: u64) -> u64 {
    series * 1000 + sample
}

/// As Prometheus does: the newest sample of a series may come again, none that is older.
#[derive(Default)]
struct Database {
    newest: BTreeMap<u64, u64>,
    out_of_order: u64,
}

impl Database {
    fn take(&mut self, numbers: &[u64]) {
        for number in numbers {
            let newest = self.newest.entry(number / 1000).or_default();
            self.out_of_order += u64::from(*number < *newest);
            *newest = (*newest).max(*number);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_failures_lost_answers_and_kills_no_sample_comes_behind_a_newer_one() {
    for seed in 0..6 {
        let mut random = SmallRng::seed_from_u64(seed);
        let (world, database) = (World::new().await, Arc::new(Mutex::new(Database::default())));
        for sample in 1..=SAMPLES {
            for series in 0..SERIES {
                world.publish_sample((series % 2) as u32, &series.to_string(), Some(number(series, sample))).await;
            }
            if sample % 8 == 0 {
                let sink = Sink::start(&world, backend(&database, random.random()));
                tokio::time::sleep(Duration::from_millis(random.random_range(5..120))).await;
                sink.kill().await;
            }
        }
        let sink = Sink::start(&world, backend(&database, random.random()));
        while world.lag().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sink.stop().await;
        let database = database.lock().unwrap();
        assert_eq!(database.out_of_order, 0, "seed {seed}");
        let expected = (0..SERIES).map(|series| (series, number(series, SAMPLES))).collect();
        assert_eq!(database.newest, expected, "seed {seed}");
    }
}

/// Fails at random, sometimes after it has taken the samples.
fn backend(database: &Arc<Mutex<Database>>, seed: u64) -> Fake {
    let (database, random) = (Arc::clone(database), Mutex::new(SmallRng::seed_from_u64(seed)));
    Fake::new(Kind::Series).answering(move |numbers, _| {
        let chance = random.lock().unwrap().random_range(0..10);
        if chance > 1 {
            database.lock().unwrap().take(numbers);
        }
        if chance < 4 { later(None) } else { Answer::Stored }
    })
}

#[tokio::test]
async fn no_key_comes_twice_in_a_batch_and_what_ends_a_key_is_settled_without_being_sent() {
    let world = World::new().await;
    for (series, sample) in [("a", Some(1)), ("b", Some(2)), ("a", Some(3)), ("a", None), ("c", Some(4))] {
        world.publish_sample(0, series, sample).await;
    }
    let seen = Arc::default();
    let sink = Sink::start(&world, Fake::new(Kind::Series).sharing(&seen));
    sink.until_settled(5).await;
    sink.stop().await;
    let keys: Vec<Vec<String>> = seen.lock().unwrap().keys.iter().map(|keys| texts(keys)).collect();
    assert_eq!(keys, [vec!["a", "b"], vec!["a", "c"]]);
    assert_eq!(world.lag().await, 0);
}

fn texts(keys: &[bytes::Bytes]) -> Vec<String> {
    keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
}
