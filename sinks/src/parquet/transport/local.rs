//! A local directory as a store that keeps its word through a power loss.
//!
//! `object_store` has one, but it never syncs: after a power loss its files may be empty or gone, and by then
//! their offsets are committed. Here a file is written to a staging directory, synced, linked to its name, and
//! the directories above it are synced, all before the answer.
//!
//! Each process stages in a directory of its own under `_afflux/staging`, on which it holds a lock; what dead
//! processes left is removed when the store is opened.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;

use super::{Listed, Store, Upload};
use crate::parquet::error::{ParquetError, StoreError};

/// Directories remembered as durable; a few for every cluster and hour.
const MAX_SYNCED: usize = 4096;

/// A directory on a local disk.
#[derive(Debug)]
pub struct LocalStore {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    base: PathBuf,
    staging: PathBuf,
    /// Held while the process lives.
    _lock: File,
    next: AtomicU64,
    /// Directories whose entries, up to the base, are known to be durable.
    synced: Mutex<HashSet<PathBuf>>,
}

impl LocalStore {
    /// Opens a directory, which is created where it does not exist, and removes what dead writers left.
    pub fn open(base: &FilePath) -> Result<Self, ParquetError> {
        let open = || -> io::Result<Root> {
            create_durably(base)?;
            let base = base.canonicalize()?;
            let all = base.join("_afflux/staging");
            fs::create_dir_all(&all)?;
            sweep(&all)?;
            let (staging, lock) = own_directory(&all)?;
            Ok(Root { base, staging, _lock: lock, next: AtomicU64::new(0), synced: Mutex::default() })
        };
        let failed = |source| ParquetError::Directory { path: base.display().to_string(), source };
        Ok(Self { root: Arc::new(open().map_err(failed)?) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: &Path,
        work: impl FnOnce(&Root) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let root = Arc::clone(&self.root);
        blocking(operation, path, move || work(&root)).await
    }
}

/// Creates a directory and makes its existence durable, with that of any above it.
fn create_durably(directory: &FilePath) -> io::Result<()> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().unwrap_or(FilePath::new("."));
    create_durably(parent)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_directory(if parent.as_os_str().is_empty() { FilePath::new(".") } else { parent })
}

fn sync_directory(directory: &FilePath) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes the staging directories of processes that are dead, which is: whose lock is free.
fn sweep(staging: &FilePath) -> io::Result<()> {
    for entry in fs::read_dir(staging)? {
        let directory = entry?.path();
        let Ok(lock) = File::open(directory.join("lock")) else {
            // Empty: its maker died, or is about to put the lock there and will try again.
            let _ = fs::remove_dir(&directory);
            continue;
        };
        if lock.try_lock().is_ok() {
            match fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Makes and locks a staging directory that no other process has.
fn own_directory(staging: &FilePath) -> io::Result<(PathBuf, File)> {
    for attempt in 0_u64.. {
        let directory = staging.join(format!("{}-{attempt}", std::process::id()));
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            other => other?,
        }
        // Another process may sweep it away before it is locked.
        let path = directory.join("lock");
        let lock = match File::create(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        match lock.try_lock() {
            Ok(()) if path.exists() => return Ok((directory, lock)),
            Ok(()) | Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

impl Root {
    fn file(&self, path: &Path) -> PathBuf {
        self.base.join(path.as_ref())
    }

    /// An empty file under a name of its own.
    fn stage(&self) -> io::Result<(PathBuf, File)> {
        let name = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.staging.join(name.to_string());
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok((path, file))
    }

    /// Gives a staged and synced file its name by `place`, and returns once the name is durable.
    fn publish(&self, target: &FilePath, place: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let parent = target.parent().unwrap_or(&self.base);
        self.ensure(parent)?;
        match place() {
            // Somebody removed the empty directory meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.synced().clear();
                self.ensure(parent)?;
                place()?;
            }
            other => other?,
        }
        sync_directory(parent)
    }

    /// Makes a directory under the base exist durably.
    fn ensure(&self, directory: &FilePath) -> io::Result<()> {
        if self.synced().contains(directory) {
            return Ok(());
        }
        fs::create_dir_all(directory)?;
        // Whoever made them may not have synced them yet.
        for above in directory.ancestors().skip(1).take_while(|above| above.starts_with(&self.base)) {
            sync_directory(above)?;
        }
        let mut synced = self.synced();
        if synced.len() >= MAX_SYNCED {
            synced.clear();
        }
        synced.insert(directory.to_owned());
        Ok(())
    }

    fn synced(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<bool> {
        let target = self.file(path);
        let (staged, mut file) = self.stage()?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        // A link to a name that exists fails, whoever else tries at the same time.
        let linked = written.and_then(|()| self.publish(&target, || fs::hard_link(&staged, &target)));
        let _ = fs::remove_file(&staged);
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Theirs, but perhaps not durable yet.
                sync_directory(target.parent().unwrap_or(&self.base))?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        let entries = match fs::read_dir(self.file(folder)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut listed = Vec::new();
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other?,
            };
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|_| metadata.is_file()) else { continue };
            let Ok(path) = Path::parse(format!("{folder}/{name}")) else { continue };
            let age = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            listed.push(Listed { path, modified_ms: i64::try_from(age.as_millis()).unwrap_or(i64::MAX) });
        }
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listed)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.staging);
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn read(&self, path: &Path) -> Result<Option<Bytes>, StoreError> {
        let file = self.root.file(path);
        let read = move |_: &Root| match fs::read(file) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        self.blocking("read", path, read).await
    }

    async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool, StoreError> {
        let target = path.clone();
        self.blocking("create", path, move |root| root.create(&target, &bytes)).await
    }

    async fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let file = self.root.file(path);
        let remove = move |_: &Root| match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        self.blocking("remove", path, remove).await
    }

    async fn list(&self, folder: &Path) -> Result<Vec<Listed>, StoreError> {
        let within = folder.clone();
        self.blocking("list", folder, move |root| root.list(&within)).await
    }

    async fn upload(&self, path: &Path) -> Result<Box<dyn Upload>, StoreError> {
        let (staged, _) = self.blocking("begin upload of", path, Root::stage).await?;
        let (root, path) = (Arc::clone(&self.root), path.clone());
        Ok(Box::new(LocalUpload { root, path, staged, written: 0, progress: Progress::Open }))
    }
}

/// A staged file that is opened only while a part is written, so that a range of very many files needs no more
/// descriptors than writes at once.
struct LocalUpload {
    root: Arc<Root>,
    path: Path,
    staged: PathBuf,
    written: u64,
    progress: Progress,
}

/// How far a file's completion has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Open,
    Complete,
    /// A sync failed, which may have thrown away what was to be synced and will not be reported again.
    Lost,
}

#[async_trait]
impl Upload for LocalUpload {
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.check()?;
        let (staged, offset, len) = (self.staged.clone(), self.written, bytes.len() as u64);
        let write = move || {
            let file = File::options().write(true).open(staged)?;
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes, offset)?;
            Ok(file)
        };
        let file = blocking("write", &self.path, write).await?;
        // Before the descriptor goes, which is what a failed write-back is reported to.
        if let Err(error) = blocking("sync", &self.path, move || file.sync_all()).await {
            self.progress = Progress::Lost;
            return Err(error);
        }
        self.written += len;
        Ok(())
    }

    async fn complete(&mut self) -> Result<(), StoreError> {
        self.check()?;
        if self.progress == Progress::Complete {
            return Ok(());
        }
        let (root, staged, target) = (Arc::clone(&self.root), self.staged.clone(), self.root.file(&self.path));
        let publish = move || {
            root.publish(&target, || match fs::rename(&staged, &target) {
                // Renamed by an earlier attempt that failed behind this point.
                Err(error) if error.kind() == ErrorKind::NotFound && !staged.exists() && target.exists() => Ok(()),
                other => other,
            })
        };
        blocking("complete", &self.path, publish).await?;
        self.progress = Progress::Complete;
        Ok(())
    }

    async fn abort(&mut self) -> Result<(), StoreError> {
        let staged = self.staged.clone();
        let remove = move || match fs::remove_file(staged) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        blocking("abort upload of", &self.path, remove).await
    }
}

impl LocalUpload {
    /// Refuses to go on with a file of which a part may be lost.
    fn check(&self) -> Result<(), StoreError> {
        match self.progress {
            Progress::Lost => Err(StoreError::UploadGone { path: self.path.clone() }),
            Progress::Open | Progress::Complete => Ok(()),
        }
    }
}

async fn blocking<T: Send + 'static>(
    operation: &'static str,
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let failed = |error: io::Error| {
        let (path, reason) = (path.clone(), error.to_string());
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::CrossesDevices => {
                StoreError::Refused { operation, path, reason }
            }
            _ => StoreError::Unavailable { operation, path, reason },
        }
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(failed),
        // Only a runtime that is going down cancels blocking work.
        Err(stopped) => Err(failed(io::Error::other(stopped))),
    }
}

#[cfg(test)]
mod tests;
