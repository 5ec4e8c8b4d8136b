//! The committer: one thread that owns the log, writes what waits as one group, and answers after the sync.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{oneshot, watch};

use super::log::{Batch, Log};
use crate::error::BusError;

/// Bytes written in one group, unless a single batch is larger.
const GROUP_BYTES: usize = 8 << 20;
/// How often retention looks for something to do.
const TICK: Duration = Duration::from_secs(1);

/// The way to the committer thread.
pub(super) struct Committer {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Answered once the batch is durable or refused.
pub(super) type Answer = oneshot::Receiver<Result<(), BusError>>;

struct Request {
    batch: Batch,
    size: usize,
    answer: oneshot::Sender<Result<(), BusError>>,
}

struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Bytes waiting or being written at most.
    budget: usize,
    /// Counts groups; ends with the thread.
    durable: watch::Sender<u64>,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    /// Of the requests and of what is being written.
    bytes: usize,
    closed: bool,
}

impl Committer {
    /// Starts the thread, which holds the lock to its end.
    pub(super) fn start(log: Log, lock: impl Send + 'static, budget: usize) -> std::io::Result<Self> {
        let durable = watch::Sender::new(0);
        let queue = Arc::new(Queue { waiting: Mutex::default(), wake: Condvar::new(), budget, durable });
        let thread = {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name("afflux-log".to_owned()).spawn(move || {
                let _lock = lock;
                run(log, &queue);
            })?
        };
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a batch. Batches become durable in the order in which they are queued.
    pub(super) fn submit(&self, batch: Batch) -> Result<Answer, BusError> {
        let size = batch.size();
        let mut waiting = self.queue.lock();
        if waiting.closed {
            return Err(BusError::Closed);
        }
        // A batch over the whole budget goes alone rather than never.
        if waiting.bytes > 0 && waiting.bytes + size > self.queue.budget {
            let reason = format!("{} of {} bytes are waiting to be written", waiting.bytes, self.queue.budget);
            return Err(BusError::Full { reason });
        }
        let (answer, answered) = oneshot::channel();
        waiting.bytes += size;
        waiting.requests.push_back(Request { batch, size, answer });
        self.queue.wake.notify_one();
        Ok(answered)
    }

    /// Queues a batch and waits until it is durable.
    pub(super) async fn commit(&self, batch: Batch) -> Result<(), BusError> {
        self.submit(batch)?.await.unwrap_or(Err(BusError::Closed))
    }

    /// Changes with every durable group; closed once the log is.
    pub(super) fn durable(&self) -> watch::Receiver<u64> {
        self.queue.durable.subscribe()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Takes nothing more, writes what waits and ends the thread.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.queue.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("committer thread panicked");
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for requests and takes a group of them; an empty one after `patience`. `None` at the end.
    fn take(&self, patience: Duration) -> Option<Vec<Request>> {
        let idle = |waiting: &mut Waiting| waiting.requests.is_empty() && !waiting.closed;
        let (mut waiting, _) =
            self.wake.wait_timeout_while(self.lock(), patience, idle).unwrap_or_else(PoisonError::into_inner);
        if waiting.requests.is_empty() && waiting.closed {
            return None;
        }
        let (mut size, mut count) = (0, 0);
        for request in &waiting.requests {
            size += request.size;
            if count > 0 && size > GROUP_BYTES {
                break;
            }
            count += 1;
        }
        Some(waiting.requests.drain(..count).collect())
    }
}

/// Ends the queue however the thread ends: what comes later is refused, what waits is answered by being dropped.
struct Ending<'a>(&'a Queue);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.closed = true;
        waiting.requests.clear();
        drop(waiting);
        self.0.durable.send_modify(|count| *count += 1);
    }
}

fn run(mut log: Log, queue: &Queue) {
    let _ending = Ending(queue);
    let mut more = false;
    let mut looked = Instant::now();
    while let Some(group) = queue.take(if more { Duration::ZERO } else { TICK }) {
        let mut full = false;
        if !group.is_empty() {
            full = write(&mut log, queue, group);
        }
        if more || full || looked.elapsed() >= TICK {
            more = maintain(&mut log);
            looked = Instant::now();
        }
    }
    if let Err(error) = log.close() {
        tracing::error!(%error, "log not closed in order; it is checked at the next start");
    }
}

/// Writes a group and answers. Whether the disk was full for any of it.
fn write(log: &mut Log, queue: &Queue, group: Vec<Request>) -> bool {
    let size: usize = group.iter().map(|request| request.size).sum();
    let (batches, waiters): (Vec<_>, Vec<_>) = group.into_iter().map(|request| (request.batch, request.answer)).unzip();
    let answers = log.append(&batches);
    drop(batches);
    queue.lock().bytes -= size;
    let full = answers.iter().any(|answer| matches!(answer, Err(BusError::Full { .. })));
    queue.durable.send_modify(|count| *count += 1);
    for (waiter, answer) in waiters.into_iter().zip(answers) {
        // Whoever dropped the future does not want to know.
        let _ = waiter.send(answer);
    }
    full
}

fn maintain(log: &mut Log) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match log.maintain(i64::try_from(now.as_millis()).unwrap_or(i64::MAX)) {
        Ok(more) => more,
        // Tried again at the next tick.
        Err(error @ BusError::Full { .. }) => {
            tracing::debug!(%error, "no room to free space");
            false
        }
        Err(error) => {
            tracing::error!(%error, "retention cannot free the oldest segment");
            false
        }
    }
}
