//! What one transaction writes and settles.

use std::collections::BTreeSet;

use afflux_bus::{Offset, PartitionId, Record};
use afflux_runtime::dead_letter;

use super::SIGNALS;
use crate::chain;
use crate::merge::Output;

/// One transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(super) outputs: Vec<Output>,
    /// Derived from records of any of the input partitions.
    pub(super) metrics: Vec<Record>,
    pub(super) dead: Dead,
    pub(crate) offsets: Vec<Offset>,
    pub(super) tallies: [Tally; SIGNALS],
    /// What went through each step, per signal.
    pub(super) steps: [Vec<(&'static str, chain::Tally)>; SIGNALS],
    pub(super) passed_over: u64,
}

/// Dead letters, each with its reason. They count once they are committed.
pub(super) type Dead = Vec<(Record, &'static str)>;

impl Batch {
    /// What is written.
    pub(crate) fn records(&self) -> Vec<Record> {
        let outputs = self.outputs.iter().map(|output| &output.record).chain(&self.metrics);
        outputs.chain(self.dead.iter().map(|(letter, _)| letter)).cloned().collect()
    }

    /// The input partitions that the outputs to a partition were made of.
    pub(crate) fn sources_of(&self, to: &PartitionId) -> BTreeSet<PartitionId> {
        let outputs = self.outputs.iter().filter(|output| output.record.to == *to);
        let outputs = outputs.filter_map(|output| output.origin().map(|(partition, _)| partition.clone()));
        let dead = self.dead.iter().filter(|(letter, _)| letter.to == *to);
        if self.metrics.iter().any(|record| record.to == *to) {
            return self.offsets.iter().map(|offset| offset.partition.clone()).collect();
        }
        outputs.chain(dead.filter_map(|(letter, _)| dead_letter::source(&letter.headers))).collect()
    }
}

/// What a transaction settles, per signal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) items: u64,
    pub(super) bytes: u64,
}
