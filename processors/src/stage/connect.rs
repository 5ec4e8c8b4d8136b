//! From the configuration to a stage that reads.

use afflux_bus::{BusError, Consumer, ConsumerConfig, ErrorClass};
use afflux_runtime::admin::State;
use afflux_runtime::followed::Followed;
use afflux_runtime::{Backoff, Context, Signal, metered};
use tokio::time::sleep;

use super::{DRAIN_LIMIT, FIRST_RETRY, LAST_RETRY, NAME, ProcessorStage, default_transactional_id};
use crate::derive::Derived;
use crate::enrich::gate::Gate;
use crate::merge::{Merger, OutputTopics};
use crate::steps::{self, Chains, InvalidChain};
use crate::work::{DeadLetters, Path, Work};

/// A stage that reads.
pub(super) struct Connected {
    pub(super) consumer: Box<dyn Consumer>,
    pub(super) work: Work,
    /// The table of objects, which is followed as long as this is kept.
    pub(super) objects: Option<Followed>,
}

impl ProcessorStage {
    fn consumer_config(&self) -> ConsumerConfig {
        let (group, topics) = self.group();
        let transactional_id = self.config.transactional_id.clone().unwrap_or_else(|| default_transactional_id(&group));
        let mut config = ConsumerConfig::new(group, topics);
        config.transactional_id = Some(transactional_id.into());
        config.instance = self.config.instance_id.as_deref().map(Into::into);
        config.fetch_bytes = self.config.commit.bytes.as_usize();
        config
    }

    /// The usual advice does not help with topics of others.
    fn explained(&self, error: BusError) -> BusError {
        match error {
            BusError::UnknownTopic { topic } if self.config.ingest.iter().any(|of_others| of_others.topic == topic) => {
                BusError::Config(format!(
                    "topic {topic} of `processors.ingest` does not exist, and afflux does not create topics of others; \
                     create it, or take it from the list"
                ))
            }
            error => error,
        }
    }

    /// Connects; waits for a bus that is down.
    pub(super) async fn connect(&self, context: &Context) -> Result<Connected, BusError> {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let error = match self.try_connect(context).await {
                Ok(connected) => return Ok(connected),
                Err(error) => error,
            };
            let ErrorClass::Transient(after) = error.class() else { return Err(error) };
            context.health.set(State::Starting(error.to_string()));
            tokio::select! {
                () = sleep(backoff.next(after)) => {}
                () = context.shutdown.cancelled() => return Err(BusError::Closed),
            }
        }
    }

    async fn try_connect(&self, context: &Context) -> Result<Connected, BusError> {
        let producer = context.bus.producer().await?;
        let invalid = |error: InvalidChain| BusError::Config(error.to_string());
        let Chains { spans, logs, events, objects } = steps::chains(&self.config).map_err(invalid)?;
        let path = |signal, partitions, chain| Path { signal, partitions, chain };
        let (outputs, dead_letters) = (OutputTopics::of(&self.topics), self.topics.dead_letters());
        let paths = [
            path(Signal::Spans, producer.partitions(&outputs.spans).await?, spans),
            path(Signal::Logs, producer.partitions(&outputs.logs).await?, logs),
            path(Signal::Events, producer.partitions(&outputs.events).await?, events),
        ];
        let partitions = producer.partitions(&dead_letters).await?;
        let dead_letters = DeadLetters { topic: dead_letters.into(), partitions };
        let largest = producer.max_record_bytes();
        let merger = Merger::new(outputs, largest);
        let metrics = self.topics.metrics();
        let derived = Derived::new(metrics.as_str().into(), producer.partitions(&metrics).await?, largest);
        let horizon = paths.iter().map(|path| path.chain.horizon()).max().filter(|horizon| !horizon.is_zero());
        let (cluster, metrics) = (self.cluster.clone(), context.metrics.clone());
        let work = Work::new(self.sources(), paths, (merger, derived), dead_letters, cluster, metrics);
        let gate = objects.clone().filter(|_| !self.config.enrich.grace.0.is_zero());
        let work = work.wait_at(gate.map(|objects| Gate::new(&self.config.enrich, objects)));
        // The table comes before the first record.
        let objects = match objects {
            Some(objects) => {
                // A stop that comes first still has what is on the bus processed, as a stage that reads would.
                let given_up = async {
                    context.shutdown.cancelled().await;
                    sleep(DRAIN_LIMIT).await;
                };
                let loading = Followed::load(context.bus.clone(), self.topics.objects().into(), objects);
                tokio::select! {
                    loaded = loading => Some(loaded?),
                    () = given_up => return Err(BusError::Closed),
                }
            }
            None => None,
        };
        let config = ConsumerConfig { rewind: horizon, ..self.consumer_config() };
        let consumer = context.bus.consumer(config).await.map_err(|error| self.explained(error))?;
        Ok(Connected { consumer: metered(consumer, NAME, &context.metrics), work, objects })
    }
}
