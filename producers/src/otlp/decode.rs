//! From the bytes of a request to records' values: decompress, transcode, validate, split, cut.

use afflux_runtime::{Permit, Signal};
use afflux_schemas::otlp::split::{self, Part, Split};
use afflux_schemas::otlp::{canonical, json, validate};
use bytes::Bytes;

use super::answer::{Format, Rejection};
use super::compression::Encoding;
use super::memory::{Held, Memory};
use super::refusal::Refusal;
use super::screen::{self, Most};
use super::shape::{SplitCost, cut};

/// How a body is to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) signal: Signal,
    pub(super) format: Format,
    pub(super) encoding: Encoding,
}

/// What its records are to be.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Partitions of the topic.
    pub(super) partitions: u32,
    /// The cluster that the receiver stands for; empty if it does not know.
    pub(super) cluster: String,
    /// Bytes of one record, about.
    pub(super) record_bytes: usize,
    /// Most bytes after decompression.
    pub(super) decompressed_bytes: usize,
    /// Most attributes, events and links.
    pub(super) most: Most,
}

/// What a request comes to.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) parts: Vec<Part>,
    /// Items left out because of their counts or ids.
    pub(super) rejections: Vec<Rejection>,
    /// Uncompressed bytes of the request.
    pub(super) bytes: usize,
    /// What the parts hold of the budget.
    pub(super) permits: Vec<Permit>,
}

/// Decodes a request; everything it allocates is counted in `memory` beforehand.
pub(super) fn decode(body: Held, shape: Shape, target: &Target, memory: &Memory) -> Result<Decoded, Refusal> {
    let plain = shape.encoding.decompress(body, target.decompressed_bytes, memory)?;
    let bytes = plain.bytes.len();
    let request = protobuf(plain, shape, memory)?;
    let request = canonical(request, shape.signal, memory)?;
    let mut rejections = Vec::new();
    let request = screened(request, shape.signal, target, memory, &mut rejections)?;
    let (Split { parts, rejected, reason }, permit) = partition(request, shape.signal, target, memory)?;
    rejections.extend(reason.map(|reason| Rejection {
        items: rejected,
        label: "invalid_id",
        reason: reason.to_string(),
    }));
    let mut permits = Vec::from_iter(permit);
    let parts = fit(parts, target.record_bytes, memory, &mut permits)?;
    Ok(Decoded { parts, rejections, bytes, permits })
}

fn protobuf(body: Held, shape: Shape, memory: &Memory) -> Result<Held, Refusal> {
    if shape.format == Format::Protobuf {
        return Ok(body);
    }
    // The parser copies a string with escapes, which may be as long as the text.
    let _scratch = memory.take(body.bytes.len())?;
    let permit = memory.take(json::room(body.bytes.len()))?;
    let bytes = match shape.signal {
        Signal::Spans => json::traces(&body.bytes)?,
        Signal::Logs | Signal::Events => json::logs(&body.bytes)?,
    };
    Ok(Held { bytes: bytes.into(), permit: Some(permit) })
}

/// Bytes of `prost`'s structs for each byte of a request that must be re-encoded: two bytes make an empty `Span`,
/// in a vector that is three times its size while it grows. No known client sends such requests, so that only
/// small ones pass.
const TREE_PER_BYTE: usize = 512;

fn canonical(request: Held, signal: Signal, memory: &Memory) -> Result<Held, Refusal> {
    let checked = match signal {
        Signal::Spans => validate::traces(&request.bytes)?,
        Signal::Logs | Signal::Events => validate::logs(&request.bytes)?,
    };
    if checked.canonical {
        return Ok(request);
    }
    let _tree = memory.take(request.bytes.len().saturating_mul(TREE_PER_BYTE))?;
    let permit = memory.take(request.bytes.len())?;
    let bytes = match signal {
        Signal::Spans => canonical::traces(&request.bytes)?,
        Signal::Logs | Signal::Events => canonical::logs(&request.bytes)?,
    };
    Ok(Held { bytes, permit: Some(permit) })
}

/// Leaves out the items over a limit of counts.
fn screened(
    request: Held,
    signal: Signal,
    target: &Target,
    memory: &Memory,
    rejections: &mut Vec<Rejection>,
) -> Result<Held, Refusal> {
    let Some(first) = screen::find(&request.bytes, signal, &target.most) else {
        return Ok(request);
    };
    let permit = memory.take(request.bytes.len())?;
    let (bytes, items) = screen::remove(&request.bytes, signal, &target.most);
    rejections.push(Rejection { items, label: "over_limit", reason: first.to_string() });
    Ok(Held { bytes: bytes.into(), permit: Some(permit) })
}

/// Splits, and gives the permit of whichever bytes are still needed.
fn partition(
    request: Held,
    signal: Signal,
    target: &Target,
    memory: &Memory,
) -> Result<(Split, Option<Permit>), Refusal> {
    // A log resource moves as a whole: its envelope is not repeated.
    let spread = if signal == Signal::Spans { target.partitions as usize } else { 1 };
    let cost = SplitCost::of(&request.bytes, spread);
    let _tables = memory.take(cost.tables)?;
    let copies = memory.take(cost.parts)?;
    let split = match signal {
        Signal::Spans => split::traces(&request.bytes, target.partitions),
        Signal::Logs | Signal::Events => split::logs(&request.bytes, target.partitions, &target.cluster),
    };
    let shared = |part: &Part| part.value.as_ptr() == request.bytes.as_ptr();
    let permit = if split.parts.iter().any(shared) { request.permit } else { Some(copies) };
    Ok((split, permit))
}

/// Cuts the parts that are too long for one record.
fn fit(parts: Vec<Part>, limit: usize, memory: &Memory, permits: &mut Vec<Permit>) -> Result<Vec<Part>, Refusal> {
    if parts.iter().all(|part| part.value.len() <= limit) {
        return Ok(parts);
    }
    let mut pieces = Vec::new();
    for part in parts {
        if part.value.len() <= limit {
            pieces.push(part);
            continue;
        }
        let whole: Bytes = part.value;
        cut(&whole, limit, |piece| {
            permits.push(memory.take(piece.value.len())?);
            pieces.push(Part { partition: part.partition, value: piece.value, items: piece.items });
            Ok::<_, Refusal>(())
        })?;
    }
    Ok(pieces)
}
