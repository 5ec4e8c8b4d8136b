//! Directories that are watched, and the names in them that change.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::Changes;

/// Watches directories; files are told by their names in them.
#[derive(Debug)]
pub(in crate::files) struct Watcher {
    fd: AsyncFd<OwnedFd>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_dir: HashMap<PathBuf, i32>,
    by_watch: HashMap<i32, Vec<PathBuf>>,
}

impl Watcher {
    /// # Errors
    /// The system has no inotify, or gives no more instances.
    #[expect(deprecated, reason = "its successor is unsafe, for what an `OwnedFd` guarantees")]
    pub(in crate::files) fn new() -> io::Result<Arc<Self>> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Arc::new(Self { fd: AsyncFd::new(fd)?, state: Mutex::default() }))
    }

    /// Watches exactly those directories.
    ///
    /// # Errors
    /// One that could not be added, because there are too many; all others are watched.
    pub(in crate::files) fn watch(&self, dirs: &BTreeSet<PathBuf>) -> io::Result<()> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut state = self.state();
        let gone: Vec<_> = state.by_dir.keys().filter(|dir| !dirs.contains(*dir)).cloned().collect();
        for dir in gone {
            if let Some(watch) = state.forget(&dir) {
                // Gone already where the directory is.
                let _ = inotify::remove_watch(self.fd.get_ref(), watch);
            }
        }
        let mut failed = Ok(());
        for dir in dirs {
            if state.by_dir.contains_key(dir) {
                continue;
            }
            let path = if dir.as_os_str().is_empty() { std::path::Path::new(".") } else { dir };
            match inotify::add_watch(self.fd.get_ref(), path, flags) {
                Ok(watch) => state.remember(dir.clone(), watch),
                // What vanished needs no watch.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => failed = Err(error.into()),
            }
        }
        failed
    }

    /// Waits for changes. Cancel safe.
    pub(in crate::files) async fn next(&self) -> io::Result<Changes> {
        loop {
            let mut ready = self.fd.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
            let mut changes = Changes::default();
            let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
            let read = loop {
                match reader.next() {
                    Ok(event) => {
                        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
                        self.take(event.wd(), event.events(), name.as_deref(), &mut changes);
                        // Only what was read at once: the next call goes on.
                        if reader.is_buffer_empty() {
                            break Ok(());
                        }
                    }
                    Err(error) => break Err(error),
                }
            };
            match read {
                Ok(()) => return Ok(changes),
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&self, watch: i32, events: ReadFlags, name: Option<&OsStr>, changes: &mut Changes) {
        let mut state = self.state();
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            changes.overflow = true;
        } else if events.contains(ReadFlags::IGNORED) {
            for dir in state.by_watch.remove(&watch).unwrap_or_default() {
                state.by_dir.remove(&dir);
            }
        } else if events.contains(ReadFlags::MODIFY) {
            let dirs = state.by_watch.get(&watch).into_iter().flatten();
            let paths = name.into_iter().flat_map(|name| dirs.clone().map(move |dir| dir.join(name)));
            for path in paths {
                if changes.written.last() != Some(&path) {
                    changes.written.push(path);
                }
            }
        } else {
            changes.names = true;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Two paths may lead to one directory.
    fn remember(&mut self, dir: PathBuf, watch: i32) {
        self.by_watch.entry(watch).or_default().push(dir.clone());
        self.by_dir.insert(dir, watch);
    }

    /// The watch that nobody needs any more.
    fn forget(&mut self, dir: &PathBuf) -> Option<i32> {
        let watch = self.by_dir.remove(dir)?;
        let dirs = self.by_watch.get_mut(&watch)?;
        dirs.retain(|other| other != dir);
        if !dirs.is_empty() {
            return None;
        }
        self.by_watch.remove(&watch);
        Some(watch)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;

    async fn next(watcher: &Watcher) -> Changes {
        tokio::time::timeout(Duration::from_secs(10), watcher.next()).await.expect("a change").unwrap()
    }

    #[tokio::test]
    async fn writes_are_told_by_path_and_names_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let (path, watcher) = (dir.path().join("a.log"), Watcher::new().unwrap());
        let dirs = BTreeSet::from([dir.path().to_owned()]);
        watcher.watch(&dirs).unwrap();
        let mut file = fs::File::create(&path).unwrap();
        assert!(next(&watcher).await.names);
        file.write_all(b"x").unwrap();
        assert_eq!(next(&watcher).await, Changes { written: vec![path.clone()], ..Changes::default() });
        fs::rename(&path, dir.path().join("b.log")).unwrap();
        assert!(next(&watcher).await.names);
        watcher.watch(&dirs).unwrap();
        watcher.watch(&BTreeSet::new()).unwrap();
        assert!(watcher.state().by_dir.is_empty() && watcher.state().by_watch.is_empty());
        watcher.watch(&BTreeSet::from([dir.path().join("none")])).unwrap();
    }
}
