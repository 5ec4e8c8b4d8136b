//! Reads one source: polls, publishes, commits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{
    Bus, BusError, Consumer, ConsumerConfig, ErrorClass, Event, Generation, Offset, PartitionId, PartitionLag, Received,
};
use afflux_runtime::metrics::{PartitionLabels, ReasonLabels, SourceLabels};
use afflux_runtime::{Backoff, Context, Metrics};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::config::SourceConfig;
use super::copy::Routes;
use super::health::Board;
use super::publish::{Published, Publisher};
use super::{Connect, KafkaSources};

/// Delays between attempts.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(100);
pub(super) const LAST_RETRY: Duration = Duration::from_secs(10);
/// How often a source is asked how much there is left to copy, which also shows whether it is there.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How long a source may take to be left. It may be away.
const LEAVE: Duration = Duration::from_secs(5);

/// The task of one source.
pub(super) struct Source {
    config: SourceConfig,
    connect: Arc<dyn Connect>,
    routes: Routes,
    publisher: Publisher,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    backoff: Backoff,
}

/// Why reading came to an end.
enum End {
    /// The process is asked to stop.
    Stopped,
    /// The source is to be connected to anew.
    Source(BusError),
    /// The bus is unusable.
    Bus(BusError),
}

impl From<BusError> for End {
    fn from(error: BusError) -> Self {
        Self::Source(error)
    }
}

impl Source {
    pub(super) fn new(
        config: SourceConfig,
        connect: Arc<dyn Connect>,
        routes: Routes,
        publisher: Publisher,
        board: Arc<Board>,
        context: &Context,
    ) -> Self {
        let (metrics, shutdown) = (Arc::clone(&context.metrics), context.shutdown.clone());
        let backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        Self { config, connect, routes, publisher, board, metrics, shutdown, backoff }
    }

    /// Reads until shutdown. Whatever is wrong at the source is waited for; an unusable bus is an error.
    pub(super) async fn run(mut self) -> Result<(), BusError> {
        loop {
            match self.connected().await {
                End::Stopped => return Ok(()),
                End::Bus(error) => return Err(error),
                End::Source(error) => self.wait_after(&error).await,
            }
        }
    }

    /// Notes that the source is away, and waits before it is asked again.
    async fn wait_after(&mut self, error: &BusError) {
        tracing::warn!(%error, source = self.config.name, "source does not answer; retrying");
        self.board.source_failed(&self.config.name, &error.to_string());
        self.metrics.retries.get_or_create(&ReasonLabels { component: KafkaSources::NAME, reason: "source" }).inc();
        let after = match error.class() {
            ErrorClass::Transient(after) => after,
            // A missing topic may be created, a refused password corrected, at any time.
            ErrorClass::Permanent | ErrorClass::Fatal => None,
        };
        tokio::select! {
            () = self.backoff.wait(after) => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    async fn connected(&mut self) -> End {
        let shutdown = self.shutdown.clone();
        let bus = tokio::select! {
            () = shutdown.cancelled() => return End::Stopped,
            connected = self.connect.connect() => match connected {
                Ok(bus) => bus,
                Err(error) => return End::Source(error),
            },
        };
        let end = match self.join(&*bus).await {
            Ok(mut consumer) => {
                let end = self.read(&mut *consumer, &*bus).await;
                let _ = timeout(LEAVE, consumer.close()).await;
                end
            }
            Err(error) => End::Source(error),
        };
        let _ = timeout(LEAVE, bus.close()).await;
        end
    }

    async fn join(&self, bus: &dyn Bus) -> Result<Box<dyn Consumer>, BusError> {
        let mut config = ConsumerConfig::new(self.config.group.as_str(), self.routes.sources());
        config.fetch_bytes = self.config.fetch_bytes;
        bus.consumer(config).await.map_err(|error| match error {
            BusError::UnknownTopic { topic } => BusError::Other {
                what: "joining a group at the source",
                reason: format!("topic {topic} does not exist there; create it there, or see `prefix` of the source"),
                class: ErrorClass::Transient(None),
            },
            error => error,
        })
    }

    async fn read(&mut self, consumer: &mut dyn Consumer, bus: &dyn Bus) -> End {
        let shutdown = self.shutdown.clone();
        let mut ask = interval(ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What was read is copied and committed before anything else is looked at.
            let event = tokio::select! {
                () = shutdown.cancelled() => return End::Stopped,
                _ = ask.tick() => {
                    self.ask(bus).await;
                    continue;
                }
                event = consumer.poll() => event,
            };
            let handled = match event {
                Ok(event) => self.handle(consumer, event).await,
                Err(error) if matches!(error.class(), ErrorClass::Transient(_)) => {
                    self.wait_after(&error).await;
                    Ok(())
                }
                Err(error) => Err(error.into()),
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    async fn ask(&self, bus: &dyn Bus) {
        match bus.lag(&self.config.group, &self.routes.sources()).await {
            Ok(lag) => {
                let records: u64 = lag.iter().map(PartitionLag::records).sum();
                let records = i64::try_from(records).unwrap_or(i64::MAX);
                self.metrics.source_lag_records.get_or_create(&self.labels()).set(records);
                self.board.source_works(&self.config.name);
            }
            Err(error) => self.board.source_failed(&self.config.name, &error.to_string()),
        }
    }

    async fn handle(&mut self, consumer: &mut dyn Consumer, event: Event) -> Result<(), End> {
        self.backoff.reset();
        match event {
            Event::Records(records) => self.copy(consumer, records).await,
            Event::Assigned(assignments) => {
                for assignment in assignments {
                    let (partition, position) = (assignment.partition, assignment.position);
                    tracing::info!(source = self.config.name, %partition, position, "partition assigned");
                }
                Ok(())
            }
            // Whatever was read is committed already.
            Event::Revoked(partitions) => {
                tracing::info!(source = self.config.name, partitions = partitions.len(), "partitions revoked");
                Ok(())
            }
            Event::Expired { partition, records } => {
                tracing::warn!(source = self.config.name, %partition, records, "retention was faster than copying");
                let labels = PartitionLabels::new(KafkaSources::NAME, &partition);
                self.metrics.expired_records.get_or_create(&labels).inc_by(records);
                Ok(())
            }
        }
    }

    /// Publishes what was read, then commits it: never the other way round.
    async fn copy(&mut self, consumer: &mut dyn Consumer, records: Vec<Received>) -> Result<(), End> {
        let (count, bytes) = (records.len() as u64, records.iter().map(Received::size).sum::<usize>() as u64);
        let mut next: BTreeMap<PartitionId, (Generation, u64)> = BTreeMap::new();
        for record in &records {
            next.insert(record.from.clone(), (record.generation, record.offset + 1));
        }
        let copies = records.into_iter().filter_map(|record| self.routes.copy(record)).collect();
        match self.publisher.publish(copies).await {
            Ok(Published::All) => {}
            Ok(Published::Stopped) => return Err(End::Stopped),
            Err(error) => return Err(End::Bus(error)),
        }
        self.metrics.copied_records.get_or_create(&self.labels()).inc_by(count);
        self.metrics.copied_bytes.get_or_create(&self.labels()).inc_by(bytes);
        let offset = |(partition, (generation, next))| Offset { partition, generation, next };
        self.commit(consumer, &next.into_iter().map(offset).collect::<Vec<_>>()).await
    }

    /// Commits at the source, which may be away by now.
    async fn commit(&mut self, consumer: &mut dyn Consumer, offsets: &[Offset]) -> Result<(), End> {
        loop {
            let error = match consumer.commit(offsets).await {
                Ok(()) => {
                    self.board.source_works(&self.config.name);
                    return Ok(());
                }
                // Whoever has the partitions now copies these records again.
                Err(error @ BusError::Fenced { .. }) => {
                    tracing::warn!(%error, source = self.config.name, "offsets not committed; some is copied again");
                    return Ok(());
                }
                Err(error) => error,
            };
            if !matches!(error.class(), ErrorClass::Transient(_)) {
                return Err(error.into());
            }
            self.wait_after(&error).await;
            if self.shutdown.is_cancelled() {
                return Err(End::Stopped);
            }
        }
    }

    fn labels(&self) -> SourceLabels {
        SourceLabels { component: KafkaSources::NAME, source: self.config.name.clone() }
    }
}
