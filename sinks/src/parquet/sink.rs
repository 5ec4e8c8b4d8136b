//! The component: joins the group, hands records to the writers of partitions, and keeps memory in bounds.

mod session;

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{Bus, BusError, Consumer, ConsumerConfig, ErrorClass};
use afflux_runtime::admin::State;
use afflux_runtime::metrics::ReasonLabels;
use afflux_runtime::{Backoff, Component, ComponentError, Context, Subscription, metered};
use afflux_schemas::topics::Topics;
use async_trait::async_trait;
use object_store::path::Path;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use self::session::{Ended, Session};
use super::NAME;
use super::clock::Clock;
use super::config::ParquetConfig;
use super::error::ParquetError;
use super::table::Table;
use super::transport::{self, Store};
use super::writer::Shared;

/// How long the bus waits for ranges to be written out when partitions are taken away.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests to the store at once.
const REQUESTS: usize = 32;
/// First and longest wait before the group is joined again.
const REJOIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Memberships without a commit in a row before that is shown.
const PATIENCE: u32 = 3;
/// How long uploads that were given up may take to be aborted at the end.
const ABORTS_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes the topics `spans` and `logs` as Parquet files.
pub struct ParquetSink {
    config: ParquetConfig,
    topics: Topics,
    store: Option<(Arc<dyn Store>, Path)>,
    clock: Clock,
}

impl ParquetSink {
    /// A sink for the topics of a prefix. Fails where the configuration is wrong, without I/O.
    pub fn new(config: ParquetConfig, topics: Topics) -> Result<Self, ParquetError> {
        config.validate()?;
        Ok(Self { config, topics, store: None, clock: Clock::system() })
    }

    /// Writes to this store, below a base, instead of the one that the URL names.
    pub fn with_store(mut self, store: Arc<dyn Store>, base: Path) -> Self {
        self.store = Some((store, base));
        self
    }

    /// Reads wall time here.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    async fn open(&mut self) -> Result<(Arc<dyn Store>, Path), ParquetError> {
        if let Some(store) = self.store.take() {
            return Ok(store);
        }
        let config = self.config.clone();
        // A local directory is created and swept here.
        let opening = tokio::task::spawn_blocking(move || transport::open(&config));
        opening.await.map_err(|error| ParquetError::Client { reason: error.to_string() })?
    }

    async fn shared(&mut self, context: &Context) -> Result<Arc<Shared>, ParquetError> {
        let (store, base) = self.open().await?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(Shared {
            config: self.config.clone(),
            store,
            base,
            clock: self.clock.clone(),
            metrics: Arc::clone(&context.metrics),
            producer: context.bus.producer().await?,
            dead_letters: self.topics.dead_letters(),
            encoders: Semaphore::new(cores),
            requests: Semaphore::new(REQUESTS),
            tasks: TaskTracker::new(),
        }))
    }

    async fn run(mut self, context: &Context) -> Result<(), ParquetError> {
        context.health.set(State::Starting("opening the store".into()));
        let shared = self.shared(context).await?;
        let mut pace = Backoff::new(REJOIN.0, REJOIN.1);
        let mut fruitless = 0;
        while !context.shutdown.is_cancelled() {
            let Some(consumer) = self.join(&shared, context, &mut pace).await? else { break };
            if fruitless < PATIENCE {
                context.health.set(State::Ready);
            }
            let session = Session::new(consumer, Arc::clone(&shared), &self.topics, context);
            match session.run().await? {
                Ended::Drained => break,
                Ended::Rejoin { reason, progress } => {
                    tracing::info!(reason, "joining the group again to read from the committed positions");
                    fruitless = if progress { 0 } else { fruitless + 1 };
                    if progress {
                        pace.reset();
                    } else if fruitless >= PATIENCE {
                        let problem = format!("joined the group {fruitless} times without a commit, last for {reason}");
                        context.health.set(State::Failing(problem));
                    }
                    wait(context, pace.next(None)).await;
                }
            }
        }
        shared.tasks.close();
        let _ = tokio::time::timeout(ABORTS_TIMEOUT, shared.tasks.wait()).await;
        Ok(())
    }

    /// Joins the group, for as long as it takes; `None` if the process is to stop before.
    async fn join(
        &self,
        shared: &Shared,
        context: &Context,
        pace: &mut Backoff,
    ) -> Result<Option<Box<dyn Consumer>>, ParquetError> {
        loop {
            match consumer(&*context.bus, &shared.config, &self.topics).await {
                Ok(consumer) => return Ok(Some(metered(consumer, NAME, &context.metrics))),
                Err(error) if error.class() == ErrorClass::Fatal => return Err(error.into()),
                Err(error) => {
                    let labels = ReasonLabels { component: NAME, reason: "join" };
                    shared.metrics.retries.get_or_create(&labels).inc();
                    tracing::warn!(%error, "cannot join the group, trying again");
                    context.health.set(State::Failing(error.to_string()));
                    wait(context, pace.next(None)).await;
                }
            }
            if context.shutdown.is_cancelled() {
                return Ok(None);
            }
        }
    }
}

async fn consumer(bus: &dyn Bus, config: &ParquetConfig, topics: &Topics) -> Result<Box<dyn Consumer>, BusError> {
    let names = Table::ALL.map(|table| table.topic(topics).into());
    let group = ConsumerConfig::new(config.group.as_str(), names);
    // What one poll may bring has to fit into the budget several times.
    let fetch_bytes = group.fetch_bytes.min(config.in_flight.as_usize() / 8);
    let instance = config.instance_id.as_deref().map(Into::into);
    bus.consumer(ConsumerConfig { fetch_bytes, revoke_timeout: REVOKE_TIMEOUT, instance, ..group }).await
}

/// Waits, but not longer than the process is to run.
async fn wait(context: &Context, delay: Duration) {
    tokio::select! {
        () = context.shutdown.cancelled() => {}
        () = tokio::time::sleep(delay) => {}
    }
}

#[async_trait]
impl Component for ParquetSink {
    fn name(&self) -> &'static str {
        NAME
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        let topics = Table::ALL.map(|table| table.topic(&self.topics).into()).into();
        vec![Subscription { group: self.config.group.as_str().into(), topics }]
    }

    async fn run(self: Box<Self>, context: Context) -> Result<(), ComponentError> {
        let result = ParquetSink::run(*self, &context).await;
        if result.is_ok() {
            context.health.set(State::Stopped);
        }
        result.map_err(|error| ComponentError::new(NAME, error))
    }
}
