//! One membership in the group: from joining to leaving.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{Assignment, BusError, Consumer, ErrorClass, Event, Generation, Offset, PartitionId, Received};
use afflux_runtime::admin::{Health, State};
use afflux_runtime::metrics::{PartitionLabels, ReasonLabels};
use afflux_runtime::waits::{CatchUp, Outage};
use afflux_runtime::{Backoff, Context};
use afflux_schemas::topics::Topics;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{REVOKE_TIMEOUT, Shared};
use crate::parquet::NAME;
use crate::parquet::error::{ParquetError, Stopped};
use crate::parquet::layout::Layout;
use crate::parquet::partition::{Command, Partition};
use crate::parquet::pressure::{Load, Plan, Usage, plan};
use crate::parquet::range::Target;
use crate::parquet::table::Table;
use crate::parquet::writer::{Interrupt, Line, Message, Request};

/// How long ranges may take to be written out when partitions are taken away, within what the bus allows.
const REVOKE_WITHIN: Duration = REVOKE_TIMEOUT.saturating_sub(Duration::from_secs(5));
/// How long they may take when the process stops, within what Kubernetes allows by default.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);
/// First and longest wait after a poll that failed.
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long a partition whose commit was refused may stay assigned before the group is joined again.
const GONE_PATIENCE: Duration = Duration::from_secs(10);

/// Why a session is over.
#[derive(Debug)]
pub(super) enum Ended {
    /// The process stops, and what could be stored is.
    Drained,
    /// Records have to be read again.
    Rejoin {
        /// A fixed word.
        reason: &'static str,
        /// Whether anything was committed.
        progress: bool,
    },
}

/// A membership in the group.
pub(super) struct Session {
    consumer: Box<dyn Consumer>,
    outage: Outage,
    shared: Arc<Shared>,
    /// By topic.
    tables: [(Arc<str>, Table); Table::ALL.len()],
    health: Health,
    shutdown: CancellationToken,
    partitions: BTreeMap<PartitionId, Handle>,
    writers: JoinSet<(PartitionId, Generation, Result<(), Interrupt>)>,
    messages: (mpsc::UnboundedSender<Message>, mpsc::UnboundedReceiver<Message>),
    /// Notified when memory is freed.
    relief: Arc<Notify>,
    short: bool,
    progress: bool,
    rejoin: Option<&'static str>,
    /// When partitions without a writer are looked for.
    gone: Option<Instant>,
}

/// The sink's side of a partition's writer.
struct Handle {
    generation: Generation,
    inbox: mpsc::UnboundedSender<Command>,
    usage: Arc<Usage>,
    writer: AbortHandle,
    paused: bool,
    problem: Option<String>,
    state: WriterState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriterState {
    /// Takes records.
    Running,
    /// Told to end.
    Draining,
    /// The bus refused its commit; what becomes of the partition is still to be heard.
    Gone,
    /// Will never take records again; the partition stays paused.
    Stopped,
}

impl Session {
    pub(super) fn new(consumer: Box<dyn Consumer>, shared: Arc<Shared>, topics: &Topics, context: &Context) -> Self {
        let tables = Table::ALL.map(|table| (Arc::from(table.topic(topics)), table));
        let read = tables.iter().map(|(topic, _)| Arc::clone(topic)).collect();
        Self {
            consumer,
            outage: Outage::new(context.bus.clone(), &shared.config.group, read),
            shared,
            tables,
            health: context.health.clone(),
            shutdown: context.shutdown.clone(),
            partitions: BTreeMap::new(),
            writers: JoinSet::new(),
            messages: mpsc::unbounded_channel(),
            relief: Arc::default(),
            short: false,
            progress: false,
            rejoin: None,
            gone: None,
        }
    }

    /// Runs until the process stops or records have to be read again. On return no writer is alive.
    pub(super) async fn run(mut self) -> Result<Ended, ParquetError> {
        let result = self.serve().await;
        if result.is_ok() {
            let all: Vec<_> = self.partitions.keys().cloned().collect();
            self.drain(&all, DRAIN_WITHIN).await;
        }
        self.writers.shutdown().await;
        self.consumer.close().await;
        result
    }

    async fn serve(&mut self) -> Result<Ended, ParquetError> {
        let mut pace = Backoff::new(POLL.0, POLL.1);
        let mut stopping: Option<CatchUp> = None;
        loop {
            if let Some(reason) = self.rejoin {
                return Ok(Ended::Rejoin { reason, progress: self.progress });
            }
            let shutdown = self.shutdown.clone();
            let relief = Arc::clone(&self.relief);
            let ends_at = stopping.map_or_else(Instant::now, |catch_up| catch_up.ends_at());
            let (gone, answers) = (self.gone, Arc::clone(&self.outage.answers));
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if stopping.is_none() => stopping = Some(CatchUp::begin()),
                () = sleep_until(ends_at), if stopping.is_some() => return Ok(Ended::Drained),
                Some(message) = self.messages.1.recv() => self.answer(message).await,
                Some(ended) = self.writers.join_next() => self.ended(ended),
                () = relief.notified() => self.balance()?,
                () = async { sleep_until(gone.unwrap_or_else(Instant::now)).await }, if gone.is_some() => self.look_for_gone(),
                () = answers.notified() => if self.outage.over() {
                    self.show();
                },
                event = self.consumer.poll() => match event {
                    Ok(event) => {
                        pace.reset();
                        if self.outage.over() {
                            self.show();
                        }
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

    async fn poll_failed(&mut self, error: BusError, pace: &mut Backoff) -> Result<(), ParquetError> {
        match error.class() {
            ErrorClass::Fatal => return Err(error.into()),
            // Fresh assignments follow.
            _ if matches!(error, BusError::Fenced { .. } | BusError::Restarted { .. }) => {}
            ErrorClass::Permanent => {
                self.health.set(State::Failing(error.to_string()));
                self.rejoin = Some("poll_refused");
            }
            ErrorClass::Transient(delay) => {
                let labels = ReasonLabels { component: NAME, reason: "poll" };
                self.shared.metrics.retries.get_or_create(&labels).inc();
                tracing::warn!(%error, "poll failed, trying again");
                self.outage.begin(error.to_string());
                self.show();
                let delay = pace.next(delay);
                tokio::select! {
                    () = self.shutdown.cancelled() => {}
                    () = tokio::time::sleep(delay) => {}
                }
            }
        }
        Ok(())
    }

    async fn handle(&mut self, event: Event) -> Result<(), ParquetError> {
        match event {
            Event::Assigned(assignments) => assignments.iter().for_each(|assignment| self.assign(assignment)),
            Event::Revoked(partitions) => {
                self.drain(&partitions, REVOKE_WITHIN).await;
                for partition in &partitions {
                    self.forget(partition);
                }
                self.show();
            }
            Event::Records(records) => self.distribute(records),
            Event::Expired { partition, records } => {
                let labels = PartitionLabels::new(NAME, &partition);
                self.shared.metrics.expired_records.get_or_create(&labels).inc_by(records);
            }
        }
        self.balance()
    }

    fn assign(&mut self, assignment: &Assignment) {
        let Assignment { partition, generation, .. } = assignment;
        self.forget(partition);
        let Some((_, table)) = self.tables[..].iter().find(|(topic, _)| *topic == partition.topic) else { return };
        let table = *table;
        let line = Line {
            partition: partition.clone(),
            generation: *generation,
            outbox: self.messages.0.clone(),
            metrics: Arc::clone(&self.shared.metrics),
        };
        let usage = Usage::new(Arc::clone(&self.relief));
        let layout = Layout::new(self.shared.base.clone(), table, partition, self.shared.config.epoch);
        let target = Target { shared: Arc::clone(&self.shared), line, usage: Arc::clone(&usage), table, layout };
        let (inbox, commands) = mpsc::unbounded_channel();
        let writer = Partition::new(target, assignment, commands);
        let (id, generation) = (partition.clone(), *generation);
        let writer = self.writers.spawn(async move { (id, generation, Box::pin(writer.run()).await) });
        let state = WriterState::Running;
        let handle = Handle { generation, inbox, usage, writer, paused: false, problem: None, state };
        self.partitions.insert(partition.clone(), handle);
    }

    /// Drops a partition, with whatever its writer has in hand.
    fn forget(&mut self, partition: &PartitionId) {
        if let Some(handle) = self.partitions.remove(partition) {
            handle.writer.abort();
        }
    }

    fn distribute(&mut self, records: Vec<Received>) {
        let mut by_partition = BTreeMap::<PartitionId, Vec<Received>>::new();
        for record in records {
            by_partition.entry(record.from.clone()).or_default().push(record);
        }
        for (partition, records) in by_partition {
            let Some(handle) = self.partitions.get(&partition) else { continue };
            if handle.state != WriterState::Running {
                continue;
            }
            let records: Vec<_> = records.into_iter().filter(|r| r.generation == handle.generation).collect();
            handle.usage.queue(records.iter().map(Received::size).sum());
            // A writer that has just ended says so by its end.
            let _ = handle.inbox.send(Command::Records(records));
        }
    }

    /// Pauses and resumes partitions, and makes room where memory is short.
    fn balance(&mut self) -> Result<(), ParquetError> {
        let loads: Vec<Load> = self.partitions.values().map(|handle| handle.usage.load()).collect();
        let pause = self.partitions.values().map(|handle| handle.paused).collect();
        let before = Plan { pause, relieve: None, short: self.short };
        let decided = plan(&loads, &before, self.shared.config.in_flight.as_usize());
        self.short = decided.short;
        let mut in_flight = [0; Table::ALL.len()];
        for (i, (partition, handle)) in self.partitions.iter_mut().enumerate() {
            let of_table = self.tables.iter().position(|(topic, _)| *topic == partition.topic);
            in_flight[of_table.unwrap_or_default()] += loads[i].total();
            if decided.relieve == Some(i) {
                let _ = handle.inbox.send(Command::Relieve);
            }
            let pause = decided.pause[i] || matches!(handle.state, WriterState::Stopped | WriterState::Gone);
            if pause != handle.paused {
                let switch = if pause { self.consumer.pause(partition) } else { self.consumer.resume(partition) };
                match switch {
                    Ok(()) => handle.paused = pause,
                    // Taken away meanwhile, as the next poll will say.
                    Err(error) if error.class() != ErrorClass::Fatal => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        for ((_, table), bytes) in self.tables.iter().zip(in_flight) {
            let labels = Shared::labels(*table);
            self.shared.metrics.in_flight_bytes.get_or_create(&labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    async fn answer(&mut self, message: Message) {
        let Message { partition, generation, request } = message;
        let current = self.partitions.get_mut(&partition).filter(|handle| handle.generation == generation);
        match request {
            Request::Commit { next, reply } => {
                let offset = Offset { partition, generation, next };
                let result = self.consumer.commit(&[offset]).await;
                if result.is_ok() && !std::mem::replace(&mut self.progress, true) {
                    self.show();
                }
                let _ = reply.send(result);
            }
            Request::Position { reply } => {
                let _ = reply.send(self.consumer.committed(&partition).await);
            }
            Request::Problem(problem) => {
                if let Some(handle) = current {
                    handle.problem = problem;
                    self.show();
                }
            }
        }
    }

    /// Says how the component is: what keeps the first partition in trouble from making progress.
    fn show(&self) {
        let problem = self.partitions.values().find_map(|handle| handle.problem.clone());
        let problem = self.outage.problem.clone().or(problem);
        self.health.set(problem.map_or(State::Ready, State::Failing));
    }

    fn ended(&mut self, ended: Result<(PartitionId, Generation, Result<(), Interrupt>), JoinError>) {
        let Ok((partition, generation, result)) = ended else {
            // Aborted, or a bug: then its partition would silently stand still.
            if ended.is_err_and(|error| error.is_panic()) {
                self.rejoin = Some("writer_panicked");
            }
            return;
        };
        let Some(handle) = self.partitions.get_mut(&partition).filter(|h| h.generation == generation) else { return };
        let draining = handle.state == WriterState::Draining;
        handle.state = WriterState::Stopped;
        // Whatever it held is gone with it.
        handle.usage = Usage::new(Arc::clone(&self.relief));
        self.relief.notify_one();
        match result {
            Ok(()) => {}
            // Mostly the bus says next that the partition is not ours any more.
            Err(Interrupt::Gone) => {
                handle.state = WriterState::Gone;
                self.gone.get_or_insert_with(|| Instant::now() + GONE_PATIENCE);
            }
            Err(Interrupt::Restart(reason)) if !draining => self.rejoin = Some(reason),
            Err(Interrupt::Restart(_)) => {}
            Err(Interrupt::Stop(stop)) => {
                let stopped = Stopped { partition, stop };
                tracing::error!(error = %stopped, "partition is stopped, the others go on");
                handle.problem = Some(stopped.to_string());
                self.show();
            }
        }
    }

    /// A partition that stays assigned after its commit was refused has no writer: only a fresh assignment helps.
    fn look_for_gone(&mut self) {
        self.gone = None;
        if self.partitions.values().any(|handle| handle.state == WriterState::Gone) {
            self.rejoin = Some("fenced");
        }
    }

    /// Has the ranges of partitions written out and committed, as far as the time allows.
    async fn drain(&mut self, partitions: &[PartitionId], within: Duration) {
        let deadline = Instant::now() + within;
        for partition in partitions {
            if let Some(handle) = self.partitions.get_mut(partition).filter(|h| h.state == WriterState::Running) {
                handle.state = WriterState::Draining;
                let _ = handle.inbox.send(Command::Drain);
            }
        }
        let is_draining = |session: &Self, partition: &PartitionId| {
            session.partitions.get(partition).is_some_and(|handle| handle.state == WriterState::Draining)
        };
        while partitions.iter().any(|partition| is_draining(self, partition)) {
            tokio::select! {
                biased;
                Some(message) = self.messages.1.recv() => self.answer(message).await,
                Some(ended) = self.writers.join_next() => self.ended(ended),
                () = sleep_until(deadline) => {
                    tracing::warn!("ranges were not written out in time; they are read again");
                    return;
                }
            }
        }
    }
}
