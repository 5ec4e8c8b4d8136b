//! A real Prometheus that takes remote write, keeps exemplars and native histograms, and tells its raw samples.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::python::install;
use crate::watchdog::Watchdog;

/// How long a start may take; well under a second on two idle cores.
const START: Duration = Duration::from_secs(60);
/// What switches exemplars and native histograms on.
const FEATURES: &[&str] = &["--enable-feature=exemplar-storage,native-histograms"];
/// File of whom to scrape, beside the configuration.
const TARGETS: &str = "targets.json";
/// The past that is asked for: all of it.
const RANGE: &str = "30d";
/// How far behind the present samples are asked for, seconds: some intervals end a little ahead of it.
const AHEAD: f64 = 300.0;

/// Labels of a series by name, `__name__` among them.
pub type Labels = BTreeMap<String, String>;

/// A running Prometheus, ended when dropped (or when the process that started it ends). Its log is printed when a test
/// panics with it.
#[derive(Debug)]
pub struct Prometheus {
    server: Child,
    _watchdog: Watchdog,
    dir: TempDir,
    /// Program and arguments.
    start: (PathBuf, Vec<&'static str>),
    port: u16,
    client: reqwest::Client,
}

/// The raw samples of a series, oldest first; ends of series are not among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Raw {
    /// Numbers: milliseconds since the Unix epoch, and value.
    pub samples: Vec<(i64, f64)>,
    /// Native histograms.
    pub histograms: Vec<(i64, Native)>,
}

/// A native histogram as Prometheus tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Native {
    /// What was counted.
    pub count: f64,
    /// Sum of that.
    pub sum: f64,
    /// Lower and upper bound of each bucket that is not empty, and its count.
    pub buckets: Vec<(f64, f64, f64)>,
}

/// An exemplar of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Of the series.
    pub series: Labels,
    /// Of the exemplar.
    pub labels: Labels,
    /// What was counted.
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
}

impl Prometheus {
    /// Starts a server without data and waits until it is ready.
    pub async fn start(program: &Path) -> anyhow::Result<Self> {
        Self::start_with(program, FEATURES).await
    }

    /// The same, and every second it scrapes that path of whom [`Prometheus::target`] names, which it calls `afflux`.
    pub async fn scraping(program: &Path, path: &str) -> anyhow::Result<Self> {
        let job = format!("{{job_name: afflux, metrics_path: {path}, file_sd_configs: [{{files: [{TARGETS}]}}]}}");
        let scraping = format!("global: {{scrape_interval: 1s}}\nscrape_configs: [{job}]\n");
        Self::start_in(program, FEATURES, &scraping).await
    }

    /// Has it scrape that port of the loopback, and no other any more.
    pub fn target(&self, port: u16) -> anyhow::Result<()> {
        let targets = serde_json::json!([{"targets": [format!("127.0.0.1:{port}")], "labels": {"instance": "afflux"}}]);
        let (new, path) = (self.dir.path().join("new"), self.dir.path().join(TARGETS));
        std::fs::write(&new, targets.to_string())?;
        Ok(std::fs::rename(new, path)?)
    }

    /// The same with arguments in place of those that switch exemplars and native histograms on.
    pub async fn start_with(program: &Path, arguments: &[&'static str]) -> anyhow::Result<Self> {
        Self::start_in(program, arguments, "").await
    }

    /// Starts a server with that configuration and files beside it, by name and content.
    pub async fn configured(program: &Path, config: &str, files: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_among(program, &[FEATURES, &["--web.enable-lifecycle"]].concat(), config, files).await
    }

    /// Has a server that is [`configured`](Self::configured) take another configuration.
    pub async fn reload(&self, config: &str) -> anyhow::Result<()> {
        std::fs::write(self.dir.path().join("prometheus.yml"), config)?;
        let answer = self.client.post(self.url("/-/reload")).send().await?;
        ensure!(answer.status().is_success(), "{}: {}", answer.status(), self.log());
        Ok(())
    }

    async fn start_in(program: &Path, arguments: &[&'static str], config: &str) -> anyhow::Result<Self> {
        let config = format!("storage: {{exemplars: {{max_exemplars: 100000}}}}\n{config}");
        Self::start_among(program, arguments, &config, &[]).await
    }

    async fn start_among(
        program: &Path,
        arguments: &[&'static str],
        config: &str,
        files: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let [port] = crate::afflux::free_ports()?;
        let dir = tempfile::Builder::new().prefix("afflux-prometheus-").tempdir()?;
        for (name, content) in [&[("prometheus.yml", config)], files].concat() {
            std::fs::write(dir.path().join(name), content)?;
        }
        let (server, watchdog) = spawn((program, arguments), dir.path(), port)?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let start = (program.to_owned(), arguments.to_vec());
        let mut this = Self { server, _watchdog: watchdog, dir, start, port, client };
        this.is_ready().await?;
        Ok(this)
    }

    /// Kills the server and starts it again on the same data and port.
    pub async fn kill_and_start_again(&mut self) -> anyhow::Result<()> {
        self.server.kill()?;
        self.server.wait()?;
        let (server, watchdog) = spawn((&self.start.0, &self.start.1), self.dir.path(), self.port)?;
        self.server = server;
        // That of the one before must not take the directory with it.
        drop(std::mem::replace(&mut self._watchdog, watchdog));
        self.is_ready().await
    }

    async fn is_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let url = self.url("/-/ready");
        while !self.client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            if let Some(status) = self.server.try_wait()? {
                bail!("prometheus ended with {status}:\n{}", self.log());
            }
            ensure!(started.elapsed() < START, "prometheus is not ready after {START:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Where it takes remote write; the path is left out, as users may do.
    pub fn write_url(&self) -> String {
        self.url("")
    }

    /// A path of its own.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Major and minor version.
    pub async fn version(&self) -> anyhow::Result<(u32, u32)> {
        let info = self.get("/api/v1/status/buildinfo", &[]).await?;
        let text = info["version"].as_str().context("no version")?.to_owned();
        let mut parts = text.split('.');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).with_context(|| text.clone());
        Ok((number()?, number()?))
    }

    /// What an expression comes to at a time, seconds since the Unix epoch.
    pub async fn query_at(&self, expression: &str, seconds: f64) -> anyhow::Result<Vec<(Labels, f64)>> {
        let time = seconds.to_string();
        let data = self.get("/api/v1/query", &[("query", expression), ("time", &time)]).await?;
        list(&data["result"])?.iter().map(|one| Ok((labels(&one["metric"]), sample(&one["value"])?.1))).collect()
    }

    /// The raw samples of all series that a selector names, such as `{__name__=~"traces_.+"}`.
    pub async fn raw(&self, selector: &str) -> anyhow::Result<BTreeMap<Labels, Raw>> {
        let time = (now_seconds()? + AHEAD).to_string();
        let data = self.get("/api/v1/query", &[("query", &format!("{selector}[{RANGE}]")), ("time", &time)]).await?;
        let mut all = BTreeMap::new();
        for series in list(&data["result"])? {
            let mut raw = Raw::default();
            for value in series["values"].as_array().into_iter().flatten() {
                raw.samples.push(sample(value)?);
            }
            for value in series["histograms"].as_array().into_iter().flatten() {
                raw.histograms.push((millis(&value[0])?, native(&value[1])?));
            }
            all.insert(labels(&series["metric"]), raw);
        }
        Ok(all)
    }

    /// The exemplars of all series that a selector names.
    pub async fn exemplars(&self, selector: &str) -> anyhow::Result<Vec<Exemplar>> {
        let end = (now_seconds()? + AHEAD).to_string();
        let data = self.get("/api/v1/query_exemplars", &[("query", selector), ("start", "0"), ("end", &end)]).await?;
        let mut all = Vec::new();
        for one in list(&data)? {
            for exemplar in list(&one["exemplars"])? {
                all.push(Exemplar {
                    series: labels(&one["seriesLabels"]),
                    labels: labels(&exemplar["labels"]),
                    value: number(&exemplar["value"])?,
                    time_ms: millis(&exemplar["timestamp"])?,
                });
            }
        }
        Ok(all)
    }

    /// A metric of its own, such as `prometheus_tsdb_out_of_order_samples_total`, summed over all series whose text
    /// holds `labels`; 0 where there is none.
    pub async fn metric(&self, name: &str, labels: &str) -> anyhow::Result<f64> {
        let text = self.client.get(self.url("/metrics")).send().await?.error_for_status()?.text().await?;
        let mut sum = 0.0;
        for line in text.lines() {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels));
            if let Some(value) = rest.and_then(|rest| rest.rsplit(' ').next()) {
                sum += value.parse::<f64>()?;
            }
        }
        Ok(sum)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Value> {
        let answer = self.client.get(self.url(path)).query(parameters).send().await?;
        let (status, mut answer) = (answer.status(), answer.json::<Value>().await?);
        ensure!(status.is_success() && answer["status"] == "success", "{path} {parameters:?}: {status} {answer}");
        Ok(answer["data"].take())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        if std::thread::panicking() {
            eprintln!("--- log of Prometheus ---\n{}", self.log());
        }
    }
}

fn spawn((program, arguments): (&Path, &[&str]), dir: &Path, port: u16) -> anyhow::Result<(Child, Watchdog)> {
    let log = File::options().create(true).append(true).open(dir.join("log"))?;
    let server = Command::new(program)
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--web.enable-remote-write-receiver")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting prometheus")?;
    let watchdog = Watchdog::of(&server, dir)?;
    Ok((server, watchdog))
}

fn now_seconds() -> anyhow::Result<f64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64())
}

fn list(value: &Value) -> anyhow::Result<&Vec<Value>> {
    value.as_array().with_context(|| format!("no list: {value}"))
}

fn labels(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// A number, which may stand as text.
fn number(value: &Value) -> anyhow::Result<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim_start_matches('+').parse().ok());
    number.with_context(|| format!("no number: {value}"))
}

/// Seconds as milliseconds.
fn millis(value: &Value) -> anyhow::Result<i64> {
    Ok((number(value)? * 1000.0).round() as i64)
}

fn sample(value: &Value) -> anyhow::Result<(i64, f64)> {
    Ok((millis(&value[0])?, number(&value[1])?))
}

fn native(value: &Value) -> anyhow::Result<Native> {
    let buckets = value["buckets"].as_array().into_iter().flatten();
    let bucket = |bucket: &Value| Ok((number(&bucket[1])?, number(&bucket[2])?, number(&bucket[3])?));
    Ok(Native {
        count: number(&value["count"])?,
        sum: number(&value["sum"])?,
        buckets: buckets.map(bucket).collect::<anyhow::Result<_>>()?,
    })
}

/// Prometheus' own tool for checking files, which comes with the program.
///
/// As [`program`].
pub fn tool() -> anyhow::Result<Option<PathBuf>> {
    Ok(program()?.map(|program| program.with_file_name("promtool")))
}

/// The program, unpacked at the first use.
///
/// `None`, after a printed notice, where it cannot be had; an error instead under `CI=true`.
pub fn program() -> anyhow::Result<Option<&'static Path>> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/prometheus/install.sh");
    match PROGRAM.get_or_init(|| install(&script).map_err(|e| format!("{e:#}"))) {
        Ok(program) => Ok(Some(program)),
        Err(missing) if std::env::var("CI").is_ok_and(|ci| ci == "true") => bail!("no Prometheus: {missing}"),
        Err(missing) => {
            eprintln!("SKIPPED, no Prometheus here: {missing}");
            Ok(None)
        }
    }
}
