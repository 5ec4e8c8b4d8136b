//! Readers beside retention.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::disk::Disk;
use super::*;
use crate::local::read::Allowance;

/// A topic that keeps all, in a log full of one that keeps almost nothing: its records move again and again.
#[test]
fn a_reader_misses_nothing_that_retention_moves_under_its_hands() {
    let limits = Limits { segment_bytes: 2000, max_record_bytes: 1000, max_bytes: None };
    let mut log = Log::open(Arc::new(Disk::new(1)), limits).unwrap();
    let brief = Cleanup::Delete { max_age: Some(Duration::from_millis(20)), max_bytes: None };
    let topics = vec![topic("kept", 1), TopicSpec { cleanup: brief, ..topic("brief", 1) }];
    log.append(&[Batch { topics, ..Batch::default() }]).pop().unwrap().unwrap();
    let store = Arc::clone(&log.store);
    let part = store.state().part("kept", 0).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = |seed| {
            let (store, done) = (&store, &done);
            move || {
                let mut rng = SmallRng::seed_from_u64(seed);
                let mut reads = 0;
                while !done.load(Ordering::Relaxed) {
                    let end = store.state().range(part).1;
                    let mut next = rng.random_range(0..=end);
                    while next < end {
                        let soft = rng.random_range(0..3000);
                        let got = store.read(part, next, Allowance { soft, first: usize::MAX }).unwrap();
                        assert_eq!(got.first().map(|stored| stored.offset), Some(next), "of {end}");
                        for stored in got {
                            assert_eq!(stored.offset, next);
                            next += 1;
                        }
                        reads += 1;
                    }
                }
                reads
            }
        };
        let readers = [scope.spawn(reader(1)), scope.spawn(reader(2))];
        let padding = "x".repeat(200);
        let mut moved = 0;
        for now_ms in 0..3000 {
            let kind = if now_ms % 20 == 0 { "kept" } else { "brief" };
            let records = vec![Record { timestamp_ms: now_ms, ..record(kind, 0, &padding) }];
            log.append(&[Batch { records, ..Batch::default() }]).pop().unwrap().unwrap();
            let before = log.store.state().oldest;
            while log.maintain(now_ms).unwrap() {}
            moved += log.store.state().oldest - before;
        }
        done.store(true, Ordering::Relaxed);
        let reads: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(moved > 50 && reads > 0, "{moved} segments dropped, {reads} reads");
    });
}
