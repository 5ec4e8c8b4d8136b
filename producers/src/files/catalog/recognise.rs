//! Whether a file is one that was read, or a copy of one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::super::identity::{FileKey, HEAD, Head, fingerprint, mark, read_at};
use super::super::positions::{Position, Positions};

/// What a file is.
#[derive(Debug)]
pub(super) enum Known {
    /// One that was read so far, or a copy of one.
    At(Position),
    /// A copy that does not reach as far yet as what was read of the text that it is a copy of.
    Copying(Position),
    /// Never seen.
    New,
}

/// A file of which only what identifies it is looked at.
pub(super) struct Text<'a> {
    file: &'a File,
    head: Vec<u8>,
    /// Checksums of its first bytes, by their number.
    sums: RefCell<HashMap<u64, Head>>,
}

impl<'a> Text<'a> {
    pub(super) fn new(file: &'a File) -> io::Result<Self> {
        let mut head = vec![0; HEAD];
        let read = read_at(file, &mut head, 0)?;
        head.truncate(read);
        Ok(Self { file, head, sums: RefCell::default() })
    }

    /// Whether it holds what was read up to that position.
    pub(super) fn fits(&self, position: &Position) -> io::Result<bool> {
        Ok(self.begins(position) && mark(self.file, position.offset)? == Some(position.mark))
    }

    /// Whether it begins as what was read did.
    fn begins(&self, position: &Position) -> bool {
        let Position { head, .. } = position;
        let Some(bytes) = usize::try_from(head.bytes).ok().and_then(|bytes| self.head.get(..bytes)) else {
            return false;
        };
        *self.sums.borrow_mut().entry(head.bytes).or_insert_with(|| Head::of(bytes)) == *head
    }

    /// The fingerprint of its lines, if it is a copy of that file.
    pub(super) fn fingerprint(&self, of: FileKey) -> Option<u64> {
        fingerprint(of, &self.head, false)
    }

    /// Whether another one begins alike, as far as this one tells.
    pub(super) fn begins_as(&self, other: &Self) -> bool {
        !self.head.is_empty() && other.head.starts_with(&self.head)
    }
}

impl Positions {
    /// What that file is, which may have been rotated from those paths.
    pub(super) fn recognise(&self, file: &File, key: FileKey, path: &PathBuf, from: &[PathBuf]) -> io::Result<Known> {
        let (text, length) = (Text::new(file)?, file.metadata()?.len());
        let same = self.of_inode(key).filter(|position| {
            // A device may have another number after a start of the machine.
            let known = position.path == *path || from.contains(&position.path);
            position.key.born == key.born && (position.key.device == key.device || known)
        });
        let mut best: Option<&Position> = None;
        for position in same.filter(|position| position.offset <= length) {
            if best.is_none_or(|best| best.offset < position.offset) && text.fits(position)? {
                best = Some(position);
            }
        }
        if let Some(position) = best {
            return Ok(Known::At(position.clone()));
        }
        let mut copying = None;
        for position in from.iter().flat_map(|path| self.of_path(path)) {
            if length < position.offset {
                // Copies are written in pieces that are longer than a head.
                if length == 0 || text.begins(position) {
                    copying = Some(position);
                }
            } else if best.is_none_or(|best| best.offset < position.offset) && text.fits(position)? {
                best = Some(position);
            }
        }
        Ok(match (best, copying) {
            (Some(position), _) => Known::At(position.clone()),
            (None, Some(position)) => Known::Copying(position.clone()),
            (None, None) => Known::New,
        })
    }
}
