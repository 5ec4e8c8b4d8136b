//! What all partitions of the sink share, and how each of them talks to it.

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{BusError, ErrorClass, Generation, PartitionId, Producer};
use afflux_runtime::metrics::{ComponentLabels, ReasonLabels};
use afflux_runtime::{Backoff, Metrics};
use object_store::path::Path;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::NAME;
use super::clock::Clock;
use super::config::ParquetConfig;
use super::error::{Stop, StoreError};
use super::table::Table;
use super::transport::Store;

/// First and longest wait after an error that may pass.
const TRANSIENT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// First and longest wait after a refusal, which a person has to resolve.
const PERMANENT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// Failures in a row after which the component reports itself as failing.
const PATIENCE: u32 = 3;

/// What the writers of all partitions share.
pub(crate) struct Shared {
    pub(crate) config: ParquetConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) base: Path,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) producer: Arc<dyn Producer>,
    /// Topic of what cannot be stored.
    pub(crate) dead_letters: String,
    /// Row groups being encoded at once: one per core.
    pub(crate) encoders: Semaphore,
    /// Requests to the store at once.
    pub(crate) requests: Semaphore,
    /// Uploads being aborted in the background.
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    /// Labels of the sink's throughput.
    pub(crate) fn labels(table: Table) -> ComponentLabels {
        ComponentLabels { component: NAME, signal: table.signal().as_str() }
    }

    /// Makes a request to the store when its turn comes. Whoever waits to try again holds nobody up.
    pub(crate) async fn request<T>(&self, request: impl Future<Output = T>) -> T {
        // Never closed; without a permit the store itself is the limit.
        let _turn = self.requests.acquire().await;
        request.await
    }

    /// Counts items that are dropped on purpose.
    pub(crate) fn dropped(&self, reason: &'static str, items: u64) {
        self.metrics.dropped_items.get_or_create(&ReasonLabels { component: NAME, reason }).inc_by(items);
    }
}

/// Why a writer leaves what it was doing.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// The partition cannot be written any more.
    Stop(Stop),
    /// What was read has to be read again, from the committed position.
    Restart(&'static str),
    /// The partition is not ours any more, or the sink is gone.
    Gone,
}

impl From<Stop> for Interrupt {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// From a writer to the sink, which owns the consumer.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) partition: PartitionId,
    pub(crate) generation: Generation,
    pub(crate) request: Request,
}

/// What a writer asks of the sink.
#[derive(Debug)]
pub(crate) enum Request {
    /// Commit everything below an offset.
    Commit { next: u64, reply: oneshot::Sender<Result<(), BusError>> },
    /// Read the committed offset anew.
    Position { reply: oneshot::Sender<Result<Option<u64>, BusError>> },
    /// Show, or do not show any more, why this partition makes no progress.
    Problem(Option<String>),
}

/// A writer's line to the sink.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) partition: PartitionId,
    pub(crate) generation: Generation,
    pub(crate) outbox: mpsc::UnboundedSender<Message>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Line {
    /// Sends a request that needs no answer.
    pub(crate) fn tell(&self, request: Request) {
        let (partition, generation) = (self.partition.clone(), self.generation);
        // A sink that is gone needs no telling.
        let _ = self.outbox.send(Message { partition, generation, request });
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, BusError>>) -> Request,
    ) -> Result<Result<T, BusError>, Interrupt> {
        let (reply, answer) = oneshot::channel();
        self.tell(request(reply));
        answer.await.map_err(|_| Interrupt::Gone)
    }

    /// Commits, for as long as it takes.
    pub(crate) async fn commit(&self, next: u64) -> Result<(), Interrupt> {
        let mut trouble = Trouble::new(self);
        loop {
            match self.ask(|reply| Request::Commit { next, reply }).await? {
                Ok(()) => {
                    trouble.over();
                    return Ok(());
                }
                Err(BusError::Fenced { .. } | BusError::Restarted { .. }) => return Err(Interrupt::Gone),
                Err(error) => trouble.wait("commit", &error, error.class()).await,
            }
        }
    }

    /// Reads the committed offset anew, for as long as it takes.
    pub(crate) async fn position(&self) -> Result<Option<u64>, Interrupt> {
        let mut trouble = Trouble::new(self);
        loop {
            match self.ask(|reply| Request::Position { reply }).await? {
                Ok(position) => {
                    trouble.over();
                    return Ok(position);
                }
                Err(BusError::Fenced { .. } | BusError::Restarted { .. }) => return Err(Interrupt::Gone),
                Err(error) => trouble.wait("position", &error, error.class()).await,
            }
        }
    }
}

/// Tries until the store has done it, and gives its answer. Only an upload that is gone is given up.
///
/// A macro, since the compiler cannot yet see that a future with an asynchronous closure in it is `Send`.
macro_rules! persist {
    ($line:expr, $attempt:expr) => {{
        let mut trouble = $crate::parquet::writer::Trouble::new($line);
        loop {
            match $attempt.await {
                Ok(done) => {
                    trouble.over();
                    break Ok(done);
                }
                Err(error) => {
                    if let Err(interrupt) = trouble.store(&error).await {
                        break Err(interrupt);
                    }
                }
            }
        }
    }};
}

pub(crate) use persist;

/// Failures of one operation in a row: waits between them and what is said about them.
pub(crate) struct Trouble<'a> {
    line: &'a Line,
    transient: Backoff,
    permanent: Backoff,
    failures: u32,
    shown: bool,
}

impl<'a> Trouble<'a> {
    /// None so far.
    pub(crate) fn new(line: &'a Line) -> Self {
        let (transient, permanent) = (Backoff::new(TRANSIENT.0, TRANSIENT.1), Backoff::new(PERMANENT.0, PERMANENT.1));
        Self { line, transient, permanent, failures: 0, shown: false }
    }

    /// Counts and reports a failure, and waits until the next attempt is due.
    pub(crate) async fn wait(
        &mut self,
        reason: &'static str,
        error: &(dyn std::error::Error + Sync),
        class: ErrorClass,
    ) {
        self.failures += 1;
        self.line.metrics.retries.get_or_create(&ReasonLabels { component: NAME, reason }).inc();
        let partition = &self.line.partition;
        tracing::warn!(%partition, failures = self.failures, reason, %error, "attempt failed, trying again");
        let permanent = !matches!(class, ErrorClass::Transient(_));
        if permanent || self.failures >= PATIENCE {
            self.line.tell(Request::Problem(Some(format!("{partition}: {error}"))));
            self.shown = true;
        }
        match class {
            ErrorClass::Transient(delay) => self.transient.wait(delay).await,
            ErrorClass::Permanent | ErrorClass::Fatal => self.permanent.wait(None).await,
        }
    }

    /// Treats an error of the store: waits, unless nothing can come of another attempt.
    pub(crate) async fn store(&mut self, error: &StoreError) -> Result<(), Interrupt> {
        if let StoreError::UploadGone { path } = error {
            tracing::warn!(%path, "an upload is gone, its range is read again");
            return Err(Interrupt::Restart("upload_gone"));
        }
        self.wait(error.reason(), error, error.class()).await;
        Ok(())
    }

    /// Takes the report back, if there was one.
    pub(crate) fn over(self) {
        if self.shown {
            self.line.tell(Request::Problem(None));
        }
    }
}
