//! Real processes killed at random moments under four writers and a transactional consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::local::frame::Stored;
use crate::local::read::Allowance;

const KILLS: u32 = 200;
/// Kills of one directory before the next, so that what is checked each time stays small.
const KILLS_PER_DIR: u32 = 10;
const WRITERS: u32 = 4;
const PARTITIONS: u32 = 3;
const CHILD: &str = "AFFLUX_KILL_CHILD";

fn config(dir: &Path) -> LocalConfig {
    LocalConfig { segment_bytes: 128 << 10, ..LocalConfig::new(dir) }
}

/// The process that is killed. By itself, as a test, it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let bus = LocalBus::open(config(Path::new(&dir))).unwrap();
    bus.create_topics(&[topic("in", PARTITIONS), topic("out", PARTITIONS)]).await.unwrap();
    say("open");
    let copier = tokio::spawn(copy(Arc::clone(&bus)));
    let run = std::process::id();
    for writer in 0..WRITERS {
        tokio::spawn(write(Arc::clone(&bus), format!("{run}.{writer}")));
    }
    copier.await.unwrap();
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "~{line}").unwrap();
    out.flush().unwrap();
}

/// Sends batches for ever, and says which were acknowledged.
async fn write(bus: Arc<LocalBus>, name: String) {
    let mut rng = SmallRng::seed_from_u64(u64::from(std::process::id()));
    let producer = bus.producer().await.unwrap();
    for batch in 0.. {
        let count = rng.random_range(1..6);
        let record = |n| {
            let value = format!("{name} {batch} {n} {count} {}", "x".repeat(rng.random_range(0..3000)));
            record("in", rng.random_range(0..PARTITIONS), &value)
        };
        let records = (0..count).map(record).collect();
        producer.send(records).await.unwrap();
        say(&format!("{name} {batch}"));
    }
}

/// Copies what comes in, each poll in one transaction.
async fn copy(bus: Arc<LocalBus>) {
    let config = ConsumerConfig { transactional_id: Some("copier".into()), ..reads("copier", &["in"]) };
    let mut consumer = bus.consumer(config).await.unwrap();
    loop {
        if let Event::Records(records) = consumer.poll().await.unwrap() {
            let mut offsets = BTreeMap::new();
            let mut outputs = Vec::new();
            for received in records {
                offsets.insert(received.from.clone(), after(&received));
                let to = PartitionId::new("out", received.from.partition);
                outputs.push(Record { to, value: received.value, ..record("", 0, "") });
            }
            let offsets: Vec<_> = offsets.into_values().collect();
            consumer.transact(outputs, &offsets).await.unwrap();
        }
    }
}

/// Runs a child and kills it after so many lines and a moment.
fn kill(dir: &Path, lines: u32, moment: Duration, acks: &mut BTreeSet<(String, u64)>) {
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "local::tests::kill::kill_child", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (line, spoken) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for text in out.lines().map_while(Result::ok) {
            // A line cut short by the kill says nothing.
            if let Some(text) = text.strip_prefix('~') {
                let _ = line.send(text.to_owned());
            }
        }
    });
    let mut all = Vec::new();
    let start = Instant::now();
    while all.len() < lines as usize {
        match spoken.recv_timeout(DEADLINE) {
            Ok(text) => all.push(text),
            Err(_) => {
                let _ = child.kill();
                let output = child.wait_with_output().unwrap();
                panic!("the child stopped after {:?}: {}", start.elapsed(), String::from_utf8_lossy(&output.stderr));
            }
        }
    }
    std::thread::sleep(moment);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    all.extend(spoken.try_iter());
    for text in all.iter().filter(|text| *text != "open") {
        if let Some((name, batch)) = text.split_once(' ') {
            acks.insert((name.to_owned(), batch.parse().unwrap()));
        }
    }
}

fn everything(bus: &LocalBus, topic: &str, partition: u32) -> Vec<Stored> {
    let part = bus.inner.store.state().part(topic, partition).unwrap();
    bus.inner.store.read(part, 0, Allowance { soft: usize::MAX, first: usize::MAX }).unwrap()
}

/// Checks what is there after a kill. Answers the number of batches.
fn check(dir: &Path, acks: &BTreeSet<(String, u64)>) -> usize {
    let bus = LocalBus::open(config(dir)).unwrap();
    if bus.inner.partitions("in").is_err() {
        assert!(acks.is_empty());
        return 0;
    }
    let mut found: BTreeMap<(String, u64), Vec<u64>> = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let records = everything(&bus, "in", partition);
        let mut last = BTreeMap::new();
        for (offset, stored) in records.iter().enumerate() {
            assert_eq!(stored.offset, offset as u64, "offsets are dense");
            let text = String::from_utf8(stored.value.as_ref().unwrap().to_vec()).unwrap();
            let mut words = text.split(' ');
            let name = words.next().unwrap().to_owned();
            let [batch, n, count] = std::array::from_fn(|_| words.next().unwrap().parse::<u64>().unwrap());
            let newest = last.insert(name.clone(), (batch, n));
            assert!(newest < Some((batch, n)), "{name}: {batch}/{n} came after {newest:?}");
            let counts = found.entry((name, batch)).or_insert_with(|| vec![0; count as usize]);
            counts[n as usize] += 1;
        }
        let part = bus.inner.store.state().part("in", partition).unwrap();
        let committed = bus.inner.store.state().committed("copier", part).unwrap_or(0);
        let copies: Vec<_> = everything(&bus, "out", partition).into_iter().map(|stored| stored.value).collect();
        let inputs: Vec<_> = records.into_iter().take(committed as usize).map(|stored| stored.value).collect();
        assert!(copies == inputs, "partition {partition}: {} copies of {} inputs", copies.len(), inputs.len());
    }
    for (batch, counts) in &found {
        assert!(counts.iter().all(|count| *count == 1), "batch {batch:?} is there in part or twice: {counts:?}");
    }
    for ack in acks {
        assert!(found.contains_key(ack), "batch {ack:?} was acknowledged and is gone");
    }
    found.len()
}

#[test]
fn acknowledged_batches_survive_two_hundred_kills_exactly_once() {
    let mut rng = SmallRng::seed_from_u64(7);
    let (mut acked, mut there) = (0, 0);
    for _ in 0..KILLS / KILLS_PER_DIR {
        let dir = tempfile::tempdir().unwrap();
        let mut acks = BTreeSet::new();
        let mut batches = 0;
        for _ in 0..KILLS_PER_DIR {
            // Some while opening, most while writing.
            let lines = if rng.random_bool(0.1) { 0 } else { rng.random_range(1..60) };
            let moment = Duration::from_micros(rng.random_range(0..5000));
            kill(dir.path(), lines, moment, &mut acks);
            batches = check(dir.path(), &acks);
        }
        (acked, there) = (acked + acks.len(), there + batches);
    }
    println!("{KILLS} kills: {acked} batches acknowledged, {there} found");
    assert!(acked > 0 && there >= acked);
}
