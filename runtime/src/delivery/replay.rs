//! One sink fed again from a time on, beside the group that it usually reads with.
//!
//! Nothing of the group changes: what is new goes on arriving as before. A replay keeps no position; one that breaks
//! off is started again, which does no harm, since backends know what they have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use afflux_bus::{Bus, BusError, ErrorClass, PartitionId, Reader, ReaderConfig, ReaderEvent, Received, Start};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::backend::{Backend, Batch, Order};
use super::deliver::Deliverer;
use super::queue::Queue;
use super::sink::Delivery;
use super::trouble::Condition;
use crate::backoff::Backoff;
use crate::dead_letter;
use crate::metrics::Metrics;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// What part of `in_flight` a replay takes, on top of what the sink itself has.
const SHARE: usize = 4;
/// First and longest wait after a read that failed.
const READ: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What is replayed: records of these times, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The first time.
    pub from_ms: i64,
    /// The time behind the last; `None` is all that there is when the replay begins.
    pub until_ms: Option<i64>,
}

/// How far a replay has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Records that are delivered, or dead letters.
    pub records: u64,
    /// Spans, log records or series in them.
    pub items: u64,
    /// Those of them that became dead letters, in parts perhaps.
    pub dead_letters: u64,
    /// Samples or items that the backend did not take: it has them, or newer ones of their series, or rejected them.
    pub passed_over: u64,
    /// Time of the newest record read, milliseconds since the Unix epoch.
    pub newest_ms: Option<i64>,
    /// What keeps it from going on at the moment.
    pub problem: Option<String>,
    /// Whether it has come to its end.
    pub done: bool,
}

/// A sink that can be fed again.
#[async_trait]
pub trait Replay: Send {
    /// Name of the component.
    fn name(&self) -> &'static str;

    /// Reads what is of these times, up to what is on the bus now, and delivers it. Tells its progress now and then, and
    /// at its end; ends early where nobody listens.
    ///
    /// # Errors
    /// The bus fails for good.
    async fn replay(self: Box<Self>, bus: Arc<dyn Bus>, of: Span, told: mpsc::Sender<Progress>)
    -> Result<(), BusError>;
}

#[async_trait]
impl<B: Backend> Replay for Delivery<B> {
    fn name(&self) -> &'static str {
        Delivery::name(self)
    }

    async fn replay(
        self: Box<Self>,
        bus: Arc<dyn Bus>,
        of: Span,
        told: mpsc::Sender<Progress>,
    ) -> Result<(), BusError> {
        let config = ReaderConfig { from: Start::Timestamp(of.from_ms), ..ReaderConfig::new(self.topics()) };
        let fetch_bytes = config.fetch_bytes.min(self.in_flight() / SHARE / 4);
        let reader = bus.reader(ReaderConfig { fetch_bytes, ..config }).await?;
        // Counts of its own: those of the process are about what is new.
        let deliverer = Arc::new(self.deliverer(bus.producer().await?, Arc::new(Metrics::new())));
        let replaying = Replaying {
            deliverer,
            of,
            queues: BTreeMap::new(),
            rounds: JoinSet::new(),
            bytes: 0,
            progress: Progress::default(),
        };
        replaying.run(reader, &told).await
    }
}

struct Replaying<B: Backend> {
    deliverer: Arc<Deliverer<B>>,
    of: Span,
    /// Batches of each partition, and how many are on their way.
    queues: BTreeMap<PartitionId, (Queue, usize)>,
    rounds: JoinSet<Delivered>,
    /// Of records that wait or are on their way.
    bytes: usize,
    progress: Progress,
}

struct Delivered {
    partition: PartitionId,
    records: u64,
    items: u64,
    bytes: usize,
    result: Result<(), BusError>,
}

impl<B: Backend> Replaying<B> {
    async fn run(mut self, mut reader: Box<dyn Reader>, told: &mpsc::Sender<Progress>) -> Result<(), BusError> {
        let mut pace = Backoff::new(READ.0, READ.1);
        let (mut ticks, mut complete) = (interval(TELL_EVERY), false);
        while !complete || !self.rounds.is_empty() {
            let room = self.bytes < self.deliverer.config.in_flight.as_usize() / SHARE;
            tokio::select! {
                biased;
                Some(ended) = self.rounds.join_next() => self.delivered(ended)?,
                _ = ticks.tick() => if told.send(self.now(false)).await.is_err() {
                    return Ok(());
                },
                event = reader.next(), if !complete && room => match event {
                    Ok(ReaderEvent::Records(records)) => {
                        pace.reset();
                        records.into_iter().for_each(|record| self.take(record));
                    }
                    Ok(ReaderEvent::CaughtUp(_)) => {}
                    Ok(ReaderEvent::Complete) => {
                        complete = true;
                        self.queues.values_mut().for_each(|(queue, _)| queue.close_all());
                    }
                    Err(error) => match error.class() {
                        ErrorClass::Transient(asked) => pace.wait(asked).await,
                        ErrorClass::Permanent | ErrorClass::Fatal => return Err(error),
                    },
                },
            }
            self.send(!room);
        }
        let _ = told.send(self.now(true)).await;
        Ok(())
    }

    fn now(&self, done: bool) -> Progress {
        let problem = match self.deliverer.troubles.condition() {
            Condition::Well => None,
            Condition::Delayed(error) | Condition::Blocked(_, error) => Some(error),
        };
        let dead_letters = self.deliverer.refused.load(std::sync::atomic::Ordering::Relaxed);
        let passed_over = self.deliverer.passed_over.load(std::sync::atomic::Ordering::Relaxed);
        Progress { problem, dead_letters, passed_over, done, ..self.progress.clone() }
    }

    fn take(&mut self, record: Received) {
        let Span { from_ms, until_ms } = self.of;
        let time_ms = record.timestamp_ms;
        self.progress.newest_ms = self.progress.newest_ms.max(Some(time_ms));
        let another = dead_letter::is_for_another(&record.headers, self.deliverer.backend.name());
        if another || time_ms < from_ms || until_ms.is_some_and(|until_ms| time_ms >= until_ms) {
            return;
        }
        let inputs = self.deliverer.backend.inputs();
        let Some(input) = inputs.iter().find(|input| input.topic == record.from.topic) else { return };
        let (order, limits) = (self.deliverer.backend.order(), &self.deliverer.config.batch);
        let fresh = || (Queue::new(input.kind, order, limits), 0);
        let (queue, _) = self.queues.entry(record.from.clone()).or_insert_with(fresh);
        self.bytes += record.size();
        queue.push(record, Instant::now());
    }

    /// Sends what may be sent now; whatever there is where memory is full, since no more comes before.
    fn send(&mut self, full: bool) {
        let at_once = match self.deliverer.backend.order() {
            Order::ByKey => 1,
            Order::Any => self.deliverer.config.concurrency.max(1) as usize,
        };
        for (partition, (queue, on_their_way)) in &mut self.queues {
            if full && *on_their_way == 0 {
                queue.close_all();
            }
            while *on_their_way < at_once {
                let Some(mut round) = queue.pop() else { break };
                round.iter_mut().for_each(|batch| batch.replay = true);
                *on_their_way += 1;
                self.rounds.spawn(deliver(Arc::clone(&self.deliverer), partition.clone(), round));
            }
        }
    }

    fn delivered(&mut self, ended: Result<Delivered, tokio::task::JoinError>) -> Result<(), BusError> {
        let delivered = match ended {
            Ok(delivered) => delivered,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Ok(()),
        };
        delivered.result?;
        self.progress.records += delivered.records;
        self.progress.items += delivered.items;
        self.bytes = self.bytes.saturating_sub(delivered.bytes);
        if let Some((_, on_their_way)) = self.queues.get_mut(&delivered.partition) {
            *on_their_way -= 1;
        }
        Ok(())
    }
}

async fn deliver<B: Backend>(deliverer: Arc<Deliverer<B>>, partition: PartitionId, round: Vec<Batch>) -> Delivered {
    let records = round.iter().map(|batch| batch.records.len() as u64).sum();
    let bytes = round.iter().flat_map(|batch| &batch.records).map(Received::size).sum();
    let items = round.iter().map(Batch::items).sum();
    let result = deliverer.deliver_all(round).await;
    Delivered { partition, records, items, bytes, result }
}

type Build = dyn Fn(&str) -> Result<Box<dyn Replay>, String> + Send + Sync;

/// The sinks of a process that can be fed again, for operators who cannot open its bus.
#[derive(Clone)]
pub struct Replays {
    bus: Arc<dyn Bus>,
    build: Arc<Build>,
    /// Names of the sinks that are being fed.
    running: Arc<Mutex<Vec<&'static str>>>,
}

impl std::fmt::Debug for Replays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replays").field("running", &self.running).finish_non_exhaustive()
    }
}

impl Replays {
    /// `build` makes the sink of a name anew, or says why there is none.
    pub fn new(
        bus: Arc<dyn Bus>,
        build: impl Fn(&str) -> Result<Box<dyn Replay>, String> + Send + Sync + 'static,
    ) -> Self {
        Self { bus, build: Arc::new(build), running: Arc::default() }
    }

    /// Starts one, whose progress is told until it ends. It ends early where nobody listens any more.
    ///
    /// # Errors
    /// There is no such sink, or one of its replays is on its way.
    pub fn start(&self, sink: &str, of: Span) -> Result<mpsc::Receiver<Result<Progress, String>>, String> {
        let replay = (self.build)(sink)?;
        let name = replay.name();
        let running = Running::begin(&self.running, name)?;
        let (sender, receiver) = mpsc::channel(1);
        let (told, mut progress) = mpsc::channel(1);
        let bus = Arc::clone(&self.bus);
        tokio::spawn(async move {
            let replaying = replay.replay(bus, of, told);
            let telling = async {
                while let Some(progress) = progress.recv().await {
                    if sender.send(Ok(progress)).await.is_err() {
                        break;
                    }
                }
                // Whoever replays hears of it at its next word.
                drop(progress);
            };
            let (result, ()) = tokio::join!(replaying, telling);
            if let Err(error) = result {
                let _ = sender.send(Err(error.to_string())).await;
            }
            drop(running);
        });
        Ok(receiver)
    }
}

/// A sink's entry among those that are being fed, which ends with it.
struct Running {
    all: Arc<Mutex<Vec<&'static str>>>,
    name: &'static str,
}

impl Running {
    fn begin(all: &Arc<Mutex<Vec<&'static str>>>, name: &'static str) -> Result<Self, String> {
        let mut running = all.lock().unwrap_or_else(PoisonError::into_inner);
        if running.contains(&name) {
            return Err(format!("a replay of {name} is on its way already"));
        }
        running.push(name);
        Ok(Self { all: Arc::clone(all), name })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != self.name);
    }
}
