//! The writer of one partition, from its assignment until it is given up: which range is next, what goes into it,
//! and steps 2 and 4 of the protocol.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{Assignment, Received};
use afflux_runtime::dead_letter::{is_for_another, items};
use object_store::path::Path;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::NAME;
use super::clock::Mark;
use super::dead_letters;
use super::error::Stop;
use super::intent::{Floor, Intent};
use super::layout::offset_of;
use super::pressure::Phase;
use super::protocol::{self, Claim, Position, Resume};
use super::range::{Admission, Range, Sealed, Target};
use super::rows::scan;
use super::upkeep;
use super::writer::{Interrupt, Shared, Trouble, persist};

/// Age of the reading of a position at which it is read again before a range is claimed.
const POSITION_MAX_AGE: Duration = Duration::from_secs(600);
/// How often old intents are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Records taken in between two looks at what else there is to do.
const RECORDS_PER_TURN: usize = 16;

/// From the sink to a writer.
#[derive(Debug)]
pub(crate) enum Command {
    /// Records in the order of the bus.
    Records(Vec<Received>),
    /// Free memory: end the range, or if its end is fixed, write out what waits.
    Relieve,
    /// End the range after what was sent so far, or if its end is fixed leave it, and finish.
    Drain,
}

/// The writer of one partition.
pub(crate) struct Partition {
    target: Target,
    inbox: mpsc::UnboundedReceiver<Command>,
    queue: VecDeque<Received>,
    relieve: bool,
    draining: bool,
    /// Where the group's position was when it was last read or committed, and when that was.
    position: (u64, Mark),
    /// Records below this are stored already.
    floor: Floor,
    /// Beginnings of the ranges that existed at the start, in order.
    ranges: Vec<u64>,
    /// When old intents were last looked for and none was left.
    swept: Option<Mark>,
}

/// Why a range takes no more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// It is written.
    Ends,
    /// There is nothing to write, or it ends further on, and no more is to come.
    Abandoned,
}

impl Partition {
    /// A writer for a fresh assignment.
    pub(crate) fn new(target: Target, assignment: &Assignment, inbox: mpsc::UnboundedReceiver<Command>) -> Self {
        let position = (assignment.position, target.shared.clock.mark());
        let floor = Floor { floor: 0, raised_ms: 0 };
        Self {
            target,
            inbox,
            queue: VecDeque::new(),
            relieve: false,
            draining: false,
            position,
            floor,
            ranges: Vec::new(),
            swept: None,
        }
    }

    /// Writes range after range until it is told to drain. Ends early where the partition cannot be written or
    /// does not belong to this writer any more.
    pub(crate) async fn run(mut self) -> Result<(), Interrupt> {
        let mut first = self.locate().await?;
        let mut replays = self.intent(first).await?;
        loop {
            let was_replay = replays.is_some();
            let Some(next) = self.write_range(first, replays).await? else { return Ok(()) };
            first = next;
            // A writer that lost its offsets goes through a chain of intents. Otherwise there is none here, and
            // if there is, step 2 finds it.
            let exists = was_replay || self.ranges.binary_search(&first).is_ok();
            replays = if exists { self.intent(first).await? } else { None };
        }
    }

    /// Finds where the first range begins: the committed position, unless more than that is stored.
    async fn locate(&mut self) -> Result<u64, Interrupt> {
        self.floor = self.highest_floor().await?;
        let Target { shared, line, layout, .. } = &self.target;
        let position = self.position.0.max(self.floor.floor);
        let committed = line.position().await?.is_some();
        let intents = persist!(line, shared.store.list(&layout.intents()))?;
        let firsts: Vec<_> = intents.iter().filter_map(|intent| offset_of(&intent.path)).collect();
        let position = match protocol::resume(&firsts, position) {
            Resume::At(position) => position,
            Resume::Within { first, followed } => {
                let intent: Option<Intent> = self.read(&layout.intent(first), first).await?;
                protocol::resume_after(intent.as_ref(), followed, position, committed)?
            }
        };
        if position > self.floor.floor {
            // Whatever is younger shows itself by its fingerprint in the next intent.
            self.floor = Floor { floor: position, raised_ms: i64::MAX };
        }
        self.ranges = firsts;
        Ok(position)
    }

    async fn highest_floor(&self) -> Result<Floor, Interrupt> {
        let Target { shared, line, layout, .. } = &self.target;
        loop {
            let floors = persist!(line, shared.store.list(&layout.floors()))?;
            let highest = floors.iter().rev().find_map(|found| Some((offset_of(&found.path)?, &found.path)));
            let Some((offset, path)) = highest else { return Ok(Floor { floor: 0, raised_ms: 0 }) };
            // One that is gone by now was replaced by a higher one.
            if let Some(floor) = self.read(path, offset).await? {
                return Ok(floor);
            }
        }
    }

    /// The intent for the range that begins at an offset.
    async fn intent(&self, first: u64) -> Result<Option<Intent>, Interrupt> {
        let intent: Option<Intent> = self.read(&self.target.layout.intent(first), first).await?;
        if let Some(intent) = &intent {
            protocol::admissible(intent, first)?;
            tracing::info!(partition = %self.target.line.partition, first, last = intent.last, "range is written again");
        }
        Ok(intent)
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, path: &Path, first: u64) -> Result<Option<T>, Interrupt> {
        let Target { shared, line, .. } = &self.target;
        let Some(bytes) = persist!(line, shared.store.read(path))? else { return Ok(None) };
        let bad = |error: serde_json::Error| Stop::BadIntent { first, reason: error.to_string() };
        Ok(Some(serde_json::from_slice(&bytes).map_err(bad)?))
    }

    /// Writes one range and returns where the next one begins; `None` once there is no more to come.
    async fn write_range(&mut self, first: u64, replays: Option<Intent>) -> Result<Option<u64>, Interrupt> {
        let phase = if replays.is_some() { Phase::Replaying } else { Phase::Filling };
        self.target.usage.set_phase(phase);
        let written = self.try_range(first, replays).await;
        self.target.usage.forget_encoded();
        written
    }

    async fn try_range(&mut self, first: u64, replays: Option<Intent>) -> Result<Option<u64>, Interrupt> {
        let before = self.ranges.get(self.ranges.partition_point(|&range| range <= first)).copied();
        let mut range = Range::new(self.target.clone(), first, replays, before);
        if self.fill(&mut range).await? == Filled::Abandoned {
            return Ok(None);
        }
        if range.is_empty() {
            // Nothing lies between here and a range that exists.
            return Ok(before);
        }
        self.target.usage.set_phase(Phase::Flushing);
        let sealed = range.seal().await?;
        self.claim(&sealed).await?;
        let (next, totals) = (sealed.intent.last + 1, sealed.totals);
        sealed.complete().await?;
        self.target.line.commit(next).await?;
        self.position = (next, self.target.shared.clock.mark());
        let labels = Shared::labels(self.target.table);
        let metrics = &self.target.shared.metrics;
        metrics.settled_items.get_or_create(&labels).inc_by(totals.items);
        metrics.settled_bytes.get_or_create(&labels).inc_by(totals.bytes);
        tracing::debug!(
            partition = %self.target.line.partition, first, last = next - 1, totals.records, totals.items,
            "range is stored"
        );
        self.sweep(next).await?;
        Ok(Some(next))
    }

    async fn sweep(&mut self, position: u64) -> Result<(), Interrupt> {
        let clock = &self.target.shared.clock;
        if self.draining || self.swept.is_some_and(|at| clock.age(at) < SWEEP_EVERY) {
            return Ok(());
        }
        let more = upkeep::sweep(&self.target, position).await?;
        self.swept = (!more).then(|| self.target.shared.clock.mark());
        Ok(())
    }

    /// Step 2.
    async fn claim(&mut self, sealed: &Sealed) -> Result<(), Interrupt> {
        let ours = &sealed.intent;
        let path = self.target.layout.intent(ours.first);
        let json = serde_json::to_vec(ours).map_err(|error| Stop::Encode { reason: error.to_string() })?;
        let json = bytes::Bytes::from(json);
        let line = self.target.line.clone();
        let mut trouble = Trouble::new(&line);
        let created = loop {
            // Before every attempt: those before it may have taken days.
            self.confirm_position().await?;
            match self.target.shared.store.create(&path, json.clone()).await {
                Ok(created) => break created,
                Err(error) => trouble.store(&error).await?,
            }
        };
        trouble.over();
        if created {
            return Ok(());
        }
        // An intent that was there and is gone again was swept, or removed by hand: our position is too old.
        let Some(theirs) = self.read::<Intent>(&path, ours.first).await? else {
            return Err(Interrupt::Restart("range_swept"));
        };
        match protocol::claim(ours, theirs)? {
            Claim::Write => Ok(()),
            Claim::Replay(_) => Err(Interrupt::Restart("range_taken")),
        }
    }

    /// Reads the position again where that was too long ago.
    async fn confirm_position(&mut self) -> Result<(), Interrupt> {
        let (read, at) = self.position;
        if self.target.shared.clock.age(at) > POSITION_MAX_AGE {
            let fresh = self.target.line.position().await?;
            if protocol::position(read, fresh) == Position::Moved {
                return Err(Interrupt::Restart("position_moved"));
            }
            self.position = (read, self.target.shared.clock.mark());
        }
        Ok(())
    }

    /// Takes records into a range until it ends.
    async fn fill(&mut self, range: &mut Range) -> Result<Filled, Interrupt> {
        let default_cluster = range.default_cluster();
        loop {
            self.take_commands()?;
            if std::mem::take(&mut self.relieve) && !range.is_empty() {
                if !range.is_replay() {
                    return Ok(Filled::Ends);
                }
                range.spill().await?;
            }
            for _ in 0..RECORDS_PER_TURN {
                let Some(record) = self.queue.pop_front() else { break };
                if !self.take(range, &default_cluster, record).await? {
                    return Ok(Filled::Ends);
                }
            }
            if !self.queue.is_empty() {
                tokio::task::yield_now().await;
            } else if self.draining {
                let abandoned = range.is_empty() || range.is_replay();
                return Ok(if abandoned { Filled::Abandoned } else { Filled::Ends });
            } else if self.wait(range.ages_at()).await? {
                return Ok(Filled::Ends);
            }
        }
    }

    /// Takes a record into a range. Says whether the range goes on.
    async fn take(&mut self, range: &mut Range, cluster: &Arc<str>, record: Received) -> Result<bool, Interrupt> {
        let Target { shared, line, usage, table, .. } = &self.target;
        if record.offset < self.floor.floor {
            protocol::below_floor(record.offset, record.timestamp_ms, self.floor.raised_ms)?;
            usage.dequeue(record.size());
            shared.dropped("stored_before", items(&record.headers));
            return Ok(true);
        }
        if range.admit(&record)? == Admission::Beyond {
            self.queue.push_front(record);
            return Ok(false);
        }
        usage.dequeue(record.size());
        // It counts for the range like any other, so that names and rows stay a function of the range.
        if is_for_another(&record.headers, NAME) {
            shared.dropped("replay_of_another", items(&record.headers));
            return Ok(!range.is_full());
        }
        match scan(*table, &record, cluster, usage) {
            Ok(rows) => range.add(rows).await?,
            Err(malformed) => {
                let (partition, offset) = (&record.from, record.offset);
                tracing::error!(%partition, offset, error = %malformed, "record cannot be stored, now a dead letter");
                dead_letters::publish(shared, line, &record, malformed.reason(), &malformed.to_string()).await?;
            }
        }
        Ok(!range.is_full())
    }

    /// Waits for a command. Says whether the time is up first.
    async fn wait(&mut self, until: Option<Instant>) -> Result<bool, Interrupt> {
        let command = self.inbox.recv();
        let command = match until {
            Some(until) => match timeout_at(until, command).await {
                Ok(command) => command,
                Err(_) => return Ok(true),
            },
            None => command.await,
        };
        self.obey(command.ok_or(Interrupt::Gone)?);
        Ok(false)
    }

    fn take_commands(&mut self) -> Result<(), Interrupt> {
        loop {
            match self.inbox.try_recv() {
                Ok(command) => self.obey(command),
                Err(mpsc::error::TryRecvError::Empty) => return Ok(()),
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(Interrupt::Gone),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Records(records) => self.queue.extend(records),
            Command::Relieve => self.relieve = true,
            Command::Drain => self.draining = true,
        }
    }
}
