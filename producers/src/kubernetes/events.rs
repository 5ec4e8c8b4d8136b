//! The events of a cluster, each observation once (D2).
//!
//! What a watch or a list brings and how far that goes are one transaction. Whoever takes the transactional id over ends
//! every former owner first, then reads how far they came; so restarts, changes of the leader and a bus that was away are
//! one and the same: begin at the checkpoint.

mod batch;
mod list;
mod session;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{Bus, BusError, ErrorClass};
use afflux_runtime::Backoff;
use afflux_runtime::dead_letter::now_ms;
use afflux_schemas::topics::Topics;
use tokio_util::sync::CancellationToken;

use self::session::{End, Session};
use super::api::{Api, Resource};
use super::config::{EventsApi, EventsConfig};
use super::counts::Counts;
use super::encode::{Cluster, Target};
use super::filter::Filter;
use super::health::Board;
use super::lookup::Lookup;
use super::progress::Progress;
use super::store::Store;
use super::{FIRST_RETRY, LAST_RETRY};

/// Name of the stream.
pub(super) const STREAM: &str = "events";

/// What reads the events of one cluster.
pub(super) struct Events {
    pub(super) api: Arc<Api>,
    pub(super) resource: Resource,
    pub(super) config: EventsConfig,
    pub(super) filter: Filter,
    pub(super) cluster: Cluster,
    pub(super) topics: Topics,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) board: Arc<Board>,
}

impl Events {
    /// Where a group has its events.
    pub(super) fn resource(api: EventsApi) -> Resource {
        match api {
            EventsApi::Core => Resource::new("", "v1", "events"),
            EventsApi::Events => Resource::new("events.k8s.io", "v1", "events"),
        }
    }

    /// Reads until asked to stop.
    ///
    /// # Errors
    /// The bus is unusable.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), BusError> {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        // What the bus has refused for its size; some topics allow less than it does.
        let mut most_bytes = usize::MAX;
        loop {
            let error = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                error = self.session(&mut backoff, most_bytes) => error,
            };
            let after = match error.class() {
                // Another one has taken the stream over. Whoever takes it back at once keeps both from their work.
                _ if matches!(error, BusError::Fenced { .. }) => Some(LAST_RETRY),
                ErrorClass::Transient(after) => after,
                ErrorClass::Permanent => {
                    if let BusError::TooLarge { size, limit, .. } = &error {
                        most_bytes = most_bytes.min((*limit).min(size.saturating_sub(1)));
                    }
                    None
                }
                ErrorClass::Fatal => return Err(error),
            };
            self.board.bus_failed(STREAM, &error.to_string());
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = backoff.wait(after) => {}
            }
        }
    }

    /// From the checkpoint on, until the bus has something against it.
    async fn session(&self, backoff: &mut Backoff, most_bytes: usize) -> BusError {
        match self.open(most_bytes).await {
            Ok(mut session) => {
                self.board.bus_works(STREAM);
                let End(error) = session.work().await;
                if session.committed {
                    backoff.reset();
                }
                error
            }
            Err(error) => error,
        }
    }

    async fn open(&self, most_bytes: usize) -> Result<Session<'_>, BusError> {
        let (store, checkpoint) = Store::open(&*self.bus, &self.topics, &self.cluster, STREAM).await?;
        let damaged =
            |reason: String| BusError::Other { what: "reading a checkpoint", reason, class: ErrorClass::Fatal };
        let progress = checkpoint.map(|value| Progress::decode(&value, now_ms())).transpose().map_err(damaged)?;
        let progress = progress.unwrap_or_default();
        let producer = self.bus.producer().await?;
        let (topic, dead_letters) = (self.topics.ingest_events(), self.topics.dead_letters());
        let target = Target {
            cluster: self.cluster.clone(),
            partitions: producer.partitions(&topic).await?,
            topic: topic.into(),
        };
        let dead_partitions = producer.partitions(&dead_letters).await?;
        tracing::info!(
            cluster = &*self.cluster.name,
            cluster_uid = &*self.cluster.uid,
            resource_version = progress.floor().unwrap_or("none"),
            "events: going on at the checkpoint"
        );
        Ok(Session {
            counts: Counts::new(progress.floor().is_none()),
            of: self,
            store,
            progress,
            target,
            dead_letters: (dead_letters.into(), dead_partitions),
            most_bytes: most_bytes.min(producer.max_record_bytes()),
            lookup: Lookup::default(),
            batch: batch::Batch::default(),
            empty: 0,
            opened_ms: now_ms(),
            committed: false,
            written: tokio::time::Instant::now(),
            unwritten: false,
        })
    }
}

/// How long nothing but bookmarks comes before they are written down.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
