//! Removal of intents that no writer can need any more.

use std::time::Duration;

use bytes::Bytes;

use super::error::Stop;
use super::intent::Floor;
use super::layout::offset_of;
use super::protocol;
use super::range::Target;
use super::writer::{Interrupt, persist};

/// Age at which an intent may go. A writer that was paused longer than this and then goes on with a stale position
/// is the one thing that the protocol does not survive, hence days.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// Intents removed in one go.
const AT_ONCE: usize = 1000;

/// Raises the floor and then removes the old intents below it, and the floors that it replaces.
///
/// Writers look at the floor before anything else, so whoever begins later than this begins above it.
pub(crate) async fn sweep(target: &Target, position: u64) -> Result<(), Interrupt> {
    let Target { shared, line, layout, .. } = target;
    let intents = persist!(line, shared.store.list(&layout.intents()))?;
    let intents: Vec<_> = intents.iter().filter_map(|found| Some((offset_of(&found.path)?, found))).collect();
    let firsts: Vec<_> = intents.iter().take(AT_ONCE).map(|(first, _)| *first).collect();
    let now = shared.clock.now_ms();
    let keep = KEEP.as_millis() as i64;
    let old = |i: usize| now.saturating_sub(intents[i].1.modified_ms) > keep;
    let Some((floor, count)) = protocol::removable(&firsts, position, old) else { return Ok(()) };
    let json = serde_json::to_vec(&Floor { floor, raised_ms: now });
    let json = Bytes::from(json.map_err(|error| Stop::Encode { reason: error.to_string() })?);
    // One that exists says the same.
    persist!(line, shared.store.create(&layout.floor(floor), json.clone()))?;
    for (_, intent) in &intents[..count] {
        persist!(line, shared.store.remove(&intent.path))?;
    }
    let floors = persist!(line, shared.store.list(&layout.floors()))?;
    for lower in floors.iter().filter(|found| offset_of(&found.path).is_some_and(|offset| offset < floor)) {
        persist!(line, shared.store.remove(&lower.path))?;
    }
    tracing::info!(partition = %line.partition, floor, removed = count, "old intents are removed");
    Ok(())
}
