//! The table that the records of the objects topic make.

mod cluster;
mod encode;
mod pod;

use std::collections::HashMap;
use std::mem::size_of;
use std::net::IpAddr;
use std::sync::Arc;

use afflux_schemas::objects::{Kind, Object, ObjectError, ObjectKey};

use super::config::{EnrichConfig, InvalidEnrich, Selection};
use super::strings::{Strings, map_bytes, shared_bytes};
use cluster::Cluster;
use pod::Pod;

/// Pods of all clusters, by uid, address and name, with what is known of their owners, namespaces and nodes.
///
/// Of each object only what can become an attribute is kept. What a pod adds is put together when it is first asked
/// for, and again after a record that changes it.
#[derive(Debug)]
pub struct Table {
    selection: Selection,
    strings: Strings,
    clusters: HashMap<Arc<str>, Cluster>,
}

/// What a record did to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// An object came, or came with other content.
    Put,
    /// An object went.
    Removed,
    /// Nothing that the table keeps is different.
    Same,
    /// It is of a kind that this version does not know.
    Unknown,
}

impl Table {
    /// An empty table.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn new(config: &EnrichConfig) -> Result<Self, InvalidEnrich> {
        let selection = Selection::new(config)?;
        Ok(Self { selection, strings: Strings::default(), clusters: HashMap::new() })
    }

    /// Takes in a record: an object's content, or without a value, its deletion.
    ///
    /// # Errors
    /// The record is no object's; the table is as it was.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Change, ObjectError> {
        let key = match ObjectKey::parse(key) {
            Ok(key) => key,
            Err(ObjectError::Kind { .. }) => return Ok(Change::Unknown),
            Err(error) => return Err(error),
        };
        let Some(value) = value else { return Ok(self.remove(&key)) };
        let object = Object::decode_for(&key, value)?;
        if !self.clusters.contains_key(key.cluster) {
            self.clusters.insert(key.cluster.into(), Cluster::default());
        }
        let Some(cluster) = self.clusters.get_mut(key.cluster) else { return Ok(Change::Same) };
        let changed = cluster.put(&object, &self.selection, &mut self.strings);
        self.forget_if_empty(key.cluster);
        Ok(if changed { Change::Put } else { Change::Same })
    }

    fn remove(&mut self, key: &ObjectKey<'_>) -> Change {
        let removed = self.clusters.get_mut(key.cluster).is_some_and(|cluster| match key.kind {
            Kind::Pod => cluster.remove_pod(key.uid),
            Kind::Node => cluster.remove_node(key.uid),
            Kind::Namespace => cluster.remove_namespace(key.uid),
            _ => cluster.remove_controller(key.uid),
        });
        self.forget_if_empty(key.cluster);
        if removed { Change::Removed } else { Change::Same }
    }

    fn forget_if_empty(&mut self, cluster: &str) {
        if self.clusters.get(cluster).is_some_and(Cluster::is_empty) {
            self.clusters.remove(cluster);
        }
    }

    /// An empty table that adds the same.
    pub(super) fn fresh(&self) -> Self {
        Self { selection: self.selection.clone(), strings: Strings::default(), clusters: HashMap::new() }
    }

    /// The pod of that uid.
    pub fn pod_by_uid(&self, cluster: &str, uid: &str) -> Option<PodRef<'_>> {
        self.find(cluster, |cluster| cluster.pod_by_uid(uid))
    }

    /// The one living pod that has the address; none if there are several, or if it is its node's address.
    pub fn pod_by_ip(&self, cluster: &str, ip: IpAddr) -> Option<PodRef<'_>> {
        self.find(cluster, |cluster| cluster.pod_by_ip(ip.to_canonical()))
    }

    /// The pod of that name, the youngest one if a predecessor's deletion has not been heard of yet.
    pub fn pod_by_name(&self, cluster: &str, namespace: &str, name: &str) -> Option<PodRef<'_>> {
        self.find(cluster, |cluster| cluster.pod_by_name(namespace, name))
    }

    fn find<'t>(&'t self, cluster: &str, by: impl FnOnce(&'t Cluster) -> Option<&'t Pod>) -> Option<PodRef<'t>> {
        let cluster = self.clusters.get(cluster)?;
        Some(PodRef { selection: &self.selection, cluster, pod: by(cluster)? })
    }

    /// Whether anything is known of a cluster.
    pub fn knows(&self, cluster: &str) -> bool {
        self.clusters.contains_key(cluster)
    }

    /// Names of the clusters of which anything is kept, in no order.
    pub fn clusters(&self) -> Vec<&str> {
        self.clusters.keys().map(|name| &**name).collect()
    }

    /// Number of pods.
    pub fn pods(&self) -> usize {
        self.clusters.values().map(Cluster::pods).sum()
    }

    /// Estimate of the heap that the table takes, in bytes. Looks at every object.
    pub fn heap_bytes(&self) -> usize {
        let clusters = self.clusters.iter().map(|(name, cluster)| shared_bytes(name) + cluster.heap_bytes());
        let maps = map_bytes::<(Arc<str>, Cluster)>(self.clusters.capacity());
        size_of::<Self>() + maps + self.strings.heap_bytes() + clusters.sum::<usize>()
    }
}

/// How far the clocks of those who receive telemetry may be behind those of clusters, in milliseconds.
const SKEW_MS: i64 = 10_000;

/// Addresses by which a pod can be known: not those that every host has.
pub(super) fn is_own(ip: IpAddr) -> bool {
    !ip.is_loopback() && !ip.is_unspecified()
}

/// A pod in the table.
#[derive(Clone, Copy, Debug)]
pub struct PodRef<'t> {
    selection: &'t Selection,
    cluster: &'t Cluster,
    pod: &'t Pod,
}

impl<'t> PodRef<'t> {
    /// Its uid.
    pub fn uid(&self) -> &'t str {
        &self.pod.uid
    }

    /// Its name.
    pub fn name(&self) -> &'t str {
        &self.pod.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &'t str {
        &self.pod.namespace
    }

    /// Whether it had been made at that time, milliseconds since the Unix epoch, as far as is known.
    pub fn was_there_at(&self, time_ms: i64) -> bool {
        self.pod.created_ms.is_none_or(|created| created <= time_ms.saturating_add(SKEW_MS))
    }

    /// What a resource of it gets: `attributes` fields of a `Resource` message, every key once.
    pub fn attributes(&self) -> &'t [u8] {
        self.pod.added.get_or_init(|| encode::added(self.pod, self.cluster, self.selection))
    }
}
