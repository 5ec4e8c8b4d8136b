//! Consumer groups, all within this process: who owns which partition, and how ownership passes on.
//!
//! Pure: time is an input, and members come to ask what changed. A partition passes from one member to another only
//! after the first has given it up, has left, or has been silent for its `revoke_timeout`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::record::{Generation, PartitionId};

/// Number of a member within the process.
pub(super) type MemberId = u64;

/// A group.
#[derive(Debug, Default)]
pub(super) struct Group {
    members: BTreeMap<MemberId, Member>,
    slots: BTreeMap<PartitionId, Slot>,
    generation: u64,
}

#[derive(Debug)]
struct Member {
    topics: Vec<Arc<str>>,
    revoke_timeout: Duration,
}

/// One partition.
#[derive(Debug, Default)]
struct Slot {
    owner: Option<Ownership>,
    /// Who is to own it.
    target: Option<MemberId>,
}

#[derive(Debug)]
struct Ownership {
    member: MemberId,
    generation: Generation,
    /// When it is taken away, where it is to pass to another member.
    until: Option<Instant>,
}

/// How a member holds a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) generation: Generation,
    /// It is to be given up.
    pub(super) leaving: bool,
}

impl Group {
    /// Adds a member that reads these topics with their numbers of partitions.
    pub(super) fn join(&mut self, id: MemberId, topics: &[(Arc<str>, u32)], revoke_timeout: Duration, now: Instant) {
        for (topic, partitions) in topics {
            for partition in 0..*partitions {
                self.slots.entry(PartitionId::new(Arc::clone(topic), partition)).or_default();
            }
        }
        let topics = topics.iter().map(|(topic, _)| Arc::clone(topic)).collect();
        self.members.insert(id, Member { topics, revoke_timeout });
        self.balance(now);
    }

    /// Removes a member; its partitions are free at once.
    pub(super) fn leave(&mut self, id: MemberId, now: Instant) {
        self.members.remove(&id);
        for slot in self.slots.values_mut() {
            slot.owner.take_if(|owner| owner.member == id);
        }
        self.balance(now);
    }

    /// Gives up partitions. Those that are to stay come back under a new generation.
    pub(super) fn give_up(&mut self, id: MemberId, partitions: &[PartitionId]) {
        for partition in partitions {
            if let Some(slot) = self.slots.get_mut(partition) {
                slot.owner.take_if(|owner| owner.member == id);
            }
        }
        self.hand_out();
    }

    /// Takes partitions from members that were asked to give them up and stayed silent. Answers whether any passed.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut any = false;
        for slot in self.slots.values_mut() {
            any |= slot.owner.take_if(|owner| owner.until.is_some_and(|until| until <= now)).is_some();
        }
        self.hand_out();
        any
    }

    /// When [`Group::expire`] next has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.slots.values().filter_map(|slot| slot.owner.as_ref()?.until).min()
    }

    /// What the member owns.
    pub(super) fn held(&self, id: MemberId) -> BTreeMap<PartitionId, Held> {
        let held = |slot: &Slot| {
            let owner = slot.owner.as_ref().filter(|owner| owner.member == id)?;
            Some(Held { generation: owner.generation, leaving: owner.until.is_some() })
        };
        self.slots.iter().filter_map(|(partition, slot)| Some((partition.clone(), held(slot)?))).collect()
    }

    /// Whether the member owns the partition under this generation.
    pub(super) fn owns(&self, id: MemberId, partition: &PartitionId, generation: Generation) -> bool {
        let owner = self.slots.get(partition).and_then(|slot| slot.owner.as_ref());
        owner.is_some_and(|owner| owner.member == id && owner.generation == generation)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Chooses who is to own what: as even as can be, moving as little as can be.
    fn balance(&mut self, now: Instant) {
        let total = self.slots.keys().filter(|p| self.members.values().any(|m| m.topics.contains(&p.topic))).count();
        let share = total / self.members.len().max(1);
        let mut extra = total % self.members.len().max(1);
        let mut load: BTreeMap<MemberId, usize> = self.members.keys().map(|id| (*id, 0)).collect();
        for (partition, slot) in &mut self.slots {
            slot.target = None;
            let Some(id) = slot.owner.as_ref().map(|owner| owner.member) else { continue };
            let (Some(member), Some(load)) = (self.members.get(&id), load.get_mut(&id)) else { continue };
            if !member.topics.contains(&partition.topic) || *load > share || (*load == share && extra == 0) {
                continue;
            }
            extra -= usize::from(*load == share);
            *load += 1;
            slot.target = Some(id);
        }
        for (partition, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.target.is_none()) {
            let readers = self.members.iter().filter(|(_, member)| member.topics.contains(&partition.topic));
            slot.target = readers.map(|(id, _)| *id).min_by_key(|id| load[id]);
            slot.target.and_then(|id| load.get_mut(&id)).into_iter().for_each(|load| *load += 1);
        }
        for slot in self.slots.values_mut() {
            let Some(owner) = &mut slot.owner else { continue };
            let timeout = self.members.get(&owner.member).map_or(Duration::ZERO, |member| member.revoke_timeout);
            let leaves = slot.target != Some(owner.member);
            owner.until = if leaves { owner.until.or_else(|| now.checked_add(timeout)) } else { None };
        }
        self.hand_out();
    }

    /// Gives free partitions to those who are to own them.
    fn hand_out(&mut self) {
        let free = |slot: &&mut Slot| slot.owner.is_none() && slot.target.is_some();
        for slot in self.slots.values_mut().filter(free) {
            self.generation += 1;
            let generation = Generation(self.generation);
            slot.owner = slot.target.map(|member| Ownership { member, generation, until: None });
        }
    }
}

#[cfg(test)]
mod tests;
