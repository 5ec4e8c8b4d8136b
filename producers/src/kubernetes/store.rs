//! The bus as a stream of one cluster sees it: one owner, and what it writes together with how far it has come.

use std::sync::Arc;

use afflux_bus::{Bus, BusError, Headers, PartitionId, ReaderConfig, ReaderEvent, Received, Record, Transactional};
use afflux_schemas::partition::java_partition;
use afflux_schemas::topics::{HEADER_CLUSTER, Topics};
use bytes::Bytes;

use super::encode::Cluster;

/// See the module.
pub(super) struct Store {
    transactional: Box<dyn Transactional>,
    checkpoint: PartitionId,
    key: Bytes,
    cluster: Arc<str>,
}

/// Transactional id of what a cluster's stream writes: the same in every replica, and of this pipeline only.
pub(super) fn transactional_id(topics: &Topics, cluster: &Cluster, stream: &str) -> Arc<str> {
    format!("{}.kubernetes.{stream}.{}", topics.prefix(), cluster.uid).into()
}

impl Store {
    /// Takes the stream over from whoever had it, and reads how far that one has come.
    pub(super) async fn open(
        bus: &dyn Bus,
        topics: &Topics,
        cluster: &Cluster,
        stream: &str,
    ) -> Result<(Self, Option<Bytes>), BusError> {
        let topic: Arc<str> = topics.checkpoints().into();
        // First this: what is read below is then the last that anybody wrote.
        let transactional = bus.transactional(transactional_id(topics, cluster, stream)).await?;
        let partitions = bus.producer().await?.partitions(&topic).await?;
        let key = format!("kubernetes.{stream}/{}/{}", cluster.name, cluster.uid);
        let partition = java_partition(key.as_bytes(), partitions);
        let checkpoint = PartitionId { topic, partition };
        let (key, cluster) = (Bytes::from(key), Arc::clone(&cluster.name));
        let mut last = None;
        read_all(bus, ReaderConfig::at(checkpoint.clone(), 0), |record| {
            if record.key.as_ref() == Some(&key) {
                last = record.value.clone();
            }
        })
        .await?;
        Ok((Self { transactional, checkpoint, key, cluster }, last))
    }

    /// Writes the records and how far they go, all or nothing. After an error the store is of no more use.
    pub(super) async fn commit(
        &mut self,
        mut records: Vec<Record>,
        checkpoint: Option<Vec<u8>>,
        now_ms: i64,
    ) -> Result<(), BusError> {
        if let Some(value) = checkpoint {
            let mut headers = Headers::new();
            headers.push(HEADER_CLUSTER, Bytes::copy_from_slice(self.cluster.as_bytes()));
            records.push(Record {
                to: self.checkpoint.clone(),
                key: Some(self.key.clone()),
                value: Some(value.into()),
                timestamp_ms: now_ms,
                headers,
            });
        }
        self.transactional.transact(records).await
    }
}

/// Reads to the end of what is committed.
pub(super) async fn read_all(
    bus: &dyn Bus,
    config: ReaderConfig,
    mut apply: impl FnMut(&Received) + Send,
) -> Result<(), BusError> {
    let mut reader = bus.reader(config).await?;
    loop {
        match reader.next().await? {
            ReaderEvent::Records(records) => records.iter().for_each(&mut apply),
            ReaderEvent::CaughtUp(_) => {}
            ReaderEvent::Complete => return Ok(()),
        }
    }
}
