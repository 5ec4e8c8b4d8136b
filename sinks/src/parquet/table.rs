//! The tables of the lake that this sink writes.

use afflux_runtime::Signal;

/// A table, and with it the kind of telemetry that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// One row per span.
    Spans,
    /// One row per log record.
    Logs,
}

impl Table {
    /// As the top directory of the table.
    pub const fn name(self) -> &'static str {
        self.signal().as_str()
    }

    /// The kind of telemetry, as metrics count it.
    pub const fn signal(self) -> Signal {
        match self {
            Self::Spans => Signal::Spans,
            Self::Logs => Signal::Logs,
        }
    }
}
