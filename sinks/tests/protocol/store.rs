//! A store in memory that fails, loses answers or hangs where a test says so.

use std::sync::{Arc, Mutex, PoisonError};

use afflux_sinks::parquet::{Listed, RemoteStore, Store, StoreError, Upload};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use tokio::sync::Notify;

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It works.
    None,
    /// It does nothing and says that the store is unavailable.
    Fail,
    /// It does nothing and says that the store refuses.
    Deny,
    /// It does nothing and says that the upload is gone.
    Gone,
    /// It works, but says that the store is unavailable.
    Lose,
    /// It never answers, having done nothing. Whoever waits for [`TestStore::hung`] may kill the writer now.
    HangBefore,
    /// It never answers, having worked.
    HangAfter,
}

/// An operation: its name and path.
pub type Op = (&'static str, String);
type Plan = Box<dyn FnMut(usize, &Op) -> Fault + Send>;

/// The store; clones share it.
#[derive(Clone)]
pub struct TestStore {
    pub lake: Arc<RemoteStore<InMemory>>,
    script: Arc<Mutex<Script>>,
    pub hung: Arc<Notify>,
}

struct Script {
    ops: Vec<Op>,
    plan: Plan,
}

impl TestStore {
    pub fn new() -> Self {
        let script = Script { ops: Vec::new(), plan: Box::new(|_, _| Fault::None) };
        let lake = Arc::new(RemoteStore::new(InMemory::new()));
        Self { lake, script: Arc::new(Mutex::new(script)), hung: Arc::default() }
    }

    /// Asks this from now on what becomes of every operation, counted from 0.
    pub fn plan(&self, plan: impl FnMut(usize, &Op) -> Fault + Send + 'static) {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.ops.clear();
        script.plan = Box::new(plan);
    }

    /// The operations since the plan was made.
    pub fn ops(&self) -> Vec<Op> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).ops.clone()
    }

    async fn begin(&self, name: &'static str, path: &Path) -> Result<Fault, StoreError> {
        let op = (name, path.to_string());
        let fault = {
            let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
            let index = script.ops.len();
            script.ops.push(op.clone());
            (script.plan)(index, &op)
        };
        match fault {
            Fault::Fail => Err(unavailable(name, path)),
            Fault::Gone => Err(StoreError::UploadGone { path: path.clone() }),
            Fault::Deny => {
                Err(StoreError::Refused { operation: name, path: path.clone(), reason: "403 by a test".into() })
            }
            Fault::HangBefore => {
                self.hung.notify_one();
                std::future::pending().await
            }
            Fault::None | Fault::Lose | Fault::HangAfter => Ok(fault),
        }
    }

    async fn end<T>(&self, name: &'static str, path: &Path, fault: Fault, done: T) -> Result<T, StoreError> {
        match fault {
            Fault::Lose => Err(unavailable(name, path)),
            Fault::HangAfter => {
                self.hung.notify_one();
                std::future::pending().await
            }
            _ => Ok(done),
        }
    }
}

fn unavailable(operation: &'static str, path: &Path) -> StoreError {
    StoreError::Unavailable { operation, path: path.clone(), reason: "503 by a test".into() }
}

#[async_trait]
impl Store for TestStore {
    async fn read(&self, path: &Path) -> Result<Option<Bytes>, StoreError> {
        let fault = self.begin("read", path).await?;
        self.end("read", path, fault, self.lake.read(path).await?).await
    }

    async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool, StoreError> {
        let fault = self.begin("create", path).await?;
        self.end("create", path, fault, self.lake.create(path, bytes).await?).await
    }

    async fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let fault = self.begin("remove", path).await?;
        self.end("remove", path, fault, self.lake.remove(path).await?).await
    }

    async fn list(&self, folder: &Path) -> Result<Vec<Listed>, StoreError> {
        let fault = self.begin("list", folder).await?;
        self.end("list", folder, fault, self.lake.list(folder).await?).await
    }

    async fn upload(&self, path: &Path) -> Result<Box<dyn Upload>, StoreError> {
        let fault = self.begin("upload", path).await?;
        let inner = self.lake.upload(path).await?;
        let upload = TestUpload { store: self.clone(), path: path.clone(), inner };
        self.end("upload", path, fault, Box::new(upload) as Box<dyn Upload>).await
    }
}

struct TestUpload {
    store: TestStore,
    path: Path,
    inner: Box<dyn Upload>,
}

#[async_trait]
impl Upload for TestUpload {
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let fault = self.store.begin("part", &self.path).await?;
        // A part whose answer is lost is sent again under the same number, as the store sees it.
        if fault == Fault::Lose {
            return Err(unavailable("part", &self.path));
        }
        self.inner.part(bytes).await?;
        self.store.end("part", &self.path, fault, ()).await
    }

    async fn complete(&mut self) -> Result<(), StoreError> {
        let fault = self.store.begin("complete", &self.path).await?;
        self.inner.complete().await?;
        self.store.end("complete", &self.path, fault, ()).await
    }

    async fn abort(&mut self) -> Result<(), StoreError> {
        self.inner.abort().await
    }
}
