//! Files that rotation put aside.
//!
//! Each of them is read unless it is known to have been, by a position of its own or of the text that it is a copy of, or
//! is older than the first look ever. Nothing is concluded from the time at which another one was written or read: a
//! process may be killed at any moment of several rotations.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::super::discover::Rotated;
use super::super::identity::{FileKey, mark, modified_ms};
use super::super::positions::Position;
use super::super::segment::Segment;
use super::super::stream::Clock;
use super::super::unpack::{ends_at, is_packed, unpack, unpacked, unpacked_head};
use super::recognise::{Known, Text};
use super::{Catalog, SLACK_MS};

/// Compressed files that are open at a time, each of which takes its room on the disk.
const MOST_UNPACKED: usize = 4;

impl Catalog {
    /// Opens a file that rotation put aside, where there is something to read in it; answers the path that it is read for.
    pub(super) fn open_rotated(&mut self, rotated: &Rotated, clock: Clock) -> io::Result<Option<PathBuf>> {
        let Rotated { of, path, metadata } = rotated;
        let (key, length) = (FileKey::of(metadata), metadata.len());
        let history = modified_ms(metadata).saturating_add(SLACK_MS) < self.positions.since_ms(of);
        if history && !self.positions.stood_unread(key) && !self.positions.reaches_further(key, length) {
            self.history.insert(path.clone(), key);
            self.passed_over.insert(key, length);
            return Ok(None);
        }
        let file = File::open(path)?;
        if FileKey::of(&file.metadata()?) != key {
            self.unsettled.insert(of.clone());
            return Ok(None);
        }
        if is_packed(path) { self.open_packed(&file, rotated, clock) } else { self.open_plain(file, rotated, clock) }
    }

    fn open_plain(&mut self, file: File, rotated: &Rotated, clock: Clock) -> io::Result<Option<PathBuf>> {
        let Rotated { of, metadata, .. } = rotated;
        let (key, length) = (FileKey::of(metadata), file.metadata()?.len());
        match self.positions.recognise(&file, key, of, std::slice::from_ref(of))? {
            // What it seems to be a copy of is still there, under another name: they only begin alike.
            Known::At(position) | Known::Copying(position) if self.lies_elsewhere(key, &position)? => {
                self.open_unknown(file, rotated, clock)
            }
            Known::At(position) if position.offset >= length => {
                self.adopt(&file, key, (length, length), &position)?;
                Ok(None)
            }
            // It is there that it is read on.
            Known::At(position) if position.key != key && self.still_holds(of, &position)? => {
                self.unsettled.insert(of.clone());
                Ok(None)
            }
            Known::At(position) => self.reopen(file, key, &position, clock).map(Some),
            Known::Copying(_) if self.wait_for_copy(key, length, clock) => {
                self.unsettled.insert(of.clone());
                Ok(None)
            }
            Known::Copying(position) => {
                self.adopt(&file, key, (length, length), &position)?;
                Ok(None)
            }
            Known::New => self.open_unknown(file, rotated, clock),
        }
    }

    /// A file that came and went while nobody looked.
    fn open_unknown(&mut self, file: File, rotated: &Rotated, clock: Clock) -> io::Result<Option<PathBuf>> {
        let Rotated { of, metadata, .. } = rotated;
        let key = FileKey::of(metadata);
        let original = self.standing.get(of).copied().filter(|standing| self.is_copy(key, *standing));
        let Some(original) = original else {
            return Ok(Some(self.add_retired(of, Segment::new(file, key, of.clone()), clock)));
        };
        // Not truncated yet, if ever: it is read where it stands.
        if self.stands_alike(of, original, &file)? {
            self.unsettled.insert(of.clone());
            return Ok(None);
        }
        let text = Text::new(&file)?;
        if let (Some(stream), Some(fingerprint)) = (self.streams.get_mut(of), text.fingerprint(original)) {
            stream.take_over(original, fingerprint);
        }
        Ok(Some(self.add_retired(of, Segment::copy(file, key, original, of.clone()), clock)))
    }

    /// A compressed file: nothing where it was read, the rest where it was left, and all of it where it was missed.
    fn open_packed(&mut self, packed: &File, rotated: &Rotated, clock: Clock) -> io::Result<Option<PathBuf>> {
        let Rotated { of, path, metadata } = rotated;
        let (key, length) = (FileKey::of(metadata), metadata.len());
        if self.history.contains_key(&path.with_extension("")) {
            let position = unpacked(packed, of, key, clock.unix_ms())?;
            self.positions.known(position);
            self.passed_over.insert(key, length);
            return Ok(None);
        }
        let ends = |position: &&Position| ends_at(packed, position).unwrap_or(false);
        let whole = self.positions.of_inode(key).filter(|position| position.key == key).find(ends).cloned();
        let whole = whole.or_else(|| self.positions.of_path(of).find(ends).cloned());
        if let Some(position) = whole {
            if position.key == key || self.positions.is_acked(&position, position.offset) {
                self.positions.known(position.of_copy(key, position.offset, position.mark));
                self.passed_over.insert(key, length);
            } else {
                self.unsettled.insert(of.clone());
            }
            return Ok(None);
        }
        let head = unpacked_head(packed).map(Some).or_else(|error| self.give_up(error, rotated))?;
        let Some(head) = head else { return Ok(None) };
        // What is open is read to its end anyway. Few are unpacked at a time.
        self.unpacked.retain(|key| self.open.contains_key(key));
        let open = self.streams.get(of).map_or(Ok(false), |stream| stream.begins(&head))?;
        if open || self.unpacked.len() >= MOST_UNPACKED {
            self.unsettled.insert(of.clone());
            return Ok(None);
        }
        let Some(file) =
            unpack(packed, self.positions.dir()).map(Some).or_else(|error| self.give_up(error, rotated))?
        else {
            return Ok(None);
        };
        self.unpacked.insert(key);
        match self.positions.recognise(&file, key, of, std::slice::from_ref(of))? {
            Known::At(position) => self.reopen(file, key, &position, clock).map(Some),
            // A copy of what was read further.
            Known::Copying(position) => {
                self.adopt(&file, key, (file.metadata()?.len(), length), &position)?;
                Ok(None)
            }
            Known::New => Ok(Some(self.add_retired(of, Segment::new(file, key, of.clone()), clock))),
        }
    }

    /// What is no compressed file, or not all of one, is left alone as long as it does not change.
    fn give_up<T>(&mut self, error: io::Error, rotated: &Rotated) -> io::Result<Option<T>> {
        use io::ErrorKind::{FileTooLarge, InvalidData, InvalidInput, UnexpectedEof};
        if !matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof | FileTooLarge) {
            return Err(error);
        }
        tracing::warn!(%error, path = %rotated.path.display(), "cannot unpack a file; it is left out");
        self.passed_over.insert(FileKey::of(&rotated.metadata), rotated.metadata.len());
        Ok(None)
    }

    /// Takes note that a copy holds nothing but what was read, once the bus has it: of its text, so many bytes, and of itself.
    pub(super) fn adopt(
        &mut self,
        file: &File,
        key: FileKey,
        (text, length): (u64, u64),
        position: &Position,
    ) -> io::Result<()> {
        if position.key == key {
            self.passed_over.insert(key, length);
        } else if !self.positions.is_acked(position, text) {
            self.unsettled.insert(position.path.clone());
        } else if let Some(mark) = mark(file, text)? {
            self.positions.known(position.of_copy(key, text, mark));
            self.passed_over.insert(key, length);
        }
        Ok(())
    }

    /// Whether an unknown file is a copy of the one that stands at the path that it was rotated from: what was renamed was
    /// there before that one, and a copy came after it.
    pub(super) fn is_copy(&self, key: FileKey, standing: FileKey) -> bool {
        standing.born < key.born || key.born == 0 && self.knows(standing)
    }

    /// Whether the file at a path still begins as a copy of it does, and is no shorter.
    pub(super) fn stands_alike(&self, path: &Path, standing: FileKey, copy: &File) -> io::Result<bool> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let there = FileKey::of(&metadata) == standing && metadata.len() >= copy.metadata()?.len();
        Ok(there && Text::new(copy)?.begins_as(&Text::new(&file)?))
    }

    /// Whether the file of a position lies under another name, as it was read.
    fn lies_elsewhere(&self, key: FileKey, position: &Position) -> io::Result<bool> {
        let Some(path) = self.put_aside.get(&position.key).filter(|_| position.key != key) else { return Ok(false) };
        match File::open(path) {
            Ok(file) => Ok(FileKey::of(&file.metadata()?) == position.key && Text::new(&file)?.fits(position)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the file at a path, which is open, holds what was read up to that position.
    fn still_holds(&self, path: &Path, position: &Position) -> io::Result<bool> {
        if self.open.get(&position.key).is_none_or(|owner| owner != path) {
            return Ok(false);
        }
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(FileKey::of(&file.metadata()?) == position.key && Text::new(&file)?.fits(position)?)
    }

    fn knows(&self, key: FileKey) -> bool {
        self.positions.of_inode(key).any(|position| position.key == key)
    }

    fn add_retired(&mut self, path: &Path, mut segment: Segment, clock: Clock) -> PathBuf {
        segment.retired = Some(clock.now);
        self.add(path, segment)
    }

    /// Reads on in a file that has left its path, or in a copy.
    pub(super) fn reopen(
        &mut self,
        file: File,
        key: FileKey,
        position: &Position,
        clock: Clock,
    ) -> io::Result<PathBuf> {
        let segment = Segment::resume(file, key, position)?;
        if let Some(stream) = self.streams.get_mut(&position.path).filter(|_| position.key != key) {
            stream.take_over(position.key, position.fingerprint);
        }
        Ok(self.add_retired(&position.path, segment, clock))
    }
}
