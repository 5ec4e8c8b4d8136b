//! A store that speaks S3: moto's server, with one bucket.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::watchdog::Watchdog;

/// How long a server may take to answer after its start.
const START: Duration = Duration::from_secs(60);
/// What moto takes any value for.
const KEY: &str = "afflux";

/// A running store, stopped when dropped (or when the process that started it ends). Its objects are in memory.
#[derive(Debug)]
pub struct S3Server {
    server: Child,
    _watchdog: Watchdog,
    dir: TempDir,
    port: u16,
}

impl S3Server {
    /// Starts a store with a bucket of that name.
    pub async fn start(python: &Path, bucket: &str) -> anyhow::Result<Self> {
        let [port] = crate::afflux::free_ports()?;
        let dir = tempfile::Builder::new().prefix("afflux-s3-").tempdir()?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let server = Command::new(python.with_file_name("moto_server"))
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting moto_server")?;
        let watchdog = Watchdog::of(&server, dir.path())?;
        let store = Self { server, _watchdog: watchdog, dir, port };
        let (client, url, started) = (reqwest::Client::new(), format!("{}/{bucket}", store.endpoint()), Instant::now());
        while !client.put(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            ensure!(started.elapsed() < START, "moto_server does not answer:\n{}", store.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(store)
    }

    /// Where it answers.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The variables by which clients of S3 find it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_REGION", "eu-central-1".into()),
            ("AWS_ACCESS_KEY_ID", KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", KEY.into()),
        ]
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
