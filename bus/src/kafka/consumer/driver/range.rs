//! Positions that are no offsets of the log any more.
//!
//! Where retention has overtaken a group, reading goes on at the oldest record, and what was lost is said. Where the
//! log ends before the position, brokers have lost its end or the topic was made anew: going on at either end would
//! double records or lose them, and nothing here tells which, so a person has to.

use rdkafka::consumer::{BaseConsumer, Consumer as _, RebalanceProtocol};
use rdkafka::error::KafkaError;

use super::rewind::start_list;
use super::{Driver, QUESTION};
use crate::error::{BusError, ErrorClass};
use crate::kafka::client::raw_partition;
use crate::kafka::consumer::context::MemberContext;
use crate::kafka::consumer::inbox::Start;
use crate::record::PartitionId;

impl Driver {
    /// Looks for the positions that librdkafka has complained of, without saying which.
    pub(super) fn find_out_of_range(&mut self, consumer: &BaseConsumer<MemberContext>) {
        // A rebalance goes first; whatever it leaves here is looked at then.
        if !self.out_of_range || self.assigning.is_some() || self.revoking.is_some() {
            return;
        }
        match self.judge(consumer) {
            Ok(()) => self.out_of_range = false,
            Err(error) => self.failed("positions out of range", error),
        }
    }

    fn judge(&self, consumer: &BaseConsumer<MemberContext>) -> Result<(), BusError> {
        let fail = |error: KafkaError| self.member.shared.operation("bounds of a partition").kafka_error(&error);
        let mut sound = Vec::new();
        for Start { partition, position, from: next } in self.member.inbox.positions() {
            let bounds = consumer.fetch_watermarks(&partition.topic, raw_partition(&partition)?, QUESTION);
            let (start, end) = bounds.map_err(fail)?;
            let [start, end] = [start, end].map(|bound| u64::try_from(bound).unwrap_or(0));
            let group = &*self.member.config.group;
            if next < start {
                // What is gone of the repeats was read once.
                let records = start.saturating_sub(next.max(position));
                if records > 0 {
                    tracing::warn!(group, %partition, from = next, records, "retention was faster than the group");
                    self.member.inbox.expire(partition.clone(), records);
                }
                sound.push((partition, start));
            } else if next <= end {
                // Perhaps it was not for a moment, and then librdkafka has stopped fetching it all the same.
                sound.push((partition, next));
            } else {
                let reason = format!(
                    "{partition} ends at offset {end}, but group {group} stands at {next}: the brokers have lost \
                     records, or the topic was made anew; set the group's offset to where it is to go on"
                );
                self.member.inbox.fail(BusError::Other { what: "reading", reason, class: ErrorClass::Permanent });
            }
        }
        self.fetch_anew(consumer, &sound).map_err(fail)
    }

    /// Starts to fetch again, which only a new assignment does.
    fn fetch_anew(
        &self,
        consumer: &BaseConsumer<MemberContext>,
        positions: &[(PartitionId, u64)],
    ) -> Result<(), KafkaError> {
        if positions.is_empty() {
            return Ok(());
        }
        self.member.inbox.jump(positions);
        let list = start_list(positions.iter().map(|(partition, from)| (partition, *from))).unwrap_or_default();
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                consumer.incremental_unassign(&list)?;
                consumer.incremental_assign(&list)
            }
            _ => consumer.assign(&list),
        }
    }
}
