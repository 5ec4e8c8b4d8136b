//! What a sink has to say: what it makes of a batch, and what the backend answers.

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::Received;
use afflux_schemas::otlp::split;
use afflux_schemas::topics::HEADER_ITEMS;
use async_trait::async_trait;
use bytes::Bytes;

use crate::dead_letter;

/// A backend that telemetry is handed over to.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// What one attempt sends.
    type Request: Send + Sync;

    /// Name of the component, e.g. `sinks.loki`.
    fn name(&self) -> &'static str;

    /// The topics that it takes.
    fn inputs(&self) -> Vec<Input>;

    /// In what order it must be given the records of a partition.
    fn order(&self) -> Order {
        Order::Any
    }

    /// Parts of a batch that may be handed over side by side. Together they hold all records of the batch.
    fn divide(&self, batch: Batch) -> Vec<Batch> {
        vec![batch]
    }

    /// Makes the request of a batch. Pure: the same batch gives the same request, so that the backend knows a replay
    /// again. Called again with smaller batches where the backend refuses one.
    fn encode(&self, batch: &Batch) -> Encoded<Self::Request>;

    /// One attempt to hand a request over, the `attempt`-th from 0. The caller limits its time.
    async fn attempt(&self, request: &Self::Request, attempt: u32) -> Answer;

    /// Where in a batch the items are that an answer names ([`Answer::StoredExcept`]); `None` where one is not found, and
    /// they have to be found by halving.
    fn locate(&self, _batch: &Batch, _items: &[Named]) -> Option<Vec<Refused>> {
        None
    }

    /// The items that requests name which were made of a batch; `None` where they do not tell, and all of the batch has to be
    /// sent again where one of several requests cannot be stored as it is.
    fn named(&self, _requests: &[Self::Request]) -> Option<Vec<Named>> {
        None
    }
}

/// What a topic carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Spans of traces: `ExportTraceServiceRequest`.
    Spans,
    /// Log records: `ExportLogsServiceRequest`.
    Logs,
    /// Kubernetes events, which are log records.
    Events,
    /// Cumulative series: `ExportMetricsServiceRequest`, keyed; without value where a series has ended.
    Series,
}

impl Kind {
    /// As in topic names and label values.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Logs => "logs",
            Self::Events => "events",
            Self::Series => "series",
        }
    }
}

/// A topic that a backend takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its full name.
    pub topic: Arc<str>,
    /// What is on it.
    pub kind: Kind,
}

/// In what order a backend must be given the records of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any: several batches of a partition are on their way at once.
    Any,
    /// One batch after another, each once the position behind the one before is committed, and no key twice in a
    /// batch. So whatever is sent again after a restart is, for its key, what was sent last.
    ByKey,
}

/// Records of one partition and tenant, in their order, to be handed over together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What they are.
    pub kind: Kind,
    /// The tenant that their headers name.
    pub tenant: Option<Arc<str>>,
    /// Whether they are handed over again on an operator's demand, perhaps long after their time.
    pub replay: bool,
    /// At least one. Values may be parts of those on the bus: after a split, some of the items.
    pub records: Vec<Received>,
}

impl Batch {
    /// Spans, log records or series in it, as the headers say.
    pub fn items(&self) -> u64 {
        self.records.iter().map(|record| dead_letter::items(&record.headers)).sum()
    }

    /// Bytes of the values.
    pub fn bytes(&self) -> usize {
        self.records.iter().filter_map(|record| record.value.as_ref()).map(Bytes::len).sum()
    }

    /// Two that hold the same: of the records or, of a single one, of its items. `None` for a single item, and for one
    /// record of series, which are not taken apart.
    pub fn split(&self) -> Option<[Self; 2]> {
        let halves = match &self.records[..] {
            [record] => halves(record, self.kind)?.map(|half| vec![half]),
            records => {
                let (first, second) = records.split_at(records.len() / 2);
                [first.to_vec(), second.to_vec()]
            }
        };
        Some(halves.map(|records| self.with(records)))
    }

    /// One that holds just these items.
    pub(super) fn only(&self, items: &[Refused]) -> Self {
        let only = |items: &Refused| {
            let record = self.records.get(items.record)?;
            Some(items.value.clone().map_or_else(|| record.clone(), |value| with_items(record, value, items.items)))
        };
        self.with(items.iter().filter_map(only).collect())
    }

    fn with(&self, records: Vec<Received>) -> Self {
        Self { records, tenant: self.tenant.clone(), ..*self }
    }
}

/// A record's items in two halves.
fn halves(record: &Received, kind: Kind) -> Option<[Received; 2]> {
    if kind == Kind::Series {
        return None;
    }
    let parts = split::at_item(record.value.as_ref()?, dead_letter::items(&record.headers) / 2);
    let half = |part: split::Part| with_items(record, part.value, part.items);
    <[split::Part; 2]>::try_from(parts).ok().map(|parts| parts.map(half))
}

/// The record with a value that holds so many items.
fn with_items(record: &Received, value: Bytes, items: u64) -> Received {
    let mut headers = record.headers.clone();
    headers.set(HEADER_ITEMS, items.to_string());
    Received { value: Some(value), headers, ..record.clone() }
}

/// What a backend makes of a batch.
#[derive(Debug)]
pub struct Encoded<R> {
    /// What is sent, one after another; empty where there is nothing to send.
    pub requests: Vec<R>,
    /// Items that are left out on purpose, by reason: a fixed word.
    pub dropped: Vec<(&'static str, u64)>,
    /// What is changed to fit the backend's limits, by a fixed word for the change.
    pub changed: Vec<(&'static str, u64)>,
    /// Items that the backend would refuse for good.
    pub refused: Vec<Refused>,
}

impl<R> Default for Encoded<R> {
    fn default() -> Self {
        Self { requests: Vec::new(), dropped: Vec::new(), changed: Vec::new(), refused: Vec::new() }
    }
}

/// Items that can never be handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which record of the batch.
    pub record: usize,
    /// A request of the record's kind that holds just these items; `None`: the whole record's value.
    pub value: Option<Bytes>,
    /// How many they are.
    pub items: u64,
    /// One fixed word.
    pub reason: &'static str,
    /// In full.
    pub error: String,
}

/// An item of a request that an answer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What its backend finds it by: for [`Backend::locate`] only.
    pub id: Vec<u8>,
    /// Why it is not stored: one fixed word.
    pub reason: &'static str,
    /// In full.
    pub error: Arc<str>,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All of it is stored.
    Stored,
    /// It is dealt with, but the backend says that it has rejected that many items, and does not want them again.
    PartlyStored {
        /// How many.
        rejected: u64,
        /// The backend's words.
        error: String,
    },
    /// All of it is stored except these items.
    StoredExcept {
        /// Refused for good; with the others at least one.
        refused: Vec<Named>,
        /// To be encoded and sent once more.
        again: Vec<Named>,
    },
    /// The backend has it already.
    Known {
        /// One fixed word.
        reason: &'static str,
    },
    /// The same may be taken later: no connection, an answer that did not come, 5xx, a rate limit.
    Later {
        /// One fixed word.
        reason: &'static str,
        /// In full.
        error: String,
        /// What the backend asks to wait.
        after: Option<Duration>,
    },
    /// Something in it is refused for good, or all of it is too large: parts of it may be taken.
    Refused {
        /// One fixed word.
        reason: &'static str,
        /// In full.
        error: String,
    },
    /// The backend refuses something in this form, does not say what, and the sink has learned in which one it takes it: the
    /// batch is encoded anew. Only where that makes another request.
    Otherwise {
        /// One fixed word.
        reason: &'static str,
        /// In full.
        error: String,
    },
    /// Whatever is sent is refused until somebody mends the cause: credentials, tenant, address.
    Blocked {
        /// One fixed word.
        reason: &'static str,
        /// In full, with what to do.
        error: String,
    },
}
