//! A process as its operators see it.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::Value;

use super::Afflux;

/// How long what is waited for may take.
const PATIENCE: Duration = Duration::from_secs(90);

impl Afflux {
    /// What the admin port answers: the status, and the text.
    pub async fn ask(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let answer = reqwest::get(self.url(path)).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// What the binary prints as an operator of this process.
    pub fn operate(&self, command: &[&str]) -> anyhow::Result<String> {
        let at = format!("127.0.0.1:{}", self.admin);
        let output = super::run(&[command, &["--admin", at.as_str()]].concat())?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Open dead letters of all components.
    pub fn dead_letters(&self) -> anyhow::Result<Vec<Value>> {
        self.operate(&["dead-letters", "list"])?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Why the process is not ready; `None` where it is.
    pub async fn problem(&self) -> anyhow::Result<Option<String>> {
        let (status, text) = self.ask("readyz").await?;
        Ok((status == 503).then_some(text))
    }

    /// Waits until the process is not ready because of a component, for a reason with these words.
    pub async fn fails(&self, component: &str, words: &str) -> anyhow::Result<String> {
        let started = Instant::now();
        loop {
            let problem = self.problem().await?.unwrap_or_default();
            if problem.contains(words) && problem.contains(component) {
                return Ok(problem);
            }
            ensure!(started.elapsed() < PATIENCE, "`{problem}` instead of {words}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a component is seen to be behind.
    pub async fn falls_behind(&self, component: &str) -> anyhow::Result<()> {
        let (started, start) = (Instant::now(), format!("afflux_lag_records{{component=\"{component}\","));
        loop {
            let (_, text) = self.ask("metrics").await?;
            let lags = text.lines().filter(|line| line.starts_with(&start));
            if lags.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).any(|lag| lag > 0.0) {
                return Ok(());
            }
            ensure!(started.elapsed() < PATIENCE, "the lag of {component} is not seen");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
