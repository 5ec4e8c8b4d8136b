//! What the panels of the dashboards ask, put to the backends.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use afflux_tests::loki::Loki;
use afflux_tests::prometheus::Prometheus;
use anyhow::{Context as _, ensure};
use serde_json::Value;

/// How long an answer may take to come: derived series come every 15 seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is only there once something has gone wrong, was left out or changed, or where a source or Kafka cluster is read.
const NOT_IN_A_GOOD_HOUR: [&str; 9] = [
    "afflux_refused_requests_total",
    "afflux_dropped_items_total",
    "afflux_changed_items_total",
    "afflux_retries_total",
    "afflux_dead_letters_total",
    "afflux_expired_records_total",
    "afflux_suspended_partitions",
    "traces_service_graph_request_failed_total",
    // The shop's clusters do not call each other.
    "client_cluster!=",
];

/// A question of a panel.
struct Asked {
    panel: String,
    expression: String,
}

/// The questions of all dashboards to data sources of that kind.
fn asked(kind: &str) -> anyhow::Result<Vec<Asked>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana/dashboards");
    let mut all = Vec::new();
    for file in std::fs::read_dir(dir)? {
        let path = file?.path();
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        let title = dashboard["title"].as_str().context("a dashboard without title")?;
        for panel in dashboard["panels"].as_array().context("no panels")? {
            for target in panel["targets"].as_array().into_iter().flatten() {
                if target["datasource"]["type"] == kind {
                    let expression = target["expr"].as_str().unwrap_or_default().to_owned();
                    all.push(Asked { panel: format!("{title}: {}", panel["title"]), expression });
                }
            }
        }
    }
    ensure!(!all.is_empty(), "no panel asks {kind}");
    Ok(all)
}

/// The expression with everything chosen, over a minute.
fn chosen(expression: &str) -> String {
    let mut text = expression.to_owned();
    for (variable, value) in [("$__rate_interval", "1m"), ("$__range", "1m"), ("$__interval", "15s"), ("$__auto", "1m")]
    {
        text = text.replace(variable, value);
    }
    for name in ["cluster", "service", "instance", "namespace", "category"] {
        text = text.replace(&format!("${{{name}:regex}}"), ".*").replace(&format!("${name}"), ".*");
    }
    text
}

/// Puts all questions to Prometheus and says how many; each is answered with something.
pub(super) async fn prometheus(prometheus: &Prometheus) -> anyhow::Result<usize> {
    let questions = asked("prometheus")?;
    let begun = Instant::now();
    for question in &questions {
        let expression = chosen(&question.expression);
        ensure!(!expression.contains('$'), "{}: a variable is unknown: {expression}", question.panel);
        let quiet = NOT_IN_A_GOOD_HOUR.iter().any(|name| expression.contains(name));
        loop {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
            let answer = prometheus.query_at(&expression, now).await.with_context(|| question.panel.clone())?;
            let is_there = answer.iter().any(|(_, value)| value.is_finite());
            if is_there || quiet {
                break;
            }
            ensure!(begun.elapsed() < PATIENCE, "{} is empty: {expression}: {answer:?}", question.panel);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(questions.len())
}

/// The labels that questions to Loki select streams by are those that streams have.
pub(super) fn loki(loki: &Loki) -> anyhow::Result<()> {
    let streams = loki.streams("fake");
    let labels: BTreeSet<&str> = streams.iter().flat_map(|stream| stream.labels.keys().map(String::as_str)).collect();
    let is_event =
        |labels: &std::collections::BTreeMap<String, String>| labels.get("source").is_some_and(|s| s == "k8s-events");
    let metadata = |events: bool| -> BTreeSet<&str> {
        let of_kind = streams.iter().filter(|stream| is_event(&stream.labels) == events);
        of_kind
            .flat_map(|stream| &stream.entries)
            .flat_map(|entry| &entry.metadata)
            .map(|(name, _)| name.as_str())
            .collect()
    };
    let of_events = metadata(true);
    for question in asked("loki")? {
        let (_, rest) = question.expression.split_once('{').context("no selector")?;
        let (selector, rest) = rest.split_once('}').context("no end of a selector")?;
        for matcher in selector.split(", ") {
            let name = matcher.split(['=', '!']).next().unwrap_or_default();
            ensure!(labels.contains(name), "{}: no stream has the label {name}: {labels:?}", question.panel);
        }
        let names =
            rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("k8s_"));
        for name in names.chain(question.expression.split([' ', ',', '(', ')']).filter(|word| word.starts_with("k8s_")))
        {
            let name = name.split(['=', '!', '~']).next().unwrap_or_default();
            ensure!(of_events.contains(name), "{}: no event has {name}: {of_events:?}", question.panel);
        }
    }
    Ok(())
}
