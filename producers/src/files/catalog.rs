//! Which files there are, which of them are read, and from where.

mod recognise;
mod rotated;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::discover::{self, Found};
use super::identity::FileKey;
use super::origin::{Common, Origin};
use super::positions::Positions;
use super::rate::Bucket;
use super::segment::Segment;
use super::stream::{Clock, Stream};
use recognise::Known;

/// How long a copy that is shorter than what was copied may still be growing.
const COPYING: Duration = Duration::from_secs(5);
/// How far the clocks of a file system and of the process may be apart.
const SLACK_MS: u64 = 2000;

/// Every path that is read.
pub(super) struct Catalog {
    pub(super) streams: BTreeMap<PathBuf, Stream>,
    pub(super) positions: Positions,
    common: Common,
    /// Whether files that are there at the very first start are read from their end.
    from_end: bool,
    /// Lines of a file per second.
    rate: Option<u64>,
    /// Files that are open, and the path under which they are read.
    open: HashMap<FileKey, PathBuf>,
    /// Files that are not read as long as they have so many bytes.
    passed_over: HashMap<FileKey, u64>,
    /// Files that rotation put aside before the first start. Compressed, they look new.
    history: HashMap<PathBuf, FileKey>,
    /// Where files lie that rotation put aside.
    put_aside: HashMap<FileKey, PathBuf>,
    /// Compressed files that are open.
    unpacked: HashSet<FileKey>,
    scanned: bool,
    /// The file that stood at each path when it was last looked at.
    standing: BTreeMap<PathBuf, FileKey>,
    /// Paths that are to be looked at again soon: what rotation makes of their files is under way.
    unsettled: BTreeSet<PathBuf>,
    /// Copies that are being made, with their bytes, since when.
    copying: HashMap<FileKey, (u64, Instant)>,
    /// Files that could not be opened and were spoken of.
    unreadable: BTreeSet<PathBuf>,
}

impl Catalog {
    pub(super) fn new(positions: Positions, common: Common, from_end: bool, rate: Option<u64>) -> Self {
        Self {
            streams: BTreeMap::new(),
            positions,
            common,
            from_end,
            rate,
            open: HashMap::new(),
            passed_over: HashMap::new(),
            history: HashMap::new(),
            put_aside: HashMap::new(),
            unpacked: HashSet::new(),
            scanned: false,
            standing: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            copying: HashMap::new(),
            unreadable: BTreeSet::new(),
        }
    }

    /// Takes note of what there is; answers the paths that have something new.
    pub(super) fn scan(&mut self, found: &Found, clock: Clock) -> BTreeSet<PathBuf> {
        let mut changed = BTreeSet::new();
        let key = |(path, metadata): (&PathBuf, &Metadata)| (path.clone(), FileKey::of(metadata));
        self.standing = found.files.iter().map(key).collect();
        self.unsettled.clear();
        for key in self.standing.values() {
            self.positions.seen(*key, clock.unix_ms());
        }
        // What has left a path is older than what is found beside it now.
        self.place(clock);
        // It is also read before what stands at the path.
        let all = found.rotated();
        let places = all.iter().map(|rotated| (FileKey::of(&rotated.metadata), rotated.path.clone()));
        self.put_aside = places.collect();
        self.copying
            .retain(|key, _| self.put_aside.contains_key(key) || self.standing.values().any(|other| other == key));
        for rotated in all {
            let key = FileKey::of(&rotated.metadata);
            self.positions.seen(key, clock.unix_ms());
            // A younger one has taken the name over.
            if self.history.get(&rotated.path).is_some_and(|old| *old != key) {
                self.history.remove(&rotated.path);
            }
            // Another path may lead to the same file.
            let standing = self.standing.get(&rotated.of).and_then(|standing| self.open.get(standing));
            let elsewhere = standing.is_some_and(|owner| *owner != rotated.of);
            if elsewhere || self.open.contains_key(&key) || self.is_passed_over(key, rotated.metadata.len()) {
                continue;
            }
            if self.is_full(&rotated.of) {
                self.unsettled.insert(rotated.of);
            } else {
                let opened = self.open_rotated(&rotated, clock);
                changed.extend(self.told(&rotated.path, opened).flatten());
            }
        }
        for (path, stream) in &mut self.streams {
            if stream.is_unlooked() && !self.unsettled.contains(path) {
                stream.looked();
                changed.insert(path.clone());
            }
        }
        for (path, metadata) in &found.files {
            let key = FileKey::of(metadata);
            if !self.open.contains_key(&key) && !self.is_passed_over(key, metadata.len()) && !self.is_full(path) {
                let opened = self.open_standing(path, key, clock);
                changed.extend(self.told(path, opened).flatten());
            }
        }
        self.place(clock);
        changed
            .extend(self.streams.iter().filter(|(_, stream)| stream.current().is_none()).map(|(path, _)| path.clone()));
        self.streams.retain(|path, stream| !stream.is_empty() || found.files.contains_key(path));
        // An entry too many costs some bytes, one too few a second look at a file.
        if self.passed_over.len() > 64 * (self.streams.len() + 16) {
            self.passed_over.clear();
        }
        self.scanned = true;
        changed
    }

    /// Whether something is to be looked at again soon.
    pub(super) fn unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// The file cannot be read, and is to be opened again.
    pub(super) fn closed(&mut self, key: FileKey) {
        self.open.remove(&key);
    }

    /// The file has been read to its end for good, as long as it does not grow.
    pub(super) fn read_out(&mut self, key: FileKey, length: u64) {
        self.open.remove(&key);
        self.passed_over.insert(key, length);
    }

    /// Files that are open.
    pub(super) fn files(&self) -> usize {
        self.open.len()
    }

    /// Tells every stream which file stands at its path.
    fn place(&mut self, clock: Clock) {
        for (path, stream) in &mut self.streams {
            stream.stands(self.standing.get(path).copied(), clock.now);
        }
    }

    /// A file that matches a pattern.
    fn open_standing(&mut self, path: &PathBuf, key: FileKey, clock: Clock) -> io::Result<Option<PathBuf>> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if FileKey::of(&metadata) != key {
            // Another one stands there by now; this one is found under its new name.
            self.unsettled.insert(path.clone());
            return Ok(None);
        }
        let length = metadata.len();
        let from = discover::rotated_from(path);
        let mut segment = match self.positions.recognise(&file, key, path, &from)? {
            // Rotation has given it a name that matches as well.
            Known::At(position) if position.path != *path => {
                if position.offset < length {
                    return self.reopen(file, key, &position, clock).map(Some);
                }
                self.adopt(&file, key, (length, length), &position)?;
                return Ok(None);
            }
            Known::At(position) => Segment::resume(file, key, &position)?,
            Known::Copying(_) if self.wait_for_copy(key, length, clock) => {
                self.unsettled.insert(path.clone());
                return Ok(None);
            }
            Known::Copying(position) => {
                self.adopt(&file, key, (length, length), &position)?;
                return Ok(None);
            }
            Known::New => match from.iter().find_map(|of| Some((of, *self.standing.get(of)?))) {
                // Of the same file as one that rotation put aside under a name that does not match.
                Some((of, standing)) if self.is_copy(key, standing) => {
                    if self.stands_alike(of, standing, &file)? {
                        self.unsettled.insert(path.clone());
                        return Ok(None);
                    }
                    Segment::copy(file, key, standing, path.clone())
                }
                _ => Segment::new(file, key, path.clone()),
            },
        };
        if self.positions.is_first() && !self.scanned {
            self.positions.standing(key);
        }
        if self.from_end && self.positions.is_first() && !self.scanned {
            segment.skip_to_end()?;
            if let Some(position) = segment.position(clock.unix_ms())? {
                self.positions.known(position);
            }
        }
        Ok(Some(self.add(path, segment)))
    }

    fn is_passed_over(&self, key: FileKey, length: u64) -> bool {
        self.passed_over.get(&key) == Some(&length)
    }

    fn add(&mut self, path: &Path, segment: Segment) -> PathBuf {
        self.copying.remove(&segment.key);
        self.passed_over.remove(&segment.key);
        self.open.insert(segment.key, path.to_owned());
        let stream = self.streams.entry(path.to_owned());
        let rate = || Bucket::new(self.rate, Instant::now());
        stream.or_insert_with(|| Stream::new(Arc::new(Origin::of(path, &self.common)), rate())).add(segment);
        path.to_owned()
    }

    fn is_full(&self, path: &Path) -> bool {
        self.streams.get(path).is_some_and(Stream::is_full)
    }

    /// Whether a copy may still be growing.
    fn wait_for_copy(&mut self, key: FileKey, length: u64, clock: Clock) -> bool {
        let entry = self.copying.entry(key).or_insert((length, clock.now));
        if entry.0 != length {
            *entry = (length, clock.now);
        }
        clock.now < entry.1 + COPYING
    }

    /// What was opened; a failure is told once.
    fn told(&mut self, path: &Path, opened: io::Result<Option<PathBuf>>) -> Option<Option<PathBuf>> {
        match opened {
            Ok(opened) => {
                self.unreadable.remove(path);
                Some(opened)
            }
            // It vanished between being found and being opened.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                if self.unreadable.insert(path.to_owned()) {
                    tracing::warn!(%error, path = %path.display(), "cannot read a file; trying again");
                }
                None
            }
        }
    }
}
