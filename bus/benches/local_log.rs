//! Throughput and cost of the local bus: `cargo bench -p afflux-bus --bench local_log [-- DIRECTORY]`.
//!
//! Writes and reads back 1 KB and 200 KB records, every answer after its sync, and opens the log again. Prints MB/s
//! of wall clock and seconds of CPU, user and system, per GB. DIRECTORY (default: the system's temporary one)
//! decides which disk is measured.

// A benchmark speaks to whoever runs it.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::{Bus, Cleanup, ConsumerConfig, Event, Headers, LocalBus, LocalConfig, PartitionId, Record, TopicSpec};
use bytes::Bytes;

const PARTITIONS: u32 = 16;

struct Load {
    name: &'static str,
    /// Bytes of one value.
    record: usize,
    /// Records of one call.
    batch: usize,
    /// Calls under way at once.
    senders: usize,
    total: usize,
}

const LOADS: [Load; 4] = [
    Load { name: "1 KB, one by one, 1 sender", record: 1024, batch: 1, senders: 1, total: 1 << 20 },
    Load { name: "1 KB, one by one, 64 senders", record: 1024, batch: 1, senders: 64, total: 256 << 20 },
    Load { name: "1 KB, 64 at once, 8 senders", record: 1024, batch: 64, senders: 8, total: 2 << 30 },
    Load { name: "200 KB, one by one, 8 senders", record: 200 << 10, batch: 1, senders: 8, total: 2 << 30 },
];

fn main() {
    let dir = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let dir = dir.map_or_else(std::env::temp_dir, Into::into);
    println!("| load | write MB/s | CPU-s/GB | read MB/s | CPU-s/GB | open ms |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for load in LOADS {
        let dir = tempfile::tempdir_in(&dir).unwrap();
        runtime.block_on(measure(dir.path(), &load));
    }
}

async fn measure(dir: &Path, load: &Load) {
    let bus = LocalBus::open(LocalConfig::new(dir)).unwrap();
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    bus.create_topics(&[TopicSpec { name: "t".into(), partitions: PARTITIONS, cleanup }]).await.unwrap();

    let meter = Meter::start();
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..load.senders {
        let (bus, calls) = (Arc::clone(&bus), load.total / load.record / load.batch / load.senders);
        let (record, batch) = (load.record, load.batch);
        senders.spawn(async move {
            let producer = bus.producer().await.unwrap();
            let value = Bytes::from((0..record).map(|n| (n * 31 + sender) as u8).collect::<Vec<u8>>());
            for call in 0..calls {
                let partition = (call + sender) as u32 % PARTITIONS;
                let record = Record {
                    to: PartitionId::new("t", partition),
                    key: None,
                    value: Some(value.clone()),
                    timestamp_ms: 0,
                    headers: Headers::new(),
                };
                producer.send(vec![record; batch]).await.unwrap();
            }
            calls * batch
        });
    }
    let records: usize = senders.join_all().await.into_iter().sum();
    let bytes = records * load.record;
    let (write, write_cpu) = meter.stop(bytes);

    let meter = Meter::start();
    let mut consumer = bus.consumer(ConsumerConfig::new("g", [Arc::from("t")])).await.unwrap();
    let mut read = 0;
    while read < records {
        if let Event::Records(got) = consumer.poll().await.unwrap() {
            read += got.len();
        }
    }
    let (read, read_cpu) = meter.stop(bytes);
    consumer.close().await;

    // As after a crash: nothing is closed in order.
    bus.close().await;
    let start = Instant::now();
    drop(LocalBus::open(LocalConfig::new(dir)).unwrap());
    let open = start.elapsed();
    println!(
        "| {} ({} MB) | {write:.0} | {write_cpu:.1} | {read:.0} | {read_cpu:.1} | {:.0} |",
        load.name,
        bytes >> 20,
        open.as_secs_f64() * 1e3
    );
}

struct Meter {
    start: Instant,
    cpu: Duration,
}

impl Meter {
    fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu() }
    }

    /// MB/s and CPU seconds per GB.
    fn stop(&self, bytes: usize) -> (f64, f64) {
        let (seconds, cpu) = (self.start.elapsed().as_secs_f64(), (cpu() - self.cpu).as_secs_f64());
        (bytes as f64 / 1e6 / seconds, cpu / (bytes as f64 / 1e9))
    }
}

/// CPU time of this process so far, in steps of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // `utime` and `stime` are the 14th and 15th field; the name, with its bracket, is the second.
    let ticks = |field: usize| fields[field - 3].parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(14) + ticks(15)))
}
