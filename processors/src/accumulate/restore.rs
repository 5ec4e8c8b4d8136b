//! Reading back what series have come to.

use std::collections::BTreeMap;
use std::sync::Arc;

use afflux_bus::{Bus, BusError, PartitionId, ReaderConfig, ReaderEvent, Start};

use super::state::State;

/// States by partition of the series topic, each with its partition of the metrics topic.
pub(super) type States = BTreeMap<PartitionId, (PartitionId, State)>;

/// Reads partitions of the series topic to their ends.
pub(super) async fn read_series(bus: &dyn Bus, topic: &Arc<str>, states: &mut States) -> Result<(), BusError> {
    let from = Start::Offsets(states.keys().map(|partition| (partition.clone(), 0)).collect());
    let mut reader = bus.reader(ReaderConfig { from, ..ReaderConfig::new([topic.clone()]) }).await?;
    loop {
        match reader.next().await? {
            ReaderEvent::Records(records) => {
                for record in records {
                    let (Some((_, state)), Some(key)) = (states.get_mut(&record.from), &record.key) else { continue };
                    if let Err(error) = state.restore(key, record.value.as_ref()) {
                        tracing::warn!(partition = %record.from, offset = record.offset, %error, "no series; passed over");
                    }
                }
            }
            ReaderEvent::CaughtUp(_) => {}
            ReaderEvent::Complete => return Ok(()),
        }
    }
}
