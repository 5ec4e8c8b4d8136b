//! A scripted API server of Kubernetes: real HTTP with chunked watches, over a store with revisions that can be compacted.
//!
//! It does what the real one does, and what the real one was seen to do wrong when told to: 410 in both forms, watches
//! that are empty or silent, repetitions, another order, tokens that expire, permissions that are missing.

pub mod event;
mod http;
pub mod oracle;
mod serve;
mod store;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::serve::Listener;
use self::store::{Store, Told};

/// Path of the events of core/v1.
pub const EVENTS: &str = "/api/v1/events";
/// Uid of the cluster.
pub const CLUSTER_UID: &str = "f6c7e0a4-9b1d-4f57-8a54-2f0d6f4c1a10";
/// How long what is waited for may take.
const SETTLE: Duration = Duration::from_secs(60);

/// What a watch meets whose resource version is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// 410 as the status of the answer.
    Status,
    /// 200, and 410 as an error object.
    Object,
    /// 200, and an empty stream that ends.
    Empty,
    /// 200, and an empty stream that does not end.
    Silent,
}

/// What the server is told to do wrong.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) compacted: Compacted,
    pub(crate) token: String,
    pub(crate) forbidden: Vec<(String, String)>,
    /// How long each page of a list takes.
    pub(crate) page_takes: Duration,
    /// Pages after the first one that are gone.
    pub(crate) pages_gone: usize,
    /// Answers with that status instead.
    pub(crate) fails: Option<u16>,
}

/// What servers and tests share.
pub(crate) struct Shared {
    pub(crate) store: Mutex<Store>,
    pub(crate) script: Mutex<Script>,
    /// Method and path of each request, query included, with a space behind each.
    pub(crate) requests: Mutex<Vec<String>>,
    /// Raised with every change of the store.
    pub(crate) news: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.news.send_modify(|n| *n += 1);
    }
}

/// See the module. Everything ends when it is dropped.
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    listener: Option<Listener>,
}

impl ApiServer {
    /// A cluster with nothing but its namespace `kube-system`.
    pub async fn start() -> anyhow::Result<Self> {
        let script = Script {
            compacted: Compacted::Status,
            token: "first".into(),
            forbidden: Vec::new(),
            page_takes: Duration::ZERO,
            pages_gone: 0,
            fails: None,
        };
        let shared = Arc::new(Shared {
            store: Mutex::new(Store::default()),
            script: Mutex::new(script),
            requests: Mutex::default(),
            news: watch::Sender::new(0),
        });
        let listener = Listener::start("127.0.0.1:0".parse()?, Arc::clone(&shared)).await?;
        let server = Self { shared, address: listener.address, listener: Some(listener) };
        let namespace = json!({"metadata": {"name": "kube-system", "uid": CLUSTER_UID}});
        server.put("/api/v1/namespaces", namespace);
        Ok(server)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Writes a kubeconfig whose user has the token in a file beside it.
    pub fn kubeconfig(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        let token = dir.join("token");
        std::fs::write(&token, &self.shared.script().token)?;
        let path = dir.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": self.url()}}],
            "users": [{"name": "it", "user": {"tokenFile": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": "telemetry"}}],
        });
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// Creates or replaces an object at the path of its kind, and tells the watches; its resource version.
    pub fn put(&self, path: &str, object: Value) -> u64 {
        let version = self.shared.store().put(path, object);
        self.shared.store().tell(version);
        self.shared.changed();
        version
    }

    /// The same without telling the watches that are open: see [`ApiServer::tell`].
    pub fn put_silently(&self, path: &str, object: Value) -> u64 {
        self.shared.store().put(path, object)
    }

    /// Tells open watches of what happened at that resource version, once more where they know.
    pub fn tell(&self, version: u64) {
        self.shared.store().tell(version);
        self.shared.changed();
    }

    /// Deletes the object of that uid, if there is one, and tells the watches.
    pub fn delete(&self, path: &str, uid: &str) {
        let deleted = self.shared.store().delete(path, uid);
        if let Some(version) = deleted {
            self.tell(version);
        }
    }

    /// Sends bookmarks to open watches.
    pub fn bookmark(&self) {
        let mut store = self.shared.store();
        let revision = store.revision;
        store.told.push(Told::Bookmark(revision));
        drop(store);
        self.shared.changed();
    }

    /// Sends 410 to open watches and ends them.
    pub fn expire_open_watches(&self) {
        self.shared.store().told.push(Told::Expired);
        self.shared.changed();
    }

    /// Ends open watches in the orderly way.
    pub fn end_watches(&self) {
        self.shared.store().told.push(Told::End);
        self.shared.changed();
    }

    /// Forgets the history up to now; watches and lists that begin in it meet that.
    pub fn compact(&self, then: Compacted) {
        self.shared.script().compacted = then;
        self.shared.store().compact();
    }

    /// From now on requests need that token.
    pub fn expect_token(&self, token: &str) {
        self.shared.script().token = token.to_owned();
    }

    /// Refuses a verb on a resource, such as `list` on `events`; permits everything else.
    pub fn forbid(&self, forbidden: &[(&str, &str)]) {
        let owned = |(verb, resource): &(&str, &str)| ((*verb).to_owned(), (*resource).to_owned());
        self.shared.script().forbidden = forbidden.iter().map(owned).collect();
    }

    /// How long each page of a list takes, and how many pages after the first are gone before one is not.
    pub fn slow_lists(&self, page_takes: Duration, pages_gone: usize) {
        let mut script = self.shared.script();
        (script.page_takes, script.pages_gone) = (page_takes, pages_gone);
    }

    /// Answers everything with that status.
    pub fn fail(&self, status: Option<u16>) {
        self.shared.script().fails = status;
    }

    /// Sets the revision back, as a cluster that is restored from a copy; what there is stays.
    pub fn roll_back(&self, revision: u64) {
        self.shared.store().roll_back(revision);
    }

    /// Goes away: connections are cut and none is accepted.
    pub fn go_down(&mut self) {
        self.listener = None;
    }

    /// Comes back at the same address.
    pub async fn come_up(&mut self) -> anyhow::Result<()> {
        self.listener = Some(Listener::start(self.address, Arc::clone(&self.shared)).await?);
        Ok(())
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        if let Some(listener) = &self.listener {
            listener.cut();
        }
    }

    /// Requests so far that contain a text.
    pub fn requests(&self, with: &str) -> usize {
        let requests = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|request| request.contains(with)).count()
    }

    /// Waits until there have been that many of them.
    pub async fn asked(&self, with: &str, times: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.requests(with) < times {
            ensure!(begun.elapsed() < SETTLE, "{} of {times} requests with `{with}`", self.requests(with));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Uid and resource version of everything that was put at a path, by when, in milliseconds since the Unix epoch.
    pub fn observations(&self, path: &str) -> Vec<(String, u64, i64)> {
        self.shared.store().observations(path)
    }

    /// An object as it is.
    pub fn object(&self, path: &str, namespace: &str, name: &str) -> Option<Value> {
        self.shared.store().named(path, namespace, name).map(|object| (*object).clone())
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        self.shared.store().watches
    }
}
