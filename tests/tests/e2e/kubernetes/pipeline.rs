//! Events from the API server to whoever looks at them.

use afflux_tests::afflux::{Afflux, Options, run};
use afflux_tests::kubernetes::{ApiServer, EVENTS, event};
use afflux_tests::loki::{self, Loki};
use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::publishes;

/// What `afflux events` prints for a lake.
fn of_lake(lake: &std::path::Path, args: &[&str]) -> anyhow::Result<String> {
    let lake = lake.display().to_string();
    let output = run(&[&["events", "--lake", &lake], args].concat())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Lines of a table without its headings.
fn rows(table: &str) -> Vec<Vec<String>> {
    let cells =
        |line: &str| line.split("   ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect();
    table.lines().skip(1).map(cells).collect()
}

/// What comes of a connection until there is that text.
async fn until(answer: &mut reqwest::Response, text: &str) -> anyhow::Result<String> {
    let mut all = String::new();
    while !all.contains(text) {
        let more = tokio::time::timeout(super::SETTLE, answer.chunk()).await??;
        all.push_str(std::str::from_utf8(&more.context("it broke off")?)?);
    }
    Ok(all)
}

async fn is_shown(afflux: &Afflux) -> anyhow::Result<()> {
    let all = rows(&afflux.operate(&["events"])?);
    assert_eq!(all.len(), 9, "one line for each event: {all:?}");
    let latest = all.last().context("no line")?;
    assert_eq!(
        (&*latest[0], &*latest[1], &*latest[3], &*latest[4], &*latest[5]),
        ("eu", "shop-3", "Warning", "BackOff", "pod/web-00003")
    );
    assert!(latest[2].contains(" (x5 over "), "{latest:?}");
    assert_eq!(rows(&afflux.operate(&["events", "--warnings"])?).len(), 3);
    let one = afflux.operate(&["events", "--cluster", "eu", "-n", "shop-4", "--pod", "web-00004"])?;
    assert!(one.starts_with("LAST SEEN ") && rows(&one).len() == 1, "{one}");
    assert_eq!(afflux.operate(&["events", "--cluster", "us"])?, "No events found.\n");
    let observations = afflux.operate(&["events", "--json"])?;
    assert_eq!(observations.lines().count(), 10);
    let first: Value = serde_json::from_str(observations.lines().next().context("no line")?)?;
    assert!(first["message"].as_str().is_some_and(|text| text.starts_with("Back-off restarting")), "{first}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_classified_stored_and_shown_from_bus_and_lake() -> anyhow::Result<()> {
    let (dir, server) = (tempfile::tempdir()?, ApiServer::start().await?);
    let loki = Loki::start(loki::Options::default()).await?;
    let yaml = format!(
        "producers: {{kubernetes: {{kubeconfig: {}, cluster: eu, objects: {{enabled: false}}}}}}\n",
        server.kubeconfig(dir.path())?.display()
    );
    let data = dir.path().join("data");
    let options = Options::up(&data).config(&yaml).env("AFFLUX__SINKS__LOKI__URL", loki.url());
    let afflux = Afflux::start(dir.path(), &options).await?;
    for n in 0..9 {
        server.put(EVENTS, event::event(n, 1));
    }
    publishes(&afflux, 9).await?;
    // Times of events are whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    server.put(EVENTS, event::event(3, 5));
    afflux.settles("sinks.loki", "events", 10).await?;

    let streams = loki.streams("fake");
    let entries: Vec<_> =
        streams.iter().flat_map(|stream| stream.entries.iter().map(|entry| (&stream.labels, entry))).collect();
    assert_eq!(entries.len(), 10);
    for (labels, entry) in &entries {
        let line: Value = serde_json::from_str(&entry.line)?;
        let is_warning = line["type"] == "Warning";
        assert_eq!((&*labels["source"], &*labels["cluster"]), ("k8s-events", "eu"));
        assert_eq!(labels["namespace"], line["metadata"]["namespace"].as_str().unwrap_or_default());
        assert_eq!(labels["level"], if is_warning { "error" } else { "info" });
        assert_eq!(entry.metadata("k8s_event_category"), if is_warning { "crash_loop" } else { "image_pull" });
    }

    is_shown(&afflux).await?;
    let url = format!("http://127.0.0.1:{}/events?follow=true&cluster=eu", afflux.admin);
    let mut following = reqwest::get(url).await?.error_for_status()?;
    assert_eq!(until(&mut following, "\"complete\":true").await?.lines().count(), 11);
    server.put(EVENTS, event::event(77, 1));
    assert!(until(&mut following, "web-00077").await?.contains("\"type\":\"Normal\""));
    drop(following);

    afflux.settles("sinks.parquet", "events", 11).await?;
    afflux.stop().await?;
    let lake = data.join("lake");
    let all = rows(&of_lake(&lake, &[])?);
    assert_eq!(all.len(), 10, "{all:?}");
    assert_eq!(rows(&of_lake(&lake, &["--warnings", "--cluster", "eu"])?).len(), 3);
    assert_eq!(of_lake(&lake, &["--cluster", "o'hara"])?, "No events found.\n");
    assert!(of_lake(&lake, &["--pod", "web-00003"])?.contains(" (x5 over "));
    Ok(())
}
