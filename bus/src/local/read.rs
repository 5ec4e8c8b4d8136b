//! The reading side of the log: positional reads of what is durable, from any thread.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::files::{Dir, File};
use super::frame::{self, Names, Part, Stored};
use super::index::{self, damaged, io_error, segment_name};
use super::log::Active;
use super::state::{Place, Places, State};
use crate::error::BusError;

/// How many bytes one read may return.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Reading stops before the record that would pass this.
    pub(super) soft: usize,
    /// The first record is returned up to this size even so.
    pub(super) first: usize,
}

/// What is durable, and the files it lies in.
pub(super) struct Store {
    dir: Arc<dyn Dir>,
    state: RwLock<State>,
    cache: Mutex<Cache>,
}

impl Store {
    /// Bytes read at once at most, as long as records are smaller.
    const SPAN: usize = 256 * 1024;
    /// Bytes of other partitions that are read along rather than skipped; never more than the record before them,
    /// since they stay in memory with it.
    const GAP: usize = 4 * 1024;

    pub(super) fn new(dir: Arc<dyn Dir>, state: State, active: &Active) -> Self {
        let store = Self { dir, state: RwLock::new(state), cache: Mutex::default() };
        store.cache().files.push_back((active.segment.id, Arc::clone(&active.file)));
        store
    }

    /// What is durable now.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads records of a partition from an offset on, in offset order; empty where there are none.
    pub(super) fn read(&self, part: Part, from: u64, allowed: Allowance) -> Result<Vec<Stored>, BusError> {
        let mut out = Vec::new();
        let mut names = Names::default();
        let (mut from, mut taken) = (from, 0);
        loop {
            let room = if out.is_empty() { allowed } else { Allowance { soft: allowed.soft - taken, first: 0 } };
            let Some((segment, places)) = self.next_places(part, from, room)? else { return Ok(out) };
            match self.load(part, segment, &places, &mut names, &mut out) {
                Err(error) if self.is_dropped(segment, &error) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    taken += places.iter().map(|place| place.len as usize).sum::<usize>();
                    from = places.last().map_or(from, |place| place.offset + 1);
                    if taken >= allowed.soft {
                        return Ok(out);
                    }
                }
            }
        }
    }

    /// The next run of records that lie in one segment.
    ///
    /// Offsets rise from segment to segment, except where retention has moved old records to the tail: then the
    /// pieces of a partition overlap, and a run ends where another piece has the next record.
    fn next_places(&self, part: Part, from: u64, room: Allowance) -> Result<Option<(u64, Vec<Place>)>, BusError> {
        let mut from = from;
        'look: loop {
            let (near, later) = self.candidates(part, from, room);
            let mut runs = Vec::with_capacity(near.len());
            for (segment, places) in near {
                let places = match self.places(part, segment, &places) {
                    Err(error) if self.is_dropped(segment, &error) => continue 'look,
                    other => other?,
                };
                let at = places.partition_point(|place| place.offset < from);
                if let Some(place) = places.get(at) {
                    runs.push((place.offset, segment, at, places));
                }
            }
            runs.sort_by_key(|(offset, ..)| *offset);
            match (runs.first(), later) {
                (Some((first, segment, at, places)), later) if later.is_none_or(|later| *first < later) => {
                    let other = runs.get(1).map_or(u64::MAX, |(offset, ..)| *offset);
                    // A record that was moved before a crash may lie in two segments: one is enough.
                    let limit = other.min(later.unwrap_or(u64::MAX)).max(first + 1);
                    let run = bounded(places[*at..].iter().take_while(|place| place.offset < limit), room);
                    return Ok(Some((*segment, run)).filter(|(_, run)| !run.is_empty()));
                }
                (_, Some(later)) => from = later,
                (_, None) => return Ok(None),
            }
        }
    }

    /// Pieces that may hold the record at `from`, and the offset at which the nearest of the others begins.
    fn candidates(&self, part: Part, from: u64, room: Allowance) -> (Vec<(u64, Places)>, Option<u64>) {
        let state = self.state();
        let pieces = state.partitions.get(&part).map(|partition| &partition.pieces);
        let (mut near, mut later) = (Vec::new(), None::<u64>);
        for piece in pieces.into_iter().flatten().filter(|piece| piece.max >= from) {
            if piece.min > from {
                later = Some(later.map_or(piece.min, |known| known.min(piece.min)));
                continue;
            }
            let places = match &piece.places {
                Places::Memory(places) => {
                    let rest = &places[places.partition_point(|place| place.offset < from)..];
                    let run = bounded(rest.iter(), Allowance { first: usize::MAX, ..room });
                    Places::Memory(run)
                }
                disk => disk.clone(),
            };
            near.push((piece.segment, places));
        }
        (near, later)
    }

    /// Whether an error means that retention dropped the segment after it was looked up: what was still wanted in
    /// it lies elsewhere by now.
    fn is_dropped(&self, segment: u64, error: &BusError) -> bool {
        matches!(error, BusError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
            && self.state().segments.front().is_none_or(|oldest| oldest.id > segment)
    }

    /// The places of a piece, from memory, the cache, the index or, where that is bad, a scan.
    pub(super) fn places(&self, part: Part, segment: u64, places: &Places) -> Result<Arc<[Place]>, BusError> {
        let (at, count, crc) = match places {
            Places::Memory(places) => return Ok(places.as_slice().into()),
            Places::Disk { at, count, crc } => (*at, *count, *crc),
        };
        if let Some(found) = self.cache().places(segment, part) {
            return Ok(found);
        }
        let read = index::read_places(&*self.dir, segment, at, count, crc);
        let places: Arc<[Place]> = match read.map_err(io_error(&*self.dir, &index::index_name(segment)))? {
            Some(places) => places.into(),
            None => index::rebuild_places(&*self.dir, segment, part)?.into(),
        };
        self.cache().put_places(segment, part, &places);
        Ok(places)
    }

    fn file(&self, segment: u64) -> Result<Arc<dyn File>, BusError> {
        let cached = self.cache().file(segment);
        if let Some(file) = cached {
            return Ok(file);
        }
        let name = segment_name(segment);
        let file = self.dir.open(&name).map_err(io_error(&*self.dir, &name))?;
        self.cache().put_file(segment, &file);
        Ok(file)
    }

    /// Reads and decodes the records at the places, neighbours together.
    fn load(
        &self,
        part: Part,
        segment: u64,
        places: &[Place],
        names: &mut Names,
        out: &mut Vec<Stored>,
    ) -> Result<(), BusError> {
        let file = self.file(segment)?;
        let mut rest = places;
        while let Some(first) = rest.first() {
            let end = |place: &Place| place.pos as usize + place.len as usize;
            let near = |pair: &[Place]| {
                let gap = (pair[1].pos as usize).checked_sub(end(&pair[0]));
                gap.is_some_and(|gap| gap <= Self::GAP.min(pair[0].len as usize))
                    && end(&pair[1]) - first.pos as usize <= Self::SPAN
            };
            let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
            let (run, others) = rest.split_at(count);
            let start = first.pos as usize;
            let len = run.last().map_or(0, |last| end(last) - start);
            let name = segment_name(segment);
            let bytes = Bytes::from(file.read(start as u64, len).map_err(io_error(&*self.dir, &name))?);
            for place in run {
                let (from, to) = (place.pos as usize - start, end(place) - start);
                // Past the end of the file there is nothing: that decodes to damage.
                let bytes = bytes.slice(from.min(bytes.len())..to.min(bytes.len()));
                out.push(self.decode(part, segment, place, bytes, names)?);
            }
            rest = others;
        }
        Ok(())
    }

    /// The stored bytes of one record, checked.
    pub(super) fn raw(&self, part: Part, segment: u64, place: &Place) -> Result<(Bytes, Stored), BusError> {
        let name = segment_name(segment);
        let bytes = self.file(segment)?.read(u64::from(place.pos), place.len as usize);
        let bytes = Bytes::from(bytes.map_err(io_error(&*self.dir, &name))?);
        let stored = self.decode(part, segment, place, bytes.clone(), &mut Names::default())?;
        Ok((bytes, stored))
    }

    /// Decodes the record that the index says lies at a place.
    fn decode(
        &self,
        part: Part,
        segment: u64,
        place: &Place,
        bytes: Bytes,
        names: &mut Names,
    ) -> Result<Stored, BusError> {
        let stored = frame::decode_record(&bytes, names);
        stored.filter(|stored| stored.part == part && stored.offset == place.offset).ok_or_else(|| {
            let reason = "checksum or identity of the record does not match";
            damaged(&*self.dir, segment, u64::from(place.pos), reason)
        })
    }

    /// The record at an offset, where it is kept.
    pub(super) fn at(&self, part: Part, offset: u64) -> Result<Option<Stored>, BusError> {
        let mut found = self.read(part, offset, Allowance { soft: 0, first: usize::MAX })?;
        Ok(found.pop().filter(|stored| stored.offset == offset))
    }

    /// Forgets a dropped segment.
    pub(super) fn forget(&self, segment: u64) {
        let mut cache = self.cache();
        cache.files.retain(|(id, _)| *id != segment);
        cache.places.retain(|((id, _), _)| *id != segment);
    }
}

/// The places that fit.
fn bounded<'a>(places: impl Iterator<Item = &'a Place>, room: Allowance) -> Vec<Place> {
    let mut taken = 0;
    let fits = |(index, place): &(usize, &Place)| {
        taken += place.len as usize;
        taken <= room.soft || (*index == 0 && taken <= room.first)
    };
    places.enumerate().take_while(fits).map(|(_, place)| *place).collect()
}

/// Segment and partition.
type PieceId = (u64, Part);

/// Open files and places read lately.
#[derive(Default)]
struct Cache {
    files: VecDeque<(u64, Arc<dyn File>)>,
    places: VecDeque<(PieceId, Arc<[Place]>)>,
}

impl Cache {
    const FILES: usize = 64;
    /// Places kept, 24 bytes each.
    const PLACES: usize = 512 * 1024;

    fn file(&mut self, segment: u64) -> Option<Arc<dyn File>> {
        let at = self.files.iter().position(|(id, _)| *id == segment)?;
        let found = self.files.remove(at)?;
        self.files.push_back(found.clone());
        Some(found.1)
    }

    fn put_file(&mut self, segment: u64, file: &Arc<dyn File>) {
        self.files.push_back((segment, Arc::clone(file)));
        if self.files.len() > Self::FILES {
            self.files.pop_front();
        }
    }

    fn places(&mut self, segment: u64, part: Part) -> Option<Arc<[Place]>> {
        let at = self.places.iter().position(|(key, _)| *key == (segment, part))?;
        let found = self.places.remove(at)?;
        self.places.push_back(found.clone());
        Some(found.1)
    }

    fn put_places(&mut self, segment: u64, part: Part, places: &Arc<[Place]>) {
        self.places.push_back(((segment, part), Arc::clone(places)));
        let mut total: usize = self.places.iter().map(|(_, places)| places.len()).sum();
        while total > Self::PLACES && self.places.len() > 1 {
            total -= self.places.pop_front().map_or(0, |(_, places)| places.len());
        }
    }
}
