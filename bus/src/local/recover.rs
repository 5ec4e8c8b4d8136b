//! Opening a log: the last segment is checked frame by frame and its torn tail cut; the others are known by their
//! indexes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::files::Dir;
use super::index::{self, damaged, io_error, segment_name};
use super::log::{Active, Limits, Log, Unmade, create, unmade};
use super::read::Store;
use super::scan::{Scan, scan, synced_beyond};
use super::state::{Places, State};
use crate::error::BusError;

impl Log {
    /// Opens the log in a directory, or starts one.
    pub(super) fn open(dir: Arc<dyn Dir>, limits: Limits) -> Result<Self, BusError> {
        let mut ids = list(&*dir)?;
        let (mut state, tail) = loop {
            let Some(last) = ids.pop_last() else { return start(dir, limits) };
            if let Some(found) = read_tail(&*dir, last, !ids.is_empty() || last == 1)? {
                break found;
            }
            tracing::info!(segment = last, "removed a segment that was never finished");
            dir.remove(&segment_name(last)).map_err(io_error(&*dir, &segment_name(last)))?;
        };
        let last = tail.segment;
        load_sealed(&*dir, &mut state, &ids, &tail)?;
        state.segments.push_back(last);
        state.sort(last.id);
        let active = cut(&*dir, &tail)?;
        // Not before the frame that drops them is durable.
        for id in ids.range(..state.oldest) {
            remove(&*dir, *id)?;
        }
        let store = Arc::new(Store::new(Arc::clone(&dir), state, &active));
        Ok(Self::new(dir, limits, store, active))
    }
}

/// Ids of the segments present.
fn list(dir: &dyn Dir) -> Result<BTreeSet<u64>, BusError> {
    let names = dir.list().map_err(io_error(dir, ""))?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect())
}

fn remove(dir: &dyn Dir, id: u64) -> Result<(), BusError> {
    for name in [index::index_name(id), segment_name(id)] {
        match dir.remove(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io_error(dir, &name)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// A log without any segment.
fn start(dir: Arc<dyn Dir>, limits: Limits) -> Result<Log, BusError> {
    let mut state = State::default();
    state.oldest = 1;
    let active = create(&*dir, &state, 1, 1, 0).map_err(|failed| match failed {
        Unmade::Allocate(error) | Unmade::Write(error) => unmade(&*dir, 1, error),
    })?;
    state.segments.push_back(active.segment);
    let store = Arc::new(Store::new(Arc::clone(&dir), state, &active));
    Ok(Log::new(dir, limits, store, active))
}

/// Reads the last segment into a state. `None` where it was never finished, so that nothing in it was ever
/// acknowledged; `removable` says whether that can be.
fn read_tail(dir: &dyn Dir, id: u64, removable: bool) -> Result<Option<(State, Scan)>, BusError> {
    let mut state = State::default();
    let tail = scan(dir, id, |pos, body| state.apply(id, pos, body))?;
    let nothing = tail.segment.base == super::frame::SEGMENT_HEADER;
    if synced_beyond(dir, &tail)? || (nothing && !removable) {
        let reason = tail.stop.unwrap_or("frame of zeros before frames that were written later");
        return Err(damaged(dir, id, tail.segment.len, reason));
    }
    Ok((!nothing).then_some((state, tail)))
}

/// Loads the indexes of the sealed segments, which must follow each other without a gap up to the last one.
fn load_sealed(dir: &dyn Dir, state: &mut State, ids: &BTreeSet<u64>, tail: &Scan) -> Result<(), BusError> {
    let mut loaded = Vec::new();
    let mut next_seq = tail.segment.first_seq;
    for id in (state.oldest..tail.segment.id).rev() {
        if !ids.contains(&id) {
            return Err(damaged(dir, id, 0, "segment is missing"));
        }
        let indexed = index::read(dir, id).map_err(io_error(dir, &index::index_name(id)))?;
        let (segment, pieces) = match indexed.filter(|(segment, _)| segment.next_seq == next_seq) {
            Some(found) => found,
            None => {
                let (segment, pieces) = index::rebuild(dir, id)?;
                if segment.next_seq != next_seq {
                    return Err(damaged(dir, id, segment.len, "frames are missing before the next segment"));
                }
                (segment, pieces)
            }
        };
        let name = segment_name(id);
        let len = dir.open(&name).and_then(|file| file.len()).map_err(io_error(dir, &name))?;
        if len < segment.len {
            return Err(damaged(dir, id, len, "segment is shorter than it was"));
        }
        next_seq = segment.first_seq;
        loaded.push((segment, pieces));
    }
    for (segment, pieces) in loaded {
        for (part, piece) in pieces {
            if let Some(latest) = &mut state.partition(part).latest {
                let places = match &piece.places {
                    Places::Memory(places) => places.clone(),
                    Places::Disk { at, count, crc } => match index::read_places(dir, segment.id, *at, *count, *crc) {
                        Ok(Some(places)) => places,
                        _ => index::rebuild_places(dir, segment.id, part)?,
                    },
                };
                places.iter().for_each(|place| latest.add(place));
            }
            state.partition(part).pieces.push_front(piece);
        }
        state.segments.push_front(segment);
    }
    Ok(())
}

/// Cuts what follows the last valid frame, and makes durable what is kept.
fn cut(dir: &dyn Dir, tail: &Scan) -> Result<Active, BusError> {
    let segment = tail.segment;
    let name = segment_name(segment.id);
    let failed = || io_error(dir, &name);
    if let Some(reason) = tail.stop {
        tracing::warn!(segment = segment.id, position = segment.len, reason, "cut a torn tail");
    }
    let file = dir.open(&name).map_err(failed())?;
    file.truncate(segment.len).map_err(failed())?;
    // After a failed sync the system holds pages that it takes for written and that are not: write them again.
    let last_group = file.read(tail.group, (segment.len - tail.group) as usize).map_err(failed())?;
    file.write(tail.group, &last_group).map_err(failed())?;
    file.sync().map_err(failed())?;
    dir.sync().map_err(io_error(dir, ""))?;
    Ok(Active { file, segment, allocated: segment.len })
}
