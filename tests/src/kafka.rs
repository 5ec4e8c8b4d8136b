//! A real Apache Kafka: one node, KRaft, in a fresh directory; and more nodes that join it.

mod properties;
pub mod security;

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use self::properties::Listener;
pub use self::security::Security;
use crate::proxy::Proxy;
use crate::watchdog::Watchdog;

/// How long a broker may take to answer after its start; about 6 s on two idle cores.
const START: Duration = Duration::from_secs(120);
/// Enough for a hundred small topics and a few hundred megabytes of load.
const HEAP: &str = "-Xmx512m";

/// A running broker, stopped and removed when dropped (or when the process that started it ends).
///
/// Its log is kept in the cache folder until the next day; the path is printed at the start, so that a failing
/// test shows it.
#[derive(Debug)]
pub struct KafkaServer {
    libs: PathBuf,
    dir: TempDir,
    log: PathBuf,
    port: u16,
    /// Port of the controller, and the cluster's id.
    cluster: (u16, String),
    /// Ports of the listeners behind proxies.
    behind: Vec<u16>,
    /// Ports of the listeners for which certificates are wanted, and authentication.
    secured: [u16; 2],
    security: Option<Security>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    java: Child,
    _watchdog: Watchdog,
}

impl KafkaServer {
    /// Starts a broker of its own for the caller.
    ///
    /// `None`, after a printed notice, where Java or Kafka is missing; an error instead under `CI=true`.
    pub fn start() -> anyhow::Result<Option<Self>> {
        Self::start_behind(&[])
    }

    /// As [`KafkaServer::start`], with one more listener per proxy: whoever connects through a proxy is told that
    /// the broker is there.
    pub fn start_behind(proxies: &[Proxy]) -> anyhow::Result<Option<Self>> {
        or_skip(|libs| Self::start_from(libs, proxies, false))
    }

    /// As [`KafkaServer::start`], with two more listeners: [`KafkaServer::mutual_tls`], [`KafkaServer::sasl_tls`].
    pub fn start_secured() -> anyhow::Result<Option<Self>> {
        or_skip(|libs| Self::start_from(libs, &[], true))
    }

    /// Starts a second broker of the same cluster, node 2. Topics of before stay where they are.
    pub fn second(&self) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("afflux-kafka-").tempdir()?;
        let port = crate::afflux::ports(1)?[0];
        let properties = properties::joining(port, self.cluster.0, &dir.path().join("data"));
        let server = Self::format(self.libs.clone(), dir, &properties, &[], port, self.cluster.clone())?;
        server.restart()?;
        Ok(server)
    }

    /// The broker that all tests of this process share; topic and group names must be unique per test.
    ///
    /// # Panics
    /// Where [`KafkaServer::start`] fails.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<KafkaServer>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().expect("Apache Kafka starts")).as_ref()
    }

    /// The address to give to clients, `host:port`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address where the broker speaks TLS and wants a certificate of the client.
    pub fn mutual_tls(&self) -> String {
        format!("127.0.0.1:{}", self.secured[0])
    }

    /// The address where the broker speaks TLS and wants [`security::USER`] to authenticate, by any mechanism.
    pub fn sasl_tls(&self) -> String {
        format!("127.0.0.1:{}", self.secured[1])
    }

    /// What clients need for the secured listeners.
    ///
    /// # Panics
    /// Where the broker was not started by [`KafkaServer::start_secured`].
    pub fn security(&self) -> &Security {
        self.security.as_ref().expect("started with secured listeners")
    }

    /// Ends the broker with SIGKILL. Its data stay for [`KafkaServer::restart`].
    pub fn kill(&self) -> anyhow::Result<()> {
        if let Some(mut running) = self.running().take() {
            running.java.kill()?;
            running.java.wait()?;
        }
        Ok(())
    }

    /// Starts the killed broker again, on the same port and data, and waits until it answers.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.kill()?;
        let log = File::options().append(true).open(&self.log)?;
        let java = java(&self.libs)
            .arg("kafka.Kafka")
            .arg(self.dir.path().join("server.properties"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .context("starting java")?;
        let watchdog = Watchdog::of(&java, self.dir.path())?;
        let mut running = Running { java, _watchdog: watchdog };
        let answered = self.wait_until_ready(&mut running.java);
        // Kept even when it never answered, so that drop ends it.
        *self.running() = Some(running);
        answered
    }

    fn start_from(libs: PathBuf, proxies: &[Proxy], secured: bool) -> anyhow::Result<Self> {
        let mut failure = None;
        // A free port may be taken by someone else between its choice and its use.
        for _ in 0..3 {
            let server = Self::prepare(libs.clone(), proxies, secured)?;
            match server.restart() {
                Ok(()) => {
                    proxies.iter().zip(&server.behind).for_each(|(proxy, port)| proxy.forward_to(*port));
                    eprintln!("Apache Kafka on {}, log in {}", server.brokers(), server.log.display());
                    return Ok(server);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.expect("tried three times"))
    }

    fn prepare(libs: PathBuf, proxies: &[Proxy], secured: bool) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("afflux-kafka-").tempdir()?;
        let security = secured.then(Security::new).transpose()?;
        let mut ports = crate::afflux::ports(4 + proxies.len())?;
        let behind = ports.split_off(4);
        let (port, controller, secured) = (ports[0], ports[1], [ports[2], ports[3]]);
        let mut listeners = vec![
            Listener::new("PLAINTEXT", "PLAINTEXT", port),
            Listener { told: None, ..Listener::new("CONTROLLER", "PLAINTEXT", controller) },
        ];
        listeners.extend(proxies.iter().zip(&behind).enumerate().map(|(index, (proxy, own))| Listener {
            told: Some(proxy.port()),
            ..Listener::new(format!("PROXY{index}"), "PLAINTEXT", *own)
        }));
        if security.is_some() {
            listeners.push(Listener::new("MTLS", "SSL", secured[0]));
            listeners.push(Listener::new("SASL_SSL", "SASL_SSL", secured[1]));
        }
        let text = properties::text(&listeners, controller, &dir.path().join("data"), security.as_ref());
        let scram: Vec<_> = security.iter().flat_map(|_| Security::scram_arguments()).collect();
        let mut server = Self::format(libs, dir, &text, &scram, port, (controller, cluster_id()))?;
        server.behind = behind;
        (server.secured, server.security) = (secured, security);
        Ok(server)
    }

    /// A broker that has not been started, with its directory in order.
    fn format(
        libs: PathBuf,
        dir: TempDir,
        text: &str,
        arguments: &[String],
        port: u16,
        cluster: (u16, String),
    ) -> anyhow::Result<Self> {
        let properties = dir.path().join("server.properties");
        fs::write(&properties, text)?;
        let log = log_file(&libs, port)?;
        let formatted = java(&libs)
            .args(["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format", "--cluster-id", &cluster.1])
            .arg("--config")
            .arg(&properties)
            .args(arguments)
            .output()
            .context("starting java")?;
        ensure!(formatted.status.success(), "kafka storage format: {}", String::from_utf8_lossy(&formatted.stderr));
        let (behind, running) = (Vec::new(), Mutex::default());
        Ok(Self { libs, dir, log, port, cluster, behind, secured: [0; 2], security: None, running })
    }

    fn wait_until_ready(&self, java: &mut Child) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = java.try_wait()? {
                bail!("kafka ended at its start with {status}; end of {}:\n{}", self.log.display(), tail(&self.log));
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() && has_broker(&self.brokers()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("kafka did not answer in {START:?}; end of {}:\n{}", self.log.display(), tail(&self.log));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KafkaServer {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("kafka could not be stopped: {error}");
        }
    }
}

/// Starts with Kafka's jars; `None`, after a printed notice, without them, an error instead under `CI=true`.
fn or_skip(start: impl FnOnce(PathBuf) -> anyhow::Result<KafkaServer>) -> anyhow::Result<Option<KafkaServer>> {
    match install() {
        Ok(libs) => start(libs).map(Some),
        Err(missing) if std::env::var("CI").is_ok_and(|ci| ci == "true") => Err(missing),
        Err(missing) => {
            eprintln!("SKIPPED, no Apache Kafka here: {missing:#}");
            Ok(None)
        }
    }
}

/// The folder of Kafka's jars, filled at the first use.
fn install() -> anyhow::Result<PathBuf> {
    let script = peer_file("install.sh");
    let output = Command::new("sh").arg(&script).stdin(Stdio::null()).output().context("starting sh")?;
    ensure!(output.status.success(), "{} failed: {}", script.display(), String::from_utf8_lossy(&output.stderr).trim());
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn peer_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/kafka").join(name)
}

fn java(libs: &Path) -> Command {
    let mut java = Command::new("java");
    java.args(["-Xms64m", HEAP, "-XX:+UseSerialGC", "-Djava.awt.headless=true"])
        .arg(format!("-Dlog4j2.configurationFile={}", peer_file("log4j2.properties").display()))
        .env("CLASSPATH", libs.join("*"));
    java
}

/// 16 random bytes as Kafka writes them: base64 for URLs, without padding.
fn cluster_id() -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let random = u128::from_be_bytes(rand::random());
    let digit = |bits: u128| char::from(DIGITS[(bits & 63) as usize]);
    // 21 digits of 6 bits, then the last 2 bits; an id may not begin with a dash.
    let mut id = String::from("A");
    id.extend((1..21).map(|i| digit(random >> (128 - 6 * (i + 1)))));
    id.push(digit((random & 3) << 4));
    id
}

/// A new log file beside the jars' folder; logs older than a day are removed.
fn log_file(libs: &Path, port: u16) -> anyhow::Result<PathBuf> {
    let logs = libs.with_file_name("logs");
    fs::create_dir_all(&logs)?;
    for entry in fs::read_dir(&logs)?.flatten() {
        let age = entry.metadata().ok().and_then(|m| m.modified().ok()).and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > Duration::from_secs(24 * 3600)) {
            let _ = fs::remove_file(entry.path());
        }
    }
    let log = logs.join(format!("{}-{port}.log", std::process::id()));
    File::create(&log)?;
    Ok(log)
}

fn has_broker(brokers: &str) -> bool {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let client: Result<BaseConsumer, _> = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg)
        .create();
    client
        .and_then(|client| client.fetch_metadata(None, Duration::from_secs(5)))
        .is_ok_and(|metadata| !metadata.brokers().is_empty())
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_16_bytes_in_22_digits_and_never_begins_with_a_dash() {
        for _ in 0..100 {
            let id = cluster_id();
            assert_eq!(id.len(), 22);
            assert!(!id.starts_with('-'), "{id}");
        }
    }
}
