//! Partitions whose outputs the bus does not take are set aside, so that the others go on.

use std::collections::BTreeMap;
use std::time::Duration;

use afflux_bus::{Offset, PartitionId};
use afflux_runtime::Backoff;
use tokio::time::Instant;

/// For how long a partition is set aside first; every attempt that fails holds the others up for the time that the
/// bus takes to say so.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(60);

/// Input partitions that are set aside or on trial.
#[derive(Debug, Default)]
pub(super) struct Suspended(BTreeMap<PartitionId, Suspension>);

#[derive(Debug)]
struct Suspension {
    /// The output that takes nothing.
    output: PartitionId,
    reason: String,
    backoff: Backoff,
    /// When it is tried again; `None` while it is.
    until: Option<Instant>,
}

impl Suspended {
    /// Sets a partition aside, for longer each time.
    pub(super) fn suspend(&mut self, partition: PartitionId, output: &PartitionId, reason: &str) {
        let output = output.clone();
        let new = || Suspension { output, reason: String::new(), backoff: Backoff::new(FIRST, LAST), until: None };
        let suspension = self.0.entry(partition).or_insert_with(new);
        reason.clone_into(&mut suspension.reason);
        suspension.until = Some(Instant::now() + suspension.backoff.next(None));
    }

    /// Whether nothing of the partition is to be read now.
    pub(super) fn holds(&self, partition: &PartitionId) -> bool {
        self.0.get(partition).is_some_and(|suspension| suspension.until.is_some())
    }

    /// When the next partition is to be tried again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().filter_map(|suspension| suspension.until).min()
    }

    /// One partition whose time has come, and its output. Never more: one that still fails takes with it what shares its
    /// transaction.
    pub(super) fn next(&self) -> Option<(PartitionId, PartitionId)> {
        let now = Instant::now();
        let over = |suspension: &Suspension| suspension.until.is_some_and(|until| until <= now);
        let (partition, suspension) = self.0.iter().find(|(_, suspension)| over(suspension))?;
        Some((partition.clone(), suspension.output.clone()))
    }

    /// The output answers again, or not: the partition is on trial from now on, or waits on.
    pub(super) fn asked(&mut self, partition: &PartitionId, answers: bool) {
        if let Some(suspension) = self.0.get_mut(partition) {
            suspension.until = if answers { None } else { Some(Instant::now() + suspension.backoff.next(None)) };
        }
    }

    /// Forgets a partition that is somebody else's.
    pub(super) fn forget(&mut self, partition: &PartitionId) {
        self.0.remove(partition);
    }

    /// A transaction with these offsets was committed: partitions on trial have passed.
    pub(super) fn passed(&mut self, offsets: &[Offset]) {
        for offset in offsets {
            if !self.holds(&offset.partition) {
                self.0.remove(&offset.partition);
            }
        }
    }

    /// How many partitions are set aside or on trial.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Why partitions are set aside; `None` where none is.
    pub(super) fn reason(&self) -> Option<String> {
        let (partition, suspension) = self.0.first_key_value()?;
        let others = match self.0.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Some(format!("{partition}{others} set aside: {}", suspension.reason))
    }
}
