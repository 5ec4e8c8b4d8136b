//! A consumer that tells how it goes: rebalances, commits and transactions by outcome, and what waits to be settled.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use afflux_bus::{BusError, Consumer, ErrorClass, Event, Ledger, Offset, PartitionId, Record};
use async_trait::async_trait;

use crate::metrics::{Metrics, OutcomeLabels, PartitionLabels};

/// Wraps a component's consumer.
pub fn metered(consumer: Box<dyn Consumer>, component: &'static str, metrics: &Arc<Metrics>) -> Box<dyn Consumer> {
    let watch = Arc::new(Watch { component, state: Mutex::default() });
    metrics.watch(&watch);
    Box::new(Metered { inner: consumer, watch, metrics: Arc::clone(metrics) })
}

/// What a consumer has in hand, looked at whenever the metrics are read.
#[derive(Debug)]
pub(crate) struct Watch {
    component: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    /// Owned partitions, and the timestamp of the last record of each that was settled, milliseconds since the Unix epoch.
    settled: BTreeMap<PartitionId, Option<i64>>,
    /// Announced as revoked: gone with the next poll.
    leaving: Vec<PartitionId>,
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the gauges of every partition that is owned.
    pub(crate) fn report(&self, metrics: &Metrics) {
        let now = Instant::now();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        let state = self.state();
        for (partition, settled) in &state.settled {
            let labels = PartitionLabels::new(self.component, partition);
            let oldest = state.ledger.oldest_of(partition);
            let age = oldest.map_or(0.0, |(_, at)| now.saturating_duration_since(at).as_secs_f64());
            metrics.watermark_age_seconds.get_or_create(&labels).set(age);
            let behind = metrics.lag_records.get_or_create(&labels).get() > 0;
            // What is unread is no older than what was read last.
            let since = oldest.map(|(time, _)| time).or(settled.filter(|_| behind));
            let seconds = match since {
                Some(time) => now_ms.saturating_sub(time).max(0) as f64 / 1000.0,
                None if behind => continue,
                None => 0.0,
            };
            metrics.lag_seconds.get_or_create(&labels).set(seconds);
        }
    }

    /// A poll begins: what was announced as revoked is gone.
    fn polling(&self, metrics: &Metrics) {
        let state = &mut *self.state();
        for partition in state.leaving.drain(..) {
            state.ledger.revoke(&partition);
            state.settled.remove(&partition);
            let labels = PartitionLabels::new(self.component, &partition);
            metrics.watermark_age_seconds.remove(&labels);
            metrics.lag_seconds.remove(&labels);
        }
    }

    /// Everything is to go.
    fn leave(&self) {
        let state = &mut *self.state();
        state.leaving = state.settled.keys().cloned().collect();
    }

    fn polled(&self, event: &Event, metrics: &Metrics) {
        let count = |outcome, partitions: usize| {
            let labels = OutcomeLabels { component: self.component, outcome };
            metrics.rebalanced_partitions.get_or_create(&labels).inc_by(partitions as u64);
        };
        let state = &mut *self.state();
        match event {
            Event::Assigned(assignments) => {
                count("assigned", assignments.len());
                for assignment in assignments {
                    state.ledger.assign(assignment);
                    state.settled.insert(assignment.partition.clone(), None);
                }
            }
            Event::Revoked(partitions) => {
                count("revoked", partitions.len());
                state.leaving.extend(partitions.iter().cloned());
            }
            Event::Records(records) => {
                // Repeats lie below the watermark, and are passed over.
                state.ledger.delivered_all(records, Instant::now());
            }
            Event::Expired { .. } => {}
        }
    }

    fn settled(&self, offsets: &[Offset]) {
        let state = &mut *self.state();
        for (partition, time) in state.ledger.settle_below(offsets) {
            state.settled.insert(partition, Some(time));
        }
        state.ledger.committed(offsets);
    }
}

struct Metered {
    inner: Box<dyn Consumer>,
    watch: Arc<Watch>,
    metrics: Arc<Metrics>,
}

/// How a commit or a transaction ended.
fn outcome(result: &Result<(), BusError>) -> &'static str {
    match result {
        Ok(()) => "committed",
        Err(BusError::Fenced { .. }) => "fenced",
        Err(BusError::Restarted { .. }) => "restarted",
        Err(error) if matches!(error.class(), ErrorClass::Transient(_)) => "failed",
        Err(_) => "refused",
    }
}

#[async_trait]
impl Consumer for Metered {
    async fn poll(&mut self) -> Result<Event, BusError> {
        self.watch.polling(&self.metrics);
        let event = self.inner.poll().await?;
        self.watch.polled(&event, &self.metrics);
        Ok(event)
    }

    async fn commit(&mut self, offsets: &[Offset]) -> Result<(), BusError> {
        let result = self.inner.commit(offsets).await;
        let labels = OutcomeLabels { component: self.watch.component, outcome: outcome(&result) };
        self.metrics.commits.get_or_create(&labels).inc();
        if result.is_ok() {
            self.watch.settled(offsets);
        }
        result
    }

    async fn transact(&mut self, outputs: Vec<Record>, offsets: &[Offset]) -> Result<(), BusError> {
        let result = self.inner.transact(outputs, offsets).await;
        let labels = OutcomeLabels { component: self.watch.component, outcome: outcome(&result) };
        self.metrics.transactions.get_or_create(&labels).inc();
        if result.is_ok() {
            self.watch.settled(offsets);
        }
        result
    }

    async fn committed(&mut self, partition: &PartitionId) -> Result<Option<u64>, BusError> {
        self.inner.committed(partition).await
    }

    fn pause(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        self.inner.pause(partition)
    }

    fn resume(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        self.inner.resume(partition)
    }

    async fn close(self: Box<Self>) {
        let Self { inner, watch, metrics } = *self;
        inner.close().await;
        watch.leave();
        watch.polling(&metrics);
    }
}

#[cfg(test)]
mod tests;
