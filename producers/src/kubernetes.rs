//! Kubernetes as a source: the events of a cluster, and the objects that other telemetry is joined with.
//!
//! Each observation of an event is published once (D2): see [`events`]. Objects are kept as a table: see [`objects`]. One
//! replica works at a time; the bus fences whoever worked before.

mod api;
mod cluster;
pub mod config;
mod counts;
mod encode;
pub mod error;
mod event;
mod events;
mod filter;
mod health;
mod lease;
mod lookup;
mod objects;
mod progress;
mod select;
mod store;

use std::sync::Arc;
use std::time::Duration;

use afflux_runtime::{Component, ComponentError, Context};
use afflux_schemas::topics::Topics;
use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::api::{Access, Api};
use self::config::KubernetesConfig;
use self::encode::Cluster;
use self::error::InvalidKubernetes;
use self::events::Events;
use self::filter::Filter;
use self::health::Board;
use self::lease::Election;
use self::objects::Objects;

/// As in `/status`.
pub const NAME: &str = "producers.kubernetes";

/// Delays between attempts.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// The component that reads a cluster.
pub struct KubernetesSource {
    config: KubernetesConfig,
    filter: Filter,
    topics: Topics,
}

impl KubernetesSource {
    /// Reads a cluster as configured, and writes to the topics for events and objects.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn new(config: KubernetesConfig, topics: Topics) -> Result<Self, InvalidKubernetes> {
        let filter = config.validate()?;
        Ok(Self { config, filter, topics })
    }

    /// Reads until asked to stop.
    async fn work(&self, api: &Arc<Api>, board: &Arc<Board>, cluster: &Cluster, work: Work<'_>) -> Result<(), Failed> {
        let Work { context, stop } = work;
        let mut tasks = JoinSet::new();
        if self.config.events.enabled {
            let events = Events {
                api: Arc::clone(api),
                resource: Events::resource(self.config.events.api),
                config: self.config.events.clone(),
                filter: self.filter.clone(),
                cluster: cluster.clone(),
                topics: self.topics.clone(),
                bus: Arc::clone(&context.bus),
                board: Arc::clone(board),
            };
            tasks.spawn(events.run(stop.clone()));
        }
        if self.config.objects.enabled {
            let objects = Objects {
                api: Arc::clone(api),
                config: self.config.objects.clone(),
                cluster: cluster.clone(),
                topics: self.topics.clone(),
                bus: Arc::clone(&context.bus),
                board: Arc::clone(board),
            };
            tasks.spawn(objects.run(stop.clone()));
        }
        // Only an unusable bus, or a defect, ends one of them before it is asked to.
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => return Err(Box::new(error)),
                },
            }
        }
        Ok(())
    }
}

/// What work goes on with.
struct Work<'w> {
    context: &'w Context,
    stop: &'w CancellationToken,
}

/// Why the component cannot go on.
type Failed = Box<dyn std::error::Error + Send + Sync>;

#[async_trait]
impl Component for KubernetesSource {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn run(self: Box<Self>, context: Context) -> Result<(), ComponentError> {
        let fail = |error: Failed| ComponentError::new(NAME, error);
        let name: Arc<str> = self.config.cluster.as_str().into();
        let board = Arc::new(Board::new(&name, context.health.clone(), Arc::clone(&context.metrics)));
        let access = Access { kubeconfig: self.config.kubeconfig.clone(), context: self.config.context.clone() };
        let api = Arc::new(Api::new(access));
        api.connect().await.map_err(|error| fail(error.into()))?;
        let stop = &context.shutdown;
        let Some(cluster) = cluster::identify(&api, &name, &board, stop).await else { return Ok(()) };
        if !self.config.leader_election.enabled {
            let work = Work { context: &context, stop };
            return self.work(&api, &board, &cluster, work).await.map_err(fail);
        }
        let election = Election::new(&api, &board, &self.config.leader_election).await;
        let mut election = election.map_err(|error| fail(error.into()))?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = election.win() => {}
            }
            let term = stop.child_token();
            let work = self.work(&api, &board, &cluster, Work { context: &context, stop: &term });
            tokio::pin!(work);
            tokio::select! {
                done = &mut work => {
                    election.release().await;
                    return done.map_err(fail);
                }
                () = election.hold() => {
                    term.cancel();
                    work.await.map_err(fail)?;
                }
            }
        }
    }
}
