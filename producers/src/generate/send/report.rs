//! How a run went.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What became of items of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Made and sent at least once.
    pub sent: u64,
    /// Acknowledged by the receiver.
    pub acked: u64,
    /// Refused by the receiver for good.
    pub refused: u64,
}

impl Counts {
    /// Sent, but with no verdict yet: the receiver may or may not have them.
    pub const fn unanswered(&self) -> u64 {
        self.sent - self.acked - self.refused
    }
}

/// The figures of a run, so far or at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Spans.
    pub spans: Counts,
    /// Log records.
    pub log_records: Counts,
    /// Requests, each counted once however often it was sent.
    pub requests: u64,
    /// Times that a request was sent again.
    pub retries: u64,
    /// Bytes of acknowledged requests, uncompressed.
    pub bytes: u64,
    /// Time since the beginning.
    pub elapsed: Duration,
    /// What went wrong last, in the receiver's or the operating system's words.
    pub problem: Option<String>,
}

impl Report {
    /// Acknowledged spans per second.
    pub fn spans_per_second(&self) -> f64 {
        self.spans.acked as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }
}

/// What requests under way ran into.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    retries: AtomicU64,
    latest: Mutex<Option<String>>,
}

impl Trouble {
    pub(super) fn note(&self, reason: String) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    pub(super) fn retrying(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub(super) fn latest(&self) -> Option<String> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
