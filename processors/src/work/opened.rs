//! A record that has been read, before it goes through the chain.

use afflux_bus::{Generation, PartitionId, Received};
use afflux_runtime::dead_letter;
use afflux_schemas::encoding::Encoding;
use afflux_schemas::topics::HEADER_ENCODING;

use crate::chain::{At, Envelope};
use crate::enrich::gate::Waits;
use crate::intake::Refused;

/// A record in parts.
pub(crate) struct Opened {
    pub(crate) from: PartitionId,
    pub(crate) generation: Generation,
    pub(crate) offset: u64,
    /// Its time, or hardly later than now.
    pub(crate) timestamp_ms: i64,
    /// Of its partition, up to this record.
    pub(crate) stream_time_ms: i64,
    /// Which path it takes.
    pub(crate) path: usize,
    pub(crate) bytes: usize,
    /// Whether it was committed before.
    pub(crate) repeat: bool,
    pub(crate) envelopes: Vec<Envelope>,
    /// Whether it has been counted before, when its outputs were too large for the bus: it is a replay.
    pub(crate) counted: bool,
    /// What of it is refused, or all.
    pub(crate) refused: Option<(Received, Refused)>,
    /// Items of a replay for another component.
    pub(crate) passed_over: u64,
}

impl Opened {
    /// A record of which nothing has been looked at.
    pub(crate) fn new(
        record: &Received,
        path: usize,
        (timestamp_ms, stream_time_ms): (i64, i64),
        repeat: bool,
    ) -> Self {
        let decoded = record.headers.get(HEADER_ENCODING).is_some_and(|e| e == Encoding::OtlpProto.as_str());
        Self {
            from: record.from.clone(),
            generation: record.generation,
            offset: record.offset,
            timestamp_ms,
            stream_time_ms,
            path,
            bytes: record.size(),
            repeat,
            envelopes: Vec::new(),
            // Only what was refused for its size names its encoding so, and has been tried.
            counted: decoded && dead_letter::attempts(&record.headers) > 0,
            refused: None,
            passed_over: 0,
        }
    }

    /// Its place, for steps.
    pub(crate) fn at(&self) -> At<'_> {
        let Self { from, offset, timestamp_ms, stream_time_ms, repeat, counted, .. } = self;
        let (offset, timestamp_ms, stream_time_ms) = (*offset, *timestamp_ms, *stream_time_ms);
        At { from, offset, timestamp_ms, stream_time_ms, repeat: *repeat, counted: *counted }
    }

    /// Bytes that it takes while it waits: its own, or those of what was decoded from it.
    pub(crate) fn held(&self) -> u64 {
        let decoded = self.envelopes.iter().map(|envelope| envelope.value.len()).sum();
        self.bytes.max(decoded) as u64
    }
}

impl Waits for Opened {
    fn envelopes(&self) -> &[Envelope] {
        &self.envelopes
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}
