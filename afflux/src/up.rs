//! `afflux up`: everything in one process, and what it shows.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use afflux_runtime::admin::{Monitor, Status};
use std::io::IsTerminal;

use crate::cli::{DEFAULT_DATA_DIR, UpArgs, reachable};
use crate::components::Selection;
use crate::config::{self, BusKind, Config, SinksConfig};
use crate::output::{self, Misuse};
use crate::process::{launch, start_logging};

mod flow;

/// Time between two looks at whether everything is ready.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Time after which a start is slow enough to say what it waits for.
const SLOW_START: Duration = Duration::from_secs(5);
/// Time between two lines about what flows.
const FLOW_EVERY: Duration = Duration::from_secs(3);

pub(crate) async fn up(args: UpArgs) -> anyhow::Result<()> {
    let config = load(&args, std::io::stderr().is_terminal())?;
    start_logging(&config)?;
    let watch = std::io::stdout().is_terminal();
    launch(&config, &Selection::everything(), async |monitor| {
        // Whoever closed standard output does not want to see it; the pipeline goes on.
        let _ = show(&config, &args.data_dir, &monitor, watch).await;
    })
    .await
}

/// The file over what `up` does differently from `run`: data below one directory, little of it, soon visible.
fn load(args: &UpArgs, quiet: bool) -> anyhow::Result<Config> {
    let (name, text) = match &args.config {
        Some(file) => (file.display().to_string(), config::read(file)?),
        None => ("defaults".into(), String::new()),
    };
    let below = |part: &str| {
        let path = args.data_dir.join(part);
        let unwritable = || Misuse(format!("--data-dir {} is not UTF-8; choose another", args.data_dir.display()));
        path.to_str().map(str::to_owned).ok_or_else(unwritable)
    };
    let mut loader = config::with_environment(&name, &text)
        .fallback("bus.local.dir", below("bus")?, "--data-dir")
        .fallback("sinks.parquet.url", below("lake")?, "--data-dir")
        .fallback("producers.files.positions", below("positions")?, "--data-dir")
        .fallback("sinks.parquet.flush.age", "10s", "up")
        .fallback("topics.partitions", 2, "up")
        .fallback("topics.retention.age", "24h", "up")
        .fallback("topics.retention.bytes", "1GiB", "up");
    if quiet {
        loader = loader.fallback("log.level", "warn", "up");
    }
    if args.demo {
        loader = loader.fallback("producers.generate", true, "--demo");
    }
    Ok(loader.load()?)
}

/// Says where to send data once everything is ready, then, on a terminal, what flows.
async fn show(config: &Config, data_dir: &Path, monitor: &Arc<Monitor>, watch: bool) -> std::io::Result<()> {
    let mut waited = Duration::ZERO;
    let mut status = monitor.status();
    while !status.ready {
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
        if waited == SLOW_START {
            output::print(&waiting(&status))?;
        }
        status = monitor.status();
    }
    output::print(&banner(config, data_dir))?;
    if !watch {
        return Ok(());
    }
    loop {
        tokio::time::sleep(FLOW_EVERY).await;
        let now = monitor.status();
        output::print(&flow::line(&status, &now))?;
        status = now;
    }
}

fn waiting(status: &Status) -> String {
    let unready = status.components.iter().filter(|(_, component)| component.state != "ready");
    let line = |(name, component): (&String, &afflux_runtime::admin::ComponentStatus)| {
        format!("waiting for {name}: {}\n", component.detail.as_deref().unwrap_or(&component.state))
    };
    unready.map(line).collect()
}

fn banner(config: &Config, data_dir: &Path) -> String {
    let mut lines = vec![format!("afflux {} is ready", env!("CARGO_PKG_VERSION")), String::new()];
    let mut say = |what: &str, text: String| lines.push(format!("  {what:<12}{text}"));
    if let Some(otlp) = config.producers.otlp.on() {
        if let Some(grpc) = otlp.grpc.listen.map(reachable) {
            say("OTLP gRPC", format!("http://{grpc}"));
        }
        if let Some(http) = otlp.http.listen.map(reachable) {
            say("OTLP HTTP", format!("http://{http}"));
        }
        if config.producers.generate.on().is_some() {
            say("demo", "a shop of services is sending spans and logs".into());
        }
    }
    if let Some(files) = config.producers.files.on().filter(|files| files.is_on()) {
        say("files", files.paths.join(", "));
    }
    say(
        "bus",
        match config.bus.kind {
            BusKind::Local => config.bus.local.dir.display().to_string(),
            BusKind::Kafka => format!("Kafka at {}", config.bus.kafka.brokers.joined()),
        },
    );
    outputs(config).into_iter().for_each(|(what, text)| say(what, text));
    say("admin", format!("http://{}/status", reachable(config.admin.listen)));
    if let Some(parquet) = config.sinks.parquet.on() {
        let lake = if data_dir == Path::new(DEFAULT_DATA_DIR) && Path::new(&parquet.url) == data_dir.join("lake") {
            String::new()
        } else {
            format!("--lake {} ", parquet.url)
        };
        let sql = "SELECT service, name, count(*) AS spans FROM spans GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10";
        lines.extend([String::new(), "try, in another terminal:".into(), format!("  afflux query {lake}\"{sql}\"")]);
    }
    lines.extend([String::new(), "Ctrl-C stops.".into(), String::new()]);
    lines.join("\n")
}

/// Sinks that are on, and where they write to.
fn outputs(config: &Config) -> Vec<(&'static str, String)> {
    let SinksConfig { parquet, loki, tempo, prometheus, scrape } = &config.sinks;
    let files = parquet.on().map(|to| format!("{} (new files every {} or {})", to.url, to.flush.age, to.flush.bytes));
    let loki = loki.on().and_then(|to| to.address()).map(str::to_owned);
    let tempo = tempo.on().map(|to| to.endpoint.clone()).filter(|endpoint| !endpoint.is_empty());
    let prometheus = prometheus.on().filter(|to| to.is_on()).map(|to| to.url.clone());
    let scraped = scrape.on().map(|_| format!("http://{}/metrics/derived", reachable(config.admin.listen)));
    let all =
        [("Parquet", files), ("Loki", loki), ("Tempo", tempo), ("Prometheus", prometheus), ("to scrape", scraped)];
    all.into_iter().filter_map(|(what, text)| Some((what, text?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(data_dir: &str, demo: bool) -> UpArgs {
        UpArgs { demo, config: None, data_dir: data_dir.into() }
    }

    #[test]
    fn everything_lies_below_the_data_directory() {
        let config = load(&args("/data", false), false).expect("valid");
        assert_eq!(config.bus.local.dir, Path::new("/data/bus"));
        assert_eq!(config.sinks.parquet.on().expect("on").url, "/data/lake");
        assert_eq!(config.producers.files.on().expect("on").positions, Path::new("/data/positions"));
        assert!(config.producers.generate.on().is_none());
        assert!(load(&args("/data", true), true).expect("valid").producers.generate.on().is_some());
    }

    #[test]
    fn the_banner_says_where_data_goes_in_and_comes_out() {
        let config = load(&args(DEFAULT_DATA_DIR, false), false).expect("valid");
        let text = banner(&config, Path::new(DEFAULT_DATA_DIR));
        for part in
            ["127.0.0.1:4317", "127.0.0.1:4318", "127.0.0.1:9464", "./afflux-data/lake", "afflux query \"SELECT"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let mut config = load(&args("/data", false), false).expect("valid");
        assert!(!banner(&config, Path::new("/data")).contains("Loki"), "it is off");
        config.sinks = serde_json::from_str(
            r#"{"loki": {"url": "http://l:3100"}, "tempo": {"endpoint": "http://t:4317"}, "prometheus": {"url": "http://p"},
                "parquet": {"url": "/data/lake"}, "scrape": true}"#,
        )
        .expect("valid");
        let text = banner(&config, Path::new("/data"));
        for part in ["http://l:3100", "http://t:4317", "http://p\n", "127.0.0.1:9464/metrics/derived"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(banner(&config, Path::new("/data")).contains("afflux query --lake /data/lake \"SELECT"));
    }
}
