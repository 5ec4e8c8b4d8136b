//! Objects with a history, as etcd keeps them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// What happened at one resource version.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    pub(crate) path: String,
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub(crate) kind: &'static str,
    pub(crate) object: Arc<Value>,
    pub(crate) at_ms: i64,
}

/// What open watches are told, in this order.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Entry(Entry),
    /// Everything up to that resource version has been told.
    Bookmark(u64),
    /// 410.
    Expired,
    /// The watches end.
    End,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) revision: u64,
    /// Nothing before that is known any more.
    pub(crate) compacted: u64,
    history: Vec<Entry>,
    /// What there is at each path.
    live: HashMap<String, BTreeMap<Key, Arc<Value>>>,
    /// Lists whose pages are asked for one by one, by path and resource version.
    lists: HashMap<(String, u64), Arc<Vec<Arc<Value>>>>,
    pub(crate) told: Vec<Told>,
    pub(crate) watches: usize,
}

/// Namespace and name: the order of lists.
type Key = (String, String);

fn key(object: &Value) -> Key {
    let of = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (of("namespace"), of("name"))
}

impl Store {
    pub(crate) fn put(&mut self, path: &str, mut object: Value) -> u64 {
        self.revision += 1;
        let version = self.revision;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let (key, object) = (key(&object), Arc::new(object));
        let before = self.live.entry(path.to_owned()).or_default().insert(key, Arc::clone(&object));
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.history.push(Entry { version, path: path.to_owned(), kind, object, at_ms: now_ms() });
        version
    }

    pub(crate) fn delete(&mut self, path: &str, uid: &str) -> Option<u64> {
        let live = self.live.get_mut(path)?;
        let found = live.iter().find(|(_, object)| object["metadata"]["uid"] == uid)?.0.clone();
        let mut object = (*live.remove(&found)?).clone();
        self.revision += 1;
        let version = self.revision;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let (path, object) = (path.to_owned(), Arc::new(object));
        self.history.push(Entry { version, path, kind: "DELETED", object, at_ms: now_ms() });
        Some(version)
    }

    /// Objects at a path as they were at a resource version, in the order of their names.
    pub(crate) fn list(&mut self, path: &str, version: u64) -> Arc<Vec<Arc<Value>>> {
        let key = (path.to_owned(), version);
        if let Some(list) = self.lists.get(&key) {
            return Arc::clone(list);
        }
        let list: Vec<_> = if version >= self.revision {
            self.live.get(path).map(|live| live.values().cloned().collect()).unwrap_or_default()
        } else {
            self.state(path, version).into_values().collect()
        };
        let list = Arc::new(list);
        if self.lists.len() > 16 {
            self.lists.clear();
        }
        self.lists.insert(key, Arc::clone(&list));
        list
    }

    fn state(&self, path: &str, version: u64) -> BTreeMap<Key, Arc<Value>> {
        let mut state = BTreeMap::new();
        for entry in self.history.iter().filter(|entry| entry.path == path && entry.version <= version) {
            match entry.kind {
                "DELETED" => state.remove(&key(&entry.object)),
                _ => state.insert(key(&entry.object), Arc::clone(&entry.object)),
            };
        }
        state
    }

    /// What happened after a resource version, in order.
    pub(crate) fn after(&self, path: &str, version: u64) -> Vec<Entry> {
        self.history.iter().filter(|entry| entry.path == path && entry.version > version).cloned().collect()
    }

    pub(crate) fn tell(&mut self, version: u64) {
        let entry = self.history.iter().rev().find(|entry| entry.version == version).cloned();
        self.told.extend(entry.map(Told::Entry));
    }

    pub(crate) fn compact(&mut self) {
        self.revision += 1;
        self.compacted = self.revision;
        self.lists.clear();
    }

    pub(crate) fn roll_back(&mut self, revision: u64) {
        self.revision = revision;
        self.compacted = 0;
        self.lists.clear();
    }

    pub(crate) fn named(&self, path: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.live.get(path)?.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    pub(crate) fn observations(&self, path: &str) -> Vec<(String, u64, i64)> {
        let of = |entry: &Entry| {
            let uid = entry.object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            (uid, entry.version, entry.at_ms)
        };
        self.history.iter().filter(|entry| entry.path == path && entry.kind != "DELETED").map(of).collect()
    }
}

/// The status object of a refusal.
pub(crate) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code})
}

pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
