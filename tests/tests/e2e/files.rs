//! D3: log lines of files arrive at least once, and a second copy is known by its file and offset; through rotation and
//! `kill -9`.

mod writer;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use afflux_bus::{Bus as _, ConsumerConfig, Event, LocalBus, LocalConfig, PartitionLag};
use afflux_schemas::otlp::common::ValueView;
use afflux_schemas::otlp::logs::LogsView;
use afflux_tests::afflux::{Afflux, Options};
use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use writer::{Rotation, Writer};

const FILES: usize = 50;
const ROTATE_EVERY: Duration = Duration::from_millis(200);
const KILLS: usize = 5;
/// How long nothing more may come before all is taken to have come: longer than a file is waited for that left its path.
const QUIET: Duration = Duration::from_secs(12);
const CATCH_UP: Duration = Duration::from_secs(180);

/// A line's fingerprint and offset.
type Place = (String, i64);

/// What lies on the topic of log lines, by body.
async fn lines(dir: &Path) -> anyhow::Result<HashMap<String, Vec<Place>>> {
    let bus = LocalBus::open(LocalConfig::new(dir))?;
    let topics = [Arc::from("afflux.ingest.logs")];
    let lag = bus.lag("files-test", &topics).await?;
    ensure!(lag.iter().all(|partition| partition.start == 0), "retention has taken some");
    let mut left: u64 = lag.iter().map(PartitionLag::records).sum();
    let mut consumer = bus.consumer(ConsumerConfig::new("files-test", topics)).await?;
    let mut found: HashMap<String, Vec<Place>> = HashMap::new();
    while left > 0 {
        let Event::Records(records) = consumer.poll().await? else { continue };
        for record in records {
            take(&record.value.context("a record without a value")?, &mut found)?;
            left -= 1;
        }
    }
    consumer.close().await;
    bus.close().await;
    Ok(found)
}

fn take(value: &[u8], found: &mut HashMap<String, Vec<Place>>) -> anyhow::Result<()> {
    let records = LogsView::new(value).resource_logs();
    for record in records.flat_map(|block| block.scope_logs()).flat_map(|scope| scope.log_records()) {
        let ValueView::Str(body) = record.body() else { anyhow::bail!("a body that is no text") };
        let (mut fingerprint, mut offset) = (None, None);
        for attribute in record.attributes() {
            match (attribute.key_bytes(), attribute.value()) {
                (b"log.file.fingerprint", ValueView::Str(text)) => fingerprint = Some(text.to_owned()),
                (b"log.file.record_offset", ValueView::Int(number)) => offset = Some(number),
                _ => {}
            }
        }
        let place = (fingerprint.context("no fingerprint")?, offset.context("no offset")?);
        found.entry(body.to_owned()).or_default().push(place);
    }
    Ok(())
}

/// Waits until no more of the files is read.
async fn read_out(afflux: &Afflux) -> anyhow::Result<()> {
    let read = "afflux_file_bytes_read_total{component=\"producers.files\",signal=\"logs\"}";
    let (started, mut quiet, mut before) = (Instant::now(), Instant::now(), None);
    while quiet.elapsed() < QUIET {
        ensure!(started.elapsed() < CATCH_UP, "still reading:\n{}", afflux.log());
        let now = afflux.metric(read).await?;
        if now != before {
            (before, quiet) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_arrives_through_rotation_and_kills_and_a_second_copy_is_known_by_file_and_offset()
-> anyhow::Result<()> {
    let seed = std::env::var("AFFLUX_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    eprintln!("seed {seed}; set AFFLUX_SEED to repeat the moments of the kills");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir()?;
    let (logs, bus) = (dir.path().join("pods"), dir.path().join("bus"));
    let options = Options::run("producers.files")
        .config(&format!("producers: {{files: {{paths: ['{}/*/*/*.log'], flush_after: 60s}}}}", logs.display()))
        .env("AFFLUX__PRODUCERS__FILES__POSITIONS", dir.path().join("positions").display().to_string())
        .env("AFFLUX__BUS__LOCAL__DIR", bus.display().to_string());

    // What rotation did before anybody looked for the first time is history.
    fs::create_dir(&logs)?;
    let mut afflux = Afflux::start(dir.path(), &options).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..FILES)
        .map(|n| {
            let rotation = if n % 2 == 0 { Rotation::Rename } else { Rotation::CopyTruncate };
            let writer = Writer::new(&logs, n, rotation, random.random())?;
            let stop = Arc::clone(&stop);
            anyhow::Ok(std::thread::spawn(move || writer.run(ROTATE_EVERY, &stop)))
        })
        .collect::<Result<_, _>>()?;
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.random_range(500..2500))).await;
        afflux.kill()?;
        afflux = Afflux::start(dir.path(), &options).await?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    let (mut expected, mut rotations) = (HashSet::new(), 0);
    for writer in writers {
        let written = writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        rotations += written.rotations;
        expected.extend(written.lines);
    }
    read_out(&afflux).await?;
    afflux.stop().await?;

    let found = lines(&bus).await?;
    let lost: Vec<_> = expected.iter().filter(|line| !found.contains_key(*line)).take(10).collect();
    let unknown: Vec<_> = found.keys().filter(|line| !expected.contains(*line)).take(10).collect();
    let twice: usize = found.values().map(|places| places.len() - 1).sum();
    let elsewhere: Vec<_> = found.iter().filter(|(_, at)| at.iter().any(|place| *place != at[0])).take(10).collect();
    eprintln!("{} lines, {rotations} rotations, {twice} copies", expected.len());
    assert!(lost.is_empty() && unknown.is_empty(), "lost {lost:?}, unknown {unknown:?}, seed {seed}");
    assert!(elsewhere.is_empty(), "copies that are not known as such: {elsewhere:?}, seed {seed}");
    assert!(rotations > FILES * KILLS && twice > 0, "{rotations} rotations, {twice} copies: too little happened");
    Ok(())
}
