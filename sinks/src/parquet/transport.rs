//! What the sink needs of a store, and the stores that have it.

mod local;
mod object;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;

use super::config::{ParquetConfig, Target};
use super::error::{ParquetError, StoreError};

pub use local::LocalStore;
pub use object::RemoteStore;

/// Bytes of every part of an upload but the last: over the 5 MiB that S3 asks for.
pub const PART_BYTES: usize = 8 << 20;

/// A place for files and small objects that survive whatever the machine does.
///
/// What an operation reports as done is durable. After an error an operation may have happened or not; every one
/// may be tried again. Calls may run concurrently, from several processes.
#[async_trait]
pub trait Store: Send + Sync {
    /// The object's bytes; `None` where there is none.
    async fn read(&self, path: &Path) -> Result<Option<Bytes>, StoreError>;

    /// Creates an object with these bytes unless there is one, as one atomic step. Says whether it did.
    async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool, StoreError>;

    /// Removes an object, if there is one.
    async fn remove(&self, path: &Path) -> Result<(), StoreError>;

    /// The objects directly below a folder, in the order of their paths.
    async fn list(&self, folder: &Path) -> Result<Vec<Listed>, StoreError>;

    /// Begins a file that becomes visible as a whole once it is completed, replacing any before it.
    async fn upload(&self, path: &Path) -> Result<Box<dyn Upload>, StoreError>;
}

/// An object of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path.
    pub path: Path,
    /// When the store took it, in milliseconds since the Unix epoch, by the store's clock.
    pub modified_ms: i64,
}

/// A file being written.
///
/// Dropping it leaves what was uploaded to be swept up by the store (a lifecycle rule on S3, the next start on a
/// local directory).
#[async_trait]
pub trait Upload: Send + Sync {
    /// Stores the next part, [`PART_BYTES`] long unless it is the last. After an error the same part may be
    /// given again.
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Makes the file visible. May be called again after an error; [`StoreError::UploadGone`] is final.
    async fn complete(&mut self) -> Result<(), StoreError>;

    /// Gives the file up.
    async fn abort(&mut self) -> Result<(), StoreError>;
}

/// Opens the store that a configuration names, and the path of the base within it.
pub(super) fn open(config: &ParquetConfig) -> Result<(Arc<dyn Store>, Path), ParquetError> {
    Ok(match config.target()? {
        Target::Directory(directory) => (Arc::new(LocalStore::open(&directory)?), Path::default()),
        Target::S3 { bucket, prefix } => (Arc::new(RemoteStore::s3(&bucket, &config.s3)?), prefix),
    })
}
