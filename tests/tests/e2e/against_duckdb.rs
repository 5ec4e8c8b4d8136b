//! Span metrics are exactly right: deltas and series against what DuckDB counts in the lake.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use afflux_bus::{Bus as _, LocalBus, LocalConfig, PartitionLag};
use afflux_tests::derived::{Sum, Sums, deltas, over_time, series};
use afflux_tests::python;
use anyhow::{Context as _, ensure};
use serde_json::Value;

/// What DuckDB counts of each series in each bucket of time: by bucket of duration, and the sum of durations.
fn counted(python: &Path, lake: &str) -> anyhow::Result<Sums> {
    let counted: BTreeMap<String, Value> = serde_json::from_str(&python::run(python, "span_metrics.py", &[lake])?)?;
    let sum = |(key, counted): (String, Value)| {
        let counts: Vec<u64> = serde_json::from_value(counted["counts"].clone())?;
        let nanos = counted["nanos"].as_f64().context("no sum of durations")?;
        Ok((key, Sum { counts, sum: nanos / 1e9 }))
    };
    counted.into_iter().map(sum).collect()
}

/// Holds what was derived against the spans themselves; says how many series there are.
///
/// # Errors
/// Where they differ, or where something has not been added up yet.
pub(crate) async fn check(python: &Path, dir: &Path) -> anyhow::Result<usize> {
    let lake = dir.join("data/lake").display().to_string();
    let buckets = counted(python, &lake)?;
    let bus = LocalBus::open(LocalConfig::new(dir.join("data/bus")))?;
    let lag = bus.lag("afflux-accumulate", &[Arc::from("afflux.metrics")]).await?;
    let left: u64 = lag.iter().map(PartitionLag::records).sum();
    ensure!(left == 0, "{left} records of deltas are not added up");

    let calls = deltas(&*bus, "afflux.metrics", "traces_spanmetrics_calls_total").await?;
    let latency = deltas(&*bus, "afflux.metrics", "traces_spanmetrics_latency").await?;
    let total = |sum: &Sum| Sum { counts: vec![sum.counts.iter().sum()], sum: 0.0 };
    same("calls", &calls, &buckets.iter().map(|(key, sum)| (key.clone(), total(sum))).collect())?;
    same("latency", &latency, &buckets)?;
    for (metric, deltas) in [("calls_total", &calls), ("latency", &latency)] {
        let total = series(&*bus, "afflux.series", &format!("traces_spanmetrics_{metric}")).await?;
        same(&format!("series of {metric}"), &total, &over_time(deltas))?;
    }
    check_graph(python, &lake, &bus).await?;
    bus.close().await;
    Ok(over_time(&calls).len())
}

/// Holds the edges of the service graph against the requests that SQL finds among the spans.
///
/// Virtual nodes are left out: what a lone half becomes depends on when its record was received, and the last ones wait
/// until a record comes behind them.
async fn check_graph(python: &Path, lake: &str, bus: &LocalBus) -> anyhow::Result<()> {
    let counted: BTreeMap<String, Value> = serde_json::from_str(&python::run(python, "service_graph.py", &[lake])?)?;
    ensure!(counted.len() > 10, "{} edges are too few to mean anything", counted.len());
    for (metric, key, is_histogram) in [
        ("total", "requests", false),
        ("failed_total", "failed", false),
        ("server_seconds", "server", true),
        ("client_seconds", "client", true),
    ] {
        let metric = format!("traces_service_graph_request_{metric}");
        let found = edges(&deltas(bus, "afflux.metrics", &metric).await?, key);
        let number = |counted: &Value| {
            let (requests, number) = (counted["requests"].as_u64().unwrap_or_default(), counted[key].as_u64()?);
            let of_histogram = Sum { counts: vec![requests], sum: number as f64 / 1e9 };
            Some(if is_histogram { of_histogram } else { Sum { counts: vec![number], sum: 0.0 } })
        };
        let expected = counted.iter().filter_map(|(edge, counted)| Some((edge.clone(), number(counted)?)));
        let expected: Sums = expected.filter(|(_, sum)| sum.counts != [0]).collect();
        same(&metric, &found, &expected)?;
        let total = edges(&series(bus, "afflux.series", &metric).await?, key);
        same(&format!("series of {metric}"), &total, &expected)?;
    }
    Ok(())
}

/// Sums by edge, over all clusters and times, with the buckets of histograms added up. Who received a message is told by
/// its number only.
fn edges(sums: &Sums, what: &str) -> Sums {
    let mut edges = Sums::new();
    for (key, sum) in over_time(sums) {
        let (_, labels) = key.split_once('{').unwrap_or_default();
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.contains("_cluster="));
        let mut labels: Vec<&str> = labels.collect();
        let is_message = labels.contains(&"connection_type=messaging_system");
        if labels.iter().any(|label| label.starts_with("virtual_node=")) || (is_message && what != "requests") {
            continue;
        }
        if is_message {
            labels.iter_mut().filter(|label| label.starts_with("server=")).for_each(|label| *label = "server=any");
        }
        let labels = labels.join(",");
        let edge = edges.entry(labels).or_default();
        edge.counts.resize(1, 0);
        edge.counts[0] += sum.counts.iter().sum::<u64>();
        edge.sum += sum.sum;
    }
    edges
}

/// Counts must be equal; sums of durations are added up in another order, and so to another last digit.
fn same(what: &str, found: &Sums, expected: &Sums) -> anyhow::Result<()> {
    for key in found.keys().chain(expected.keys()) {
        let (Some(a), Some(b)) = (found.get(key), expected.get(key)) else {
            anyhow::bail!("{what}: {key} is {:?} and should be {:?}", found.get(key), expected.get(key));
        };
        let close = (a.sum - b.sum).abs() <= 1e-9 * b.sum.abs();
        ensure!(a.counts == b.counts && close, "{what}: {key} is {a:?} and should be {b:?}");
    }
    Ok(())
}
