//! Enrichment: what Kubernetes knows of the pod that a resource comes from.
//!
//! [`Table`] is made of the records of the objects topic, and a pure function of those that it has been given last
//! under each key: in whichever order they came, lookups give the same. [`Join`] is how a resource finds its pod.
//! Attributes are only ever added: what the sender says itself stays as it is.
//!
//! Rather no pod than a wrong one: an address that several living pods have belongs to none of them, pods in their node's
//! network are not known by address, and a pod that contradicts what a resource says of uid, namespace or name is not
//! its pod.

mod config;
pub(crate) mod gate;
mod join;
mod objects;
mod step;
mod strings;
mod table;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use afflux_schemas::objects::ObjectError;
use afflux_schemas::otlp::block::ResourceBlock;
use afflux_schemas::otlp::rewrite;
use afflux_schemas::wire::Repeated;
use bytes::Bytes;

pub use config::{EnrichConfig, InvalidEnrich, JoinKey};
pub use join::{Join, add_absent, find};
pub use step::{Enrich, NAME};
pub use table::{Change, PodRef, Table};

/// A table, and how resources are joined with it.
#[derive(Debug)]
pub struct Enricher {
    table: Table,
    join_by: Vec<JoinKey>,
}

/// An enricher that one fills and others look things up in.
#[derive(Clone, Debug)]
pub struct Shared(Arc<RwLock<Enricher>>);

impl Shared {
    /// An empty table that can be shared.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn new(config: &EnrichConfig) -> Result<Self, InvalidEnrich> {
        Ok(Self(Arc::new(RwLock::new(Enricher::new(config)?))))
    }

    /// For looking things up.
    pub fn read(&self) -> RwLockReadGuard<'_, Enricher> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For filling the table.
    pub fn write(&self) -> RwLockWriteGuard<'_, Enricher> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of the resources of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joins {
    /// Resources whose pod was found.
    pub joined: u64,
    /// Resources that name no pod.
    pub no_key: u64,
    /// Resources whose pod the table does not have.
    pub missing: u64,
}

impl Enricher {
    /// An empty table.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn new(config: &EnrichConfig) -> Result<Self, InvalidEnrich> {
        Ok(Self { table: Table::new(config)?, join_by: config.join_by.clone() })
    }

    /// The same without anything known.
    fn fresh(&self) -> Self {
        Self { table: self.table.fresh(), join_by: self.join_by.clone() }
    }

    /// Takes in a record of the objects topic; see [`Table::apply`].
    ///
    /// # Errors
    /// As [`Table::apply`].
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Change, ObjectError> {
        self.table.apply(key, value)
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Hands on the bytes of each resource of a request of either signal whose pod the table does not have and may yet
    /// get: nothing comes of clusters of which nothing is known.
    pub fn missing(&self, (cluster, time_ms): (&str, i64), request: &Bytes, mut take: impl FnMut(&[u8])) {
        if !self.table.knows(cluster) {
            return;
        }
        for block in Repeated::<ResourceBlock<'_, &[u8]>>::new(request, 1) {
            let resource = block.resource();
            if matches!(find(&self.table, &self.join_by, (cluster, time_ms), resource), Join::Missing) {
                take(resource.raw());
            }
        }
    }

    /// Adds to each resource, received at `time_ms`, of a valid, canonical request of either signal what is known of its pod.
    ///
    /// The same [`Bytes`] come back where there is nothing to add.
    pub fn enrich(&self, (cluster, time_ms): (&str, i64), request: &Bytes) -> (Bytes, Joins) {
        let mut joins = Joins::default();
        let value = rewrite::resources(request, |resource, out| {
            match find(&self.table, &self.join_by, (cluster, time_ms), resource) {
                Join::Joined(pod) => {
                    joins.joined += 1;
                    return add_absent(resource, pod.attributes(), out);
                }
                Join::NoKey => joins.no_key += 1,
                Join::Missing => joins.missing += 1,
            }
            false
        });
        (value, joins)
    }
}
