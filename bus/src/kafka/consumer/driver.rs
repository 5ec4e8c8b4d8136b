//! The thread that drives a librdkafka consumer: fetches, rebalances and keeps the member alive while its caller
//! is busy elsewhere.

mod range;
mod rewind;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_schemas::topics::mirrored;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset as RawOffset;

use self::rewind::from_list;
use super::Member;
use super::context::{MemberContext, Rebalance};
use crate::contract::StartAt;
use crate::error::{BusError, ErrorClass};
use crate::kafka::admin::{offset_list, offsets};
use crate::kafka::client::{Leaders, lock, partition_id};
use crate::kafka::error::is_unknown_topic;
use crate::kafka::message::received;
use crate::record::{PartitionId, Received};

/// How long the thread sleeps at most: within this time a release or a pause reaches librdkafka.
const TICK: Duration = Duration::from_millis(20);
/// Records taken from librdkafka between two looks at everything else.
const BATCH: usize = 512;
/// After this long without a poll, fetching is stopped outright. Until then a full inbox is just left alone, which
/// costs nothing but delays rebalances; afterwards the caller is stuck, and rebalances matter more.
const STALL: Duration = Duration::from_secs(1);
/// Pause after a failed question to the brokers.
const RETRY: Duration = Duration::from_millis(200);
/// How long one question for offsets may block the thread.
const QUESTION: Duration = Duration::from_secs(2);

/// State of the thread.
pub(super) struct Driver {
    member: Arc<Member>,
    topics: HashMap<Box<str>, Arc<str>>,
    /// When the inbox was found full.
    full_since: Option<Instant>,
    /// An assignment whose positions are not known yet.
    assigning: Option<TopicPartitionList>,
    /// A revocation that waits for the caller, and how long it may.
    revoking: Option<(TopicPartitionList, Instant)>,
    /// Since when no broker answers.
    trouble: Option<Instant>,
    /// Whether some position is no offset of its log any more.
    out_of_range: bool,
    retry_at: Option<Instant>,
}

impl Driver {
    pub(super) fn new(member: Arc<Member>) -> Self {
        let topics = member.config.topics.iter().map(|topic| (Box::from(&**topic), Arc::clone(topic))).collect();
        Self {
            member,
            topics,
            full_since: None,
            assigning: None,
            revoking: None,
            trouble: None,
            out_of_range: false,
            retry_at: None,
        }
    }

    /// Runs until the consumer or its bus is closed, then leaves the group.
    pub(super) fn run(mut self, consumer: Arc<BaseConsumer<MemberContext>>) {
        while !self.member.is_over() {
            self.turn(&consumer);
        }
        // Whoever commits or transacts finishes first.
        let transactor = lock(&self.member.gate).take();
        self.member.inbox.close();
        *lock(&self.member.consumer) = None;
        consumer.context().leave();
        self.answer_outstanding(&consumer);
        drop(consumer);
        drop(transactor);
    }

    /// librdkafka does not close before every rebalance has its answer.
    fn answer_outstanding(&mut self, consumer: &BaseConsumer<MemberContext>) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        if let Some(list) = self.assigning.take() {
            self.note("assignment", if cooperative { consumer.incremental_assign(&list) } else { consumer.unassign() });
        }
        if let Some((list, _)) = self.revoking.take() {
            self.note(
                "revocation",
                if cooperative { consumer.incremental_unassign(&list) } else { consumer.unassign() },
            );
        }
    }

    fn turn(&mut self, consumer: &BaseConsumer<MemberContext>) {
        self.control_flow(consumer);
        self.fetch(consumer);
        while let Some(rebalance) = consumer.context().next_rebalance() {
            self.rebalance(consumer, rebalance);
        }
        self.release(consumer);
        if self.retry_at.is_none_or(|at| Instant::now() >= at) {
            self.retry_at = None;
            self.finish_assignment(consumer);
            self.finish_restart(consumer);
            self.find_out_of_range(consumer);
            self.look_for_brokers(consumer);
        }
    }

    /// Tells librdkafka which partitions to fetch.
    fn control_flow(&mut self, consumer: &BaseConsumer<MemberContext>) {
        if self.member.inbox.room() > 0 {
            self.full_since = None;
        } else {
            self.full_since.get_or_insert_with(Instant::now);
        }
        let flow = self.member.inbox.flow(self.is_stalled());
        for (partition, offset) in &flow.rewind {
            let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
            let to = RawOffset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
            if let Err(error) = consumer.seek(&partition.topic, number, to, QUESTION) {
                // What was dropped must come again, whatever it takes.
                tracing::warn!(%error, %partition, offset, "going back failed; the member starts over");
                self.member.inbox.restart();
            }
        }
        for (partitions, pause) in [(&flow.pause, true), (&flow.resume, false)] {
            if partitions.is_empty() {
                continue;
            }
            match offset_list(partitions.iter().map(|p| (p, RawOffset::Invalid))) {
                Ok(list) if pause => self.note("pause", consumer.pause(&list)),
                Ok(list) => self.note("resume", consumer.resume(&list)),
                Err(error) => self.member.inbox.fail(error),
            }
        }
    }

    fn is_stalled(&self) -> bool {
        self.full_since.is_some_and(|since| since.elapsed() >= STALL)
    }

    fn note(&self, what: &'static str, result: Result<(), KafkaError>) {
        if let Err(error) = result {
            tracing::warn!(%error, what, group = %self.member.config.group, "consumer");
        }
    }

    /// Takes what librdkafka has, up to what the inbox has room for.
    fn fetch(&mut self, consumer: &BaseConsumer<MemberContext>) {
        let mut room = self.member.inbox.room();
        if room == 0 && !self.is_stalled() {
            return self.member.inbox.wait_for_work(TICK);
        }
        let mut records = Vec::new();
        let mut patience = TICK;
        while let Some(result) = consumer.poll(patience) {
            patience = Duration::ZERO;
            match result {
                Ok(message) => {
                    let record = self.receive(&message);
                    room = room.saturating_sub(record.size());
                    records.push(record);
                    if room == 0 || records.len() >= BATCH {
                        break;
                    }
                }
                Err(error) => self.consumer_error(consumer, &error),
            }
        }
        if !records.is_empty() {
            self.trouble = None;
            self.member.inbox.push(records);
        }
    }

    fn receive(&mut self, message: &BorrowedMessage<'_>) -> Received {
        let topic = match self.topics.get(message.topic()) {
            Some(topic) => Arc::clone(topic),
            // Matched by a pattern.
            None => Arc::clone(self.topics.entry(message.topic().into()).or_insert_with(|| message.topic().into())),
        };
        // The inbox knows the generation.
        received(message, topic)
    }

    fn consumer_error(&mut self, consumer: &BaseConsumer<MemberContext>, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(code) if is_unknown_topic(code) => {
                if let Some(topic) = self.missing_topic(consumer) {
                    self.member.inbox.fail(BusError::UnknownTopic { topic });
                }
            }
            Some(Code::AutoOffsetReset) => self.out_of_range = true,
            Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::OperationTimedOut | Code::Resolve) => {
                self.trouble.get_or_insert_with(Instant::now);
            }
            // Others are librdkafka's to retry, unless it says that it never will.
            _ => {
                let error = match error {
                    KafkaError::MessageConsumptionFatal(code) => {
                        BusError::Other { what: "consuming", reason: code.to_string(), class: ErrorClass::Fatal }
                    }
                    error => self.member.shared.operation("consuming").kafka_error(error),
                };
                match error.class() {
                    ErrorClass::Transient(_) => tracing::warn!(%error, group = %self.member.config.group, "consumer"),
                    _ => self.member.inbox.fail(error),
                }
            }
        }
    }

    /// librdkafka does not say which.
    fn missing_topic(&self, consumer: &BaseConsumer<MemberContext>) -> Option<String> {
        let shared = &self.member.shared;
        self.member.config.topics.iter().filter(|topic| mirrored(topic).is_none()).find_map(|topic| {
            match shared.topics.fetch(consumer.client(), shared, topic, Leaders::Any) {
                Err(BusError::UnknownTopic { topic }) => Some(topic),
                _ => None,
            }
        })
    }

    fn rebalance(&mut self, consumer: &BaseConsumer<MemberContext>, rebalance: Rebalance) {
        self.trouble = None;
        match rebalance {
            Rebalance::Assign(list) => {
                self.assigning = Some(list);
                self.retry_at = None;
            }
            Rebalance::Revoke(list) => {
                self.assigning = None;
                self.member.inbox.revoke(partitions(&list));
                if consumer.assignment_lost() {
                    // Someone else has them already.
                    self.member.inbox.expire_revocation();
                }
                self.revoking = Some((list, Instant::now() + self.member.config.revoke_timeout));
            }
        }
    }

    /// Gives librdkafka the partitions that the caller is done with, or takes too long over.
    fn release(&mut self, consumer: &BaseConsumer<MemberContext>) {
        let Some((list, deadline)) = &self.revoking else { return };
        let late = Instant::now() >= *deadline;
        if !late && !self.member.inbox.is_released() {
            return;
        }
        // Not while a commit is under way: it would be made in the next generation's name.
        let gate = lock(&self.member.gate);
        if late {
            tracing::warn!(group = %self.member.config.group, "revocation not answered in time");
            self.member.inbox.expire_revocation();
        }
        let result = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        };
        drop(gate);
        self.note("revocation", result);
        self.member.inbox.finish_revocation();
        self.revoking = None;
    }

    /// Finds out where to start in newly assigned partitions, and starts.
    fn finish_assignment(&mut self, consumer: &BaseConsumer<MemberContext>) {
        let Some(list) = &self.assigning else { return };
        let mut new = Vec::new();
        let starts = self.positions(consumer, &partitions(list), &mut new).and_then(|found| self.starts(found));
        let starts = match starts {
            Ok(starts) => starts,
            Err(error) => return self.failed("positions of an assignment", error),
        };
        let result = from_list(&starts).map(|list| match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&list),
            _ => consumer.assign(&list),
        });
        self.assigning = None;
        match result {
            Ok(result) => self.note("assignment", result),
            Err(error) => self.member.inbox.fail(error),
        }
        let earliest = self.member.config.start_at == StartAt::Earliest;
        let gone = starts.iter().filter(|start| earliest && start.position > 0 && new.contains(&start.partition));
        let gone: Vec<_> = gone.map(|start| (start.partition.clone(), start.position)).collect();
        self.member.inbox.assign(starts);
        for (partition, records) in gone {
            tracing::warn!(group = %self.member.config.group, %partition, records, "retention was faster than the group");
            self.member.inbox.expire(partition, records);
        }
    }

    /// Goes back to the committed offsets after a transaction that had to start over.
    fn finish_restart(&mut self, consumer: &BaseConsumer<MemberContext>) {
        let Some(restarting) = self.member.inbox.restarting() else { return };
        let result = self.member.settle().and_then(|()| {
            let starts = self.starts(self.positions(consumer, &restarting, &mut Vec::new())?)?;
            if !starts.is_empty() {
                let fail = |error: KafkaError| self.member.shared.operation("going back").kafka_error(&error);
                let sought = consumer.seek_partitions(from_list(&starts)?, QUESTION).map_err(fail)?;
                sought.elements().iter().try_for_each(|element| element.error()).map_err(fail)?;
            }
            Ok(starts)
        });
        match result {
            Ok(starts) => self.member.inbox.finish_restart(starts),
            Err(error) => self.failed("restart after a transaction", error),
        }
    }

    /// Where to start in each partition; `new` are those for which the group has never committed.
    fn positions(
        &self,
        consumer: &BaseConsumer<MemberContext>,
        wanted: &[PartitionId],
        new: &mut Vec<PartitionId>,
    ) -> Result<Vec<(PartitionId, u64)>, BusError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let fail = |error: KafkaError| self.member.shared.operation("offsets of a group").kafka_error(&error);
        let ask = offset_list(wanted.iter().map(|p| (p, RawOffset::Invalid)))?;
        let mut known = offsets(&consumer.committed_offsets(ask, QUESTION).map_err(fail)?)?;
        let start = match self.member.config.start_at {
            StartAt::Earliest => RawOffset::Beginning,
            StartAt::Latest => RawOffset::End,
        };
        new.extend(wanted.iter().filter(|p| !known.contains_key(*p)).cloned());
        if !new.is_empty() {
            let ask = offset_list(new.iter().map(|p| (p, start)))?;
            known.extend(offsets(&consumer.offsets_for_times(ask, QUESTION).map_err(fail)?)?);
        }
        wanted
            .iter()
            .map(|p| match known.get(p) {
                Some(position) => Ok((p.clone(), *position)),
                None => Err(BusError::UnknownPartition(p.clone())),
            })
            .collect()
    }

    /// A question failed: it is asked again, and the caller learns of it when that goes on for long.
    fn failed(&mut self, what: &'static str, error: BusError) {
        tracing::debug!(%error, what, group = %self.member.config.group, "consumer");
        self.retry_at = Some(Instant::now() + RETRY);
        let since = *self.trouble.get_or_insert_with(Instant::now);
        let patient = matches!(error.class(), ErrorClass::Transient(_));
        if !patient || since.elapsed() >= self.member.shared.config.timeout {
            self.trouble = None;
            self.member.inbox.fail(error);
        }
    }

    /// After signs that no broker is up: asks, and tells the caller when none answers for long.
    fn look_for_brokers(&mut self, consumer: &BaseConsumer<MemberContext>) {
        let Some(since) = self.trouble else { return };
        let topic = self.member.config.topics.iter().find(|topic| mirrored(topic).is_none());
        if consumer.fetch_metadata(topic.map(|topic| &**topic), RETRY).is_ok() {
            self.trouble = None;
        } else if since.elapsed() >= self.member.shared.config.timeout {
            self.trouble = Some(Instant::now());
            self.member.inbox.fail(self.member.shared.unreachable());
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<PartitionId> {
    list.elements().iter().map(|e| partition_id(e.topic(), e.partition())).collect()
}
