//! Copies the ingest topics of other Kafka clusters, its sources, to those of the bus.
//!
//! No transaction spans two Kafka clusters, so the promise is *at least once*: an offset is committed at the source
//! only after the bus has acknowledged the copy. Each copy carries its origin
//! ([`HEADER_ORIGIN`](afflux_schemas::topics::HEADER_ORIGIN)), by which a second one is known. Within a partition copies
//! keep their order; after an interruption it begins again at an earlier record.
//!
//! Every source is a task of its own. One that is away or slow holds up neither the others nor the process.

pub mod config;
mod copy;
pub mod error;
mod health;
mod publish;
mod source;

use std::sync::Arc;

use afflux_bus::{Bus, BusError, ErrorClass, Producer};
use afflux_runtime::{Backoff, Component, ComponentError, Context};
use afflux_schemas::topics::Topics;
use async_trait::async_trait;
use tokio::task::JoinSet;

use self::config::SourceConfig;
use self::copy::Routes;
use self::error::InvalidSource;
use self::health::Board;
use self::publish::{Publisher, To};
use self::source::Source;

/// How a source is reached.
#[async_trait]
pub trait Connect: Send + Sync {
    /// Connects to it, one attempt.
    async fn connect(&self) -> Result<Arc<dyn Bus>, BusError>;
}

/// A source, and how it is reached.
pub type Reachable = (SourceConfig, Arc<dyn Connect>);

/// The component that reads every source.
pub struct KafkaSources {
    sources: Vec<Reachable>,
    topics: Topics,
}

impl KafkaSources {
    /// As in `/status`.
    pub const NAME: &str = "producers.kafka";

    /// Copies those sources to the ingest topics among `topics`.
    ///
    /// # Errors
    /// Names the source and the key at fault.
    pub fn new(sources: Vec<Reachable>, topics: Topics) -> Result<Self, InvalidSource> {
        config::validate(sources.iter().map(|(config, _)| config))?;
        Ok(Self { sources, topics })
    }

    /// The topics of the bus; waits for one that is away.
    async fn destination(&self, context: &Context, board: &Board) -> Result<Option<To>, BusError> {
        let mut backoff = Backoff::new(source::FIRST_RETRY, source::LAST_RETRY);
        loop {
            let error = match self.try_destination(context).await {
                Ok(to) => return Ok(Some(to)),
                Err(error) => error,
            };
            let ErrorClass::Transient(after) = error.class() else { return Err(error) };
            board.bus_failed("", &error.to_string());
            tokio::select! {
                () = backoff.wait(after) => {}
                () = context.shutdown.cancelled() => return Ok(None),
            }
        }
    }

    async fn try_destination(&self, context: &Context) -> Result<To, BusError> {
        let producer: Arc<dyn Producer> = context.bus.producer().await?;
        let at = |topic: String| {
            let producer = &producer;
            async move { Ok::<_, BusError>((Arc::from(topic.as_str()), producer.partitions(&topic).await?)) }
        };
        let [spans, logs, events, objects] = copy::copied(&self.topics);
        let topics = [at(spans).await?, at(logs).await?, at(events).await?, at(objects).await?];
        let dead_letters = at(self.topics.dead_letters()).await?;
        Ok(To { topics, dead_letters, producer })
    }
}

#[async_trait]
impl Component for KafkaSources {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn run(self: Box<Self>, context: Context) -> Result<(), ComponentError> {
        let fail = |error: BusError| ComponentError::new(Self::NAME, error);
        let names = self.sources.iter().map(|(config, _)| config.name.as_str());
        let board = Arc::new(Board::new(names, context.health.clone(), Arc::clone(&context.metrics)));
        let Some(to) = self.destination(&context, &board).await.map_err(fail)? else { return Ok(()) };
        board.bus_works("");
        let mut tasks = JoinSet::new();
        for (config, connect) in self.sources {
            let routes = Routes::new(&config, &to);
            let publisher = Publisher::new(config.name.clone(), to.clone(), Arc::clone(&board), &context);
            let source = Source::new(config, connect, routes, publisher, Arc::clone(&board), &context);
            tasks.spawn(source.run());
        }
        // Only an unusable bus, or a defect, ends a source before it is asked to.
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(result) => result.map_err(fail)?,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => return Err(ComponentError::new(Self::NAME, error)),
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
