//! One role of Afflux as a process, and what the kernel says it used.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_bytes: u64,
}

impl Usage {
    /// CPU time since an earlier reading; the peak is the process's own.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { cpu_seconds: self.cpu_seconds - earlier.cpu_seconds, ..self }
    }
}

pub(crate) struct Process {
    child: Child,
    pub(crate) http_port: u16,
    admin_port: u16,
}

impl Process {
    /// Starts `afflux run --only ROLE` with its data below `dir`, and waits until it is ready.
    pub(crate) async fn start(dir: &Path, bus: &str, role: &str) -> Result<Self> {
        let (http_port, admin_port) = (free_port()?, free_port()?);
        let config = format!(
            "{bus}\nproducers: {{otlp: {{http: {{listen: \"127.0.0.1:{http_port}\"}}}}}}\n\
             sinks: {{parquet: {{url: {lake:?}}}}}\nadmin: {{listen: \"127.0.0.1:{admin_port}\"}}\n",
            lake = dir.join("lake"),
        );
        let file = dir.join(format!("{role}.yaml"));
        std::fs::write(&file, config)?;
        let child = Command::new(binary()?)
            .args(["run", "--only", role, "-c"])
            .arg(&file)
            .env("AFFLUX__BUS__LOCAL__DIR", dir.join("bus"))
            .env("AFFLUX__LOG__LEVEL", "warn")
            .stdout(Stdio::null())
            .spawn()?;
        let process = Self { child, http_port, admin_port };
        let started = Instant::now();
        while reqwest::get(process.url("readyz")).await.map_or(true, |r| !r.status().is_success()) {
            if started.elapsed() > START_LIMIT {
                bail!("{role} is not ready after {START_LIMIT:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(process)
    }

    pub(crate) async fn metrics(&self) -> Result<String> {
        Ok(reqwest::get(self.url("metrics")).await?.text().await?)
    }

    /// CPU time of all threads, user and system, and the largest resident size.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let stat = std::fs::read_to_string(proc.join("stat"))?;
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("malformed /proc stat")?.1.split_ascii_whitespace().collect();
        // utime and stime, fields 14 and 15 of proc(5), in ticks of 10 ms on Linux.
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        let status = std::fs::read_to_string(proc.join("status"))?;
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM in /proc status")?;
        let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse()?;
        Ok(Usage { cpu_seconds: ticks / 100.0, peak_bytes: peak_kib << 10 })
    }

    /// SIGTERM, then waits for the drain.
    pub(crate) fn stop(mut self) -> Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let started = Instant::now();
        while self.child.try_wait()?.is_none() {
            if started.elapsed() > STOP_LIMIT {
                bail!("process {} did not stop within {STOP_LIMIT:?}", self.child.id());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.admin_port)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone after a clean stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The release binary beside this bench.
fn binary() -> Result<PathBuf> {
    let bench = std::env::current_exe()?;
    let binary = bench.parent().and_then(Path::parent).context("bench outside a target directory")?.join("afflux");
    if !binary.exists() {
        bail!("{} is missing; run `make bench`, which builds it", binary.display());
    }
    Ok(binary)
}
