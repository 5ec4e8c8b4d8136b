//! `afflux status`: rates, lag and steps of a running instance, or the series of its span metrics.

use std::io::IsTerminal;
use std::time::Duration;

use afflux_processors::span_metrics::{self, cardinality::Report};
use afflux_processors::stage;
use afflux_runtime::admin::Status;
use anyhow::{Context as _, bail};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use crate::cli::{StatusArgs, admin_url};
use crate::output::print;

mod cardinality;
mod chain;
mod table;

/// Time between the two samples that a rate is made of, and between two views of `--watch`.
const BETWEEN: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Clears the terminal and puts the cursor at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(crate) async fn status(args: StatusArgs) -> anyhow::Result<()> {
    // A proxy cannot know a loopback address.
    let client = Client::builder().no_proxy().timeout(TIMEOUT).build()?;
    let mut before = if args.json || args.cardinality { None } else { Some(fetch(&client, &args).await?) };
    loop {
        if before.is_some() {
            tokio::time::sleep(BETWEEN).await;
        }
        let text = if args.cardinality {
            series(&client, &args).await?
        } else {
            let now = fetch(&client, &args).await?;
            match &mut before {
                None => serde_json::to_string(&now)? + "\n",
                Some(before) => {
                    let text = table::render(before, &now, &args.admin);
                    *before = now;
                    text
                }
            }
        };
        let clear = if args.watch && std::io::stdout().is_terminal() { CLEAR } else { "" };
        print(&format!("{clear}{text}"))?;
        if !args.watch {
            return Ok(());
        }
        if before.is_none() {
            tokio::time::sleep(BETWEEN).await;
        }
    }
}

/// What is to be printed of the series of span metrics.
async fn series(client: &Client, args: &StatusArgs) -> anyhow::Result<String> {
    let url = format!("{}/{}", admin_url(&args.admin), span_metrics::REPORT);
    let answer = get(client, &url).await?;
    if answer.status() == StatusCode::NOT_FOUND {
        bail!("no span metrics at {}: {}", args.admin, why_none(&fetch(client, args).await?));
    }
    let report: Value = read(answer, &url).await?;
    if args.json {
        return Ok(report.to_string() + "\n");
    }
    let report: Report = serde_json::from_value(report).with_context(|| {
        format!("{url} answers in a form that this version does not know; is the instance of another version?")
    })?;
    Ok(cardinality::render(&report, &args.admin))
}

/// Why an instance reports no series.
fn why_none(status: &Status) -> &'static str {
    match status.components.get(stage::NAME) {
        None => "the instance runs no processors; name one that does with --admin",
        Some(processors) if processors.state == "starting" => {
            "the processors have not started yet; see `afflux status`"
        }
        Some(_) => "`span_metrics` is not in `processors.chain.spans`",
    }
}

async fn fetch(client: &Client, args: &StatusArgs) -> anyhow::Result<Status> {
    let url = format!("{}/status", admin_url(&args.admin));
    read(get(client, &url).await?, &url).await
}

async fn get(client: &Client, url: &str) -> anyhow::Result<Response> {
    let away = || format!("no instance answers at {url}; is it running, and is this its `admin.listen`? See --admin");
    client.get(url).send().await.with_context(away)
}

async fn read<T: serde::de::DeserializeOwned>(answer: Response, url: &str) -> anyhow::Result<T> {
    if !answer.status().is_success() {
        bail!("{url} answers {}; is this the admin port of an instance? See --admin", answer.status());
    }
    answer.json().await.with_context(|| format!("{url} answers something else; is this an instance's admin port?"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_instance_without_span_metrics_says_what_is_missing() {
        let with = |components: Value| -> Status {
            let status = json!({"version": "1", "pid": 1, "uptime_seconds": 1.0, "ready": true, "config": {}, "components": components});
            serde_json::from_value(status).expect("a status")
        };
        let processors =
            |state: &str| json!({"processors": {"state": state, "totals": {}, "rates": {}, "gauges": {}, "lag": []}});
        let cases = [
            (json!({}), "runs no processors"),
            (processors("starting"), "not started yet"),
            (processors("ready"), "`span_metrics` is not in `processors.chain.spans`"),
        ];
        for (components, expected) in cases {
            let why = why_none(&with(components));
            assert!(why.contains(expected), "{why}");
        }
    }
}
