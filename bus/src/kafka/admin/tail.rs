//! The end of a partition behind a group: whether there is anything but marks of transactions.
//!
//! Every transaction leaves a mark in each partition that it wrote to, with an offset of its own. A group that has read
//! everything stands before the last of them, and would seem one record behind for ever.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset as RawOffset;

use super::offset_list;
use crate::contract::PartitionLag;
use crate::error::BusError;
use crate::kafka::client::{PlainContext, Shared};
use crate::record::PartitionId;

/// Who is further behind has records to read, or is not looked at: looking costs a fetch.
const MARKS: u64 = 64;
/// Bytes fetched ahead; one record is enough to know.
const FETCH_BYTES: usize = 64 * 1024;

/// What was found so far.
#[derive(Default)]
pub(super) struct Tails {
    reader: Option<BaseConsumer<PlainContext>>,
    /// Offsets between which nothing is left to read.
    empty: HashMap<PartitionId, (u64, u64)>,
}

impl Tails {
    /// Lets partitions end where their group stands, if only marks follow there.
    pub(super) fn cut(&mut self, lags: &mut [PartitionLag], shared: &Shared) -> Result<(), BusError> {
        let short = |lag: &&mut PartitionLag| (1..=MARKS).contains(&lag.records());
        let mut unknown: HashMap<_, Vec<_>> = HashMap::new();
        for lag in lags.iter_mut().filter(short) {
            let from = lag.end - lag.records();
            if self.empty.get(&lag.partition) == Some(&(from, lag.end)) {
                lag.end = from;
            } else {
                unknown.entry(lag.partition.topic.clone()).or_default().push((lag, from));
            }
        }
        // One topic at a time: librdkafka tells of an end by its partition's number alone.
        for lags in unknown.values_mut() {
            let empty =
                self.look(&lags.iter().map(|(lag, from)| (&lag.partition, *from)).collect::<Vec<_>>(), shared)?;
            for (lag, from) in lags.iter_mut().filter(|(lag, _)| empty.contains(&lag.partition.partition)) {
                self.empty.insert(lag.partition.clone(), (*from, lag.end));
                lag.end = *from;
            }
        }
        Ok(())
    }

    /// The partitions of one topic in which nothing can be read from those offsets on.
    fn look(&mut self, from: &[(&PartitionId, u64)], shared: &Shared) -> Result<BTreeSet<u32>, BusError> {
        let fail = |error: KafkaError| shared.operation("end of a partition").kafka_error(&error);
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(
                BaseConsumer::from_config_and_context(&shared.config.reader(FETCH_BYTES), PlainContext)
                    .map_err(fail)?,
            ),
        };
        shared.authenticate(reader.client())?;
        let raw = |offset| RawOffset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        reader.assign(&offset_list(from.iter().map(|(partition, at)| (*partition, raw(*at))))?).map_err(fail)?;
        let mut waiting: BTreeSet<u32> = from.iter().map(|(partition, _)| partition.partition).collect();
        let mut empty = BTreeSet::new();
        let deadline = Instant::now() + shared.config.timeout;
        while !waiting.is_empty() {
            let number = match reader.poll(deadline.saturating_duration_since(Instant::now())) {
                Some(Ok(message)) => message.partition(),
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    let number = number.cast_unsigned();
                    empty.extend(waiting.take(&number));
                    continue;
                }
                // Retention, perhaps; or no answer. Then the offsets are what is known.
                Some(Err(_)) | None => break,
            };
            waiting.remove(&number.cast_unsigned());
        }
        reader.unassign().map_err(fail)?;
        Ok(empty)
    }
}
