//! A real MirrorMaker 2, which copies topics from several Kafka clusters to one and names them after their source.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::watchdog::Watchdog;

/// A running MirrorMaker, ended when dropped (or when the process that started it ends).
#[derive(Debug)]
pub struct MirrorMaker {
    java: Child,
    dir: TempDir,
    _watchdog: Watchdog,
}

impl MirrorMaker {
    /// Mirrors the topics that match `topics`, a regular expression, from each of the sources, given by name and
    /// address, to the brokers at `target`. It looks for new topics every second.
    ///
    /// `None`, after a printed notice, where Java or Kafka's Connect is missing; an error instead under `CI=true`.
    pub fn start(sources: &[(&str, &str)], target: &str, topics: &str) -> anyhow::Result<Option<Self>> {
        match install() {
            Ok(libs) => Self::start_from(&libs, &properties(sources, target, topics)).map(Some),
            Err(missing) if std::env::var("CI").is_ok_and(|ci| ci == "true") => Err(missing),
            Err(missing) => {
                eprintln!("SKIPPED, no MirrorMaker here: {missing:#}");
                Ok(None)
            }
        }
    }

    fn start_from(libs: &Path, properties: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("afflux-mirror-maker-").tempdir()?;
        let config = dir.path().join("mirror.properties");
        fs::write(&config, properties)?;
        let log = File::create(dir.path().join("log"))?;
        let java = Command::new("java")
            .args(["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"])
            .arg(format!("-Dlog4j2.configurationFile={}", peers().join("kafka/log4j2.properties").display()))
            .env("CLASSPATH", libs.join("*"))
            .arg("org.apache.kafka.connect.mirror.MirrorMaker")
            .arg(&config)
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .context("starting java")?;
        let watchdog = Watchdog::of(&java, dir.path())?;
        Ok(Self { java, dir, _watchdog: watchdog })
    }

    /// An error where it has ended by itself.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.java.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("MirrorMaker ended with {status}:\n{}", self.log()),
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for MirrorMaker {
    fn drop(&mut self) {
        let _ = self.java.kill();
        let _ = self.java.wait();
    }
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// The folder of the jars, filled at the first use.
fn install() -> anyhow::Result<PathBuf> {
    let script = peers().join("mirror-maker/install.sh");
    let output = Command::new("sh").arg(&script).stdin(Stdio::null()).output().context("starting sh")?;
    ensure!(output.status.success(), "{} failed: {}", script.display(), String::from_utf8_lossy(&output.stderr).trim());
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn properties(sources: &[(&str, &str)], target: &str, topics: &str) -> String {
    let names: Vec<_> = sources.iter().map(|(name, _)| *name).collect();
    let mut text = format!("clusters={},target\ntarget.bootstrap.servers={target}\n", names.join(","));
    for (name, brokers) in sources {
        text += &format!(
            "{name}.bootstrap.servers={brokers}\n{name}->target.enabled=true\n{name}->target.topics={topics}\n"
        );
    }
    // One node of each has no replicas to offer.
    for internal in ["", "checkpoints.topic.", "heartbeats.topic.", "offset-syncs.topic."] {
        text += &format!("{internal}replication.factor=1\n");
    }
    for storage in ["offset", "status", "config"] {
        text += &format!("{storage}.storage.replication.factor=1\n");
    }
    text + "offset.storage.partitions=1\nstatus.storage.partitions=1\n\
            emit.heartbeats.interval.seconds=600\nemit.checkpoints.interval.seconds=600\n\
            sync.topic.configs.enabled=false\nsync.topic.acls.enabled=false\n\
            refresh.topics.interval.seconds=1\noffset.flush.interval.ms=1000\ntasks.max=1\n"
}
