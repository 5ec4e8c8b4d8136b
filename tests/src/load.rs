//! Load whose outcome is known request by request.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afflux_producers::generate::Corpus;
use afflux_schemas::otlp::logs::LogsView;
use afflux_schemas::otlp::trace::TracesView;
use bytes::Bytes;

/// Pause of a client that was refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// Ids of spans, `trace id` and `span id` in hex, joined; and of log records, the same with `@` and their time in
/// nanoseconds, which the corpus makes unique.
pub type Ids = HashSet<String>;

/// Sends each request of a corpus once and remembers which were acknowledged.
///
/// A request without an answer is never sent again: its items may be stored once or not at all, so that an
/// item found twice is always Afflux's doing.
#[derive(Clone)]
pub struct Load {
    corpus: Arc<Mutex<Corpus>>,
    outcome: Arc<Mutex<Outcome>>,
    client: reqwest::Client,
}

/// What became of the spans and log records.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answered with success.
    pub acked: Ids,
    /// Sent, whatever the answer.
    pub sent: Ids,
}

impl Load {
    /// Load from that seed; span times start now, so that they fall into the present hours.
    pub fn new(seed: u64) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let start = u64::try_from(now.as_nanos()).unwrap_or_default();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap_or_default();
        Self { corpus: Arc::new(Mutex::new(Corpus::new(seed, start))), outcome: Arc::default(), client }
    }

    /// Sends about that many spans, and their logs; whether all were acknowledged.
    pub async fn send_one(&self, http_port: u16, spans: usize) -> bool {
        self.attempt(http_port, spans).await == Some(200)
    }

    /// The status of the first answer that is no success, or 200; none where nobody answers.
    async fn attempt(&self, http_port: u16, spans: usize) -> Option<u16> {
        let batch = self.corpus.lock().unwrap_or_else(PoisonError::into_inner).next_request(spans);
        let spans = span_ids(&batch.traces);
        let traces = self.post(http_port, "traces", batch.traces, spans).await;
        if traces != Some(200) || batch.logs.is_empty() {
            return traces;
        }
        let logs = log_ids(&batch.logs);
        self.post(http_port, "logs", batch.logs, logs).await
    }

    async fn post(&self, http_port: u16, signal: &str, body: Bytes, ids: Vec<String>) -> Option<u16> {
        for id in &ids {
            assert!(self.outcome().sent.insert(id.clone()), "{id} is not unique");
        }
        let request = self.client.post(format!("http://127.0.0.1:{http_port}/v1/{signal}"));
        let answer = request.header("content-type", "application/x-protobuf").body(body).send().await;
        let status = answer.ok().map(|answer| answer.status().as_u16());
        if status == Some(200) {
            self.outcome().acked.extend(ids);
        }
        status
    }

    /// Keeps `clients` requests under way for that long, or until nobody answers any more.
    pub async fn run(&self, http_port: u16, clients: usize, spans: usize, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..clients {
            let load = self.clone();
            tasks.spawn(async move {
                while tokio::time::Instant::now() < until {
                    match load.attempt(http_port, spans).await {
                        Some(200) => {}
                        // Told to wait.
                        Some(_) => tokio::time::sleep(REFUSED_PAUSE).await,
                        None => break,
                    }
                }
            });
        }
        tasks.join_all().await;
    }

    /// A copy of what is known so far.
    pub fn snapshot(&self) -> Outcome {
        self.outcome().clone()
    }

    fn outcome(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outcome {
    /// Writes both sets, one id per line, as `acked.txt` and `sent.txt`.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        for (name, ids) in [("acked.txt", &self.acked), ("sent.txt", &self.sent)] {
            std::fs::write(dir.join(name), ids.iter().map(|id| format!("{id}\n")).collect::<String>())?;
        }
        Ok(())
    }
}

/// Ids of every span of a request.
pub fn span_ids(request: &Bytes) -> Vec<String> {
    let view = TracesView::new(request);
    view.resource_spans()
        .flat_map(|r| r.scope_spans())
        .flat_map(|s| s.spans())
        .map(|span| hex(span.trace_id()) + &hex(span.span_id()))
        .collect()
}

/// Ids of every log record of a request.
pub fn log_ids(request: &Bytes) -> Vec<String> {
    let view = LogsView::new(request);
    view.resource_logs()
        .flat_map(|r| r.scope_logs())
        .flat_map(|s| s.log_records())
        .map(|log| format!("{}{}@{}", hex(log.trace_id()), hex(log.span_id()), log.time_unix_nano()))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
