//! Files that rotation has compressed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::identity::{FileKey, HEAD, Head, modified_ms};
use super::positions::Position;

/// Bytes that one file may come to.
const MOST: u64 = 16 << 30;

/// Whether a file is compressed, by its name.
pub(super) fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// Whether a compressed file holds what was read up to a position and nothing else, as far as its first bytes and its
/// length tell.
pub(super) fn ends_at(packed: &File, position: &Position) -> io::Result<bool> {
    Ok(length(packed)? == position.offset & u64::from(u32::MAX)
        && Head::of(&first(packed, position.head.bytes)?) == position.head)
}

/// The position at the end of a compressed file, by which it is known again.
pub(super) fn unpacked(packed: &File, path: &Path, key: FileKey, now_ms: u64) -> io::Result<Position> {
    let (offset, path, written_ms) = (length(packed)?, path.to_owned(), modified_ms(&packed.metadata()?).min(now_ms));
    let head = Head::of(&first(packed, offset.min(HEAD as u64))?);
    // Nothing carries its fingerprint, and nobody looks at its mark.
    Ok(Position { path, key, fingerprint: 0, head, offset, mark: 0, written_ms, seen_ms: now_ms })
}

/// Bytes of what is compressed, modulo 2^32: the trailer of a member ends with that.
fn length(mut packed: &File) -> io::Result<u64> {
    packed.seek(SeekFrom::End(-4))?;
    let mut length = [0; 4];
    packed.read_exact(&mut length)?;
    Ok(u32::from_le_bytes(length).into())
}

/// What a compressed file begins with.
pub(super) fn unpacked_head(packed: &File) -> io::Result<Vec<u8>> {
    first(packed, HEAD as u64)
}

fn first(mut packed: &File, bytes: u64) -> io::Result<Vec<u8>> {
    packed.seek(SeekFrom::Start(0))?;
    let mut first = Vec::with_capacity(HEAD);
    MultiGzDecoder::new(packed).take(bytes).read_to_end(&mut first)?;
    Ok(first)
}

/// What a compressed file holds, as a file without a name in that directory.
///
/// # Errors
/// `UnexpectedEof` where it is not complete, and others where it is no such file or the disk is full.
pub(super) fn unpack(packed: &File, dir: &Path) -> io::Result<File> {
    let modified = packed.metadata()?.modified()?;
    let mut packed = packed.try_clone()?;
    packed.seek(SeekFrom::Start(0))?;
    let path = dir.join(format!("unpacking-{}", std::process::id()));
    // What a process left that was killed here.
    let _ = fs::remove_file(&path);
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    let copied = io::copy(&mut MultiGzDecoder::new(packed).take(MOST), &mut file)?;
    file.flush()?;
    file.set_modified(modified)?;
    if copied == MOST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it unpacks to over {MOST} bytes")));
    }
    Ok(file)
}
