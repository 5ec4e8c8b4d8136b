//! Removal of intents that no writer can need any more.

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;

use super::error::Stop;
use super::intent::Floor;
use super::layout::offset_of;
use super::protocol;
use super::range::Target;
use super::writer::{Interrupt, persist};

/// Age at which an intent may go. A writer that was paused longer than this and then goes on with a stale position
/// is the one thing that the protocol does not survive, hence days.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// Intents looked at in one go.
const AT_ONCE: usize = 1000;
/// Removals at once.
const CONCURRENT: usize = 16;

/// Raises the floor and then removes the old intents below it, and the floors that it replaces.
///
/// Writers look at the floor before anything else, so whoever begins later than this begins above it. Says whether
/// there is more to remove.
pub(crate) async fn sweep(target: &Target, position: u64) -> Result<bool, Interrupt> {
    let Target { shared, line, layout, .. } = target;
    let intents = persist!(line, shared.store.list(&layout.intents()))?;
    let intents: Vec<_> = intents.iter().filter_map(|found| Some((offset_of(&found.path)?, found))).collect();
    let firsts: Vec<_> = intents.iter().take(AT_ONCE).map(|(first, _)| *first).collect();
    let now = shared.clock.now_ms();
    let keep = KEEP.as_millis() as i64;
    let old = |i: usize| now.saturating_sub(intents[i].1.modified_ms) > keep;
    let Some((floor, count)) = protocol::removable(&firsts, position, old) else { return Ok(false) };
    let json = serde_json::to_vec(&Floor { floor, raised_ms: now });
    let json = Bytes::from(json.map_err(|error| Stop::Encode { reason: error.to_string() })?);
    // One that exists says the same.
    persist!(line, shared.store.create(&layout.floor(floor), json.clone()))?;
    for some in intents[..count].chunks(CONCURRENT) {
        try_join_all(some.iter().map(async |(_, intent)| persist!(line, shared.store.remove(&intent.path)))).await?;
    }
    let floors = persist!(line, shared.store.list(&layout.floors()))?;
    for lower in floors.iter().filter(|found| offset_of(&found.path).is_some_and(|offset| offset < floor)) {
        persist!(line, shared.store.remove(&lower.path))?;
    }
    tracing::info!(partition = %line.partition, floor, removed = count, "old intents are removed");
    Ok(count + 1 == AT_ONCE)
}
