//! One membership in the group: from joining to leaving.

mod owned;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::{Assignment, BusError, Consumer, ErrorClass, Event, Ledger, Offset, PartitionId, Received};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use self::owned::{Delivered, Owned, deliver};
use super::backend::{Backend, Input, Order};
use super::deliver::Deliverer;
use super::queue::Queue;
use crate::admin::State;
use crate::backoff::Backoff;
use crate::component::Context;
use crate::dead_letter;
use crate::metrics::{ComponentLabels, PartitionLabels, ReasonLabels};
use crate::waits::{CatchUp, Outage};

/// How often positions are committed and the component says how it is.
const TICK: Duration = Duration::from_millis(250);
/// How long what is on its way may take to arrive when partitions are taken away.
pub(super) const REVOKE_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take when the process stops.
const DRAIN_WITHIN: Duration = Duration::from_secs(15);
/// First and longest wait after a poll that failed.
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Reason for passing over a replay that another component asked for.
const FOR_ANOTHER: &str = "replay_of_another";

/// Why a session is over.
#[derive(Debug)]
pub(super) enum Ended {
    /// The process stops, and what could be delivered is.
    Drained,
    /// Records have to be read again: a fixed word says why.
    Rejoin(&'static str),
}

/// A membership in the group.
pub(super) struct Session<B: Backend> {
    consumer: Box<dyn Consumer>,
    outage: Outage,
    deliverer: Arc<Deliverer<B>>,
    inputs: Vec<Input>,
    context: Context,
    partitions: BTreeMap<PartitionId, Owned>,
    ledger: Ledger,
    rounds: JoinSet<Delivered>,
    /// Reasons for which the backend has refused everything so far.
    blocked: Option<&'static str>,
    /// Whether deliveries have been failing.
    delayed: bool,
    rejoin: Option<&'static str>,
}

impl<B: Backend> Session<B> {
    pub(super) fn new(
        consumer: Box<dyn Consumer>,
        deliverer: Arc<Deliverer<B>>,
        group: &str,
        context: &Context,
    ) -> Self {
        let inputs = deliverer.backend.inputs();
        let topics = inputs.iter().map(|input| Arc::clone(&input.topic)).collect();
        Self {
            consumer,
            outage: Outage::new(Arc::clone(&context.bus), group, topics),
            deliverer,
            inputs,
            context: context.clone(),
            partitions: BTreeMap::new(),
            ledger: Ledger::new(),
            rounds: JoinSet::new(),
            blocked: None,
            delayed: false,
            rejoin: None,
        }
    }

    /// Runs until the process stops or records have to be read again. On return nothing is on its way.
    pub(super) async fn run(mut self) -> Result<Ended, BusError> {
        let result = self.serve().await;
        if result.is_ok() {
            let all: Vec<_> = self.partitions.keys().cloned().collect();
            self.drain(&all, DRAIN_WITHIN).await?;
        }
        self.rounds.shutdown().await;
        self.consumer.close().await;
        result
    }

    async fn serve(&mut self) -> Result<Ended, BusError> {
        let mut pace = Backoff::new(POLL.0, POLL.1);
        let mut stopping: Option<CatchUp> = None;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shutdown = self.context.shutdown.clone();
        loop {
            if let Some(reason) = self.rejoin {
                return Ok(Ended::Rejoin(reason));
            }
            let answers = Arc::clone(&self.outage.answers);
            let due = self.partitions.values().filter_map(|owned| owned.queue.due()).min();
            let due = due.unwrap_or_else(|| Instant::now() + TICK);
            let ends_at = stopping.map_or_else(tokio::time::Instant::now, |catch_up| catch_up.ends_at());
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if stopping.is_none() => stopping = Some(CatchUp::begin()),
                () = sleep_until(ends_at), if stopping.is_some() => return Ok(Ended::Drained),
                Some(ended) = self.rounds.join_next() => self.delivered(ended).await?,
                _ = ticks.tick() => self.tick().await?,
                () = sleep_until(due.into()) => self.close_due(),
                () = answers.notified() => drop(self.outage.over()),
                event = self.consumer.poll() => match event {
                    Ok(event) => {
                        pace.reset();
                        self.outage.over();
                        stopping.iter_mut().for_each(CatchUp::heard);
                        self.handle(event).await?;
                    }
                    Err(error) if stopping.is_some() && error.class() != ErrorClass::Fatal => {
                        tracing::warn!(%error, "poll failed while stopping; the rest stays on the bus");
                        return Ok(Ended::Drained);
                    }
                    Err(error) => self.poll_failed(error, &mut pace).await?,
                },
            }
        }
    }

    fn name(&self) -> &'static str {
        self.deliverer.backend.name()
    }

    async fn poll_failed(&mut self, error: BusError, pace: &mut Backoff) -> Result<(), BusError> {
        match error.class() {
            ErrorClass::Fatal => return Err(error),
            // Fresh assignments follow.
            _ if matches!(error, BusError::Fenced { .. } | BusError::Restarted { .. }) => {}
            ErrorClass::Permanent => {
                self.context.health.set(State::Failing(error.to_string()));
                self.rejoin = Some("poll_refused");
            }
            ErrorClass::Transient(delay) => {
                let labels = ReasonLabels { component: self.name(), reason: "poll" };
                self.deliverer.metrics.retries.get_or_create(&labels).inc();
                tracing::warn!(%error, "poll failed, trying again");
                self.outage.begin(error.to_string());
                self.show();
                let delay = pace.next(delay);
                tokio::select! {
                    () = self.context.shutdown.cancelled() => {}
                    () = tokio::time::sleep(delay) => {}
                }
            }
        }
        Ok(())
    }

    async fn handle(&mut self, event: Event) -> Result<(), BusError> {
        match event {
            Event::Assigned(assignments) => assignments.iter().for_each(|assignment| self.assign(assignment)),
            Event::Revoked(partitions) => {
                self.drain(&partitions, REVOKE_WITHIN).await?;
                for partition in &partitions {
                    self.forget(partition);
                }
            }
            Event::Records(records) => {
                self.take(records);
                self.send();
                self.balance()?;
            }
            Event::Expired { partition, records } => {
                let labels = PartitionLabels::new(self.name(), &partition);
                self.deliverer.metrics.expired_records.get_or_create(&labels).inc_by(records);
            }
        }
        Ok(())
    }

    fn assign(&mut self, assignment: &Assignment) {
        let Assignment { partition, generation, .. } = assignment;
        self.forget(partition);
        let Some(input) = self.inputs.iter().find(|input| input.topic == partition.topic) else {
            tracing::error!(%partition, "assigned a partition of a topic that was not asked for");
            return;
        };
        self.ledger.assign(assignment);
        let queue = Queue::new(input.kind, self.deliverer.backend.order(), &self.deliverer.config.batch);
        self.partitions.insert(partition.clone(), Owned::new(*generation, queue));
    }

    /// Drops a partition, with whatever of it is on its way.
    fn forget(&mut self, partition: &PartitionId) {
        self.ledger.revoke(partition);
        if let Some(owned) = self.partitions.remove(partition) {
            owned.tasks.iter().for_each(AbortHandle::abort);
        }
    }

    fn take(&mut self, records: Vec<Received>) {
        let now = Instant::now();
        self.ledger.delivered_all(&records, now);
        let mut records = records.into_iter().peekable();
        while let Some(Received { from, generation, .. }) = records.peek() {
            // They come in runs of one partition.
            let (from, generation) = (from.clone(), *generation);
            let mut owned = self.partitions.get_mut(&from).filter(|owned| owned.generation == generation);
            let mut passed_over = Vec::new();
            while let Some(record) = records.next_if(|next| next.generation == generation && next.from == from) {
                let Some(owned) = &mut owned else { continue };
                if dead_letter::is_for_another(&record.headers, self.deliverer.backend.name()) {
                    passed_over.push(record);
                    continue;
                }
                owned.bytes += record.size();
                owned.queue.push(record, now);
            }
            passed_over.iter().for_each(|record| self.pass_over(record));
        }
    }

    /// A replay that another component asked for.
    fn pass_over(&mut self, record: &Received) {
        self.ledger.settle(&record.from, record.generation, record.offset);
        let labels = ReasonLabels { component: self.name(), reason: FOR_ANOTHER };
        let items = dead_letter::items(&record.headers);
        self.deliverer.metrics.dropped_items.get_or_create(&labels).inc_by(items);
    }

    fn close_due(&mut self) {
        let now = Instant::now();
        self.partitions.values_mut().for_each(|owned| owned.queue.close_due(now));
        self.send();
    }

    /// Sends what may be sent now.
    fn send(&mut self) {
        let at_once = match self.deliverer.backend.order() {
            Order::ByKey => 1,
            Order::Any => self.deliverer.config.concurrency.max(1) as usize,
        };
        let most_ahead = self.deliverer.config.in_flight.as_usize();
        for (partition, owned) in &mut self.partitions {
            while owned.may_send(at_once, most_ahead) {
                let Some(round) = owned.queue.pop() else { break };
                owned.on_their_way += 1;
                owned.tasks.retain(|task| !task.is_finished());
                let delivery = deliver(Arc::clone(&self.deliverer), partition.clone(), owned.generation, round);
                owned.tasks.push(self.rounds.spawn(delivery));
            }
        }
    }

    async fn delivered(&mut self, ended: Result<Delivered, JoinError>) -> Result<(), BusError> {
        let Ok(delivered) = ended else {
            // Aborted, or a bug: then its partition would silently stand still.
            if ended.is_err_and(|error| error.is_panic()) {
                self.rejoin = Some("delivery_panicked");
            }
            return Ok(());
        };
        delivered.result?;
        let Delivered { partition, generation, offsets, items, bytes, signal, .. } = delivered;
        let Some(owned) = self.partitions.get_mut(&partition).filter(|owned| owned.generation == generation) else {
            return Ok(());
        };
        owned.on_their_way -= 1;
        owned.bytes = owned.bytes.saturating_sub(bytes);
        owned.uncommitted = self.deliverer.backend.order() == Order::ByKey;
        let must_commit = owned.uncommitted;
        self.ledger.settle_all(&partition, generation, &offsets);
        owned.arrived(&offsets, bytes, self.ledger.watermark(&partition));
        let labels = ComponentLabels { component: self.name(), signal };
        self.deliverer.metrics.settled_items.get_or_create(&labels).inc_by(items);
        self.deliverer.metrics.settled_bytes.get_or_create(&labels).inc_by(bytes as u64);
        if must_commit {
            self.commit().await?;
        }
        self.send();
        self.balance()
    }

    /// Commits what is settled. What fails for now is tried again at the next tick.
    async fn commit(&mut self) -> Result<(), BusError> {
        let offsets = self.ledger.committable();
        if offsets.is_empty() || self.commit_these(&offsets).await? || offsets.len() == 1 {
            return Ok(());
        }
        // One that was refused must not keep the others from it.
        for offset in &offsets {
            self.commit_these(std::slice::from_ref(offset)).await?;
        }
        Ok(())
    }

    /// Commits; false where some of it was refused, which others may not be.
    async fn commit_these(&mut self, offsets: &[Offset]) -> Result<bool, BusError> {
        match self.consumer.commit(offsets).await {
            Ok(()) => {
                self.ledger.committed(offsets);
                for offset in offsets {
                    let owned = self.partitions.get_mut(&offset.partition);
                    owned.into_iter().for_each(|owned| owned.uncommitted = false);
                }
                Ok(true)
            }
            Err(error) => match error.class() {
                ErrorClass::Fatal => Err(error),
                class => {
                    tracing::warn!(%error, partitions = offsets.len(), "commit failed");
                    // One partition that is another's by now has all of them refused.
                    let refused = matches!(error, BusError::Fenced { .. }) || class == ErrorClass::Permanent;
                    Ok(!refused)
                }
            },
        }
    }

    /// Has what is read of partitions delivered and committed, as far as the time allows.
    async fn drain(&mut self, partitions: &[PartitionId], within: Duration) -> Result<(), BusError> {
        for partition in partitions {
            self.partitions.get_mut(partition).into_iter().for_each(|owned| owned.queue.close_all());
        }
        let arriving = async {
            self.send();
            while self.is_busy(partitions) {
                let Some(ended) = self.rounds.join_next().await else { break };
                self.delivered(ended).await?;
            }
            Ok(())
        };
        if let Ok(result) = timeout(within, arriving).await {
            result?;
        } else {
            tracing::warn!(component = self.name(), "not everything arrived in time; the rest is read again");
        }
        self.commit().await
    }

    fn is_busy(&self, partitions: &[PartitionId]) -> bool {
        let busy = |owned: &Owned| owned.on_their_way > 0 || !owned.queue.is_empty() && !owned.uncommitted;
        partitions.iter().filter_map(|partition| self.partitions.get(partition)).any(busy)
    }
}
