//! Sends the shop's telemetry to an OTLP receiver, at a rate.

mod acked;
mod answer;
mod grpc;
mod http;
mod report;
mod target;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use afflux_runtime::Signal;
use afflux_runtime::backoff::Backoff;
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::config::GenerateConfig;
use super::corpus::{Batch, Corpus};
use super::error::GenerateError;
use super::pace::Pace;
use acked::AckedFile;
use answer::Answer;
use report::Trouble;
pub use report::{Counts, Report};
pub use target::{Protocol, Target};

/// How long one attempt may take, as in the SDKs.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const SLOWEST_RETRY: Duration = Duration::from_secs(5);
/// How long the last requests may still take once nothing new is sent: longer than one attempt.
const GRACE: Duration = TIMEOUT.saturating_add(Duration::from_secs(1));
/// How often the caller hears how it goes.
const PROGRESS: Duration = Duration::from_secs(1);

/// Sends until the configured end, or until `shutdown`, and reports what became of it.
///
/// Spans carry the present time. `progress` is called every second. At the configured end the last traces are
/// completed; on `shutdown` requests that would need another attempt are given up. What was neither acknowledged
/// nor refused by then counts as unanswered.
pub async fn run(
    config: &GenerateConfig,
    target: &Target,
    shutdown: CancellationToken,
    progress: impl FnMut(&Report),
) -> Result<Report, GenerateError> {
    config.validate()?;
    let seed = config.seed.unwrap_or_else(rand::random);
    let mut corpus = Corpus::new(seed, unix_nanos());
    if !config.logs {
        corpus = corpus.without_logs();
    }
    let acked = config.acked_file.as_deref().map(AckedFile::open).transpose()?;
    let trouble = Arc::new(Trouble::default());
    let stop = shutdown.child_token();
    let client = match target.protocol {
        Protocol::Grpc => Client::Grpc(grpc::Client::new(target)),
        Protocol::Http => Client::Http(Arc::new(http::Client::new(target.clone()))),
    };
    let sender = Sender { client, resend: config.resend, stop, trouble: Arc::clone(&trouble) };
    let run = Run { in_flight: JoinSet::new(), report: Report::default(), started: Instant::now(), acked, sender };
    run.all(config, corpus, shutdown, progress).await
}

/// One run under way.
struct Run {
    in_flight: JoinSet<Outcome>,
    report: Report,
    started: Instant,
    acked: Option<AckedFile>,
    sender: Sender,
}

impl Run {
    async fn all(
        mut self,
        config: &GenerateConfig,
        mut corpus: Corpus,
        shutdown: CancellationToken,
        mut progress: impl FnMut(&Report),
    ) -> Result<Report, GenerateError> {
        let mut pace = Pace::new(config.rate, config.request_spans, self.started);
        let end = config.duration.and_then(|duration| self.started.checked_add(duration.0));
        let mut ticks = tokio::time::interval(PROGRESS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let left = config.spans.map_or(u64::MAX, |spans| spans.saturating_sub(self.report.spans.sent));
            if left == 0 {
                break;
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = until(end) => break,
                _ = ticks.tick() => progress(self.so_far()),
                Some(outcome) = self.in_flight.join_next() => self.settle(outcome)?,
                () = tokio::time::sleep_until(pace.due()), if self.in_flight.len() < config.concurrency => {
                    let spans = pace.spans.min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.send(corpus.next_request_at(unix_nanos(), spans));
                    pace.sent(Instant::now());
                }
            }
        }
        if !shutdown.is_cancelled() {
            corpus.finish().into_iter().for_each(|batch| self.send(batch));
        }
        self.drain().await?;
        progress(self.so_far());
        Ok(self.report)
    }

    fn send(&mut self, batch: Batch) {
        self.report.spans.sent += batch.spans;
        self.report.log_records.sent += batch.log_records;
        self.report.requests += 1 + u64::from(batch.log_records > 0);
        let sender = self.sender.clone();
        if batch.log_records > 0 {
            let (sender, logs, items) = (sender.clone(), batch.logs.clone(), batch.log_records);
            self.in_flight.spawn(async move {
                let verdict = sender.deliver(Signal::Logs, logs.clone()).await;
                Outcome { signal: Signal::Logs, items, bytes: logs.len() as u64, verdict, batch: None }
            });
        }
        self.in_flight.spawn(async move {
            let verdict = sender.deliver(Signal::Spans, batch.traces.clone()).await;
            let (items, bytes) = (batch.spans, batch.traces.len() as u64);
            Outcome { signal: Signal::Spans, items, bytes, verdict, batch: Some(batch) }
        });
    }

    /// Waits for what is under way, but not for long.
    async fn drain(&mut self) -> Result<(), GenerateError> {
        let deadline = Instant::now() + GRACE;
        while let Ok(Some(outcome)) = tokio::time::timeout_at(deadline, self.in_flight.join_next()).await {
            self.settle(outcome)?;
        }
        self.in_flight.shutdown().await;
        Ok(())
    }

    fn settle(&mut self, outcome: Result<Outcome, tokio::task::JoinError>) -> Result<(), GenerateError> {
        // A request whose task ended without a verdict counts as unanswered.
        let Ok(outcome) = outcome else { return Ok(()) };
        let counts = match outcome.signal {
            Signal::Spans => &mut self.report.spans,
            Signal::Logs | Signal::Events => &mut self.report.log_records,
        };
        match outcome.verdict {
            Verdict::Acked { rejected } => {
                let rejected = rejected.min(outcome.items);
                counts.acked += outcome.items - rejected;
                counts.refused += rejected;
                self.report.bytes += outcome.bytes;
                // Which spans were rejected is not said, so none of such a request counts as acknowledged here.
                if let (Some(acked), Some(batch), 0) = (&mut self.acked, &outcome.batch, rejected) {
                    acked.append(batch)?;
                }
            }
            Verdict::Refused => counts.refused += outcome.items,
            Verdict::Unanswered => {}
        }
        Ok(())
    }

    fn so_far(&mut self) -> &Report {
        self.report.elapsed = self.started.elapsed();
        self.report.retries = self.sender.trouble.retries();
        self.report.problem = self.sender.trouble.latest();
        &self.report
    }
}

/// What became of one request.
struct Outcome {
    signal: Signal,
    items: u64,
    bytes: u64,
    verdict: Verdict,
    /// For the ids of acknowledged spans.
    batch: Option<Batch>,
}

enum Verdict {
    Acked { rejected: u64 },
    Refused,
    Unanswered,
}

#[derive(Clone)]
enum Client {
    Grpc(grpc::Client),
    Http(Arc<http::Client>),
}

/// Brings single requests to their end.
#[derive(Clone)]
struct Sender {
    client: Client,
    resend: bool,
    /// Nothing is sent again once this is cancelled.
    stop: CancellationToken,
    trouble: Arc<Trouble>,
}

impl Sender {
    async fn deliver(&self, signal: Signal, body: Bytes) -> Verdict {
        let mut backoff = Backoff::new(FIRST_RETRY, SLOWEST_RETRY);
        loop {
            let answer = match &self.client {
                Client::Grpc(client) => client.export(signal, body.clone()).await,
                Client::Http(client) => client.export(signal, body.clone()).await,
            };
            match answer {
                Answer::Accepted { rejected, message } => {
                    if rejected > 0 {
                        self.trouble.note(message);
                    }
                    return Verdict::Acked { rejected };
                }
                Answer::Refused { reason } => {
                    self.trouble.note(reason);
                    return Verdict::Refused;
                }
                Answer::Retry { after, reason } => {
                    self.trouble.note(reason);
                    tokio::select! {
                        () = self.stop.cancelled() => return Verdict::Unanswered,
                        () = backoff.wait(after) => {}
                    }
                    if !self.resend {
                        return Verdict::Unanswered;
                    }
                    self.trouble.retrying();
                }
            }
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
