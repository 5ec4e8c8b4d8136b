//! Where a member that goes back first begins.
//!
//! The last record before the position is not always the offset before it: transactions leave holes. A client of its
//! own reads backwards in steps until it finds one.

use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset as RawOffset;

use super::{Driver, QUESTION};
use crate::error::{BusError, ErrorClass};
use crate::kafka::admin::{offset_list, offsets};
use crate::kafka::client::{PlainContext, raw_partition};
use crate::kafka::consumer::inbox::Start;
use crate::record::PartitionId;

/// Offsets of the first look back; each further one looks this many times as far.
const STEP: u64 = 64;
const GROWTH: u64 = 8;
/// Bytes fetched ahead.
const FETCH_BYTES: usize = 1024 * 1024;

impl Driver {
    /// Where reading begins in partitions with these positions.
    pub(super) fn starts(&self, positions: Vec<(PartitionId, u64)>) -> Result<Vec<Start>, BusError> {
        let Some(rewind) = self.member.config.rewind else {
            let start = |(partition, position)| Start { partition, position, from: position };
            return Ok(positions.into_iter().map(start).collect());
        };
        let shared = &self.member.shared;
        let fail = |error: KafkaError| shared.operation("rewinding").kafka_error(&error);
        let config = shared.config.reader(FETCH_BYTES);
        let reader = BaseConsumer::from_config_and_context(&config, PlainContext).map_err(fail)?;
        shared.authenticate(reader.client())?;
        let rewind_ms = i64::try_from(rewind.as_millis()).unwrap_or(i64::MAX);
        let mut starts = Vec::with_capacity(positions.len());
        for (partition, position) in positions {
            let from = match last_before(&reader, &partition, position).map_err(fail)? {
                Some(timestamp_ms) => first_since(&reader, &partition, timestamp_ms.saturating_sub(rewind_ms))?,
                None => None,
            };
            starts.push(Start { from: from.map_or(position, |from| from.min(position)), partition, position });
        }
        Ok(starts)
    }
}

/// Timestamp of the last committed record below a position, in milliseconds.
fn last_before(
    reader: &BaseConsumer<PlainContext>,
    partition: &PartitionId,
    position: u64,
) -> Result<Option<i64>, KafkaError> {
    let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
    let (oldest, _) = reader.fetch_watermarks(&partition.topic, number, QUESTION)?;
    let oldest = u64::try_from(oldest).unwrap_or(0);
    let (mut step, mut above) = (STEP, position);
    while above > oldest {
        let from = position.saturating_sub(step).max(oldest);
        reader.assign(&start_list([(partition, from)].into_iter()).unwrap_or_default())?;
        let mut last = None;
        loop {
            match reader.poll(QUESTION) {
                Some(Ok(message)) if message.offset().cast_unsigned() < above => {
                    last = Some(message.timestamp().to_millis().unwrap_or(0));
                }
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => return Err(error),
                None => {
                    return Err(KafkaError::MessageConsumption(rdkafka::error::RDKafkaErrorCode::OperationTimedOut));
                }
            }
        }
        if last.is_some() {
            return Ok(last);
        }
        above = from;
        step = step.saturating_mul(GROWTH);
    }
    Ok(None)
}

/// The first offset with at least that timestamp.
fn first_since(
    reader: &BaseConsumer<PlainContext>,
    partition: &PartitionId,
    timestamp_ms: i64,
) -> Result<Option<u64>, BusError> {
    raw_partition(partition)?;
    // Negative ones have meanings of their own.
    let ask = offset_list([(partition, RawOffset::Offset(timestamp_ms.max(0)))].into_iter())?;
    let answer = reader.offsets_for_times(ask, QUESTION).map_err(|error| BusError::Other {
        what: "offset of a time",
        reason: error.to_string(),
        class: ErrorClass::Transient(None),
    })?;
    Ok(offsets(&answer)?.get(partition).copied())
}

/// Where fetching begins, as librdkafka takes it.
pub(super) fn from_list(starts: &[Start]) -> Result<TopicPartitionList, BusError> {
    start_list(starts.iter().map(|start| (&start.partition, start.from)))
}

pub(super) fn start_list<'a>(
    starts: impl Iterator<Item = (&'a PartitionId, u64)>,
) -> Result<TopicPartitionList, BusError> {
    offset_list(starts.map(|(partition, at)| (partition, RawOffset::Offset(i64::try_from(at).unwrap_or(i64::MAX)))))
}
