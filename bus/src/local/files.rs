//! The file layer: the few operations that the log needs, behind a trait that tests replace by a faulty disk.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::BusError;

/// A flat directory.
///
/// A created or removed name survives a power loss only after [`Dir::sync`].
pub(super) trait Dir: Send + Sync + 'static {
    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates a file, or empties the one of that name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Removes a file; handles that are open go on reading it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes what was created and removed so far durable.
    fn sync(&self) -> io::Result<()>;
    /// The path to name in errors.
    fn path(&self, name: &str) -> PathBuf;
}

/// A file read and written by position.
pub(super) trait File: Send + Sync {
    /// Bytes in the file, the allocated zeros at its end included.
    fn len(&self) -> io::Result<u64>;
    /// Reads `len` bytes, fewer only where the file ends.
    fn read(&self, pos: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Writes all bytes. After an error any part of them may have been written.
    fn write(&self, pos: u64, bytes: &[u8]) -> io::Result<()>;
    /// Grows the file to `len` with zeros whose blocks are reserved, so that writing them cannot run out of
    /// space. After an error the file is as it was.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts the file to `len`.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes everything written so far durable.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the operating system.
pub(super) struct OsDir {
    path: PathBuf,
    handle: fs::File,
}

/// Keeps other processes, and other openings in this one, out of a directory as long as it lives. The system lets
/// go of it when the process dies.
pub(super) struct DirLock {
    _file: fs::File,
}

impl OsDir {
    const LOCK: &str = "lock";

    /// Creates the directory where it is missing, and locks it.
    pub(super) fn open(path: &Path) -> Result<(Self, DirLock), BusError> {
        let failed = |at: &Path| {
            let at = at.to_owned();
            move |source| BusError::Io { path: at, source }
        };
        fs::create_dir_all(path).map_err(failed(path))?;
        let name = path.join(Self::LOCK);
        let lock = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(failed(&name))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&name).unwrap_or_default().trim().to_owned();
                let pid = if pid.is_empty() { "unknown".to_owned() } else { pid };
                return Err(BusError::Locked { dir: path.to_owned(), pid });
            }
            Err(fs::TryLockError::Error(source)) => return Err(BusError::Io { path: name, source }),
        }
        // The pid only informs whoever is refused: on a full disk the lock holds without it.
        if lock.set_len(0).and_then(|()| lock.write_all_at(std::process::id().to_string().as_bytes(), 0)).is_err() {
            tracing::warn!(file = %name.display(), "pid not written to the lock file");
        }
        let handle = fs::File::open(path).map_err(failed(path))?;
        // Makes the directory itself durable, and those that were created above it. Where the system does not let
        // this process, it did not create them either.
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            let _ = fs::File::open(parent).and_then(|parent| parent.sync_all());
        }
        Ok((Self { path: path.to_owned(), handle }, DirLock { _file: lock }))
    }
}

impl Dir for OsDir {
    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.path.join(name))?;
        Ok(Arc::new(OsFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(OsFile(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

struct OsFile(fs::File);

impl OsFile {
    /// Writes zeros where the file system cannot reserve blocks by itself.
    fn fill(&self, from: u64, to: u64) -> io::Result<()> {
        let zeros = [0; 64 * 1024];
        let mut pos = from;
        while pos < to {
            let len = zeros.len().min((to - pos) as usize);
            self.0.write_all_at(&zeros[..len], pos)?;
            pos += len as u64;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, from: u64, to: u64) -> io::Result<()> {
        use rustix::io::Errno;
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), from, to - from) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.fill(from, to),
            other => Ok(other?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn reserve(&self, from: u64, to: u64) -> io::Result<()> {
        self.fill(from, to)
    }
}

impl File for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, pos: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::with_capacity(len);
        while buffer.len() < len {
            let at = pos + buffer.len() as u64;
            match rustix::io::pread(&self.0, rustix::buffer::spare_capacity(&mut buffer), at) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // More room may have been allocated than was asked for.
        buffer.truncate(len);
        Ok(buffer)
    }

    fn write(&self, pos: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, pos)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let old = self.len()?;
        if len <= old {
            return Ok(());
        }
        self.reserve(old, len).inspect_err(|_| {
            // Gives back what was reserved of it; a failure shows at the next attempt.
            let _ = self.0.set_len(old);
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
