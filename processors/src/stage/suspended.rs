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
    /// Whether this member owns it now.
    owned: bool,
}

impl Suspended {
    /// Sets a partition aside, for longer each time.
    pub(super) fn suspend(&mut self, partition: PartitionId, output: &PartitionId, reason: &str) {
        let output = output.clone();
        let new = || Suspension {
            output,
            reason: String::new(),
            backoff: Backoff::new(FIRST, LAST),
            until: None,
            owned: true,
        };
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
        self.waiting().filter_map(|(_, suspension)| suspension.until).min()
    }

    /// One partition whose time has come, and its output. Never more: one that still fails takes with it what shares its
    /// transaction.
    pub(super) fn next(&self) -> Option<(PartitionId, PartitionId)> {
        let now = Instant::now();
        let over = |suspension: &Suspension| suspension.until.is_some_and(|until| until <= now);
        let (partition, suspension) = self.waiting().find(|(_, suspension)| over(suspension))?;
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

    /// Whether nothing was ever set aside, or all of it has passed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Partitions have come, perhaps back.
    pub(super) fn assigned(&mut self, partition: &PartitionId) {
        if let Some(suspension) = self.0.get_mut(partition) {
            suspension.owned = true;
        }
    }

    /// Partitions have gone, perhaps for a moment. What is known of them is kept for their return.
    pub(super) fn revoked(&mut self, partitions: &[PartitionId]) {
        for (partition, suspension) in &mut self.0 {
            suspension.owned &= !partitions.contains(partition);
        }
    }

    /// The partitions that are ours and set aside; those on trial are not.
    fn waiting(&self) -> impl Iterator<Item = (&PartitionId, &Suspension)> {
        self.0.iter().filter(|(_, suspension)| suspension.owned && suspension.until.is_some())
    }

    /// How many partitions are set aside.
    pub(super) fn count(&self) -> usize {
        self.waiting().count()
    }

    /// Why partitions are set aside; `None` where none is.
    pub(super) fn reason(&self) -> Option<String> {
        let (partition, suspension) = self.waiting().next()?;
        let others = match self.count() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Some(format!("{partition}{others} set aside: {}", suspension.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_somebody_elses_or_on_trial_is_not_set_aside() {
        let (input, output) = (PartitionId::new("in", 0), PartitionId::new("out", 0));
        let mut suspended = Suspended::default();
        suspended.suspend(input.clone(), &output, "away");
        assert!(suspended.holds(&input) && suspended.reason().is_some() && suspended.next().is_none());
        tokio::time::advance(FIRST).await;
        assert_eq!(suspended.next(), Some((input.clone(), output)));
        suspended.revoked(std::slice::from_ref(&input));
        assert_eq!((suspended.count(), suspended.reason(), suspended.due(), suspended.next()), (0, None, None, None));
        suspended.assigned(&input);
        assert_eq!(suspended.count(), 1, "its return finds it as it was");
        suspended.asked(&input, true);
        assert_eq!((suspended.count(), suspended.reason(), suspended.holds(&input)), (0, None, false));
        suspended.asked(&input, false);
        assert!(suspended.holds(&input));
    }
}
