//! What changes.

use std::time::Duration;

use afflux_runtime::Backoff;
use afflux_runtime::dead_letter::now_ms;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::super::api::{Change, Lines, ListQuery};
use super::super::error::ApiError;
use super::STREAM;
use super::session::{Session, Step, Trouble, Why};

/// How much longer than asked for a watch may last before it counts as silent.
pub(super) const GRACE: Duration = Duration::from_secs(15);
/// Watches in a row that end early and bring nothing before the history counts as gone: servers were seen to answer so
/// where they should have said 410.
pub(super) const MOST_EMPTY: u32 = 3;
/// Watches that end sooner are not opened again at once.
const SHORT: Duration = Duration::from_millis(500);

/// Changes that are read ahead of what is written.
const AHEAD: usize = 1000;

/// How a watch came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// After something had come.
    Heard,
    /// The server ended it, and nothing had come.
    Empty,
    /// Nothing came in all the time that it should last.
    Silent,
}

impl Session<'_> {
    /// One watch. Watch, List(Stale), or an error: `Gone` has the cluster listed.
    pub(super) async fn watch(&mut self, backoff: &mut Backoff) -> Result<Step, Trouble> {
        let Some(floor) = self.progress.floor().map(str::to_owned) else { return Ok(Step::List(Why::First)) };
        let (begun, lasts) = (Instant::now(), self.of.config.watch_timeout.0);
        self.opened_ms = now_ms();
        let opening = self.of.api.watch(&self.of.resource, &floor, lasts);
        let over = match timeout_at(begun + lasts + GRACE, opening).await {
            Ok(lines) => {
                let lines = lines?;
                self.of.board.works(STREAM);
                self.follow(lines, begun + lasts + GRACE, backoff).await?
            }
            Err(_) => Over::Silent,
        };
        let early = begun.elapsed() < lasts / 2;
        match over {
            Over::Heard => {
                self.empty = 0;
                self.of.board.ended("closed");
            }
            Over::Empty if early => {
                self.empty += 1;
                self.of.board.ended("empty");
                if self.empty >= MOST_EMPTY {
                    self.empty = 0;
                    return Ok(Step::List(Why::Stale));
                }
            }
            Over::Empty | Over::Silent => {
                self.of.board.ended("silent");
                // Either nothing happened, or the server says nothing of what did.
                let query = ListQuery { limit: 1, ..ListQuery::default() };
                let now = self.of.api.list::<Value>(&self.of.resource, &query).await?.resource_version;
                return Ok(if now == floor { Step::Watch } else { Step::List(Why::Stale) });
            }
        }
        if begun.elapsed() < SHORT {
            backoff.wait(None).await;
        }
        Ok(Step::Watch)
    }

    /// Publishes what comes. What has come by the time of an error is published too.
    async fn follow(&mut self, lines: Lines, until: Instant, backoff: &mut Backoff) -> Result<Over, Trouble> {
        let mut over = Over::Empty;
        let (mut changes, _reading) = read_ahead(lines);
        loop {
            let mut next = match timeout_at(until, changes.recv()).await {
                Ok(Some(change)) => change,
                Ok(None) => return Ok(over),
                // The next one begins where this one has come.
                Err(_) => return Ok(if over == Over::Empty { Over::Silent } else { over }),
            };
            // What has come while the batch before was written goes into one.
            let done = loop {
                let taken = match next {
                    Ok(change) => self.take(change).await,
                    Err(error) => Err(error),
                };
                if taken.is_err() || self.batch.is_full() {
                    break taken;
                }
                match changes.try_recv() {
                    Ok(change) => next = change,
                    Err(_) => break taken,
                }
            };
            self.flush_due().await?;
            done?;
            over = Over::Heard;
            backoff.reset();
        }
    }

    /// Restores the counts that were published up to the checkpoint, from the list as it was then.
    pub(super) async fn recover(&mut self) -> Result<Step, Trouble> {
        let Some(floor) = self.progress.floor().map(str::to_owned) else { return Ok(Step::List(Why::First)) };
        match self.restore_counts(&floor).await {
            Ok(()) => {}
            // Its history has begun anew below that, as after it was restored.
            Err(error) if error.is_future() => return Ok(Step::List(Why::Stale)),
            // Of what the server does not know any more, increments are not known either.
            Err(ApiError::Gone | ApiError::Status { code: 400..=499, retry_after: None, .. }) => {
                tracing::info!(resource_version = floor, "counts at the checkpoint are not known any more");
            }
            Err(error) => return Err(error.into()),
        }
        let recent: Vec<_> = self.progress.counts().collect();
        recent.into_iter().for_each(|(uid, count)| self.counts.restore(uid, count));
        Ok(Step::Watch)
    }
}

/// Reads a watch while what came before is written; the task ends with the handle.
fn read_ahead(mut lines: Lines) -> (mpsc::Receiver<Result<Change<Value>, ApiError>>, AbortOnDropHandle<()>) {
    let (sender, changes) = mpsc::channel(AHEAD);
    let task = tokio::spawn(async move {
        while let Some(next) = lines.next().await.transpose() {
            let over = next.is_err();
            if sender.send(next).await.is_err() || over {
                return;
            }
        }
    });
    (changes, AbortOnDropHandle::new(task))
}
