//! The log against a naive model, under random actions, faults and crashes.
//!
//! `AFFLUX_SEED=n` replays one seed and prints what it does; `AFFLUX_SEEDS=n` runs so many.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::disk::Disk;
use super::expected::Model;
use crate::error::BusError;
use crate::local::files::Dir;
use crate::local::frame::Stored;
use crate::local::index::{index_name, segment_name};
use crate::local::log::{Batch, Limits, Log};
use crate::local::read::Allowance;
use crate::record::{Cleanup, Headers, Record, TopicSpec};

const SEEDS: u64 = 10_000;
const DAY_MS: i64 = 24 * 3600 * 1000;
const AGE_MS: i64 = 5_000;
const SIZE: u64 = 1_500;
const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
const PARTITIONS: u32 = 2;

/// How often the interesting things happened, over all seeds.
#[derive(Default)]
struct Counts {
    acks: AtomicU64,
    full: AtomicU64,
    poisoned: AtomicU64,
    survived: AtomicU64,
    vanished: AtomicU64,
    losses: AtomicU64,
    dropped: AtomicU64,
    damaged: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

struct World<'a> {
    rng: SmallRng,
    disk: Disk,
    limits: Limits,
    log: Log,
    model: Model,
    /// Of the group that failed: each may turn up, if those before it do.
    uncertain: Vec<Batch>,
    now_ms: i64,
    trace: bool,
    counts: &'a Counts,
}

impl<'a> World<'a> {
    fn new(seed: u64, trace: bool, counts: &'a Counts) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let disk = Disk::new(seed ^ 0x5eed);
        let segment_bytes = rng.random_range(300..1800);
        let max_bytes = rng.random_bool(0.2).then(|| segment_bytes * rng.random_range(6..20));
        let limits = Limits { segment_bytes, max_record_bytes: 1000, max_bytes };
        let log = Log::open(std::sync::Arc::new(disk.clone()), limits).expect("an empty disk opens");
        let (model, uncertain) = (Model::default(), Vec::new());
        Self { rng, disk, limits, log, model, uncertain, now_ms: 1_700_000_000_000, trace, counts }
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{}", what());
        }
    }

    fn act(&mut self) {
        match self.rng.random_range(0..100) {
            0..38 => self.append(),
            38..53 => self.read(),
            53..66 => self.maintain(),
            66..70 => self.now_ms += [100, 2_000, 20_000, 2 * DAY_MS][self.rng.random_range(0..4)],
            70..74 => self.close(),
            74..78 => self.kill(),
            78..84 => self.lose_power(),
            84..90 => {
                let operations = self.rng.random_range(1..14);
                self.note(|| format!("will die after {operations} operations"));
                self.disk.die_after(operations);
            }
            90..93 => {
                self.note(|| "next write fails".into());
                self.disk.fail_write();
            }
            93..96 => {
                self.note(|| "next sync fails".into());
                self.disk.fail_sync();
            }
            96..98 => {
                let room = self.rng.random_range(0..8000);
                let limit = if self.rng.random_bool(0.5) { u64::MAX } else { self.disk.used() + room };
                self.note(|| format!("disk limited to {limit}"));
                self.disk.limit(limit);
            }
            _ => {
                let ids: Vec<u64> = self.log.store.state().segments.iter().map(|segment| segment.id).collect();
                let id = ids[self.rng.random_range(0..ids.len())];
                self.disk.spoil(&index_name(id));
            }
        }
        if self.disk.is_dead() {
            if self.rng.random_bool(0.5) { self.kill() } else { self.lose_power() }
        } else if self.log.is_poisoned() {
            count(&self.counts.poisoned);
            assert!(self.disk.has_struck(), "a full disk has poisoned the log");
            // Nothing of what failed is seen, and nothing more is taken.
            self.check();
            let refused = self.log.append(&[Batch { topics: self.model.topics.clone(), ..Batch::default() }]);
            assert!(matches!(refused[0], Err(BusError::Poisoned { .. })), "{refused:?}");
            if self.rng.random_bool(0.5) { self.kill() } else { self.lose_power() }
        }
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        let rng = &mut self.rng;
        if self.model.topics.is_empty() || rng.random_bool(0.05) {
            let delete = |age: Option<i64>, max_bytes| Cleanup::Delete {
                max_age: age.map(|age| Duration::from_millis(age as u64)),
                max_bytes,
            };
            let (name, cleanup) = [
                ("kept", delete(None, None)),
                ("aged", delete(Some(AGE_MS), None)),
                ("sized", delete(None, Some(SIZE))),
                ("table", Cleanup::Compact),
            ][rng.random_range(0..4)];
            batch.topics.push(TopicSpec { name: name.into(), partitions: PARTITIONS, cleanup });
        }
        let partitions: Vec<_> = self.model.partitions().collect();
        if partitions.is_empty() {
            return batch;
        }
        if rng.random_bool(0.8) {
            for _ in 0..rng.random_range(1..5) {
                let to = partitions[rng.random_range(0..partitions.len())].clone();
                let keyed = &*to.topic == "table" || rng.random_bool(0.1);
                let len = if rng.random_bool(0.9) { rng.random_range(0..120) } else { rng.random_range(0..900) };
                let value: Vec<u8> =
                    if rng.random_bool(0.5) { vec![0; len] } else { (0..len).map(|_| rng.random()).collect() };
                let mut headers = Headers::new();
                if rng.random_bool(0.2) {
                    headers.push("afflux-items", Bytes::from_static(b"12"));
                }
                batch.records.push(Record {
                    to,
                    key: keyed.then(|| Bytes::from_static(KEYS[rng.random_range(0..KEYS.len())].as_bytes())),
                    value: (!keyed || rng.random_bool(0.7)).then(|| value.into()),
                    timestamp_ms: self.now_ms - if rng.random_bool(0.2) { rng.random_range(0..2 * AGE_MS) } else { 0 },
                    headers,
                });
            }
        }
        if rng.random_bool(0.3) {
            for _ in 0..rng.random_range(1..3) {
                let partition = partitions[rng.random_range(0..partitions.len())].clone();
                let group = ["g1", "g2"][rng.random_range(0..2)];
                let end = self.model.records(&partition).len() as u64;
                batch.offsets.push((group.into(), partition, rng.random_range(0..=end)));
            }
        }
        batch
    }

    fn append(&mut self) {
        let batches: Vec<Batch> = (0..self.rng.random_range(1..4)).map(|_| self.batch()).collect();
        let answers = self.log.append(&batches);
        self.note(|| {
            let parts: Vec<_> = batches.iter().map(|b| (b.records.len(), b.offsets.len(), b.topics.len())).collect();
            format!("append {parts:?}: {answers:?}")
        });
        for (batch, answer) in batches.into_iter().zip(answers) {
            match answer {
                Ok(()) => {
                    count(&self.counts.acks);
                    self.model.apply(&batch);
                }
                Err(BusError::Full { .. }) => count(&self.counts.full),
                Err(BusError::Poisoned { .. } | BusError::Io { .. }) => self.uncertain.push(batch),
                Err(other) => panic!("unexpected answer: {other:?}"),
            }
        }
    }

    fn read(&mut self) {
        let partitions: Vec<_> = self.model.partitions().collect();
        if partitions.is_empty() {
            return;
        }
        let partition = &partitions[self.rng.random_range(0..partitions.len())];
        let from = self.rng.random_range(0..=self.model.records(partition).len() as u64);
        let whole = self.rng.random_bool(0.3);
        let soft = if whole { usize::MAX } else { self.rng.random_range(0..1500) };
        let part = self.log.store.state().part(&partition.topic, partition.partition).expect("a known partition");
        match self.log.store.read(part, from, Allowance { soft, first: usize::MAX }) {
            Ok(got) => {
                let size: usize = got.iter().map(Stored::size).sum();
                assert!(got.len() <= 1 || size <= soft, "{size} bytes read, {soft} allowed");
                self.model.check_read(partition, from, &got, whole, self.now_ms);
                let any = self.model.wanted(partition, self.now_ms).range(from..).next().is_some();
                assert!(!got.is_empty() || !any, "{partition}: nothing read from {from} on");
            }
            Err(error) => assert!(self.disk.is_dead(), "{error:?}"),
        }
    }

    fn maintain(&mut self) {
        for _ in 0..self.rng.random_range(1..6) {
            let before = self.log.store.state().oldest;
            let answer = self.log.maintain(self.now_ms);
            let after = self.log.store.state().oldest;
            self.note(|| format!("maintain: {answer:?}, oldest {after}"));
            if after > before {
                count(&self.counts.dropped);
            }
            match answer {
                Ok(true) => {}
                Ok(false) | Err(BusError::Full { .. }) => return,
                Err(error) => return assert!(self.log.is_poisoned() || self.disk.is_dead(), "{error:?}"),
            }
        }
    }

    fn close(&mut self) {
        let answer = self.log.close();
        self.note(|| format!("close: {answer:?}"));
        if !self.disk.is_dead() && !self.log.is_poisoned() {
            self.reopen();
        }
    }

    fn kill(&mut self) {
        self.note(|| "kill".into());
        self.disk.heal();
        self.reopen();
    }

    fn lose_power(&mut self) {
        self.note(|| "power loss".into());
        count(&self.counts.losses);
        self.disk.heal();
        self.disk.power_loss();
        self.reopen();
    }

    fn reopen(&mut self) {
        if self.rng.random_bool(0.1) {
            self.disk.die_after(self.rng.random_range(1..8));
        }
        self.log = loop {
            match Log::open(std::sync::Arc::new(self.disk.clone()), self.limits) {
                Ok(log) => break log,
                Err(BusError::Full { .. }) => self.disk.limit(u64::MAX),
                Err(error) => {
                    self.note(|| format!("opening: {error:?}"));
                    assert!(!matches!(error, BusError::Damaged { .. }), "{error}");
                    // Died or failed while opening: again, perhaps after a power loss.
                    self.disk.heal();
                    if self.rng.random_bool(0.5) {
                        self.disk.power_loss();
                    }
                }
            }
        };
        let uncertain = std::mem::take(&mut self.uncertain);
        let mut models = vec![self.model.clone()];
        for batch in &uncertain {
            let mut next = models[models.len() - 1].clone();
            next.apply(batch);
            models.push(next);
        }
        let survived = models.iter().rposition(|model| model.agrees(&self.log));
        let survived = survived.unwrap_or_else(|| {
            let state = self.log.store.state();
            panic!("acknowledged batches are gone, or others are there in part: {state:#?}")
        });
        self.model = models.swap_remove(survived);
        self.note(|| format!("reopened; {survived} of {} uncertain batches survived", uncertain.len()));
        self.counts.survived.fetch_add(survived as u64, Ordering::Relaxed);
        self.counts.vanished.fetch_add((uncertain.len() - survived) as u64, Ordering::Relaxed);
        if !self.disk.is_dead() {
            self.check();
        }
    }

    /// Compares everything.
    fn check(&self) {
        self.try_check().unwrap_or_else(|error| assert!(self.disk.is_dead(), "{error:?}"));
    }

    fn try_check(&self) -> Result<(), BusError> {
        assert!(self.model.agrees(&self.log), "topics or offsets differ");
        for partition in self.model.partitions() {
            let part = self.log.store.state().part(&partition.topic, partition.partition).expect("a known partition");
            let got = self.log.store.read(part, 0, Allowance { soft: usize::MAX, first: usize::MAX })?;
            self.model.check_read(&partition, 0, &got, true, self.now_ms);
            if &*partition.topic == "table" {
                self.model.check_compacted(&partition, &got);
            }
        }
        Ok(())
    }

    /// Spoils a byte that is known to be synced: whatever is read afterwards is right, or the damage is named.
    fn corrupt(&mut self) {
        self.disk.heal();
        self.disk.limit(u64::MAX);
        let last = self.log.active.segment;
        self.append();
        let segments: Vec<_> = self.log.store.state().segments.iter().copied().collect();
        let segment = segments[self.rng.random_range(0..segments.len())];
        // Only the last group may be taken for torn: nothing after it proves that it was synced.
        let len = if segment.id == last.id { last.len } else { segment.len };
        let grown = self.log.active.segment != last;
        if segment.id > last.id || !grown || self.log.is_poisoned() {
            return;
        }
        let at = self.rng.random_range(0..len) as usize;
        if !self.disk.flip(&segment_name(segment.id), at) {
            return;
        }
        self.note(|| format!("spoiled byte {at} of segment {}", segment.id));
        if self.rng.random_bool(0.5) {
            self.disk.spoil(&index_name(segment.id));
        }
        let named = |error: BusError| match &error {
            BusError::Damaged { file, .. } => {
                assert_eq!(*file, self.disk.path(&segment_name(segment.id)), "{error}");
                count(&self.counts.damaged);
            }
            _ => panic!("{error:?}"),
        };
        if let Err(error) = self.try_check() {
            named(error);
        }
        match Log::open(std::sync::Arc::new(self.disk.clone()), self.limits) {
            Err(error) => named(error),
            Ok(log) => {
                self.log = log;
                if let Err(error) = self.try_check() {
                    named(error);
                }
            }
        }
    }
}

fn run(seed: u64, trace: bool, counts: &Counts) {
    let mut world = World::new(seed, trace, counts);
    for _ in 0..world.rng.random_range(10..80) {
        world.act();
    }
    world.lose_power();
    world.corrupt();
}

#[test]
fn the_log_agrees_with_the_model_whatever_fails() {
    let counts = Counts::default();
    if let Some(seed) = std::env::var("AFFLUX_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return run(seed, true, &counts);
    }
    let seeds = std::env::var("AFFLUX_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from).min(8) {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) == u64::MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let whole = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, false, &counts)));
                    if whole.is_err() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    assert_eq!(failed, u64::MAX, "seed {failed} failed; replay it with AFFLUX_SEED={failed}");
    let Counts { acks, full, poisoned, survived, vanished, losses, dropped, damaged } = counts;
    let happened = [acks, full, poisoned, survived, vanished, losses, dropped, damaged].map(AtomicU64::into_inner);
    println!("acks, full, poisoned, survived, vanished, power losses, dropped, damaged: {happened:?}");
    assert!(happened.iter().all(|count| *count > 0), "something never happened: {happened:?}");
}
