//! Freshness of every sink at a steady load, and what it costs the others when Loki is away for two minutes.
//!
//! One process on the local bus runs everything; `afflux generate` sends spans and their logs to it, and this program more
//! logs. The backends are a server that takes everything and keeps nothing. Ages are from the client's acknowledgement to
//! the backend's, as the process's own histograms have them; quantiles are interpolated within a bucket. Of Parquet, which
//! writes files every minute, it is how long the oldest record has been waiting, looked at once a second.
//!
//! Arguments: `--rate N` spans a second (20,000 by default), `--logs N` log records a second besides those of the spans
//! (16,200), `--quiet N` seconds (60), `--down N` seconds (120).

// A benchmark reports on its standard output.
#![allow(clippy::print_stdout)]

#[path = "args.rs"]
mod args;
#[path = "isolation/logs.rs"]
mod logs;
#[path = "sinks/null_server.rs"]
mod null_server;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use afflux_tests::afflux::{Afflux, Options, binary};
use anyhow::{Result, ensure};
use tokio::time::sleep;

const SINKS: [(&str, &str); 3] = [("sinks.tempo", "spans"), ("sinks.prometheus", "series"), ("sinks.loki", "logs")];
const WARM: Duration = Duration::from_secs(20);
/// How long catching up may take.
const CATCH_UP: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if std::env::args().any(|arg| arg == null_server::ARGUMENT) {
        return runtime.block_on(null_server::serve());
    }
    runtime.block_on(measure())
}

async fn measure() -> Result<()> {
    let (rate, quiet, down) =
        (args::number("--rate", 20_000)?, args::number("--quiet", 60)?, args::number("--down", 120)?);
    let (quiet, down) = (Duration::from_secs(quiet), Duration::from_secs(down));
    let (server, dir) = (null_server::NullServer::start()?, tempfile::tempdir()?);
    let url = format!("http://127.0.0.1:{}", server.port());
    let options = Options::run("producers,processors,sinks")
        .config(&format!(
            "sinks: {{loki: {{url: \"{url}\"}}, tempo: {{endpoint: \"{url}\"}}, prometheus: {{url: \"{url}\"}}}}"
        ))
        .env("AFFLUX__BUS__LOCAL__DIR", dir.path().join("bus").display().to_string())
        .env("AFFLUX__SINKS__PARQUET__URL", dir.path().join("lake").display().to_string())
        .env("AFFLUX__LOG__LEVEL", "error");
    let afflux = Afflux::start(dir.path(), &options).await?;
    let seconds = (WARM + quiet + down + CATCH_UP).as_secs();
    let mut load = Command::new(binary()?)
        .args(["generate", "--rate", &rate.to_string(), "--duration", &format!("{seconds}s")])
        .args(["--endpoint", &format!("http://127.0.0.1:{}", afflux.grpc)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let more_logs = args::number("--logs", 16_200)?;
    let result = tokio::select! {
        result = phases(&afflux, &url, (quiet, down)) => result,
        ended = logs::send(afflux.http, more_logs) => ended,
    };
    let _ = load.kill();
    let _ = load.wait();
    result?;
    println!("peak resident size {} MiB", afflux.usage()?.1 >> 20);
    Ok(())
}

async fn phases(afflux: &Afflux, url: &str, (quiet, down): (Duration, Duration)) -> Result<()> {
    sleep(WARM).await;
    let start = Seen::of(afflux).await?;
    let parquet = watch(afflux, quiet).await?;
    println!("quiet: Parquet's oldest record has waited {parquet:.2} s (p99)");
    let calm = Seen::of(afflux).await?;
    println!("{:<18}{:>10}{:>12}{:>12}{:>12}", "", "items/s", "p50 s", "p99 s", "p99 ratio");
    let before: Vec<f64> = SINKS.iter().map(|sink| calm.row("quiet", *sink, &start, None)).collect();
    tell(url, "down").await?;
    let waited = watch(afflux, down).await?;
    println!("Loki away: Parquet's oldest record has waited {waited:.2} s (p99), ratio {:.2}", waited / parquet);
    let away = Seen::of(afflux).await?;
    for (sink, before) in SINKS.iter().zip(&before).filter(|(sink, _)| sink.0 != "sinks.loki") {
        away.row("Loki away", *sink, &calm, Some(*before));
    }
    tell(url, "up").await?;
    let (began, behind) = (Instant::now(), away);
    let steady = calm.settled("sinks.loki", "logs") - start.settled("sinks.loki", "logs");
    let steady = steady / calm.at.duration_since(start.at).as_secs_f64();
    loop {
        sleep(Duration::from_millis(500)).await;
        ensure!(began.elapsed() < CATCH_UP, "Loki has not caught up in {CATCH_UP:?}");
        let now = Seen::of(afflux).await?;
        if now.freshness("sinks.loki", "logs") < 2.0 {
            let took = now.at.duration_since(behind.at).as_secs_f64();
            let caught = (now.settled("sinks.loki", "logs") - behind.settled("sinks.loki", "logs")) / took;
            println!("Loki caught up in {took:.1} s at {caught:.0} logs/s, {:.1} of its steady rate", caught / steady);
            for (sink, before) in SINKS.iter().zip(&before).filter(|(sink, _)| sink.0 != "sinks.loki") {
                now.row("catching up", *sink, &behind, Some(*before));
            }
            return Ok(());
        }
    }
}

/// Looks once a second for how long Parquet's oldest record has been waiting; the 99th percentile of that.
async fn watch(afflux: &Afflux, time: Duration) -> Result<f64> {
    let (until, mut waits) = (Instant::now() + time, Vec::new());
    while Instant::now() < until {
        sleep(Duration::from_secs(1)).await;
        let of = "afflux_watermark_age_seconds{component=\"sinks.parquet\"";
        let now = Seen::of(afflux).await?;
        let ages = now.values.iter().filter(|(series, _)| series.starts_with(of)).map(|(_, age)| *age);
        waits.push(ages.fold(0.0, f64::max));
    }
    waits.sort_by(f64::total_cmp);
    Ok(waits[(waits.len() * 99 / 100).min(waits.len() - 1)])
}

async fn tell(url: &str, what: &str) -> Result<()> {
    reqwest::Client::new().post(format!("{url}/{what}/loki")).send().await?.error_for_status()?;
    Ok(())
}

/// What the process told at a time.
struct Seen {
    at: Instant,
    values: BTreeMap<String, f64>,
}

impl Seen {
    async fn of(afflux: &Afflux) -> Result<Self> {
        let text = reqwest::get(format!("http://127.0.0.1:{}/metrics", afflux.admin)).await?.text().await?;
        let line = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        let values = text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect();
        Ok(Self { at: Instant::now(), values })
    }

    fn value(&self, name: &str, component: &str, signal: &str) -> f64 {
        let series = format!("afflux_{name}{{component=\"{component}\",signal=\"{signal}\"}}");
        self.values.get(&series).copied().unwrap_or_default()
    }

    fn settled(&self, component: &str, signal: &str) -> f64 {
        self.value("settled_items_total", component, signal)
    }

    fn freshness(&self, component: &str, signal: &str) -> f64 {
        self.value("freshness_seconds", component, signal)
    }

    /// Cumulative counts by bound.
    fn buckets(&self, component: &str, signal: &str) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (series, count) in &self.values {
            let of = |text: &str| series.contains(text);
            if !series.starts_with("afflux_delivery_age_seconds_bucket") || !of(component) || !of(signal) {
                continue;
            }
            let bound = series.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            buckets.push((bound.parse().unwrap_or(f64::INFINITY), *count));
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }

    /// The age that a part of the records was below since an earlier time.
    fn quantile(&self, (component, signal): (&str, &str), before: &Self, q: f64) -> Option<f64> {
        let earlier: Vec<(f64, f64)> = before.buckets(component, signal);
        let since = self.buckets(component, signal).into_iter().map(|(bound, count)| {
            let then = earlier.iter().find(|(other, _)| other.to_bits() == bound.to_bits()).map_or(0.0, |(_, n)| *n);
            (bound, count - then)
        });
        let since: Vec<(f64, f64)> = since.collect();
        let wanted = since.last()?.1 * q;
        let at = since.iter().position(|(_, count)| *count >= wanted)?;
        let (low, below) = at.checked_sub(1).map_or((0.0, 0.0), |at| since[at]);
        let (high, upto) = since[at];
        Some(if upto > below { low + (high - low) * (wanted - below) / (upto - below) } else { high })
    }

    fn row(&self, phase: &str, sink: (&str, &str), before: &Self, quiet: Option<f64>) -> f64 {
        let (component, signal) = sink;
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        let items = (self.settled(component, signal) - before.settled(component, signal)) / seconds;
        let quantile = |q| self.quantile(sink, before, q).unwrap_or(f64::NAN);
        let (median, p99) = (quantile(0.5), quantile(0.99));
        let ratio = quiet.map_or_else(String::new, |quiet| format!("{:.2}", p99 / quiet));
        println!("{phase:<12}{:<17}{items:>9.0}{median:>12.2}{p99:>12.2}{ratio:>12}", &component[6..]);
        p99
    }
}
