//! One owner's work, from its checkpoint on.

use std::sync::Arc;

use afflux_bus::{BusError, Headers, PartitionId, Record};
use afflux_runtime::Backoff;
use afflux_runtime::dead_letter::now_ms;
use serde_json::Value;
use tokio::time::Instant;

use super::super::api::Change;
use super::super::counts::Counts;
use super::super::encode::Target;
use super::super::error::ApiError;
use super::super::event::Observation;
use super::super::lookup::Lookup;
use super::super::progress::{Progress, Times, Verdict, uid_hash};
use super::super::store::Store;
use super::super::{FIRST_RETRY, LAST_RETRY};
use super::batch::Batch;
use super::{CHECKPOINT_EVERY, Events, STREAM};

/// What the bus has against going on.
pub(super) struct End(pub(super) BusError);

impl From<BusError> for End {
    fn from(error: BusError) -> Self {
        Self(error)
    }
}

/// Why a step did not come to its end.
pub(super) enum Trouble {
    Api(ApiError),
    End(End),
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<End> for Trouble {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

/// Why the cluster is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// For the first time.
    First,
    /// The history since the last event is gone.
    Expired,
    /// Watches bring nothing, and end or stay silent.
    Stale,
    /// The list before was larger than what is held.
    Cut,
    /// The history of the cluster has begun anew below where it was.
    RolledBack,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Learns how often events had happened at the checkpoint.
    Recover,
    List(Why),
    Watch,
}

/// See the module.
pub(super) struct Session<'e> {
    pub(super) of: &'e Events,
    pub(super) store: Store,
    pub(super) progress: Progress,
    pub(super) counts: Counts,
    pub(super) target: Target,
    /// Topic and partitions.
    pub(super) dead_letters: (Arc<str>, u32),
    /// Bytes of one record at most.
    pub(super) most_bytes: usize,
    pub(super) lookup: Lookup,
    pub(super) batch: Batch,
    /// Watches in a row that ended early and brought nothing.
    pub(super) empty: u32,
    /// When the watch was opened, milliseconds since the Unix epoch: what it brings was sent after that, whenever it is read.
    pub(super) opened_ms: i64,
    /// Whether the bus has taken anything.
    pub(super) committed: bool,
    /// When a checkpoint was written last.
    pub(super) written: Instant,
    /// Whether the progress is not written down.
    pub(super) unwritten: bool,
}

impl Session<'_> {
    /// Works until the bus has something against it, whatever the API server does.
    pub(super) async fn work(&mut self) -> End {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        // Recover, then Watch; or List, then Watch. What goes wrong is tried again, except for a history that is gone.
        let mut step = if self.progress.floor().is_some() { Step::Recover } else { Step::List(Why::First) };
        loop {
            let done = match step {
                Step::Recover => self.recover().await,
                Step::List(why) => self.list(why).await,
                Step::Watch => self.watch(&mut backoff).await,
            };
            match done {
                Ok(next) => {
                    // What a watch brings resets the pause: a server may answer lists and refuse every watch.
                    if step != Step::Watch {
                        self.of.board.works(STREAM);
                    }
                    step = next;
                }
                Err(Trouble::End(end)) => return end,
                Err(Trouble::Api(ApiError::Gone)) => {
                    self.of.board.ended("expired");
                    backoff.wait(None).await;
                    if step == Step::Watch {
                        step = Step::List(Why::Expired);
                    }
                }
                Err(Trouble::Api(error)) => {
                    self.of.board.ended("failed");
                    self.of.board.failed(STREAM, &error.to_string());
                    backoff.wait(error.retry_after()).await;
                    if error.is_about_access() {
                        self.of.api.renew();
                    }
                }
            }
        }
    }

    /// Takes in what a watch brings.
    pub(super) async fn take(&mut self, change: Change<Value>) -> Result<(), ApiError> {
        match change {
            Change::Applied(object) => self.observe(object).await,
            Change::Deleted(object) => {
                let of = |field| object.pointer(field).and_then(Value::as_str).unwrap_or_default();
                let (uid, version) = (uid_hash(of("/metadata/uid")), of("/metadata/resourceVersion"));
                self.counts.remove(uid);
                if !version.is_empty() && self.progress.verdict(uid, version) == Verdict::New {
                    self.progress.saw(uid, version, None, Times { now_ms: now_ms(), event_ms: self.opened_ms });
                    self.unwritten = true;
                }
                Ok(())
            }
            Change::Bookmark(version) => {
                self.progress.reached(&version, self.opened_ms);
                self.unwritten = true;
                Ok(())
            }
        }
    }

    async fn observe(&mut self, object: Value) -> Result<(), ApiError> {
        let event = match Observation::read(object) {
            Ok(event) => event,
            Err((object, reason)) => {
                self.refuse(&object, reason);
                return Ok(());
            }
        };
        let uid = uid_hash(&event.uid);
        match self.progress.verdict(uid, &event.resource_version) {
            Verdict::Published => {
                self.of.board.dropped("already_published");
                return Ok(());
            }
            Verdict::Uncomparable => self.of.board.ended("uncomparable"),
            Verdict::New => {}
        }
        let passes = self.passes(&event).await?;
        let event_ms = i64::try_from(event.time / 1_000_000).ok().filter(|ms| *ms > 0).unwrap_or(self.opened_ms);
        let times = Times { now_ms: now_ms(), event_ms };
        self.progress.saw(uid, &event.resource_version, passes.then_some(event.count), times);
        self.unwritten = true;
        if passes {
            self.publish(event);
        }
        Ok(())
    }

    /// Whether the filter lets it through. What it does not is counted.
    pub(super) async fn passes(&mut self, event: &Observation) -> Result<bool, ApiError> {
        let object = if self.of.filter.needs_metadata() {
            self.lookup.metadata(&self.of.api, &event.object).await?
        } else {
            Arc::default()
        };
        let passes = self.of.filter.passes(event, &object);
        if !passes {
            self.of.board.dropped("filtered");
        }
        Ok(passes)
    }

    pub(super) fn publish(&mut self, event: Observation) {
        let increment = self.counts.publish(uid_hash(&event.uid), event.count);
        self.batch.push((event, increment));
    }

    /// Puts what is no event among the dead letters.
    pub(super) fn refuse(&mut self, object: &Value, reason: &str) {
        let now_ms = now_ms();
        let record = Record {
            to: PartitionId { topic: Arc::clone(&self.target.topic), partition: 0 },
            key: None,
            value: Some(object.to_string().into()),
            timestamp_ms: now_ms,
            headers: Headers::new(),
        };
        let letter = self.dead_letter(record, "malformed", reason, now_ms);
        self.batch.push_record(letter);
    }

    /// Writes what is gathered, and now and then how far it is where nothing is.
    pub(super) async fn flush_due(&mut self) -> Result<(), End> {
        if !self.batch.is_empty() || (self.unwritten && self.written.elapsed() >= CHECKPOINT_EVERY) {
            self.flush().await?;
        }
        Ok(())
    }
}
