//! Members of consumer groups: what a poll does.

mod fetch;
mod rewind;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use afflux_schemas::topics::mirrored;
use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use self::fetch::Fetching;
use super::Inner;
use super::committer::Answer;
use super::frame::Part;
use super::group::{Group, Held, MemberId};
use super::log::Batch;
use crate::contract::{Assignment, Consumer, ConsumerConfig, Event, Offset, StartAt};
use crate::error::BusError;
use crate::record::{Generation, PartitionId, Record};

/// All groups of the process.
#[derive(Default)]
pub(super) struct Groups(Mutex<Registry>);

#[derive(Default)]
struct Registry {
    groups: HashMap<Arc<str>, Arc<Shared>>,
    members: MemberId,
    /// Which member may use a transactional id: the one that came last.
    transactional: HashMap<Arc<str>, MemberId>,
}

/// One group, and the bell that its members listen for.
#[derive(Default)]
struct Shared {
    group: Mutex<Group>,
    changed: watch::Sender<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Groups {
    /// Lets every member look at what has changed.
    pub(super) fn wake(&self) {
        self.lock().groups.values().for_each(|shared| shared.changed.send_replace(()));
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes someone new the owner of a transactional id.
    pub(super) fn own(&self, name: &Arc<str>) -> MemberId {
        let mut registry = self.lock();
        registry.members += 1;
        let id = registry.members;
        registry.transactional.insert(Arc::clone(name), id);
        id
    }

    /// Gives the transactional ids of an owner up.
    pub(super) fn disown(&self, id: MemberId) {
        self.lock().transactional.retain(|_, owner| *owner != id);
    }

    /// Does something while nobody can take the id over; refused where somebody has.
    pub(super) fn while_owned<T>(&self, name: &str, id: MemberId, act: impl FnOnce() -> T) -> Result<T, BusError> {
        let registry = self.lock();
        if registry.transactional.get(name) != Some(&id) {
            return Err(BusError::Fenced { reason: format!("the transactional id {name} has a newer owner or none") });
        }
        Ok(act())
    }
}

/// A member of a group.
pub(super) struct LocalConsumer {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
    id: MemberId,
    config: ConsumerConfig,
    /// What the configuration names, or matches so far, with numbers of partitions.
    topics: Vec<(Arc<str>, u32)>,
    owned: BTreeMap<PartitionId, Owned>,
    /// Announced as revoked; the next poll gives them up.
    announced: Vec<PartitionId>,
    /// The group changed since this member looked.
    outdated: bool,
    /// After a fence, everything is revoked and assigned anew.
    restart: bool,
    changed: watch::Receiver<()>,
    durable: watch::Receiver<u64>,
    fetching: Option<Fetching>,
    /// Losses that the caller has not been told of.
    expired: VecDeque<Event>,
    /// Which partition is read first; rises so that none starves.
    turn: usize,
}

struct Owned {
    part: Part,
    generation: Generation,
    /// Offset to read next.
    position: u64,
    /// The committed offset at the assignment; what lies below is read again.
    fresh: u64,
    paused: bool,
}

/// What a look at the group brings.
enum Change {
    Revoked(Vec<PartitionId>),
    Gained,
    None,
}

impl LocalConsumer {
    pub(super) fn join(inner: Arc<Inner>, config: ConsumerConfig) -> Result<Self, BusError> {
        let topics = inner.matching(&config.topics)?;
        let mut registry = inner.groups.lock();
        registry.members += 1;
        let id = registry.members;
        if let Some(name) = &config.transactional_id {
            registry.transactional.insert(Arc::clone(name), id);
        }
        let shared = Arc::clone(registry.groups.entry(Arc::clone(&config.group)).or_default());
        shared.lock().join(id, &topics, config.revoke_timeout, Instant::now());
        drop(registry);
        shared.changed.send_replace(());
        let (changed, durable) = (shared.changed.subscribe(), inner.committer.durable());
        Ok(Self {
            inner,
            shared,
            id,
            config,
            topics,
            owned: BTreeMap::new(),
            announced: Vec::new(),
            expired: VecDeque::new(),
            outdated: true,
            restart: false,
            changed,
            durable,
            fetching: None,
            turn: 0,
        })
    }

    /// Gives up what was announced, and finds out what else is to go or has come.
    fn look(&mut self) -> Change {
        let shared = Arc::clone(&self.shared);
        let mut group = shared.lock();
        let mut passed = group.expire(Instant::now());
        if !self.announced.is_empty() {
            let partitions = std::mem::take(&mut self.announced);
            group.give_up(self.id, &partitions);
            self.owned.retain(|partition, _| !partitions.contains(partition));
            passed = true;
        }
        if passed {
            shared.changed.send_replace(());
        }
        if std::mem::take(&mut self.restart) && !self.owned.is_empty() {
            self.announced = self.owned.keys().cloned().collect();
            return Change::Revoked(self.announced.clone());
        }
        self.outdated |= self.changed.has_changed().unwrap_or(false);
        if !self.outdated {
            return Change::None;
        }
        self.changed.mark_unchanged();
        self.look_for_topics(&mut group);
        let held = group.held(self.id);
        let revoked = self.revoked(&held);
        if !revoked.is_empty() {
            return Change::Revoked(revoked);
        }
        // Came and is to go again before this member knew of it.
        let passing: Vec<_> = held.iter().filter(|(_, held)| held.leaving).map(|(p, _)| p.clone()).collect();
        if !passing.is_empty() {
            group.give_up(self.id, &passing);
            shared.changed.send_replace(());
        }
        self.outdated = held.len() > self.owned.len() + passing.len();
        if self.outdated { Change::Gained } else { Change::None }
    }

    /// Joins anew where a new topic matches a pattern.
    fn look_for_topics(&mut self, group: &mut Group) {
        if self.config.topics.iter().all(|topic| mirrored(topic).is_none()) {
            return;
        }
        // A bus that is closed says so to the next poll.
        let Ok(topics) = self.inner.matching(&self.config.topics) else { return };
        if topics != self.topics {
            self.topics = topics;
            group.join(self.id, &self.topics, self.config.revoke_timeout, Instant::now());
            self.shared.changed.send_replace(());
            self.changed.mark_unchanged();
        }
    }

    /// Partitions that were taken away in silence, and those that are to be given up.
    fn revoked(&mut self, held: &BTreeMap<PartitionId, Held>) -> Vec<PartitionId> {
        let id_of = |(partition, _): (&PartitionId, &Owned)| partition.clone();
        let of = |partition, owned: &Owned| held.get(partition).filter(|held| held.generation == owned.generation);
        let lost: Vec<_> = self.owned.iter().filter(|(p, owned)| of(p, owned).is_none()).map(id_of).collect();
        let leaving = self.owned.iter().filter(|(p, owned)| of(p, owned).is_some_and(|held| held.leaving));
        self.announced = leaving.map(id_of).collect();
        self.owned.retain(|partition, _| !lost.contains(partition));
        [lost, self.announced.clone()].concat()
    }

    /// Takes over what was gained, at the committed offsets; `starts` are where reading begins below them.
    fn assign(&mut self, starts: &BTreeMap<PartitionId, u64>) -> Vec<Assignment> {
        let held = self.shared.lock().held(self.id);
        self.outdated = false;
        let state = self.inner.store.state();
        let mut assigned = Vec::new();
        for (partition, Held { generation, leaving }) in held {
            if self.owned.contains_key(&partition) || leaving {
                self.outdated |= leaving;
                continue;
            }
            let Some(part) = state.part(&partition.topic, partition.partition) else { continue };
            let (start, end) = state.range(part);
            let committed = state.committed(&self.config.group, part);
            let position = committed.unwrap_or(match self.config.start_at {
                StartAt::Earliest => start,
                StartAt::Latest => end,
            });
            if committed.is_none() && self.config.start_at == StartAt::Earliest && start > 0 && state.is_dense(part) {
                tracing::warn!(group = &*self.config.group, %partition, records = start, "retention was faster than the group");
                self.expired.push_back(Event::Expired { partition: partition.clone(), records: start });
            }
            let from = starts.get(&partition).map_or(position, |start| position.min(*start));
            self.owned
                .insert(partition.clone(), Owned { part, generation, position: from, fresh: position, paused: false });
            assigned.push(Assignment { partition, generation, position });
        }
        assigned
    }

    /// Waits until the group or the log has something new.
    async fn wait(&mut self) {
        let deadline = self.shared.lock().deadline();
        let expiry = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Errors mean that the bus is going; the next look finds it closed.
            _ = self.changed.changed() => self.outdated = true,
            _ = self.durable.changed() => {}
            () = expiry => {}
        }
    }

    /// Refuses a transaction whose id a newer member has taken over; this one takes it back as it starts over.
    fn check_id(&self, name: &Arc<str>) -> Result<(), BusError> {
        let mut registry = self.inner.groups.lock();
        let owner = registry.transactional.entry(Arc::clone(name)).or_insert(self.id);
        if *owner == self.id {
            return Ok(());
        }
        *owner = self.id;
        Err(BusError::Fenced { reason: format!("a newer member uses the transactional id {name}") })
    }

    /// Queues offsets, and records with them, if this member still owns every partition.
    fn submit(&self, records: Vec<Record>, offsets: &[Offset]) -> Result<Answer, BusError> {
        // Under the lock to the end: whoever takes over waits for what was queued before.
        let group = self.shared.lock();
        if let Some(lost) = offsets.iter().find(|offset| !group.owns(self.id, &offset.partition, offset.generation)) {
            let Offset { partition, generation, .. } = lost;
            let reason = format!("generation {} of {partition} is over", generation.0);
            return Err(BusError::Fenced { reason });
        }
        let name = &self.config.group;
        let offsets = offsets.iter().map(|offset| (Arc::clone(name), offset.partition.clone(), offset.next)).collect();
        self.inner.committer.submit(Batch { records, offsets, ..Batch::default() })
    }

    fn set_paused(&mut self, partition: &PartitionId, paused: bool) -> Result<(), BusError> {
        if self.inner.committer.is_closed() {
            return Err(BusError::Closed);
        }
        let owned = self.owned.get_mut(partition).ok_or_else(|| BusError::UnknownPartition(partition.clone()))?;
        owned.paused = paused;
        Ok(())
    }
}

#[async_trait]
impl Consumer for LocalConsumer {
    async fn poll(&mut self) -> Result<Event, BusError> {
        loop {
            self.durable.mark_unchanged();
            if self.inner.committer.is_closed() {
                return Err(BusError::Closed);
            }
            if let Some(event) = self.expired.pop_front() {
                return Ok(event);
            }
            match self.look() {
                Change::Revoked(partitions) => return Ok(Event::Revoked(partitions)),
                Change::Gained => {
                    // Everything that the previous owner queued is settled before its offset is read.
                    self.inner.committer.commit(Batch::default()).await?;
                    let starts = self.starts().await?;
                    let assigned = self.assign(&starts);
                    if !assigned.is_empty() {
                        return Ok(Event::Assigned(assigned));
                    }
                    continue;
                }
                Change::None => {}
            }
            match self.fetch().await? {
                Some(records) if !records.is_empty() => return Ok(Event::Records(records)),
                Some(_) => {}
                None => self.wait().await,
            }
        }
    }

    async fn commit(&mut self, offsets: &[Offset]) -> Result<(), BusError> {
        if offsets.is_empty() {
            return Ok(());
        }
        self.submit(Vec::new(), offsets)?.await.unwrap_or(Err(BusError::Closed))
    }

    async fn transact(&mut self, outputs: Vec<Record>, offsets: &[Offset]) -> Result<(), BusError> {
        let Some(name) = self.config.transactional_id.clone() else {
            let reason = format!("group {} has no transactional id; set one", self.config.group);
            return Err(BusError::Config(reason));
        };
        let queued = self.check_id(&name).and_then(|()| self.submit(outputs, offsets));
        // What the caller forgets now has to come again, of every partition.
        self.restart |= matches!(queued, Err(BusError::Fenced { .. }));
        let queued = queued?;
        // Whoever drops this future does not learn the outcome.
        let restart = std::mem::replace(&mut self.restart, true);
        let result = queued.await.unwrap_or(Err(BusError::Closed));
        self.restart = restart;
        result
    }

    async fn committed(&mut self, partition: &PartitionId) -> Result<Option<u64>, BusError> {
        let partitions = self.inner.partitions(&partition.topic)?;
        if partition.partition >= partitions {
            return Err(BusError::UnknownPartition(partition.clone()));
        }
        let state = self.inner.store.state();
        let part = state.part(&partition.topic, partition.partition);
        Ok(part.and_then(|part| state.committed(&self.config.group, part)))
    }

    fn pause(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        self.set_paused(partition, true)
    }

    fn resume(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        self.set_paused(partition, false)
    }

    async fn close(self: Box<Self>) {}
}

impl Drop for LocalConsumer {
    /// Leaves the group, so that other members take over at once.
    fn drop(&mut self) {
        let mut registry = self.inner.groups.lock();
        registry.transactional.retain(|_, owner| *owner != self.id);
        let mut group = self.shared.lock();
        group.leave(self.id, Instant::now());
        if group.is_empty() {
            registry.groups.remove(&self.config.group);
        }
        drop(group);
        self.shared.changed.send_replace(());
    }
}
