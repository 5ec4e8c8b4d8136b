//! The objects that other telemetry is joined with, as a table on a compacted topic.
//!
//! Each kind is listed and watched by a task of its own. One writer knows what is on the topic, by a hash of each value, and
//! writes what differs: so a list that repeats everything writes nothing, and what a list does not show any more becomes a
//! tombstone, whoever wrote it and whenever it went.

mod decode;
mod follow;
mod known;

use std::sync::Arc;

use afflux_bus::{Bus, BusError, ErrorClass, Headers, PartitionId, ReaderConfig, Record};
use afflux_runtime::Backoff;
use afflux_runtime::dead_letter::now_ms;
use afflux_runtime::metrics::ComponentLabels;
use afflux_schemas::objects::{Kind, Object, ObjectKey};
use afflux_schemas::partition::java_partition;
use afflux_schemas::topics::{HEADER_CLUSTER, Topics};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::follow::{Follow, Update};
use self::known::{Known, Uid, hash};
use super::api::Api;
use super::config::ObjectsConfig;
use super::encode::Cluster;
use super::health::Board;
use super::store::{Store, read_all};
use super::{FIRST_RETRY, LAST_RETRY, NAME};

/// Name of the stream.
const STREAM: &str = "objects";
/// Updates that wait for the writer, and of one transaction at most.
const UPDATES: usize = 1000;

/// What reads the objects of one cluster.
pub(super) struct Objects {
    pub(super) api: Arc<Api>,
    pub(super) config: ObjectsConfig,
    pub(super) cluster: Cluster,
    pub(super) topics: Topics,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) board: Arc<Board>,
}

impl Objects {
    /// Reads until asked to stop.
    ///
    /// # Errors
    /// The bus is unusable.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), BusError> {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let error = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                error = self.session(&mut backoff) => error,
            };
            let after = match error.class() {
                ErrorClass::Transient(after) => after,
                ErrorClass::Permanent => None,
                ErrorClass::Fatal => return Err(error),
            };
            self.board.bus_failed(STREAM, &error.to_string());
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = backoff.wait(after) => {}
            }
        }
    }

    /// Works until the bus has something against it.
    async fn session(&self, backoff: &mut Backoff) -> BusError {
        let mut table = match Table::open(self).await {
            Ok(table) => table,
            Err(error) => return error,
        };
        self.board.bus_works(STREAM);
        backoff.reset();
        let (sender, mut updates) = mpsc::channel(UPDATES);
        // Ended when this future is dropped.
        let mut tasks = JoinSet::new();
        for kind in Kind::ALL {
            if self.config.without.contains(&kind) {
                // What an earlier configuration has left.
                let listed = Update::Listed { kind, uids: Default::default() };
                if sender.send(listed).await.is_err() {
                    return BusError::Closed;
                }
                continue;
            }
            let (api, board) = (Arc::clone(&self.api), Arc::clone(&self.board));
            tasks.spawn(Follow::new(kind, &self.config, api, board).run(sender.clone()));
        }
        let mut batch = Vec::with_capacity(UPDATES);
        loop {
            tokio::select! {
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended
                        && let Ok(panic) = error.try_into_panic()
                    {
                        std::panic::resume_unwind(panic);
                    }
                }
                _ = updates.recv_many(&mut batch, UPDATES) => {
                    if let Err(error) = table.write(&mut batch).await {
                        return error;
                    }
                }
            }
        }
    }
}

/// The topic, as its owner knows it.
struct Table<'o> {
    of: &'o Objects,
    store: Store,
    topic: Arc<str>,
    partitions: u32,
    known: Known,
}

impl<'o> Table<'o> {
    async fn open(of: &'o Objects) -> Result<Self, BusError> {
        let (store, _) = Store::open(&*of.bus, &of.topics, &of.cluster, STREAM).await?;
        let topic: Arc<str> = of.topics.objects().into();
        let partitions = of.bus.producer().await?.partitions(&topic).await?;
        let mut known = Known::default();
        read_all(&*of.bus, ReaderConfig::new([Arc::clone(&topic)]), |record| {
            let Some(Ok(key)) = record.key.as_deref().map(ObjectKey::parse) else { return };
            if *key.cluster != *of.cluster.name {
                return;
            }
            let uid = Uid::new(key.uid);
            match record.value.as_deref().map(Object::decode) {
                Some(Ok(object)) => known.insert(key.kind, uid, fingerprint(object)),
                // What cannot be read is written again.
                Some(Err(_)) => known.insert(key.kind, uid, 0),
                None => known.remove(key.kind, &uid),
            };
        })
        .await?;
        tracing::info!(cluster = &*of.cluster.name, objects = known.len(), "objects: what is on the topic is known");
        Ok(Self { of, store, topic, partitions, known })
    }

    /// Writes what differs from what is on the topic.
    async fn write(&mut self, updates: &mut Vec<Update>) -> Result<(), BusError> {
        let now_ms = now_ms();
        let mut records = Vec::new();
        for update in updates.drain(..) {
            match update {
                Update::Applied(object) => {
                    let (kind, uid) = (object.kind, Uid::new(&object.uid));
                    let Ok(value) = object.encode() else { continue };
                    if self.known.insert(kind, uid.clone(), fingerprint(*object)) {
                        records.extend(self.record(kind, &uid, Some(value), now_ms));
                    }
                }
                Update::Deleted { kind, uid } => {
                    if self.known.remove(kind, &uid) {
                        records.extend(self.record(kind, &uid, None, now_ms));
                    }
                }
                Update::Listed { kind, uids } => {
                    for uid in self.known.missing(kind, &uids) {
                        self.known.remove(kind, &uid);
                        records.extend(self.record(kind, &uid, None, now_ms));
                    }
                }
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        let (items, bytes) = (records.len() as u64, records.iter().map(Record::size).sum::<usize>() as u64);
        self.store.commit(records, None, now_ms).await?;
        let (labels, metrics) = (ComponentLabels { component: NAME, signal: STREAM }, &self.of.board.metrics);
        metrics.accepted_items.get_or_create(&labels).inc_by(items);
        metrics.accepted_bytes.get_or_create(&labels).inc_by(bytes);
        Ok(())
    }

    /// A value, or a tombstone. `None` for what cannot have a key.
    fn record(&self, kind: Kind, uid: &Uid, value: Option<Vec<u8>>, now_ms: i64) -> Option<Record> {
        let (cluster, uid) = (&*self.of.cluster.name, uid.to_string());
        let key = ObjectKey::new(cluster, kind, &uid).ok()?.to_string();
        let mut headers = Headers::new();
        headers.push(HEADER_CLUSTER, Bytes::copy_from_slice(cluster.as_bytes()));
        let partition = java_partition(key.as_bytes(), self.partitions);
        let to = PartitionId { topic: Arc::clone(&self.topic), partition };
        Some(Record { to, key: Some(key.into()), value: value.map(Bytes::from), timestamp_ms: now_ms, headers })
    }
}

/// A number for all that counts of an object: its resource version changes with things that nobody asks for.
fn fingerprint(mut object: Object) -> u64 {
    object.resource_version.clear();
    object.encode().map_or(0, |value| hash(&value))
}
