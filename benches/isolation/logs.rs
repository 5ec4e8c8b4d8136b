//! Log records at a steady rate, over OTLP/HTTP.

use std::time::Duration;

use afflux_producers::generate::Corpus;
use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::time::{MissedTickBehavior, interval};

/// Log records of a request.
const LOGS_PER_REQUEST: u64 = 500;
/// Requests that are sent in turn.
const REQUESTS: usize = 32;

/// Sends about so many log records a second until it is dropped; each request must be acknowledged.
pub(crate) async fn send(http_port: u16, per_second: u64) -> Result<()> {
    if per_second == 0 {
        return std::future::pending().await;
    }
    let requests = requests()?;
    let mean = requests.iter().map(|(_, count)| count).sum::<u64>() / REQUESTS as u64;
    let mut ticks = interval(Duration::from_secs_f64(mean as f64 / per_second as f64));
    // What the machine could not send in time is not sent on top later.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let client = reqwest::Client::new();
    for (body, _) in requests.iter().cycle() {
        ticks.tick().await;
        let request = client.post(format!("http://127.0.0.1:{http_port}/v1/logs"));
        let request = request.header("content-type", "application/x-protobuf").body(body.clone());
        let answer = request.send().await?;
        ensure!(answer.status().is_success(), "logs were answered with {}", answer.status());
    }
    Ok(())
}

/// Requests with their numbers of log records.
fn requests() -> Result<Vec<(Bytes, u64)>> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let mut corpus = Corpus::new(2, u64::try_from(now.as_nanos())?);
    let request = || {
        let (mut parts, mut count) = (Vec::new(), 0);
        while count < LOGS_PER_REQUEST {
            let batch = corpus.next_request(512);
            count += batch.log_records;
            parts.push(batch.logs);
        }
        (afflux_schemas::otlp::concat(parts.iter().map(|part| &part[..])), count)
    };
    Ok(std::iter::repeat_with(request).take(REQUESTS).collect())
}
