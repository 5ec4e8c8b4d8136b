//! Log files to the local bus, in this process: lines and bytes per CPU-second, and what a thousand idle files cost, each
//! with four that rotation left.
//!
//! The files are written before; CPU time is that of the whole process, the bus's checksums and writes with it. Arguments:
//! `--lines N` per shape (2,000,000 by default), `--idle SECONDS` (20 by default).

// A benchmark reports on its standard output.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::local::{LocalBus, LocalConfig};
use afflux_bus::{Bus, Cleanup, TopicSpec};
use afflux_producers::files::config::FilesWatch;
use afflux_producers::files::{Files, FilesConfig, NAME};
use afflux_runtime::admin::HealthTable;
use afflux_runtime::metrics::ComponentLabels;
use afflux_runtime::{Component as _, Context, Metrics};
use afflux_schemas::topics::Topics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FILES: usize = 8;
const IDLE_FILES: usize = 1000;
const LIMIT: Duration = Duration::from_secs(600);

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let lines = argument("--lines")?.unwrap_or(2_000_000);
        println!("{:<26}{:>14}{:>14}{:>12}{:>10}", "shape", "lines/CPU-s", "MB/CPU-s", "lines/s", "CPU-s");
        for (shape, line) in SHAPES {
            throughput(shape, line, lines).await?;
        }
        let idle = Duration::from_secs(argument("--idle")?.unwrap_or(20));
        for watch in [FilesWatch::Auto, FilesWatch::Poll] {
            println!(
                "{IDLE_FILES} idle files, {watch:?}: {:.2} % of a core",
                100.0 * cost_of_idling(watch, idle).await?
            );
        }
        Ok(())
    })
}

/// What a line is made of: its number.
type Line = fn(u64) -> String;

const SHAPES: [(&str, Line); 3] = [
    ("CRI, text, 200 bytes", |n| {
        format!(
            "2026-01-01T00:00:00.{:09}Z stdout F 2026-01-01 00:00:00.000  INFO 1 --- [main] c.e.Cart : order {n:010} was \
             taken from the queue and passed on to payment and shipment, in this order, as usual\n",
            n % 1_000_000_000
        )
    }),
    ("CRI, JSON, 300 bytes", |n| {
        format!(
            "2026-01-01T00:00:00.{:09}Z stderr F {{\"ts\":\"2026-01-01T00:00:00Z\",\"level\":\"warn\",\"msg\":\"order {n} is late\",\
             \"trace_id\":\"0af7651916cd43dd8448eb21{n:08x}\",\"span_id\":\"b7ad6b7169203331\",\"customer\":\"c-{n}\",\
             \"elapsed\":1.25,\"queue\":\"orders\",\"attempt\":3}}\n",
            n % 1_000_000_000
        )
    }),
    ("plain, 1000 bytes", |n| format!("level=info order={n:010} {}\n", "0123456789abcdef".repeat(61))),
];

fn argument(name: &str) -> Result<Option<u64>> {
    let args: Vec<String> = std::env::args().collect();
    let value = args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    Ok(value.map(|value| value.parse()).transpose()?)
}

/// The component over a local bus, both below a directory.
struct Running {
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    bus: Arc<dyn Bus>,
    task: JoinHandle<Result<()>>,
}

impl Running {
    async fn start(dir: &Path, config: FilesConfig) -> Result<Self> {
        let bus: Arc<dyn Bus> = LocalBus::open(LocalConfig::new(dir.join("bus")))?;
        let topics = Topics::default();
        let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
        let spec = |name: String| TopicSpec { name: name.into(), partitions: 4, cleanup };
        bus.create_topics(&topics.all().map(spec)).await?;
        let (metrics, shutdown) = (Arc::new(Metrics::new()), CancellationToken::new());
        let context = Context {
            bus: Arc::clone(&bus),
            metrics: Arc::clone(&metrics),
            health: HealthTable::default().component(NAME),
            shutdown: shutdown.clone(),
        };
        let files = Files::new(config, topics)?;
        let task = tokio::spawn(async move { Ok(Box::new(files).run(context).await?) });
        Ok(Self { metrics, shutdown, bus, task })
    }

    async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        self.task.await??;
        self.bus.close().await;
        Ok(())
    }
}

fn config(dir: &Path) -> FilesConfig {
    let paths = vec![format!("{}/logs/*/*.log", dir.display())];
    FilesConfig { paths, positions: dir.join("positions"), ..FilesConfig::default() }
}

async fn throughput(shape: &str, line: Line, lines: u64) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut bytes = 0;
    for file in 0..FILES {
        let logs = dir.path().join(format!("logs/{file}"));
        fs::create_dir_all(&logs)?;
        let mut out = BufWriter::new(File::create(logs.join("0.log"))?);
        for n in 0..lines / FILES as u64 {
            let line = line(n);
            bytes += line.len();
            out.write_all(line.as_bytes())?;
        }
        out.flush()?;
    }
    let total = lines / FILES as u64 * FILES as u64;
    let (started, before) = (Instant::now(), cpu_seconds()?);
    let running = Running::start(dir.path(), config(dir.path())).await?;
    let stored =
        running.metrics.accepted_items.get_or_create(&ComponentLabels { component: NAME, signal: "logs" }).clone();
    while stored.get() < total {
        if started.elapsed() > LIMIT {
            return Err(format!("{} of {total} lines after {LIMIT:?}", stored.get()).into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds()? - before);
    let (lines, megabytes) = (total as f64, bytes as f64 / 1e6);
    println!("{shape:<26}{:>14.0}{:>14.0}{:>12.0}{cpu:>10.2}", lines / cpu, megabytes / cpu, lines / wall);
    running.stop().await
}

async fn cost_of_idling(watch: FilesWatch, idle: Duration) -> Result<f64> {
    let dir = tempfile::tempdir()?;
    for file in 0..IDLE_FILES {
        let logs = dir.path().join(format!("logs/{file}"));
        fs::create_dir_all(&logs)?;
        for rotated in 1..=4 {
            fs::write(
                logs.join(format!("0.log.20260101-00000{rotated}")),
                "2026-01-01T00:00:00.000000001Z stdout F old\n",
            )?;
        }
        fs::write(logs.join("0.log"), "2026-01-01T00:00:00.000000001Z stdout F a line\n")?;
    }
    let running = Running::start(dir.path(), FilesConfig { watch, ..config(dir.path()) }).await?;
    // Long enough for everything to be read and settled.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = cpu_seconds()?;
    tokio::time::sleep(idle).await;
    let cost = (cpu_seconds()? - before) / idle.as_secs_f64();
    running.stop().await?;
    Ok(cost)
}

/// User and system time of all threads.
fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("malformed stat")?.1.split_ascii_whitespace().collect();
    // In ticks of 10 ms on Linux.
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}
