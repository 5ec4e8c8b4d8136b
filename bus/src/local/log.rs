//! The writing side of the log: one owner stages batches, writes and syncs them as one group, and only then makes
//! them visible. It does nothing on its own; the committer drives it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::files::{Dir, File};
use super::frame::{self, Item, Part};
use super::index::{self, index_name, io_error, segment_name};
use super::read::Store;
use super::retain::Moving;
use super::state::{Segment, State};
use crate::error::{BusError, ErrorClass};
use crate::record::{Cleanup, PartitionId, Record, TopicSpec};

/// Limits of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A new segment begins once the current one has this many bytes.
    pub(super) segment_bytes: u64,
    /// Bytes of one record.
    pub(super) max_record_bytes: usize,
    /// Bytes of all segments together.
    pub(super) max_bytes: Option<u64>,
}

/// What is written as a whole or not at all.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub(super) topics: Vec<TopicSpec>,
    pub(super) records: Vec<Record>,
    /// Group, partition, next offset.
    pub(super) offsets: Vec<(Arc<str>, PartitionId, u64)>,
}

impl Batch {
    /// Whether it only waits for what was queued before it.
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.records.is_empty() && self.offsets.is_empty()
    }

    /// Bytes that count against budgets.
    pub(super) fn size(&self) -> usize {
        self.records.iter().map(frame::record_len).sum::<usize>()
            + self.topics.iter().map(|topic| 64 + topic.name.len()).sum::<usize>()
            + self.offsets.iter().map(|(group, ..)| 64 + group.len()).sum::<usize>()
    }
}

/// The segment being written.
pub(super) struct Active {
    pub(super) file: Arc<dyn File>,
    pub(super) segment: Segment,
    /// Bytes of the file whose blocks are reserved.
    pub(super) allocated: u64,
}

/// The log.
pub(super) struct Log {
    pub(super) dir: Arc<dyn Dir>,
    pub(super) limits: Limits,
    pub(super) store: Arc<Store>,
    pub(super) active: Active,
    /// Id and number of partitions of each topic, those of the group being staged included.
    topics: HashMap<Arc<str>, (u32, u32, bool)>,
    /// Next offsets, those of the group being staged included.
    next: HashMap<Part, u64>,
    buffer: Vec<u8>,
    poisoned: Option<String>,
    pub(super) moving: Option<Moving>,
}

impl Log {
    pub(super) fn new(dir: Arc<dyn Dir>, limits: Limits, store: Arc<Store>, active: Active) -> Self {
        let state = store.state();
        let topics = state.topics.iter().zip(0..).map(|(spec, id)| (Arc::clone(&spec.name), known(id, spec))).collect();
        let next = state.partitions.iter().map(|(part, partition)| (*part, partition.next)).collect();
        drop(state);
        Self { dir, limits, store, active, topics, next, buffer: Vec::new(), poisoned: None, moving: None }
    }

    /// Writes the batches as one group, with one sync. Answers each of them; those answered `Ok` are durable and
    /// visible, the others have left no trace, unless a write or sync failed: then any may turn up at reopening.
    pub(super) fn append(&mut self, batches: &[Batch]) -> Vec<Result<(), BusError>> {
        if self.is_poisoned() {
            return batches.iter().map(|_| Err(self.poison_error())).collect();
        }
        let room = if self.active.segment.len >= self.active.segment.base + self.limits.segment_bytes {
            self.roll()
        } else {
            Ok(())
        };
        let group = self.active.segment.next_seq;
        let mut seq = group;
        let mut answers: Vec<_> = Vec::with_capacity(batches.len());
        for batch in batches {
            let answer = self.check(batch).and_then(|()| self.make_room(batch, &room));
            if answer.is_ok() && !batch.is_empty() {
                self.stage(batch, seq, group);
                seq += 1;
            }
            answers.push(answer);
        }
        if !self.is_poisoned()
            && let Err(error) = self.flush()
        {
            self.poison(&error);
        }
        if self.is_poisoned() {
            self.buffer.clear();
            answers.iter_mut().filter(|answer| answer.is_ok()).for_each(|answer| *answer = Err(self.poison_error()));
        }
        answers
    }

    /// Refuses what can never be written.
    fn check(&self, batch: &Batch) -> Result<(), BusError> {
        if let Some(topic) = batch.topics.iter().find(|topic| topic.partitions == 0) {
            return Err(BusError::Config(format!("topic {} has 0 partitions; give it at least 1", topic.name)));
        }
        for record in &batch.records {
            let size = record.size();
            if size > self.limits.max_record_bytes {
                return Err(BusError::TooLarge { to: record.to.clone(), size, limit: self.limits.max_record_bytes });
            }
            let (_, compact) = self.part(&record.to)?;
            if compact && record.key.is_none() {
                let reason = format!("record without a key for the compacted topic {}; give it one", record.to.topic);
                return Err(BusError::Other { what: "send", reason, class: ErrorClass::Permanent });
            }
        }
        batch.offsets.iter().try_for_each(|(_, partition, _)| self.part(partition).map(drop))?;
        let size = batch.size();
        if size > frame::MAX_BODY {
            let reason = format!("{size} bytes at once are over the limit of {}; send fewer records", frame::MAX_BODY);
            return Err(BusError::Other { what: "send", reason, class: ErrorClass::Permanent });
        }
        Ok(())
    }

    fn part(&self, id: &PartitionId) -> Result<(Part, bool), BusError> {
        match self.topics.get(&id.topic) {
            None => Err(BusError::UnknownTopic { topic: id.topic.to_string() }),
            Some((_, partitions, _)) if id.partition >= *partitions => Err(BusError::UnknownPartition(id.clone())),
            Some((topic, _, compact)) => Ok((Part { topic: *topic, partition: id.partition }, *compact)),
        }
    }

    /// Reserves blocks for the batch, so that a full disk shows before anything is written.
    ///
    /// What frees space may use the reserve: commits, and the moves of retention.
    fn make_room(&mut self, batch: &Batch, room: &Result<(), BusError>) -> Result<(), BusError> {
        if self.is_poisoned() {
            return Err(self.poison_error());
        }
        let need = frame::frame_len(batch.size()) as u64;
        if batch.records.is_empty() {
            return self.allocate(need, 0);
        }
        match room {
            Ok(()) => {}
            Err(BusError::Full { reason }) => return Err(BusError::Full { reason: reason.clone() }),
            Err(_) => return Err(self.poison_error()),
        }
        if let Some(max) = self.limits.max_bytes {
            let used = self.store.state().bytes() + self.buffer.len() as u64;
            if used + need + self.limits.segment_bytes > max {
                return Err(BusError::Full { reason: format!("{used} of {max} bytes allowed on disk are in use") });
            }
        }
        self.allocate(need, self.reserve())
    }

    fn reserve(&self) -> u64 {
        (self.limits.segment_bytes / 16).min(1 << 20)
    }

    pub(super) fn allocate(&mut self, need: u64, reserve: u64) -> Result<(), BusError> {
        let end = self.active.segment.len + self.buffer.len() as u64 + need;
        if end + reserve <= self.active.allocated {
            return Ok(());
        }
        let step = (self.limits.segment_bytes / 8).clamp(4096, 8 << 20);
        let ahead = (end + reserve).next_multiple_of(step);
        let file = &self.active.file;
        let done = file.allocate(ahead).map(|()| ahead);
        let done = done.or_else(|_| file.allocate(end + reserve).map(|()| end + reserve));
        match done {
            Ok(allocated) => self.active.allocated = allocated,
            Err(_) if end + reserve <= self.active.allocated => {}
            Err(error) => return Err(self.full_or_poison(error)),
        }
        Ok(())
    }

    /// A lack of space is transient as long as nothing was written; anything else is not.
    fn full_or_poison(&mut self, error: io::Error) -> BusError {
        let error = unmade(&*self.dir, self.active.segment.id, error);
        if !matches!(error, BusError::Full { .. }) {
            self.poison(&error);
        }
        error
    }

    /// Encodes a batch, giving its records their offsets.
    fn stage(&mut self, batch: &Batch, seq: u64, group: u64) {
        let Self { topics, next, buffer, active, .. } = self;
        frame::put_frame(buffer, active.segment.id, seq, group, |out| {
            for spec in &batch.topics {
                if !topics.contains_key(&spec.name) {
                    let id = topics.len() as u32;
                    topics.insert(Arc::clone(&spec.name), known(id, spec));
                    frame::put_item(out, &Item::Topic { id, spec: spec.clone() });
                }
            }
            let part = |id: &PartitionId| {
                topics.get(&id.topic).map(|(topic, ..)| Part { topic: *topic, partition: id.partition })
            };
            for record in &batch.records {
                if let Some(part) = part(&record.to) {
                    let offset = next.entry(part).or_default();
                    frame::put_record(out, part, *offset, record);
                    *offset += 1;
                }
            }
            for (group, partition, next) in &batch.offsets {
                if let Some(part) = part(partition) {
                    frame::put_item(out, &Item::Committed { group, part, next: *next });
                }
            }
        });
    }

    /// Writes one frame of items on its own, as a group.
    pub(super) fn append_items(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), BusError> {
        let Self { buffer, active, .. } = self;
        let seq = active.segment.next_seq;
        frame::put_frame(buffer, active.segment.id, seq, seq, fill);
        self.flush().inspect_err(|error| self.poison(error))
    }

    /// Writes and syncs what is staged, then makes it visible.
    fn flush(&mut self) -> Result<(), BusError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let Active { file, segment, .. } = &mut self.active;
        let name = segment_name(segment.id);
        file.write(segment.len, &buffer).map_err(io_error(&*self.dir, &name))?;
        file.sync().map_err(io_error(&*self.dir, &name))?;
        let mut state = self.store.state_mut();
        let mut at = 0;
        while at < buffer.len() {
            let body = u32::from_le_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]) as usize;
            let pos = segment.len;
            let start = at + (frame::body_start(pos) - pos) as usize;
            let known = state.apply(segment.id, pos, &buffer[start..start + body]);
            debug_assert!(known, "the log's own frame does not decode");
            at += frame::frame_len(body);
            segment.grow(pos + frame::frame_len(body) as u64);
        }
        state.grow(*segment);
        drop(state);
        self.reuse(buffer);
        Ok(())
    }

    /// Keeps the buffer for the next group, unless this one was out of the ordinary.
    fn reuse(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= 16 << 20 {
            buffer.clear();
            self.buffer = buffer;
        }
    }

    /// Begins a new segment and seals the current one. [`BusError::Full`] leaves everything as it was.
    pub(super) fn roll(&mut self) -> Result<(), BusError> {
        let old = self.active.segment;
        let create = |reserve| create(&*self.dir, &self.store.state(), old.id + 1, old.next_seq, reserve);
        let created = create(self.reserve()).or_else(|failed| match failed {
            Unmade::Allocate(_) => {
                // On a full disk the reserve at the tail is what makes room for a new segment.
                self.active.file.truncate(old.len).map_err(Unmade::Allocate)?;
                self.active.allocated = old.len;
                create(0)
            }
            written => Err(written),
        });
        self.active = match created {
            Ok(active) => active,
            Err(Unmade::Allocate(error)) => return Err(self.full_or_poison(error)),
            Err(Unmade::Write(error)) => {
                let error = io_error(&*self.dir, &segment_name(old.id + 1))(error);
                self.poison(&error);
                return Err(error);
            }
        };
        let places = {
            let state = self.store.state();
            let pieces = state.partitions.iter().filter_map(|(part, partition)| {
                Some((*part, partition.pieces.back().filter(|piece| piece.segment == old.id)?))
            });
            index::write(&*self.dir, &old, &pieces.collect::<Vec<_>>())
        };
        self.store.state_mut().seal(old.id, places, self.active.segment);
        // Only gives back unused blocks: a scan does not mind zeros.
        if let Err(error) = self.dir.open(&segment_name(old.id)).and_then(|file| file.truncate(old.len)) {
            tracing::warn!(segment = old.id, %error, "unused blocks not given back");
        }
        Ok(())
    }

    /// Marks the end of an orderly life, which proves everything before it synced, and gives unused blocks back.
    pub(super) fn close(&mut self) -> Result<(), BusError> {
        if self.poisoned.is_some() || self.allocate(frame::frame_len(0) as u64, 0).is_err() {
            return Ok(());
        }
        self.append_items(|_| {})?;
        let name = segment_name(self.active.segment.id);
        self.active.file.truncate(self.active.segment.len).map_err(io_error(&*self.dir, &name))
    }

    pub(super) fn poison(&mut self, error: &BusError) {
        tracing::error!(%error, "local bus stopped; nothing more is accepted until it is reopened");
        self.poisoned.get_or_insert_with(|| error.to_string());
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }

    fn poison_error(&self) -> BusError {
        BusError::Poisoned { reason: self.poisoned.clone().unwrap_or_default() }
    }

    /// Removes a dropped segment; what cannot be removed now is removed at the next opening.
    pub(super) fn remove(&self, id: u64) {
        for name in [index_name(id), segment_name(id)] {
            if let Err(error) = self.dir.remove(&name)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(file = name, %error, "dropped file not removed");
            }
        }
    }
}

fn known(id: u32, spec: &TopicSpec) -> (u32, u32, bool) {
    (id, spec.partitions, spec.cleanup == Cleanup::Compact)
}

/// The error of an allocation.
pub(super) fn unmade(dir: &dyn Dir, segment: u64, error: io::Error) -> BusError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            BusError::Full { reason: format!("{}: {error}", dir.path("").display()) }
        }
        _ => io_error(dir, &segment_name(segment))(error),
    }
}

/// Why a segment could not be created.
pub(super) enum Unmade {
    /// Nothing was written.
    Allocate(io::Error),
    /// A write or sync failed.
    Write(io::Error),
}

/// Creates a segment that starts with everything known, and makes it durable.
pub(super) fn create(dir: &dyn Dir, state: &State, id: u64, seq: u64, reserve: u64) -> Result<Active, Unmade> {
    let mut segment = Segment::new(id, seq);
    let mut out = Vec::new();
    frame::put_segment_header(&mut out, id);
    frame::put_frame(&mut out, id, seq, seq, |out| state.snapshot(|item| frame::put_item(out, item)));
    segment.grow(out.len() as u64);
    let allocated = segment.len + reserve;
    let name = segment_name(id);
    let file = dir.create(&name).map_err(Unmade::Allocate)?;
    if let Err(error) = file.allocate(allocated) {
        // An empty segment is no harm: it is emptied again or, at opening, removed.
        let _ = dir.remove(&name);
        return Err(Unmade::Allocate(error));
    }
    file.write(0, &out).and_then(|()| file.sync()).and_then(|()| dir.sync()).map_err(Unmade::Write)?;
    Ok(Active { file, segment, allocated })
}
