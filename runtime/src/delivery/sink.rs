//! The component: joins the group again whenever it has to.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use afflux_bus::{BusError, Consumer, ConsumerConfig, ErrorClass, Producer};
use afflux_schemas::topics::Topics;
use async_trait::async_trait;

use super::backend::Backend;
use super::config::DeliveryConfig;
use super::deliver::Deliverer;
use super::session::{Ended, REVOKE_WITHIN, Session};
use crate::admin::State;
use crate::backoff::Backoff;
use crate::component::{Component, ComponentError, Context, Subscription};
use crate::metered::metered;
use crate::metrics::{Metrics, ReasonLabels};

/// How long the bus waits for what is on its way when partitions are taken away.
const REVOKE_TIMEOUT: Duration = REVOKE_WITHIN.saturating_add(Duration::from_secs(5));
/// First and longest wait before the group is joined again.
const REJOIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A sink: hands what lies on the bus over to a backend.
pub struct Delivery<B> {
    backend: B,
    config: DeliveryConfig,
    dead_letters: Arc<str>,
}

impl<B: Backend> Delivery<B> {
    /// Reads the backend's topics, which are of that prefix. Validate the configuration before.
    pub fn new(backend: B, config: DeliveryConfig, topics: &Topics) -> Self {
        Self { backend, config, dead_letters: topics.dead_letters().into() }
    }

    fn group(&self) -> Arc<str> {
        match &self.config.group {
            Some(group) => group.as_str().into(),
            None => format!("afflux-{}", self.backend.name().trim_start_matches("sinks.")).into(),
        }
    }

    /// Name of the component.
    pub(super) fn name(&self) -> &'static str {
        self.backend.name()
    }

    /// Bytes of the budget.
    pub(super) fn in_flight(&self) -> usize {
        self.config.in_flight.as_usize()
    }

    /// What hands batches over.
    pub(super) fn deliverer(self, producer: Arc<dyn Producer>, metrics: Arc<Metrics>) -> Deliverer<B> {
        Deliverer {
            backend: self.backend,
            config: self.config,
            metrics,
            producer,
            dead_letters: self.dead_letters,
            troubles: Arc::default(),
            newest: Mutex::default(),
            refused: AtomicU64::new(0),
            passed_over: AtomicU64::new(0),
        }
    }

    pub(super) fn topics(&self) -> Vec<Arc<str>> {
        self.backend.inputs().into_iter().map(|input| input.topic).collect()
    }

    fn consumer_config(&self) -> ConsumerConfig {
        let group = ConsumerConfig::new(self.group(), self.topics());
        // What one poll may bring has to fit into the budget several times.
        let fetch_bytes = group.fetch_bytes.min(self.config.in_flight.as_usize() / 8);
        let instance = self.config.instance_id.as_deref().map(Into::into);
        ConsumerConfig { fetch_bytes, revoke_timeout: REVOKE_TIMEOUT, instance, ..group }
    }

    async fn serve(self, context: &Context) -> Result<(), BusError> {
        context.health.set(State::Starting("joining the group".into()));
        let (consumer_config, group) = (self.consumer_config(), self.group());
        let deliverer = Arc::new(self.deliverer(context.bus.producer().await?, Arc::clone(&context.metrics)));
        let mut pace = Backoff::new(REJOIN.0, REJOIN.1);
        while !context.shutdown.is_cancelled() {
            let name = deliverer.backend.name();
            let Some(consumer) = join(context, name, &consumer_config, &mut pace).await? else { break };
            context.health.set(State::Ready);
            match Session::new(consumer, Arc::clone(&deliverer), &group, context).run().await? {
                Ended::Drained => break,
                Ended::Rejoin(reason) => {
                    tracing::info!(reason, "joining the group again to read from the committed positions");
                    wait(context, pace.next(None)).await;
                }
            }
        }
        Ok(())
    }
}

/// Joins the group, for as long as it takes; `None` if the process is to stop before.
async fn join(
    context: &Context,
    component: &'static str,
    config: &ConsumerConfig,
    pace: &mut Backoff,
) -> Result<Option<Box<dyn Consumer>>, BusError> {
    while !context.shutdown.is_cancelled() {
        match context.bus.consumer(config.clone()).await {
            Ok(consumer) => return Ok(Some(metered(consumer, component, &context.metrics))),
            Err(error) if error.class() == ErrorClass::Fatal => return Err(error),
            Err(error) => {
                context.metrics.retries.get_or_create(&ReasonLabels { component, reason: "join" }).inc();
                tracing::warn!(%error, "cannot join the group, trying again");
                context.health.set(State::Failing(error.to_string()));
                wait(context, pace.next(None)).await;
            }
        }
    }
    Ok(None)
}

/// Waits, but not longer than the process is to run.
async fn wait(context: &Context, delay: Duration) {
    tokio::select! {
        () = context.shutdown.cancelled() => {}
        () = tokio::time::sleep(delay) => {}
    }
}

#[async_trait]
impl<B: Backend> Component for Delivery<B> {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        vec![Subscription { group: self.group(), topics: self.topics() }]
    }

    async fn run(self: Box<Self>, context: Context) -> Result<(), ComponentError> {
        let name = self.backend.name();
        let result = self.serve(&context).await;
        if result.is_ok() {
            context.health.set(State::Stopped);
        }
        result.map_err(|error| ComponentError::new(name, error))
    }
}
