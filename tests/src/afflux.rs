//! The `afflux` binary as a process: started on free ports, watched, stopped or killed.

mod operator;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// How long a start may take until `/readyz` says yes.
const START: Duration = Duration::from_secs(60);
/// How long what was sent may take through the pipeline.
const SETTLE: Duration = Duration::from_secs(90);
/// Somewhat more than the time between two measurements of lag.
const LAG_EVERY: Duration = Duration::from_millis(5500);
/// How long a drain may take; the binary's own limit is 30 s.
const STOP: Duration = Duration::from_secs(60);

/// Below the usual range of ports for outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// How many ports are looked at.
const TRIES: usize = 200;

/// How to start a process.
#[derive(Clone, Debug)]
pub struct Options {
    /// Arguments before `-c FILE`, e.g. `["up", "--data-dir", …]`.
    args: Vec<String>,
    /// Environment on top of what the harness sets.
    env: Vec<(String, String)>,
    /// The configuration file.
    config: String,
}

impl Options {
    /// `afflux up` with its data below `dir`.
    pub fn up(data_dir: &Path) -> Self {
        let args = ["up", "--data-dir", &data_dir.display().to_string()].map(str::to_owned).to_vec();
        Self { args, env: Vec::new(), config: String::new() }
    }

    /// `afflux run`, limited to those roles (comma separated).
    pub fn run(only: &str) -> Self {
        Self { args: ["run", "--only", only].map(str::to_owned).to_vec(), env: Vec::new(), config: String::new() }
    }

    /// Adds YAML to the configuration file.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        let _ = writeln!(self.config, "{yaml}");
        self
    }

    /// On the topics of that prefix of a Kafka.
    #[must_use]
    pub fn on_kafka(self, brokers: &str, prefix: &str) -> Self {
        self.env("AFFLUX__BUS__KIND", "kafka")
            .env("AFFLUX__BUS__KAFKA__BROKERS", brokers)
            .env("AFFLUX__TOPICS__PREFIX", prefix)
    }

    /// Sets a variable, such as `AFFLUX__SINKS__PARQUET__FLUSH__AGE`.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// A running process. Killed when dropped; its log is printed when a test panics with it.
#[derive(Debug)]
pub struct Afflux {
    child: Child,
    log: PathBuf,
    /// Port of OTLP over gRPC.
    pub grpc: u16,
    /// Port of OTLP over HTTP.
    pub http: u16,
    /// Port of the admin server.
    pub admin: u16,
}

impl Afflux {
    /// Starts a process and waits until it is ready. Its configuration and log go to `dir`.
    pub async fn start(dir: &Path, options: &Options) -> anyhow::Result<Self> {
        let mut afflux = Self::spawn(dir, options)?;
        let started = Instant::now();
        while !afflux.is_ready().await {
            if let Some(status) = afflux.child.try_wait()? {
                bail!("afflux ended with {status} before it was ready:\n{}", afflux.log());
            }
            ensure!(started.elapsed() < START, "afflux is not ready after {START:?}:\n{}", afflux.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(afflux)
    }

    /// Starts a process without waiting.
    pub fn spawn(dir: &Path, options: &Options) -> anyhow::Result<Self> {
        let [grpc, http, admin] = free_ports()?;
        let config = dir.join(format!("afflux-{admin}.yaml"));
        fs::write(&config, &options.config)?;
        let log = dir.join(format!("afflux-{admin}.log"));
        let mut command = Command::new(binary()?);
        command.args(&options.args).arg("-c").arg(&config);
        for (name, port) in
            [("PRODUCERS__OTLP__GRPC__LISTEN", grpc), ("PRODUCERS__OTLP__HTTP__LISTEN", http), ("ADMIN__LISTEN", admin)]
        {
            command.env(format!("AFFLUX__{name}"), format!("127.0.0.1:{port}"));
        }
        command.envs(options.env.iter().cloned());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        Ok(Self { child, log, grpc, http, admin })
    }

    /// Whether every component is ready.
    pub async fn is_ready(&self) -> bool {
        reqwest::get(self.url("readyz")).await.is_ok_and(|r| r.status().is_success())
    }

    /// A counter or gauge, `name{labels}` as the exposition writes it; `None` before its first value.
    pub async fn metric(&self, series: &str) -> anyhow::Result<Option<f64>> {
        let text = reqwest::get(self.url("metrics")).await?.text().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.map(str::parse).transpose()?)
    }

    /// Waits until a component has settled that many items of a signal.
    pub async fn settles(&self, component: &str, signal: &str, items: usize) -> anyhow::Result<()> {
        let series = format!("afflux_settled_items_total{{component=\"{component}\",signal=\"{signal}\"}}");
        let started = Instant::now();
        while self.metric(&series).await?.unwrap_or_default() < items as f64 {
            ensure!(started.elapsed() < SETTLE, "{component} has not settled {items} {signal}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until a component has no lag, as it was told twice in a row.
    pub async fn catches_up(&self, component: &str) -> anyhow::Result<()> {
        let start = format!("afflux_lag_records{{component=\"{component}\",");
        let (started, mut before) = (Instant::now(), f64::MAX);
        loop {
            let text = reqwest::get(self.url("metrics")).await?.text().await?;
            let values = text.lines().filter(|line| line.starts_with(&start)).filter_map(|line| line.rsplit_once(' '));
            let lags: Vec<f64> = values.map(|(_, value)| value.parse()).collect::<Result<_, _>>()?;
            let lag = if lags.is_empty() { f64::MAX } else { lags.iter().sum() };
            if lag == 0.0 && before == 0.0 {
                return Ok(());
            }
            before = lag;
            ensure!(started.elapsed() < SETTLE, "{component} has a lag of {lag} records:\n{}", self.log());
            tokio::time::sleep(LAG_EVERY).await;
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the process has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        // The shell's own `kill`: not every system has it as a program.
        Command::new("sh").args(["-c", r#"kill -s "$0" "$1""#, name, &self.child.id().to_string()]).status()?;
        Ok(())
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for a line of the log with that text.
    pub async fn says(&self, text: &str, at_most: Duration) -> anyhow::Result<String> {
        let started = Instant::now();
        loop {
            if let Some(line) = self.log().lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            ensure!(started.elapsed() < at_most, "`{text}` was not said in {at_most:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// SIGTERM; waits for the drain and expects exit code 0.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.signal("TERM")?;
        let status = self.wait().await?;
        ensure!(status.success(), "afflux ended with {status} after SIGTERM:\n{}", self.log());
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until the process has ended by itself.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(started.elapsed() < STOP, "afflux has not ended after {STOP:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// CPU seconds of all threads so far, and the largest resident size in bytes.
    pub fn usage(&self) -> anyhow::Result<(f64, u64)> {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let stat = fs::read_to_string(proc.join("stat"))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("malformed stat")?.1.split_ascii_whitespace().collect();
        // utime and stime, fields 14 and 15 of proc(5), in ticks of 10 ms on Linux.
        let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        let status = fs::read_to_string(proc.join("status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse()?;
        Ok((ticks / 100.0, kib << 10))
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.admin)
    }
}

impl Drop for Afflux {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of afflux {} ---\n{}", self.child.id(), self.log());
        }
    }
}

/// Runs the binary to its end.
pub fn run(args: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(binary()?).args(args).stdin(Stdio::null()).output()?)
}

/// Runs `afflux query` and parses its JSON lines.
pub fn query(lake: &Path, sql: &str) -> anyhow::Result<Vec<serde_json::Value>> {
    query_with(&lake.display().to_string(), sql, &[])
}

/// As [`query`], of the lake at a URL, with variables in the environment.
pub fn query_with(lake: &str, sql: &str, environment: &[(&str, String)]) -> anyhow::Result<Vec<serde_json::Value>> {
    let mut command = Command::new(binary()?);
    command.args(["query", "--lake", lake, "--format", "json", sql]).envs(environment.iter().cloned());
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "query failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Ports that were free a moment ago, each given out once in this process.
///
/// They lie below those that the system takes for outgoing connections: one of these could take a port of that range
/// between this call and the listener's start.
pub fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    ports(N)?.try_into().map_err(|_| anyhow::anyhow!("{N} ports"))
}

/// So many [`free_ports`].
pub(crate) fn ports(count: usize) -> anyhow::Result<Vec<u16>> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ports = Vec::with_capacity(count);
    for _ in 0..TRIES {
        let port = rand::random_range(PORTS);
        if ports.len() < count && TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            ports.push(port);
        }
    }
    ensure!(ports.len() == count, "no {count} free ports in {PORTS:?}");
    Ok(ports)
}

/// The binary: the one that `AFFLUX_BIN` names, else the one of this build's profile, built here so that it is
/// never an old one.
pub fn binary() -> anyhow::Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BINARY.get_or_init(|| build().map_err(|e| format!("{e:#}"))).as_deref().map_err(|e| anyhow::anyhow!("{e}"))
}

fn build() -> anyhow::Result<PathBuf> {
    if let Some(binary) = std::env::var_os("AFFLUX_BIN") {
        return Ok(binary.into());
    }
    // target/PROFILE/deps/this-test
    let exe = std::env::current_exe()?;
    let profile = exe.parent().and_then(Path::parent).context("test outside a target directory")?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // No `-p`: that would select another set of features and build the dependencies again.
    command.args(["build", "--quiet", "--bin", "afflux", "--manifest-path"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    ensure!(command.status()?.success(), "building the afflux binary failed");
    Ok(profile.join("afflux"))
}
