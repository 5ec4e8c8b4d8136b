//! Resolving dead letters: what is replayed or dropped, and that it is, in one transaction.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use afflux_bus::{BusError, ErrorClass, PartitionId, Producer, Received, Record, Transactional};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::desk::{Count, DeadLetters, DeskError, Entry, Known, next, tell};
use super::letter::{Letter, State, resolution};
use super::now_ms;
use super::select::Selection;

/// Bytes and dead letters of one transaction at most, unless one is larger by itself.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_LETTERS: usize = 500;

/// What to do with dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Send them back through the component that refused them.
    Replay,
    /// Forget them.
    Drop,
}

/// A dead letter and what is to be written for it.
struct Item {
    letter: Letter,
    records: Vec<Record>,
    refusal: Option<u64>,
}

/// Names what was refused, where the same may have been published again: sinks are sure of their dead letters only
/// by writing them at least once. What processors refuse is written once, in their transactions.
fn refusal(letter: &Letter, record: &Received) -> Option<u64> {
    let Letter { component, attempts, topic, partition, offset, timestamp_ms, bytes, .. } = letter;
    component.starts_with("sinks.").then(|| {
        let mut hasher = DefaultHasher::new();
        (component, attempts, topic, partition, offset, timestamp_ms, bytes, &record.value).hash(&mut hasher);
        hasher.finish()
    })
}

impl Item {
    fn size(&self) -> usize {
        self.records.iter().map(Record::size).sum()
    }
}

/// An operator at work, the only one.
struct Work<'a> {
    desk: &'a DeadLetters,
    act: Act,
    owner: Box<dyn Transactional>,
    producer: Arc<dyn Producer>,
    out: &'a mpsc::Sender<Entry>,
    batch: Vec<Item>,
    known: Known,
    /// What has been replayed, of components that may publish a dead letter again. 16 bytes each.
    replayed: HashSet<u64>,
    count: Count,
}

impl DeadLetters {
    /// Replays or drops every selected open dead letter, tells each once it is done, and a
    /// [`Summary`](super::Summary).
    ///
    /// None is replayed twice, whatever ends this and whoever does the same at the same time: what is written back and
    /// the note that it was are one transaction, and the transactional id is taken over before the notes are read.
    pub async fn resolve(&self, act: Act, selection: &Selection, out: &mpsc::Sender<Entry>) -> Result<(), DeskError> {
        let selection = Selection { all: false, ..selection.clone() };
        let owner = self.bus.transactional(Arc::clone(&self.transactional_id)).await?;
        let known = self.known().await?;
        let producer = self.bus.producer().await?;
        let replayed = if act == Act::Replay { self.replayed(&known).await? } else { HashSet::new() };
        let count = Count::new(&selection);
        let mut work = Work { desk: self, act, owner, producer, out, batch: Vec::new(), known, replayed, count };
        let mut reader = self.open().await?;
        while let Some(records) = next(&mut *reader).await? {
            for record in records {
                if let Some(letter) = work.known.letter(&record)
                    && work.count.takes(&selection, &letter)
                {
                    work.take(letter, record).await?;
                }
            }
        }
        work.write().await?;
        tell(out, Entry::Summary(work.count.summary)).await
    }

    /// What has been replayed already, whichever of its dead letters was.
    async fn replayed(&self, known: &Known) -> Result<HashSet<u64>, BusError> {
        let (mut replayed, mut reader) = (HashSet::new(), self.open().await?);
        while let Some(records) = next(&mut *reader).await? {
            let letters = records.iter().filter_map(|record| Some((known.letter(record)?, record)));
            let done = letters.filter(|(letter, _)| letter.state == State::Replayed);
            replayed.extend(done.filter_map(|(letter, record)| refusal(&letter, record)));
        }
        Ok(replayed)
    }
}

impl Work<'_> {
    async fn take(&mut self, letter: Letter, record: Received) -> Result<(), DeskError> {
        let state = match self.act {
            Act::Replay => State::Replayed,
            Act::Drop => State::Dropped,
        };
        let note = resolution(&self.desk.topic, letter.id, state, now_ms());
        let refusal = refusal(&letter, &record).filter(|_| self.act == Act::Replay);
        let mut item = Item { letter, records: vec![note], refusal };
        if refusal.is_some() && self.batch.iter().any(|other| other.refusal == refusal) {
            self.write().await?;
        }
        let again = refusal.is_some_and(|refusal| self.replayed.contains(&refusal));
        if self.act == Act::Replay && !again {
            match self.original(&item.letter, record).await? {
                Ok(back) if back.size() > self.producer.max_record_bytes() => {
                    let error =
                        format!("{} bytes are over the limit of {}", back.size(), self.producer.max_record_bytes());
                    return self.leave(item.letter, error).await;
                }
                Ok(back) => item.records.push(back),
                Err(error) => return self.leave(item.letter, error).await,
            }
        }
        let bytes: usize = self.batch.iter().map(Item::size).sum();
        if !self.batch.is_empty() && (bytes + item.size() > BATCH_BYTES || self.batch.len() >= BATCH_LETTERS) {
            self.write().await?;
        }
        self.batch.push(item);
        Ok(())
    }

    /// What is to be sent back, or why that cannot be.
    async fn original(&mut self, letter: &Letter, record: Received) -> Result<Result<Record, String>, BusError> {
        let partitions = match self.producer.partitions(&letter.topic).await {
            Ok(partitions) => partitions.max(1),
            Err(error @ BusError::UnknownTopic { .. }) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        let original = if letter.left_out {
            let at = PartitionId::new(letter.topic.as_str(), letter.partition);
            let kept = self.desk.record(at, letter.offset).await?;
            let same = |kept: &Received| {
                let bytes = kept.value.as_ref().map_or(0, bytes::Bytes::len) as u64;
                kept.timestamp_ms == letter.timestamp_ms && bytes == letter.bytes
            };
            let Letter { topic, partition, offset, bytes, .. } = letter;
            let place = format!("{topic}/{partition} at {offset}");
            match kept {
                Some(kept) if same(&kept) => kept,
                Some(kept) if kept.size() as u64 > *bytes => {
                    let why = format!("its {bytes} bytes were not kept, and can only be part of the record in {place}");
                    return Ok(Err(format!("{why}, of which no part is sent back")));
                }
                _ => return Ok(Err(format!("its {bytes} bytes were not kept, and are not in {place} any more"))),
            }
        } else {
            record
        };
        Ok(Ok(letter.replayed(original, letter.partition % partitions)))
    }

    async fn leave(&mut self, letter: Letter, error: String) -> Result<(), DeskError> {
        self.count.summary.left += 1;
        tell(self.out, Entry::Left { letter, error }).await
    }

    /// Writes the batch. Where the bus refuses some of it for good, each letter of it goes alone.
    async fn write(&mut self) -> Result<(), DeskError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let records = batch.iter().flat_map(|item| item.records.iter().cloned()).collect();
        let Err(refused) = self.transact(records).await? else { return self.done(batch).await };
        if let [_] = batch[..] {
            for item in batch {
                self.leave(item.letter, refused.clone()).await?;
            }
            return Ok(());
        }
        for item in batch {
            // The owner is another since: somebody may have resolved it meanwhile.
            if self.known.state(item.letter.id) != State::Open {
                continue;
            }
            match self.transact(item.records.clone()).await? {
                Ok(()) => self.done(vec![item]).await?,
                Err(refused) => self.leave(item.letter, refused).await?,
            }
        }
        Ok(())
    }

    /// Writes records, or says why they never can be. After that the id is taken anew, and what has been resolved is
    /// read anew: it may have had another owner in between.
    async fn transact(&mut self, records: Vec<Record>) -> Result<Result<(), String>, DeskError> {
        match self.owner.transact(records).await {
            Ok(()) => Ok(Ok(())),
            Err(BusError::Fenced { .. }) => Err(DeskError::TakenOver),
            Err(error) if error.class() == ErrorClass::Permanent => {
                self.owner = self.desk.bus.transactional(Arc::clone(&self.desk.transactional_id)).await?;
                self.known.learn(self.desk.known().await?);
                if self.act == Act::Replay {
                    self.replayed = self.desk.replayed(&self.known).await?;
                }
                Ok(Err(error.to_string()))
            }
            Err(error) => Err(DeskError::Unknown(error)),
        }
    }

    async fn done(&mut self, batch: Vec<Item>) -> Result<(), DeskError> {
        for Item { mut letter, refusal, .. } in batch {
            self.replayed.extend(refusal);
            letter.state = match self.act {
                Act::Replay => State::Replayed,
                Act::Drop => State::Dropped,
            };
            self.count.summary.done += 1;
            tell(self.out, Entry::Letter(letter)).await?;
        }
        Ok(())
    }
}
