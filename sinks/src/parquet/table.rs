//! The tables of the lake that this sink writes.

use afflux_runtime::Signal;
use afflux_schemas::topics::Topics;

/// A table, and with it the kind of telemetry that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// One row per span.
    Spans,
    /// One row per log record.
    Logs,
    /// One row per Kubernetes event, which is a log record.
    Events,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 3] = [Self::Spans, Self::Logs, Self::Events];

    /// The topic whose records it holds.
    pub fn topic(self, topics: &Topics) -> String {
        match self {
            Self::Spans => topics.spans(),
            Self::Logs => topics.logs(),
            Self::Events => topics.events(),
        }
    }

    /// As the top directory of the table.
    pub const fn name(self) -> &'static str {
        self.signal().as_str()
    }

    /// The kind of telemetry, as metrics count it.
    pub const fn signal(self) -> Signal {
        match self {
            Self::Spans => Signal::Spans,
            Self::Logs => Signal::Logs,
            Self::Events => Signal::Events,
        }
    }
}
