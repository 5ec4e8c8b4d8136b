//! The thread that reads: files in turn, as far as the bus keeps up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::board::Board;
use super::catalog::Catalog;
use super::discover::Patterns;
use super::encode::{Encoder, Request};
use super::join::Rules;
use super::output::Tally;
use super::positions::Position;
use super::rate::{Bucket, Rates};
use super::stream::{Clock, Desk};
use super::watch::{Changes, Watcher};

/// Bytes that are read at once, besides what a line may need.
const READ: usize = 512 * 1024;
/// Time between two rounds when nothing is left over from the last one, so that what is written meanwhile is read, and
/// goes to the bus, in one piece.
const GATHER: Duration = Duration::from_millis(20);
/// Time between two looks at which files there are, however many come and go.
const SCAN_AT_MOST_EVERY: Duration = Duration::from_millis(50);
/// The same, in times of what a look takes.
const SCAN_SHARE: u32 = 10;
/// The same, however long a look takes.
const SCAN_AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// What may be told between two rounds.
const TOLD_AT_ONCE: usize = 256;
/// When copies that are being made are looked at again.
const UNSETTLED: Duration = Duration::from_millis(500);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Wake {
    /// Files changed. The permit lets more be told.
    Changed(Changes, OwnedSemaphorePermit),
    /// The bus holds so many bytes, and these files are read so far.
    Acked { bytes: usize, positions: Vec<Position> },
    /// No more is to be read.
    Stop,
    /// Nothing more will be acknowledged.
    Published,
}

/// What is to be published: requests for one partition, then how far their file is read.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) requests: Vec<Request>,
    pub(super) partition: u32,
    pub(super) positions: Vec<Position>,
}

impl Chunk {
    /// Bytes of its requests.
    pub(super) fn bytes(&self) -> usize {
        self.requests.iter().map(|request| request.value.len()).sum()
    }
}

/// How the thread works.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) patterns: Patterns,
    pub(super) rules: Rules,
    pub(super) request_bytes: usize,
    pub(super) rates: Rates,
    pub(super) in_flight_bytes: usize,
    pub(super) positions_interval: Duration,
    pub(super) poll_interval: Duration,
    pub(super) scan_interval: Duration,
}

/// The thread's state.
pub(super) struct Engine {
    settings: Settings,
    catalog: Catalog,
    watcher: Option<Arc<Watcher>>,
    board: Arc<Board>,
    wakes: Receiver<Wake>,
    /// Gone once no more is read.
    out: Option<UnboundedSender<Chunk>>,
    /// Bytes that the bus has not acknowledged.
    in_flight: usize,
    /// Bytes that wait for the rest of their line or event.
    held: usize,
    buffer: Vec<u8>,
    encoder: Encoder,
    tally: Tally,
    total: Bucket,
    /// Paths that have something to read.
    ready: VecDeque<PathBuf>,
    queued: BTreeSet<PathBuf>,
    /// Paths that are to be looked at by then.
    due: BTreeMap<PathBuf, Instant>,
    /// How often paths have become due.
    dues: usize,
    links: BTreeMap<PathBuf, PathBuf>,
    times: Times,
    published: bool,
}

/// When what was done last, or is to be done next.
struct Times {
    scanned: Option<Instant>,
    /// When the next look may be.
    rested: Instant,
    scan: Instant,
    poll: Instant,
    save: Instant,
    round: Instant,
}

impl Engine {
    pub(super) fn new(
        settings: Settings,
        catalog: Catalog,
        watcher: Option<Arc<Watcher>>,
        board: Arc<Board>,
        wakes: Receiver<Wake>,
        out: UnboundedSender<Chunk>,
    ) -> Self {
        let now = Instant::now();
        // Room for a line of any length with its wrapping.
        let buffer = vec![0; READ.max(2 * settings.rules.most)];
        let total = Bucket::new(settings.rates.total, now);
        Self {
            settings,
            catalog,
            watcher,
            board,
            wakes,
            out: Some(out),
            in_flight: 0,
            held: 0,
            buffer,
            encoder: Encoder::default(),
            tally: Tally::default(),
            total,
            ready: VecDeque::new(),
            queued: BTreeSet::new(),
            due: BTreeMap::new(),
            dues: 0,
            links: BTreeMap::new(),
            times: Times { scanned: None, rested: now, scan: now, poll: now, save: now, round: now },
            published: false,
        }
    }

    /// Reads until it is told to stop and all that was read is acknowledged, or never will be.
    pub(super) fn run(mut self) {
        while self.listen() {
            if self.out.is_some() {
                self.scan();
                self.round();
            }
            self.save(false);
        }
        self.save(true);
    }

    /// Waits until there is something to do; `false` once there never will be.
    fn listen(&mut self) -> bool {
        let mut wait = self.wake_at().saturating_duration_since(Instant::now());
        for _ in 0..TOLD_AT_ONCE {
            match self.wakes.recv_timeout(wait) {
                Ok(wake) => self.take(wake),
                Err(RecvTimeoutError::Timeout) => return !self.published,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
            if self.published {
                return false;
            }
            // Whatever else has been told already, and what is told until the next round is due.
            wait = self.wake_at().saturating_duration_since(Instant::now());
        }
        true
    }

    fn wake_at(&self) -> Instant {
        let Times { scan, poll, save, round, .. } = self.times;
        let mut at = scan.min(poll);
        if self.out.is_none() || self.in_flight >= self.settings.in_flight_bytes {
            at = Instant::now() + self.settings.positions_interval;
        } else if !self.ready.is_empty() {
            at = at.min(round);
        } else {
            at = self.due.values().copied().fold(at, Instant::min).max(round);
        }
        if self.catalog.positions.changed() { at.min(save) } else { at }
    }

    fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Changed(changes, permit) => {
                drop(permit);
                for path in changes.written {
                    let path = self.links.get(&path).cloned().unwrap_or(path);
                    if self.catalog.streams.contains_key(&path) {
                        self.queue(path);
                    }
                }
                if changes.names || changes.overflow {
                    self.scan_soon();
                }
                if changes.overflow {
                    self.times.poll = Instant::now();
                }
            }
            Wake::Acked { bytes, positions } => {
                self.in_flight -= bytes;
                positions.into_iter().for_each(|position| self.catalog.positions.acked(position));
                self.board.in_flight(self.in_flight);
            }
            Wake::Stop => self.out = None,
            Wake::Published => self.published = true,
        }
    }

    fn scan_soon(&mut self) {
        let soon = self.times.scanned.map_or_else(Instant::now, |_| self.times.rested);
        self.times.scan = self.times.scan.min(soon);
    }

    fn queue(&mut self, path: PathBuf) {
        if self.queued.insert(path.clone()) {
            self.ready.push_back(path);
        }
    }

    /// Looks for files, where that is due, and makes those that are to be looked at ready.
    fn scan(&mut self) {
        let clock = clock();
        if self.times.scan <= clock.now {
            let found = self.settings.patterns.find(self.catalog.positions.paths());
            for path in self.catalog.scan(&found, clock) {
                self.queue(path);
            }
            // Before anything is read, so that what rotation does from now on is never taken for history.
            if self.catalog.positions.is_first() {
                self.save(true);
            }
            if let Some(watcher) = &self.watcher {
                self.board.watching(watcher.watch(&found.dirs));
            }
            self.board.found(self.catalog.files(), &found.unreadable);
            self.links = found.links;
            let after = if self.catalog.unsettled() { UNSETTLED } else { self.settings.scan_interval };
            let done = Instant::now();
            self.times.scanned = Some(clock.now);
            let rest = (SCAN_SHARE * done.duration_since(clock.now)).clamp(SCAN_AT_MOST_EVERY, SCAN_AT_LEAST_EVERY);
            self.times.rested = done + rest;
            self.times.scan = done + after.max(rest);
        }
        if self.times.poll <= clock.now {
            let all: Vec<_> = self.catalog.streams.keys().cloned().collect();
            all.into_iter().for_each(|path| self.queue(path));
            let told = self.watcher.is_some() && self.board.told_of_changes();
            let every = if told { self.settings.scan_interval } else { self.settings.poll_interval };
            self.times.poll = clock.now + every;
        }
        let mut due: Vec<_> =
            self.due.iter().filter(|(_, at)| **at <= clock.now).map(|(path, _)| path.clone()).collect();
        // What all files may take together goes to each of them in turn.
        self.dues = self.dues.wrapping_add(1);
        let first = self.dues % due.len().max(1);
        due.rotate_left(first);
        for path in due {
            self.due.remove(&path);
            self.queue(path);
        }
    }

    /// Gives every path that is ready its turn, as far as the bus keeps up.
    fn round(&mut self) {
        if self.times.round > Instant::now() {
            return;
        }
        let mut left_over = VecDeque::new();
        while let Some(path) = self.ready.pop_front() {
            if self.in_flight >= self.settings.in_flight_bytes {
                self.ready.push_front(path);
                break;
            }
            self.queued.remove(&path);
            if self.turn(&path) {
                left_over.push_back(path);
            }
        }
        let more = !left_over.is_empty();
        left_over.into_iter().for_each(|path| self.queue(path));
        self.times.round = Instant::now() + if more { Duration::ZERO } else { GATHER };
        self.board.tally(std::mem::take(&mut self.tally), std::mem::take(&mut self.encoder.replaced));
    }

    /// Reads one path; says whether there is more.
    fn turn(&mut self, path: &PathBuf) -> bool {
        let Some(stream) = self.catalog.streams.get_mut(path) else { return false };
        let mut desk = Desk {
            buffer: &mut self.buffer,
            encoder: &mut self.encoder,
            tally: &mut self.tally,
            rules: &self.settings.rules,
            request_bytes: self.settings.request_bytes,
            total: &mut self.total,
            excess: self.settings.rates.excess,
            crowded: self.held > self.settings.in_flight_bytes,
            clock: clock(),
            scanned: self.times.scanned.unwrap_or(self.times.scan),
        };
        let before = stream.held;
        let turn = stream.turn(&mut desk);
        self.held = self.held - before + stream.held;
        let partition = stream.origin.partition;
        let (requests, positions) = (turn.output.requests, turn.output.positions);
        for (key, error) in turn.failed {
            tracing::warn!(%error, path = %path.display(), "reading a file failed; it is opened again");
            self.catalog.closed(key);
        }
        turn.closed.into_iter().for_each(|(key, length)| self.catalog.read_out(key, length));
        positions.iter().for_each(|position| self.catalog.positions.read(position.clone()));
        if !(requests.is_empty() && positions.is_empty()) {
            let chunk = Chunk { requests, partition, positions };
            self.in_flight += chunk.bytes();
            self.board.in_flight(self.in_flight);
            // Without a publisher the process is about to end.
            let _ = self.out.as_ref().map(|out| out.send(chunk));
        }
        if turn.rewritten {
            self.scan_soon();
        }
        match turn.due {
            Some(due) => drop(self.due.insert(path.clone(), due)),
            None => drop(self.due.remove(path)),
        }
        turn.more
    }

    /// Writes the positions, where they have changed and it is time.
    fn save(&mut self, at_once: bool) {
        let clock = clock();
        if self.catalog.positions.changed() && (at_once || self.times.save <= clock.now) {
            let saved = self.catalog.positions.save(clock.unix_ms());
            self.board.saved(saved.err());
            self.times.save = Instant::now() + self.settings.positions_interval;
        }
    }
}

fn clock() -> Clock {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Clock { now: Instant::now(), unix: u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX) }
}
