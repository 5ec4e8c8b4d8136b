//! Reading the dead-letter topic.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use afflux_bus::{Bus, BusError, PartitionId, Reader, ReaderConfig, ReaderEvent, Received};
use afflux_schemas::topics::Topics;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Act;
use super::letter::{self, Letter, LetterId, Shown, State};
use super::select::Selection;

/// Bytes of the dead-letter topic that are held while it is read.
const FETCH_BYTES: usize = 4 << 20;

/// The dead letters of a bus.
#[derive(Clone)]
pub struct DeadLetters {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) topic: Arc<str>,
    /// Id of every transaction that resolves dead letters, so that there is one operator at a time.
    pub(super) transactional_id: Arc<str>,
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// What an operation says, one after the other; the last is a summary or an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A dead letter that was selected or, where something was to be done, was resolved.
    Letter(Letter),
    /// A dead letter that stays open, and why.
    Left {
        /// The dead letter.
        letter: Letter,
        /// Why nothing was done.
        error: String,
    },
    /// Everything has been looked at.
    Summary(Summary),
    /// What failed. What was said before holds.
    Failed(String),
}

/// What was selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Dead letters that were selected, those beyond the limit included.
    pub selected: u64,
    /// Of those, which were within the limit and done with.
    pub done: u64,
    /// Of those, which stay open.
    pub left: u64,
    /// Selected dead letters by component and reason.
    pub reasons: BTreeMap<String, u64>,
    /// Ids that were asked for and that no selected dead letter has.
    pub missing: Vec<LetterId>,
}

/// Why an operation did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeskError {
    /// The bus refused or did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Another operator has begun since.
    #[error("another replay or drop has begun and taken over; what was reported so far is done, the rest is not")]
    TakenOver,
    /// A transaction failed without an answer.
    #[error("it is not known whether the last batch was written: {0}; run it again, what was done is not done twice")]
    Unknown(BusError),
    /// Nobody listens any more.
    #[error("the reader of the answer has gone")]
    Gone,
}

/// What has become of dead letters, and how far that is known.
#[derive(Default)]
pub(super) struct Known {
    resolved: HashMap<LetterId, State>,
    /// Per partition, one past the last record that was looked at.
    ends: HashMap<u32, u64>,
}

impl Known {
    /// The dead letter in a record, with its state; `None` for other records and for letters that are newer than
    /// what is known.
    pub(super) fn letter(&self, record: &Received) -> Option<Letter> {
        if self.ends.get(&record.from.partition).is_none_or(|end| record.offset >= *end) {
            return None;
        }
        let mut letter = Letter::of(record)?;
        letter.state = self.state(letter.id);
        Some(letter)
    }

    pub(super) fn state(&self, id: LetterId) -> State {
        self.resolved.get(&id).copied().unwrap_or(State::Open)
    }

    /// Takes in what has become of letters since; which letters there are to be stays as it was.
    pub(super) fn learn(&mut self, later: Self) {
        self.resolved = later.resolved;
    }
}

impl DeadLetters {
    /// The dead letters on a bus.
    pub fn new(bus: Arc<dyn Bus>, topics: &Topics) -> Self {
        let topic: Arc<str> = topics.dead_letters().into();
        let transactional_id = format!("{}-dead-letters", topics.prefix()).into();
        Self { bus, topic, transactional_id }
    }

    pub(super) async fn open(&self) -> Result<Box<dyn Reader>, BusError> {
        let config = ReaderConfig { fetch_bytes: FETCH_BYTES, ..ReaderConfig::new([Arc::clone(&self.topic)]) };
        self.bus.reader(config).await
    }

    /// Reads the topic once for what has become of its letters. Holds some 50 bytes per resolved one.
    pub(super) async fn known(&self) -> Result<Known, BusError> {
        let (mut known, mut reader) = (Known::default(), self.open().await?);
        while let Some(records) = next(&mut *reader).await? {
            for record in records {
                known.ends.insert(record.from.partition, record.offset + 1);
                known.resolved.extend(letter::resolved(&record));
            }
        }
        Ok(known)
    }

    /// Tells every selected dead letter in the order of the topic, and a [`Summary`].
    pub async fn list(&self, selection: &Selection, out: &mpsc::Sender<Entry>) -> Result<(), DeskError> {
        let known = self.known().await?;
        let mut count = Count::new(selection);
        let mut reader = self.open().await?;
        while let Some(records) = next(&mut *reader).await? {
            for letter in records.iter().filter_map(|record| known.letter(record)) {
                if count.takes(selection, &letter) {
                    count.summary.done += 1;
                    tell(out, Entry::Letter(letter)).await?;
                }
            }
        }
        tell(out, Entry::Summary(count.summary)).await
    }

    /// Does what is asked for in a task of its own, and tells what comes of it. The task ends once nobody listens.
    pub fn start(&self, act: Option<Act>, selection: Selection) -> mpsc::Receiver<Entry> {
        let (out, entries) = mpsc::channel(64);
        let desk = self.clone();
        tokio::spawn(async move {
            let result = match act {
                None => desk.list(&selection, &out).await,
                Some(act) => desk.resolve(act, &selection, &out).await,
            };
            if let Err(error) = result {
                // Nobody listens where that fails.
                let _ = out.send(Entry::Failed(error.to_string())).await;
            }
        });
        entries
    }

    /// One dead letter with everything that it holds; `None` where there is none of that id.
    pub async fn show(&self, id: LetterId) -> Result<Option<Shown>, BusError> {
        let Some(record) = self.record(PartitionId::new(Arc::clone(&self.topic), id.partition), id.offset).await?
        else {
            return Ok(None);
        };
        let known = self.known().await?;
        Ok(known.letter(&record).map(|letter| Shown::new(letter, &record)))
    }

    /// The record at a position, where it is kept.
    pub(super) async fn record(&self, at: PartitionId, offset: u64) -> Result<Option<Received>, BusError> {
        let config = ReaderConfig { fetch_bytes: 64 << 10, ..ReaderConfig::at(at, offset) };
        let mut reader = match self.bus.reader(config).await {
            Err(BusError::UnknownPartition(_) | BusError::UnknownTopic { .. }) => return Ok(None),
            reader => reader?,
        };
        let first = next(&mut *reader).await?.and_then(|records| records.into_iter().next());
        Ok(first.filter(|record| record.offset == offset))
    }
}

/// The next records; `None` once everything that was there at the opening has come.
pub(super) async fn next(reader: &mut dyn Reader) -> Result<Option<Vec<Received>>, BusError> {
    loop {
        match reader.next().await? {
            ReaderEvent::Records(records) => return Ok(Some(records)),
            ReaderEvent::CaughtUp(_) => {}
            ReaderEvent::Complete => return Ok(None),
        }
    }
}

pub(super) async fn tell(out: &mpsc::Sender<Entry>, entry: Entry) -> Result<(), DeskError> {
    out.send(entry).await.map_err(|_| DeskError::Gone)
}

/// Counts what is selected.
pub(super) struct Count {
    pub(super) summary: Summary,
    left: u64,
}

impl Count {
    pub(super) fn new(selection: &Selection) -> Self {
        let summary = Summary { missing: selection.ids.clone(), ..Summary::default() };
        Self { summary, left: selection.limit.unwrap_or(u64::MAX) }
    }

    /// Whether a dead letter is selected and within the limit.
    pub(super) fn takes(&mut self, selection: &Selection, letter: &Letter) -> bool {
        if !selection.includes(letter) {
            return false;
        }
        self.summary.selected += 1;
        *self.summary.reasons.entry(format!("{} {}", letter.component, letter.reason)).or_default() += 1;
        self.summary.missing.retain(|id| *id != letter.id);
        let takes = self.left > 0;
        self.left = self.left.saturating_sub(1);
        takes
    }
}
