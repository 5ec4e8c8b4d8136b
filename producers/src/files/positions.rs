//! How far each file has been acknowledged, on disk.
//!
//! The file is replaced as a whole, by a rename after a sync, so that a crash leaves the old one or the new one. It holds
//! nothing that the bus has not acknowledged (D3).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::identity::{FileKey, Head, digest};

/// First word of the file, and the version of what follows.
const MAGIC: &str = "afflux-positions 1";
/// How long the position of a file that is seen no more is kept.
const KEPT_MS: u64 = 24 * 3600 * 1000;
/// How long a position that nobody has acknowledged is kept in memory.
const UNACKED_MS: u64 = 3600 * 1000;
/// Files of one path whose positions are kept; those that rotation made are known by them.
const KEPT_PER_PATH: usize = 256;

/// How far one file has been acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Where the file stood when it was found.
    pub(super) path: PathBuf,
    pub(super) key: FileKey,
    /// The fingerprint under which its lines are sent.
    pub(super) fingerprint: u64,
    pub(super) head: Head,
    /// Everything before is acknowledged.
    pub(super) offset: u64,
    /// Checksum of the bytes before the offset.
    pub(super) mark: u64,
    /// When the file was written to last when it was read so far, milliseconds since the Unix epoch.
    pub(super) written_ms: u64,
    /// When the file was last seen.
    pub(super) seen_ms: u64,
}

/// A file, and what it held: one that is written anew in place is another then.
type Id = (FileKey, u64);

impl Position {
    fn id(&self) -> Id {
        (self.key, self.fingerprint)
    }

    /// The position of a copy of what was read so far, or of a compressed one: nothing of it is to be read.
    pub(super) fn of_copy(&self, key: FileKey, offset: u64, mark: u64) -> Self {
        Self { key, offset, mark, ..self.clone() }
    }
}

/// The positions of all files, and the file that holds those that were acknowledged.
#[derive(Debug)]
pub(super) struct Positions {
    path: PathBuf,
    acked: HashMap<Id, Position>,
    /// How far files have been read by this process, acknowledged or not.
    read: HashMap<Id, Position>,
    /// Files of [`Positions::read`] by inode, and by path.
    by_inode: HashMap<u64, Vec<Id>>,
    by_path: HashMap<PathBuf, Vec<Id>>,
    /// When files were looked for for the first time ever. What rotation put aside before is history.
    since_ms: u64,
    /// The same, of paths of which positions were forgotten, because there were too many.
    forgotten_ms: BTreeMap<PathBuf, u64>,
    /// Files that stood at their paths then, and of which nothing has been acknowledged: whatever their age, they are none.
    unread: HashSet<FileKey>,
    first: bool,
    changed: bool,
}

/// What was found on disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    /// There were none yet.
    None,
    /// They hold.
    Good,
    /// They are not what was written, and were put aside under that name.
    Damaged(PathBuf),
}

#[derive(Serialize, Deserialize)]
struct Content {
    since_ms: u64,
    forgotten_ms: BTreeMap<PathBuf, u64>,
    unread: Vec<FileKey>,
    files: Vec<Position>,
}

impl Positions {
    /// Reads a file, which may be missing: then what rotation put aside before `now_ms` is history. A damaged one is put
    /// aside, and nothing is history.
    ///
    /// # Errors
    /// It cannot be read, or not be put aside.
    pub(super) fn load(path: &Path, now_ms: u64) -> io::Result<(Self, Loaded)> {
        let mut positions = Self {
            path: path.to_owned(),
            acked: HashMap::new(),
            read: HashMap::new(),
            by_inode: HashMap::new(),
            by_path: HashMap::new(),
            since_ms: now_ms,
            forgotten_ms: BTreeMap::new(),
            unread: HashSet::new(),
            first: true,
            changed: true,
        };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((positions, Loaded::None)),
            Err(error) => return Err(error),
        };
        (positions.first, positions.changed, positions.since_ms) = (false, false, 0);
        let Some(content) = parse(&bytes) else {
            let aside = path.with_extension("damaged");
            fs::rename(path, &aside)?;
            return Ok((positions, Loaded::Damaged(aside)));
        };
        (positions.since_ms, positions.forgotten_ms) = (content.since_ms, content.forgotten_ms);
        positions.unread = content.unread.into_iter().collect();
        for position in content.files {
            positions.read(position.clone());
            positions.acked.insert(position.id(), position);
        }
        Ok((positions, Loaded::Good))
    }

    /// Where they are kept.
    pub(super) fn dir(&self) -> &Path {
        self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// A file was read so far.
    pub(super) fn read(&mut self, position: Position) {
        let id = position.id();
        let (inode, path) = (position.key.inode, position.path.clone());
        if self.read.insert(id, position).is_none() {
            self.by_inode.entry(inode).or_default().push(id);
            self.by_path.entry(path).or_default().push(id);
        }
    }

    /// The bus holds what was read so far.
    pub(super) fn acked(&mut self, position: Position) {
        self.changed = true;
        self.acked.insert(position.id(), position);
    }

    /// A file is known to hold nothing that is to be read up to there.
    pub(super) fn known(&mut self, position: Position) {
        self.read(position.clone());
        self.acked(position);
    }

    /// How far files with that inode were read.
    pub(super) fn of_inode(&self, key: FileKey) -> impl Iterator<Item = &Position> + use<'_> {
        self.by_inode.get(&key.inode).into_iter().flatten().filter_map(|id| self.read.get(id))
    }

    /// Paths of which something was read.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.by_path.keys()
    }

    /// How far files of that path were read.
    pub(super) fn of_path(&self, path: &Path) -> impl Iterator<Item = &Position> + use<'_> {
        self.by_path.get(path).into_iter().flatten().filter_map(|id| self.read.get(id))
    }

    /// Whether the bus holds what was read of a file up to that offset.
    pub(super) fn is_acked(&self, position: &Position, offset: u64) -> bool {
        self.acked.get(&position.id()).is_some_and(|acked| acked.offset >= offset)
    }

    /// What rotation put aside of a path, and was written to before, is history, milliseconds since the Unix epoch.
    pub(super) fn since_ms(&self, path: &Path) -> u64 {
        self.forgotten_ms.get(path).copied().unwrap_or_default().max(self.since_ms)
    }

    /// A file stands at its path at the very first look.
    pub(super) fn standing(&mut self, key: FileKey) {
        self.unread.insert(key);
    }

    /// Whether it is one of those, and nothing of it has been acknowledged.
    pub(super) fn stood_unread(&self, key: FileKey) -> bool {
        self.unread.contains(&key)
    }

    /// Whether nothing has ever been saved.
    pub(super) fn is_first(&self) -> bool {
        self.first
    }

    /// Whether that file was read, and has more in it now.
    pub(super) fn reaches_further(&self, key: FileKey, length: u64) -> bool {
        self.of_inode(key).filter(|position| position.key == key).any(|position| position.offset < length)
    }

    /// A file is still there. Of several texts that it held, the last one is.
    pub(super) fn seen(&mut self, key: FileKey, now_ms: u64) {
        let ids = self.by_inode.get(&key.inode).into_iter().flatten().filter(|id| id.0 == key);
        let last = ids.filter_map(|id| Some((self.acked.get(id)?.written_ms, *id))).max();
        if let Some(position) = last.and_then(|(_, id)| self.acked.get_mut(&id)) {
            position.seen_ms = now_ms;
        }
    }

    /// Whether anything has been set since they were saved.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    /// Writes them, in a way that a crash at any moment leaves a whole file. Forgets files that are long gone.
    pub(super) fn save(&mut self, now_ms: u64) -> io::Result<()> {
        self.forget(now_ms);
        let mut files: Vec<_> = self.acked.values().cloned().collect();
        files.sort_by(|a, b| (&a.path, a.key).cmp(&(&b.path, b.key)));
        if !self.unread.is_empty() {
            let acked: HashSet<_> = self.acked.keys().map(|(key, _)| *key).collect();
            self.unread.retain(|key| !acked.contains(key));
        }
        let (since_ms, forgotten_ms) = (self.since_ms, self.forgotten_ms.clone());
        let unread = self.unread.iter().copied().collect();
        let json = serde_json::to_vec(&Content { since_ms, forgotten_ms, unread, files })?;
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        writeln!(file, "{MAGIC} {:016x}", digest(&[&json]))?;
        file.write_all(&json)?;
        file.sync_data()?;
        fs::rename(&fresh, &self.path)?;
        // The name is durable once its directory is.
        File::open(self.dir())?.sync_all()?;
        (self.first, self.changed) = (false, false);
        Ok(())
    }

    fn forget(&mut self, now_ms: u64) {
        self.acked.retain(|_, position| now_ms.saturating_sub(position.seen_ms) < KEPT_MS);
        let mut by_path: HashMap<&Path, Vec<(u64, u64, Id)>> = HashMap::new();
        for position in self.acked.values() {
            by_path.entry(&position.path).or_default().push((position.seen_ms, position.written_ms, position.id()));
        }
        let surplus = by_path.into_values().filter(|of_path| of_path.len() > KEPT_PER_PATH).flat_map(|mut of_path| {
            of_path.sort_unstable();
            of_path.truncate(of_path.len() - KEPT_PER_PATH);
            of_path
        });
        for (_, _, id) in surplus.collect::<Vec<_>>() {
            if let Some(Position { path, written_ms, .. }) = self.acked.remove(&id) {
                let since = self.forgotten_ms.entry(path).or_default();
                *since = written_ms.max(*since);
            }
        }
        self.forget_read(now_ms);
        self.forgotten_ms.retain(|path, _| self.by_path.contains_key(path));
    }

    /// What was read and is kept nowhere else.
    fn forget_read(&mut self, now_ms: u64) {
        if self.read.len() <= 2 * self.acked.len() + KEPT_PER_PATH {
            return;
        }
        let acked = &self.acked;
        let fresh = |position: &Position| now_ms.saturating_sub(position.seen_ms) < UNACKED_MS;
        self.read.retain(|id, position| acked.contains_key(id) || fresh(position));
        for index in self.by_inode.values_mut().chain(self.by_path.values_mut()) {
            index.retain(|id| self.read.contains_key(id));
        }
        self.by_inode.retain(|_, ids| !ids.is_empty());
        self.by_path.retain(|_, ids| !ids.is_empty());
    }
}

fn parse(bytes: &[u8]) -> Option<Content> {
    let end = memchr::memchr(b'\n', bytes)?;
    let (head, json) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
    let sum = u64::from_str_radix(head.strip_prefix(MAGIC)?.strip_prefix(' ')?, 16).ok()?;
    (sum == digest(&[json])).then(|| serde_json::from_slice(json).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(inode: u64, offset: u64, seen_ms: u64) -> Position {
        Position {
            path: "/var/log/a".into(),
            key: FileKey { device: 1, inode, born: u64::MAX },
            fingerprint: u64::MAX,
            head: Head { bytes: 10, sum: 11 },
            offset,
            mark: 12,
            written_ms: seen_ms,
            seen_ms,
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("positions");
        let (mut positions, loaded) = Positions::load(&path, 7).unwrap();
        assert_eq!((loaded, positions.since_ms(Path::new("/a")), positions.is_first()), (Loaded::None, 7, true));
        positions.acked(position(1, 5, 900));
        positions.acked(position(2, 6, 900));
        positions.acked(position(1, 7, 900));
        assert!(positions.changed());
        positions.save(1000).unwrap();
        assert!(!positions.changed() && !positions.is_first());
        let (read, loaded) = Positions::load(&path, 8).unwrap();
        assert_eq!((loaded, read.acked.len()), (Loaded::Good, 2));
        assert_eq!((read.since_ms(Path::new("/a")), read.is_first()), (7, false), "the first start stays the first");
        let same: Vec<_> = read.of_inode(position(1, 0, 0).key).collect();
        assert_eq!(same, [&position(1, 7, 900)]);
        let path_of = |path: &str| read.of_path(Path::new(path)).count();
        assert_eq!((path_of("/var/log/a"), path_of("/var/log/b")), (2, 0));
        assert!(read.is_acked(&position(2, 0, 0), 6) && !read.is_acked(&position(2, 0, 0), 7));
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["positions"]);
    }

    #[test]
    fn files_that_are_long_gone_are_forgotten_and_one_path_has_so_many_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let (mut positions, _) = Positions::load(&dir.path().join("positions"), 7).unwrap();
        let now = 10 * KEPT_MS;
        positions.acked(position(1, 5, now - KEPT_MS));
        for n in 0..300 {
            positions.known(position(1000 + n, 5, now - n));
        }
        positions.save(now).unwrap();
        assert_eq!(positions.acked.len(), KEPT_PER_PATH);
        let kept = |inode| positions.acked.contains_key(&position(inode, 0, 0).id());
        assert!(kept(1000) && !kept(1299));
        let forgotten = now - KEPT_PER_PATH as u64;
        assert_eq!(positions.since_ms(Path::new("/var/log/a")), forgotten, "and what is as old is history");
    }

    proptest! {
        /// Whatever is flipped or cut, what is not what was written is put aside and never believed.
        #[test]
        fn damage_is_noticed(at in 0usize..300, byte: u8, cut: bool) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("positions");
            let (mut positions, _) = Positions::load(&path, 7).unwrap();
            positions.acked(position(1, 5, 900));
            positions.save(1000).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            let at = at % bytes.len();
            prop_assume!(cut || bytes[at] != byte && !bytes[at].eq_ignore_ascii_case(&byte));
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            fs::write(&path, &bytes).unwrap();
            let (read, loaded) = Positions::load(&path, 7).unwrap();
            prop_assert_eq!((read.acked.len(), read.since_ms), (0, 0));
            prop_assert_eq!(loaded, Loaded::Damaged(path.with_extension("damaged")));
            prop_assert!(!path.exists() && path.with_extension("damaged").exists());
        }
    }
}
