//! From deltas to cumulative series.
//!
//! Reads the metrics topic and adds its deltas up. What a series has come to *is* its last record on the compacted topic
//! `series`: it is written in the same transaction as the position that the deltas were read to, and read first by
//! whoever takes the partition over. So counters never fall and never count twice, through restarts and rebalances.
//!
//! A series' partition is the one of its deltas. The topics must therefore have equally many partitions, and keep them.

mod config;
mod restore;
mod series;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{
    Assignment, Bus, BusError, Consumer, ConsumerConfig, ErrorClass, Event, Generation, Headers, Offset, PartitionId,
    Received, Record,
};
use afflux_runtime::admin::State as Health;
use afflux_runtime::dead_letter::{self, Refusal, now_ms};
use afflux_runtime::metrics::{ComponentLabels, PartitionLabels, ReasonLabels};
use afflux_runtime::{Backoff, Component, ComponentError, Context, Subscription, metered};
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ITEMS, HEADER_SOURCE, HEADER_TENANT, Topics};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

pub use config::{AccumulateConfig, InvalidAccumulate};
use restore::{States, read_series};
use series::Identity;
use state::{Periods, State, Write};

use crate::intake::not_ahead;
use crate::stage::default_transactional_id;

/// Name of the component in metrics and `/status`.
pub const NAME: &str = "processors.accumulate";

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// How long a partition must be silent before the wall clock ends its interval.
const SILENCE: Duration = Duration::from_secs(2);
/// How often silence is looked for.
const TICK: Duration = Duration::from_millis(500);

/// The component that adds deltas up.
pub struct Accumulate {
    config: AccumulateConfig,
    topics: Topics,
}

impl Accumulate {
    /// Between the metrics topic and the series topic.
    ///
    /// # Errors
    /// [`InvalidAccumulate`] names the key at fault.
    pub fn new(config: AccumulateConfig, topics: Topics) -> Result<Self, InvalidAccumulate> {
        config.validate()?;
        Ok(Self { config, topics })
    }

    fn consumer_config(&self) -> ConsumerConfig {
        let group: Arc<str> = self.config.group.as_str().into();
        let id = self.config.transactional_id.clone().unwrap_or_else(|| default_transactional_id(&group));
        let mut config = ConsumerConfig::new(group, [Arc::from(self.topics.metrics())]);
        config.transactional_id = Some(id.into());
        config.instance = self.config.instance_id.as_deref().map(Into::into);
        config
    }

    async fn try_connect(&self, context: &Context) -> Result<Running, BusError> {
        let producer = context.bus.producer().await?;
        let (metrics, series) = (self.topics.metrics(), self.topics.series());
        let (deltas, totals) = (producer.partitions(&metrics).await?, producer.partitions(&series).await?);
        if deltas != totals {
            return Err(BusError::Config(format!(
                "topic {metrics} has {deltas} partitions and {series} has {totals}; they must have equally many"
            )));
        }
        let dead_letters = self.topics.dead_letters();
        let dead_partitions = producer.partitions(&dead_letters).await?;
        let consumer = context.bus.consumer(self.consumer_config()).await?;
        Ok(Running {
            consumer: metered(consumer, NAME, &context.metrics),
            group: self.config.group.as_str().into(),
            periods: Periods::of(&self.config),
            idle: self.config.idle.0,
            series: series.into(),
            dead_letters: (dead_letters.into(), dead_partitions),
            partitions: BTreeMap::new(),
            context: context.clone(),
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
        })
    }

    /// Connects; waits for a bus that is down.
    async fn connect(&self, context: &Context) -> Result<Running, BusError> {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let error = match self.try_connect(context).await {
                Ok(running) => return Ok(running),
                Err(error) => error,
            };
            let ErrorClass::Transient(after) = error.class() else { return Err(error) };
            context.health.set(Health::Starting(error.to_string()));
            tokio::select! {
                () = sleep(backoff.next(after)) => {}
                () = context.shutdown.cancelled() => return Err(BusError::Closed),
            }
        }
    }
}

#[async_trait]
impl Component for Accumulate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        vec![Subscription { group: self.config.group.as_str().into(), topics: vec![self.topics.metrics().into()] }]
    }

    async fn run(self: Box<Self>, context: Context) -> Result<(), ComponentError> {
        let mut running = match self.connect(&context).await {
            Ok(running) => running,
            Err(BusError::Closed) if context.shutdown.is_cancelled() => return Ok(()),
            Err(error) => return Err(ComponentError::new(NAME, error)),
        };
        context.health.set(Health::Ready);
        let result = running.run().await;
        context.health.set(Health::Stopped);
        running.consumer.close().await;
        result.map_err(|error| ComponentError::new(NAME, error))
    }
}

/// A partition that is owned.
struct Owned {
    generation: Generation,
    /// Everything below has been read, or was committed before.
    next: u64,
    /// Offset of the first record since the last samples.
    first: Option<u64>,
    state: State,
    /// Dead letters since the last samples.
    dead: Vec<Record>,
    /// When its last record came.
    last: Instant,
}

/// The component with its consumer.
struct Running {
    consumer: Box<dyn Consumer>,
    group: Arc<str>,
    periods: Periods,
    /// After how long without records the series of a partition end.
    idle: Duration,
    series: Arc<str>,
    /// Topic and its partitions.
    dead_letters: (Arc<str>, u32),
    partitions: BTreeMap<PartitionId, Owned>,
    context: Context,
    backoff: Backoff,
}

impl Running {
    /// Reads until shutdown. What was read since the last samples is read again then, by whoever comes next: an interval
    /// that is cut short would give samples out of step.
    async fn run(&mut self) -> Result<(), BusError> {
        let shutdown = self.context.shutdown.clone();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let done = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = tick.tick() => self.end_silent().await,
                event = self.consumer.poll() => match event {
                    Ok(event) => self.handle(event).await,
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = done
                && !self.wait_after(error.class(), &error).await
            {
                return Err(error);
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), BusError> {
        match event {
            Event::Records(records) => {
                for record in records {
                    self.take(record).await?;
                }
                Ok(())
            }
            Event::Assigned(assignments) => self.restore(&assignments).await,
            Event::Revoked(partitions) => {
                for partition in partitions {
                    self.partitions.remove(&partition);
                    self.context.metrics.active_series.remove(&PartitionLabels::new(NAME, &partition));
                }
                Ok(())
            }
            Event::Expired { partition, records } => {
                let labels = PartitionLabels::new(NAME, &partition);
                self.context.metrics.expired_records.get_or_create(&labels).inc_by(records);
                Ok(())
            }
        }
    }

    async fn take(&mut self, record: Received) -> Result<(), BusError> {
        // What comes from the future would end no interval for as long.
        let time_ms = not_ahead(record.timestamp_ms);
        let ends = |owned: &Owned| owned.first.is_some() && owned.state.ends(time_ms);
        if self.partitions.get(&record.from).is_some_and(ends) {
            self.sample(&record.from).await?;
        }
        // Unknown: what is read after a failed transaction, before the consumer says that it begins anew.
        let Some(owned) = self.partitions.get_mut(&record.from) else { return Ok(()) };
        owned.last = Instant::now();
        owned.first.get_or_insert(record.offset);
        owned.next = record.offset + 1;
        if dead_letter::is_for_another(&record.headers, NAME) {
            return Ok(());
        }
        let header = |name| record.headers.get(name).map(|value| String::from_utf8_lossy(value)).unwrap_or_default();
        let (cluster, tenant) = (header(HEADER_CLUSTER), header(HEADER_TENANT));
        let value = record.value.as_deref().unwrap_or_default();
        if let Err(error) = owned.state.deltas((&cluster, &tenant), value, time_ms) {
            tracing::error!(partition = %record.from, offset = record.offset, %error, "record refused");
            let (topic, partitions) = &self.dead_letters;
            let error = format!("not an OTLP metrics request: {error}");
            let refusal = Refusal { component: NAME, reason: "malformed", error: &error, time_ms: now_ms() };
            owned.dead.push(dead_letter::dead_letter(&record, topic.clone(), *partitions, refusal));
        }
        Ok(())
    }

    /// Ends the interval of partitions that nothing comes from any more, and the series of those from which nothing has
    /// come for long.
    async fn end_silent(&mut self) -> Result<(), BusError> {
        let (now, idle) = (now_ms(), self.idle);
        let over = |owned: &Owned| match owned.first {
            Some(_) => owned.last.elapsed() >= SILENCE && owned.state.ends(now),
            None => owned.last.elapsed() >= idle && owned.state.len() > 0,
        };
        let silent: Vec<_> = self.partitions.iter().filter(|(_, owned)| over(owned)).map(|(p, _)| p.clone()).collect();
        for partition in silent {
            let ends = self.partitions.get(&partition).is_some_and(|owned| owned.first.is_some());
            if ends || is_read_to_its_end(self.context.bus.clone(), self.group.clone(), &partition).await {
                self.sample(&partition).await?;
            }
        }
        Ok(())
    }

    /// Writes a partition's samples, or the ends of its series where nothing has come, together with the position that it
    /// was read to.
    async fn sample(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        let Some(owned) = self.partitions.get_mut(partition) else { return Ok(()) };
        let (first, next, now) = (owned.first.take(), owned.next, now_ms());
        let writes = if first.is_some() { owned.state.sample() } else { owned.state.end_all(now) };
        let source = Bytes::from(format!("{partition}/{}-{}", first.unwrap_or(next), next.saturating_sub(1)));
        let to = PartitionId { topic: self.series.clone(), partition: partition.partition };
        let record = |(key, value): Write| {
            let headers = if value.is_some() { headers(&key, &source) } else { Headers::new() };
            Record { to: to.clone(), key: Some(key), value, timestamp_ms: now, headers }
        };
        let samples = writes.len() as u64;
        let dead = owned.dead.len() as u64;
        let records = writes.into_iter().map(record).chain(owned.dead.drain(..)).collect();
        let offset = Offset { partition: partition.clone(), generation: owned.generation, next };
        self.write(records, offset).await?;
        self.recovered(partition, samples, dead);
        Ok(())
    }

    /// Writes a transaction, however often the bus must be asked. After an error, what states have become is not written:
    /// they are forgotten, and read anew when the partitions come again.
    async fn write(&mut self, mut records: Vec<Record>, offset: Offset) -> Result<(), BusError> {
        loop {
            let error = match self.consumer.transact(records.clone(), std::slice::from_ref(&offset)).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let again = match &error {
                BusError::Fenced { .. } | BusError::Restarted { .. } => false,
                BusError::TooLarge { to, size, .. } if *to.topic == *self.dead_letters.0 => {
                    shorten(&mut records, to, *size)
                }
                _ => self.wait_after(error.class(), &error).await && !self.context.shutdown.is_cancelled(),
            };
            if !again {
                self.partitions.clear();
                return Err(error);
            }
        }
    }

    fn recovered(&mut self, partition: &PartitionId, samples: u64, dead: u64) {
        self.backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        self.context.health.set(Health::Ready);
        let labels = ComponentLabels { component: NAME, signal: "metrics" };
        self.context.metrics.settled_items.get_or_create(&labels).inc_by(samples);
        if dead > 0 {
            let labels = ReasonLabels { component: NAME, reason: "malformed" };
            self.context.metrics.dead_letters.get_or_create(&labels).inc_by(dead);
        }
        if let Some(owned) = self.partitions.get(partition) {
            let series = i64::try_from(owned.state.len()).unwrap_or(i64::MAX);
            self.context.metrics.active_series.get_or_create(&PartitionLabels::new(NAME, partition)).set(series);
        }
    }

    /// Reads what the series of partitions have come to, before their first delta.
    async fn restore(&mut self, assignments: &[Assignment]) -> Result<(), BusError> {
        let series_of = |partition: &PartitionId| PartitionId::new(self.series.clone(), partition.partition);
        let mut states: States = assignments
            .iter()
            .map(|a| (series_of(&a.partition), (a.partition.clone(), State::new(self.periods))))
            .collect();
        let began = Instant::now();
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        while let Err(error) = read_series(&*self.context.bus, &self.series, &mut states).await {
            let ErrorClass::Transient(after) = error.class() else { return Err(error) };
            tracing::warn!(%error, "series cannot be read; retrying");
            self.context.health.set(Health::Failing(error.to_string()));
            tokio::select! {
                () = sleep(backoff.next(after)) => {}
                () = self.context.shutdown.cancelled() => return Ok(()),
            }
            states.values_mut().for_each(|(_, state)| *state = State::new(self.periods));
        }
        let count: usize = states.values().map(|(_, state)| state.len()).sum();
        tracing::info!(partitions = states.len(), series = count, took = ?began.elapsed(), "series restored");
        self.context.health.set(Health::Ready);
        for (partition, state) in states.into_values() {
            let Some(assignment) = assignments.iter().find(|a| a.partition == partition) else { continue };
            let (generation, next, last) = (assignment.generation, assignment.position, Instant::now());
            let owned = Owned { generation, next, first: None, state, dead: Vec::new(), last };
            self.partitions.insert(partition, owned);
        }
        Ok(())
    }

    /// Waits where the error is transient; says whether it is.
    async fn wait_after(&mut self, class: ErrorClass, error: &BusError) -> bool {
        let ErrorClass::Transient(after) = class else { return false };
        tracing::warn!(%error, "bus does not answer as it should; trying again");
        if !matches!(error, BusError::Fenced { .. }) {
            let labels = ReasonLabels { component: NAME, reason: "bus" };
            self.context.metrics.retries.get_or_create(&labels).inc();
            self.context.health.set(Health::Failing(error.to_string()));
        }
        tokio::select! {
            () = sleep(self.backoff.next(after)) => {}
            () = self.context.shutdown.cancelled() => {}
        }
        true
    }
}

/// Whether nothing comes because there is nothing: while the bus is away, deltas may wait there.
async fn is_read_to_its_end(bus: Arc<dyn Bus>, group: Arc<str>, partition: &PartitionId) -> bool {
    let lag = bus.lag(&group, std::slice::from_ref(&partition.topic)).await;
    lag.is_ok_and(|lag| lag.iter().any(|lag| lag.partition == *partition && lag.records() == 0))
}

/// Makes dead letters smaller that are too large for where they go; says whether there were any.
fn shorten(records: &mut [Record], to: &PartitionId, size: usize) -> bool {
    let large = records.iter_mut().filter(|record| record.to == *to && record.size() >= size);
    // Each of them, not the first.
    large.map(dead_letter::shorten).filter(|shortened| *shortened).count() > 0
}

fn headers(key: &Bytes, source: &Bytes) -> Headers {
    let mut headers = Headers::new();
    if let Some(Identity { cluster, tenant, .. }) = Identity::read(key) {
        headers.push(HEADER_CLUSTER, Bytes::copy_from_slice(cluster.as_bytes()));
        if !tenant.is_empty() {
            headers.push(HEADER_TENANT, Bytes::copy_from_slice(tenant.as_bytes()));
        }
    }
    headers.push(HEADER_ITEMS, "1");
    headers.push(HEADER_SOURCE, source.clone());
    headers
}
