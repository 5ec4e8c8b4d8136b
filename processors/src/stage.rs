//! The stage: reads the ingest topics, runs the chains, commits outputs and offsets together.

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{Assignment, BusError, Consumer, ErrorClass, Event, PartitionId};
use afflux_runtime::admin::State;
use afflux_runtime::metrics::{ComponentLabels, PartitionLabels};
use afflux_runtime::{Backoff, Component, ComponentError, Context, Signal, Subscription};
use afflux_schemas::topics::{Topics, mirrors};
use async_trait::async_trait;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::connect::Connected;
use self::reports::Reports;
use self::suspended::Suspended;
use crate::config::ProcessorsConfig;
use crate::intake::Source;
use crate::work::{Batch, Work};

mod connect;
mod reports;
mod suspended;

/// Name of the stage in metrics and `/status`.
pub const NAME: &str = "processors";

/// How long a poll stays silent before a draining stage calls itself caught up.
const DRAINED_AFTER: Duration = Duration::from_millis(300);
/// How long a draining stage reads on at most: on a busy bus it would never catch up.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How often a bus that did not answer is asked whether it does again.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// How often what waits is looked at, where no records come.
const RELEASE_EVERY: Duration = Duration::from_millis(50);
/// Transactions in a row that start over before that is waited for and shown.
const RESTARTS: u32 = 3;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// The component that runs every processor.
pub struct ProcessorStage {
    config: ProcessorsConfig,
    topics: Topics,
    cluster: Arc<str>,
}

impl ProcessorStage {
    /// A stage between the ingest topics and their outputs; `cluster` names records that do not say theirs.
    pub fn new(config: ProcessorsConfig, topics: Topics, cluster: Arc<str>) -> Self {
        Self { config, topics, cluster }
    }

    /// The consumer group, and the topics it reads: what lag is reported for.
    pub fn group(&self) -> (Arc<str>, Vec<Arc<str>>) {
        let own = [self.topics.ingest_spans(), self.topics.ingest_logs(), self.topics.ingest_events()];
        let mirrored = own.iter().filter(|_| self.config.mirrors).map(|topic| mirrors(topic)).collect::<Vec<_>>();
        let foreign = self.config.ingest.iter().map(|topic| topic.topic.as_str().into());
        (self.config.group.as_str().into(), own.into_iter().chain(mirrored).map(Arc::from).chain(foreign).collect())
    }

    /// The topics of [`ProcessorStage::group`], with what is known about their records.
    fn sources(&self) -> Vec<Source> {
        let own = [
            Source::own(self.topics.ingest_spans(), Signal::Spans),
            Source::own(self.topics.ingest_logs(), Signal::Logs),
            Source::own(self.topics.ingest_events(), Signal::Events),
        ];
        own.into_iter().chain(self.config.ingest.iter().map(Source::foreign)).collect()
    }
}

/// Unique per host and the same after a restart. Two instances on one host must be told apart by
/// configuration, as the binary does by their admin ports; otherwise the later one fences the earlier.
pub fn default_transactional_id(group: &str) -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| host.trim().to_owned());
    format!("{group}-{}", if host.is_empty() { "localhost" } else { &host })
}

#[async_trait]
impl Component for ProcessorStage {
    fn name(&self) -> &'static str {
        NAME
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        let (group, topics) = self.group();
        vec![Subscription { group, topics }]
    }

    async fn run(self: Box<Self>, context: Context) -> Result<(), ComponentError> {
        let Connected { consumer, work, objects: _followed } = match self.connect(&context).await {
            Ok(connected) => connected,
            Err(BusError::Closed) if context.shutdown.is_cancelled() => return Ok(()),
            Err(error) => return Err(ComponentError::new(NAME, error)),
        };
        let reports = Reports::start(&work, &context.health);
        context.health.set(State::Ready);
        let (group, topics) = self.group();
        let commit = self.config.commit.clone();
        let mut running = Running {
            consumer,
            work,
            commit,
            context,
            due: None,
            probe: None,
            restarts: 0,
            reports,
            suspended: Suspended::default(),
            trial: None,
            group,
            topics,
        };
        let result = match running.run().await {
            Err(error)
                if running.context.shutdown.is_cancelled() && matches!(error.class(), ErrorClass::Transient(_)) =>
            {
                tracing::warn!(%error, "stopped without a last commit; the rest is read again");
                Ok(())
            }
            result => result,
        };
        running.context.health.set(State::Stopped);
        running.consumer.close().await;
        result.map_err(|error| ComponentError::new(NAME, error))
    }
}

/// The stage with its consumer.
struct Running {
    consumer: Box<dyn Consumer>,
    work: Work,
    commit: crate::config::CommitConfig,
    context: Context,
    /// When what is in hand must be committed.
    due: Option<Instant>,
    /// When a bus that did not answer is asked whether it does again, so that an idle stage finds out.
    probe: Option<Instant>,
    /// Transactions in a row that started over.
    restarts: u32,
    reports: Reports,
    suspended: Suspended,
    /// The output of a partition that was set aside is asked whether it is there.
    trial: Option<Trial>,
    group: Arc<str>,
    topics: Vec<Arc<str>>,
}

/// A question whether an output is there.
struct Trial {
    partition: PartitionId,
    answer: tokio::task::JoinHandle<bool>,
}

/// Waits for the answer, for ever where nothing is asked.
async fn answer(trial: &mut Option<Trial>) -> bool {
    match trial {
        Some(trial) => (&mut trial.answer).await.unwrap_or(false),
        None => std::future::pending().await,
    }
}

impl Running {
    /// Reads until shutdown, then what is left.
    async fn run(&mut self) -> Result<(), BusError> {
        let shutdown = self.context.shutdown.clone();
        loop {
            let (due, probe) = (self.due, self.probe);
            let report = self.reports.due();
            let again = self.suspended.due().filter(|_| self.trial.is_none());
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => self.flush().await?,
                () = async { sleep_until(probe.unwrap_or_else(Instant::now)).await }, if probe.is_some() => self.ask().await,
                () = async { sleep_until(again.unwrap_or_else(Instant::now)).await }, if again.is_some() => self.ask_output(),
                () = async { sleep_until(report.unwrap_or_else(Instant::now)).await }, if report.is_some() => self.reports.publish(&self.work, &self.context.health),
                answers = answer(&mut self.trial) => self.try_again(answers),
                () = sleep(RELEASE_EVERY), if self.work.is_waiting() => self.release().await?,
                event = self.consumer.poll() => self.handle(event).await?,
            }
        }
        self.drain().await
    }

    async fn ask(&mut self) {
        self.probe = Some(Instant::now() + PROBE_EVERY);
        if self.context.bus.lag(&self.group, &self.topics).await.is_ok() {
            self.recovered();
        }
    }

    fn recovered(&mut self) {
        self.probe = None;
        let labels = ComponentLabels { component: NAME, signal: "" };
        let suspended = i64::try_from(self.suspended.count()).unwrap_or(i64::MAX);
        self.context.metrics.suspended_partitions.get_or_create(&labels).set(suspended);
        self.context.health.set(self.suspended.reason().map_or(State::Ready, State::Failing));
    }

    /// Asks for the output of a partition that was set aside: a transaction that fails again would cost all others time.
    fn ask_output(&mut self) {
        let Some((partition, output)) = self.suspended.next() else { return };
        let (bus, group) = (Arc::clone(&self.context.bus), Arc::clone(&self.group));
        let answer = tokio::spawn(async move { bus.lag(&group, &[output.topic]).await.is_ok() });
        self.trial = Some(Trial { partition, answer });
    }

    /// Reads again from a partition that was set aside, if its output answers.
    fn try_again(&mut self, answers: bool) {
        let Some(Trial { partition, .. }) = self.trial.take() else { return };
        self.suspended.asked(&partition, answers);
        if answers && self.consumer.resume(&partition).is_err() {
            self.suspended.forget(&partition);
            self.recovered();
        }
    }

    /// Processes what is already on the bus, so that a clean stop leaves nothing half-way. What waits for records that have
    /// not come is left, and read again.
    async fn drain(&mut self) -> Result<(), BusError> {
        let limit = Instant::now() + DRAIN_LIMIT;
        while Instant::now() < limit {
            match timeout(DRAINED_AFTER, self.consumer.poll()).await {
                Ok(event) => self.handle(event).await?,
                Err(_silent) if self.work.is_waiting() => self.release().await?,
                Err(_silent) => break,
            }
        }
        self.flush().await
    }

    async fn handle(&mut self, event: Result<Event, BusError>) -> Result<(), BusError> {
        match event {
            Ok(Event::Records(records)) => {
                for record in records {
                    self.work.take(record);
                }
                self.release().await
            }
            Ok(Event::Assigned(assignments)) => {
                for Assignment { partition, position, .. } in &assignments {
                    tracing::info!(%partition, position, "partition assigned");
                    self.work.assigned(partition, *position);
                    self.suspended.assigned(partition);
                    if self.suspended.holds(partition) {
                        self.consumer.pause(partition)?;
                    }
                }
                Ok(())
            }
            Ok(Event::Expired { partition, records }) => {
                let labels = PartitionLabels::new(NAME, &partition);
                self.context.metrics.expired_records.get_or_create(&labels).inc_by(records);
                Ok(())
            }
            Ok(Event::Revoked(partitions)) => {
                tracing::info!(partitions = partitions.len(), "partitions revoked");
                let flushed = self.flush().await;
                partitions.iter().for_each(|partition| self.work.revoked(partition));
                self.suspended.revoked(&partitions);
                if !self.suspended.is_empty() {
                    self.recovered();
                }
                flushed
            }
            Err(error) => self.wait_after(error, &mut Backoff::new(FIRST_RETRY, LAST_RETRY)).await,
        }
    }

    /// Lets go what has waited long enough, and commits where there is enough.
    async fn release(&mut self) -> Result<(), BusError> {
        self.work.release();
        if !self.work.is_empty() {
            self.due.get_or_insert_with(|| Instant::now() + self.commit.age.0);
        }
        if self.work.bytes() >= self.commit.bytes.0 { self.flush().await } else { Ok(()) }
    }

    /// Commits what is in hand, however often the bus must be asked.
    ///
    /// After a fence or a restart of the transaction, what is in hand is forgotten: the consumer delivers it
    /// again, to whoever owns it then.
    async fn flush(&mut self) -> Result<(), BusError> {
        self.due = None;
        let Some(mut batch) = self.work.close() else { return Ok(()) };
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            match self.consumer.transact(batch.records(), &batch.offsets).await {
                Ok(()) => {
                    self.restarts = 0;
                    self.suspended.passed(&batch.offsets);
                    self.recovered();
                    self.work.settled(&batch);
                    self.reports.committed();
                    return Ok(());
                }
                Err(BusError::Restarted { reason, partition: Some(stuck) })
                    if self.set_aside(&batch, &stuck, &reason) =>
                {
                    return Ok(());
                }
                Err(error @ (BusError::Fenced { .. } | BusError::Restarted { .. })) => {
                    tracing::warn!(%error, "transaction not committed; reading again from the committed offsets");
                    return self.pause_between_restarts(&error).await;
                }
                // Nothing was written; what can never be is written in parts, or settled as a dead letter (D7).
                Err(BusError::TooLarge { to, size, .. }) if self.work.make_smaller(&mut batch, &to, size) => {}
                Err(error) => self.wait_after(error, &mut backoff).await?,
            }
        }
    }

    /// Sets aside what is bound for a partition that takes nothing, so that the rest passes without it. Says whether
    /// there is any.
    fn set_aside(&mut self, batch: &Batch, stuck: &PartitionId, reason: &str) -> bool {
        let sources = batch.sources_of(stuck);
        for partition in &sources {
            tracing::warn!(%partition, output = %stuck, reason, "the output takes nothing; the others go on");
            self.suspended.suspend(partition.clone(), stuck, reason);
        }
        if !sources.is_empty() {
            self.work.retried();
            self.recovered();
        }
        !sources.is_empty()
    }

    /// One restart is nothing special; transactions that start over again and again are waited for, and shown.
    async fn pause_between_restarts(&mut self, error: &BusError) -> Result<(), BusError> {
        self.restarts += 1;
        if self.restarts < RESTARTS {
            return Ok(());
        }
        self.work.retried();
        self.context.health.set(State::Failing(error.to_string()));
        // An idle stage finds out by asking.
        self.probe = Some(Instant::now() + PROBE_EVERY);
        let doublings = (self.restarts - RESTARTS).min(7);
        tokio::select! {
            () = sleep((FIRST_RETRY * 2_u32.pow(doublings)).min(LAST_RETRY)) => {}
            () = self.context.shutdown.cancelled() => {}
        }
        Ok(())
    }

    /// Waits where the error is transient; otherwise gives it back.
    async fn wait_after(&mut self, error: BusError, backoff: &mut Backoff) -> Result<(), BusError> {
        let ErrorClass::Transient(after) = error.class() else { return Err(error) };
        tracing::warn!(%error, "bus does not answer; retrying");
        self.work.retried();
        self.context.health.set(State::Failing(error.to_string()));
        self.probe = Some(Instant::now() + PROBE_EVERY);
        let delay = backoff.next(after);
        tokio::select! {
            () = sleep(delay) => Ok(()),
            // While draining there is no time to be patient: what is not committed is read again later.
            () = self.context.shutdown.cancelled() => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
