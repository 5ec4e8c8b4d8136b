//! A real OpenTelemetry Collector: a process with a configuration of the test's.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::afflux::free_ports;
use crate::watchdog::Watchdog;

/// How long a start may take; about a second on two idle cores.
const START: Duration = Duration::from_secs(60);

/// What a Collector is to do: receivers, exporters and the pipelines between them.
#[derive(Clone, Debug)]
pub struct Config {
    receivers: String,
    exporters: String,
    pipelines: String,
    ports: Vec<u16>,
}

impl Config {
    /// No pipelines.
    pub fn new() -> Self {
        let (receivers, exporters, pipelines) = (
            "receivers:\n".into(),
            "exporters:\n".into(),
            "service:\n  telemetry: {metrics: {level: none}}\n  pipelines:\n".into(),
        );
        Self { receivers, exporters, pipelines, ports: Vec::new() }
    }

    /// Adds a receiver of OTLP over HTTP; gives its port.
    pub fn otlp(&mut self, name: &str) -> anyhow::Result<u16> {
        let [port] = free_ports()?;
        self.ports.push(port);
        self.receiver(&format!("otlp/{name}"), &format!("{{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}"));
        Ok(port)
    }

    /// Adds a receiver, its settings in YAML on one line.
    pub fn receiver(&mut self, name: &str, settings: &str) {
        let _ = writeln!(self.receivers, "  {name}: {settings}");
    }

    /// Adds an exporter, its settings in YAML on one line.
    pub fn exporter(&mut self, name: &str, settings: &str) {
        let _ = writeln!(self.exporters, "  {name}: {settings}");
    }

    /// Adds a pipeline of `traces/…` or `logs/…`.
    pub fn pipeline(&mut self, name: &str, receiver: &str, exporter: &str) {
        let _ = writeln!(self.pipelines, "    {name}: {{receivers: [{receiver}], exporters: [{exporter}]}}");
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

/// A running Collector, ended when dropped. Its log is printed when a test panics with it.
#[derive(Debug)]
pub struct Collector {
    child: Child,
    log: PathBuf,
    _watchdog: Watchdog,
}

impl Collector {
    /// Starts a Collector and waits until its OTLP receivers answer. Its configuration and log go to `dir`.
    pub async fn start(program: &Path, dir: &Path, name: &str, config: &Config) -> anyhow::Result<Self> {
        let file = dir.join(format!("{name}.yaml"));
        fs::write(&file, [&*config.receivers, &config.exporters, &config.pipelines].concat())?;
        let log = dir.join(format!("{name}.log"));
        let child = Command::new(program)
            .arg(format!("--config=file:{}", file.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("starting the Collector")?;
        // The directory is the test's.
        let watchdog = Watchdog::of(&child, &dir.join(name))?;
        let mut collector = Self { child, log, _watchdog: watchdog };
        let started = Instant::now();
        while !collector.log().contains("Everything is ready") || !answer(&config.ports) {
            if let Some(status) = collector.child.try_wait()? {
                bail!("the Collector ended with {status}:\n{}", collector.log());
            }
            ensure!(started.elapsed() < START, "the Collector is not ready after {START:?}:\n{}", collector.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(collector)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the Collector ---\n{}", self.log());
        }
    }
}

fn answer(ports: &[u16]) -> bool {
    ports.iter().all(|&port| TcpStream::connect(("127.0.0.1", port)).is_ok())
}

/// The program, built at the first use.
///
/// `None`, after a printed notice, where it cannot be built; an error instead under `CI=true`.
pub fn program() -> anyhow::Result<Option<&'static Path>> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PROGRAM.get_or_init(|| install().map_err(|e| format!("{e:#}"))) {
        Ok(program) => Ok(Some(program)),
        Err(missing) if std::env::var("CI").is_ok_and(|ci| ci == "true") => bail!("{missing}"),
        Err(missing) => {
            eprintln!("SKIPPED, no OpenTelemetry Collector here: {missing}");
            Ok(None)
        }
    }
}

fn install() -> anyhow::Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/collector/install.sh");
    let output = Command::new("bash").arg(&script).stdin(Stdio::null()).output().context("starting bash")?;
    ensure!(output.status.success(), "{} failed: {}", script.display(), String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8(output.stdout)?;
    Ok(PathBuf::from(text.lines().last().context("no path")?))
}
