//! Which file a file is: its inode, and what it begins with.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes at the beginning of a file by which it is known at most.
pub(super) const HEAD: usize = 1024;
/// Bytes before a position by which it is known to be in the same text.
pub(super) const MARK: usize = 64;

/// An inode. Its number is given out anew once nobody holds it, so the time of its birth belongs to it, where the file
/// system keeps that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct FileKey {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Nanoseconds since the Unix epoch; 0 where unknown.
    pub(super) born: u64,
}

impl FileKey {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or_default();
        Self { device: metadata.dev(), inode: metadata.ino(), born }
    }
}

/// When a file was written to last, milliseconds since the Unix epoch; the greatest number where nobody knows.
pub(super) fn modified_ms(metadata: &Metadata) -> u64 {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    modified.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(u64::MAX)
}

/// Eight bytes of a SHA-256.
pub(super) fn digest(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let bytes: [u8; 32] = hash.finalize().into();
    u64::from_be_bytes(*bytes.first_chunk().unwrap_or(&[0; 8]))
}

/// The fingerprint under which the lines of a file are sent: of its inode and its first line, up to [`HEAD`] bytes.
///
/// `head` is what the file begins with. `None` while neither the line nor that many bytes are there.
pub(super) fn fingerprint(key: FileKey, head: &[u8], complete: bool) -> Option<u64> {
    let head = &head[..head.len().min(HEAD)];
    let first = match memchr::memchr(b'\n', head) {
        Some(end) => &head[..end],
        None if head.len() == HEAD || complete => head,
        None => return None,
    };
    Some(digest(&[&key.inode.to_be_bytes(), &key.born.to_be_bytes(), first]))
}

/// What a file is known by again: a checksum of its first bytes. Grows with the file up to [`HEAD`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) bytes: u64,
    pub(super) sum: u64,
}

impl Head {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sum: digest(&[bytes]) }
    }

    /// That of the first `bytes` of a file, which are [`HEAD`] at most.
    pub(super) fn read(file: &File, bytes: u64) -> io::Result<Self> {
        let mut head = [0; HEAD];
        let length = usize::try_from(bytes).unwrap_or(HEAD).min(HEAD);
        let read = read_at(file, &mut head[..length], 0)?;
        Ok(Self::of(&head[..read]))
    }
}

/// Reads as many bytes at a position as there are, up to the length of `into`.
pub(super) fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(&mut into[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The checksum of the bytes before a position of a file; `None` where it does not reach that far.
pub(super) fn mark(file: &File, position: u64) -> io::Result<Option<u64>> {
    let length = position.min(MARK as u64);
    let mut bytes = [0; MARK];
    let bytes = &mut bytes[..usize::try_from(length).unwrap_or(MARK)];
    let read = read_at(file, bytes, position - length)?;
    Ok((read == bytes.len()).then(|| digest(&[bytes])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FileKey = FileKey { device: 1, inode: 2, born: 3 };

    #[test]
    fn a_fingerprint_is_there_with_the_first_line_and_stays_as_the_file_grows() {
        assert_eq!(fingerprint(KEY, b"", false), None);
        assert_eq!(fingerprint(KEY, b"first", false), None);
        let first = fingerprint(KEY, b"first\n", false);
        assert!(first.is_some());
        assert_eq!(fingerprint(KEY, b"first\nsecond\n", false), first);
        assert_eq!(fingerprint(KEY, b"first", true), first);
        assert_ne!(fingerprint(KEY, b"other\n", false), first);
        let long = vec![b'x'; HEAD];
        assert_eq!(fingerprint(KEY, &long, false), fingerprint(KEY, &[&long[..], b"y\n"].concat(), false));
        assert!(fingerprint(KEY, &long, false).is_some());
    }

    #[test]
    fn a_reused_inode_is_another_file_and_another_device_is_not() {
        let of = |key| fingerprint(key, b"line\n", false);
        assert_ne!(of(KEY), of(FileKey { born: 4, ..KEY }));
        assert_ne!(of(KEY), of(FileKey { inode: 4, ..KEY }));
        assert_eq!(of(KEY), of(FileKey { device: 9, ..KEY }), "devices are numbered anew at every start of a machine");
    }

    #[test]
    fn a_mark_tells_whether_the_text_before_a_position_is_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc".repeat(100)).unwrap();
        let open = File::open(file.path()).unwrap();
        let there = mark(&open, 150).unwrap();
        assert!(there.is_some());
        assert_ne!(mark(&open, 151).unwrap(), there);
        assert_eq!(mark(&open, 153).unwrap(), there);
        assert_eq!(mark(&open, 301).unwrap(), None);
        assert_eq!(mark(&open, 0).unwrap(), Some(digest(&[b""])));
    }
}
