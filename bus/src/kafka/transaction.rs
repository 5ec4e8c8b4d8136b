//! Outputs and offsets in one transaction, or records alone.

use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use super::client::{Shared, blocking};
use super::error::is_fenced;
use super::producer::{Call, KafkaProducer, Native, enqueue, native};
use crate::contract::Transactional;
use crate::error::{BusError, ErrorClass};
use crate::record::Record;

/// Writes transactions under one transactional id.
///
/// librdkafka has no KIP-890: after an error or a timeout it cannot know what became of a transaction, and a
/// retry in place may fall into the next one. So any failure destroys the producer. The next one with the same
/// id is told by the brokers only when the old transaction is decided, and the old one's late requests are
/// refused (D4).
///
/// A transaction that is decided ends only when each of its partitions has the mark of it. While one of them has no
/// leader the id is not to be had, and whoever waited for it would hold up all other partitions as well. So a member of
/// a group goes on under another id: what fences it is the group's generation, and the committed offsets, which the
/// brokers hold back until they are settled, tell what became of the transaction.
pub(super) struct Transactor {
    shared: Arc<Shared>,
    id: Arc<str>,
    /// How often the id had to be left, by a member of a group; nobody else may.
    left: Option<u32>,
    native: Option<Native>,
}

/// Why a transaction did not happen, or may not have.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was written and nothing changed: the member goes on in its generation.
    Refused(BusError),
    /// The member has to go back to the committed offsets.
    StartOver(BusError),
}

impl Transactor {
    pub(super) fn new(shared: Arc<Shared>, id: &Arc<str>) -> Self {
        Self { shared, id: Arc::clone(id), left: None, native: None }
    }

    /// As [`Transactor::new`], for a member of a group.
    pub(super) fn of_member(shared: Arc<Shared>, id: &Arc<str>) -> Self {
        Self { left: Some(0), ..Self::new(shared, id) }
    }

    /// Makes sure that no transaction of this id is undecided, and that no other owner of it is left.
    pub(super) fn settle(&mut self) -> Result<(), BusError> {
        self.producer().map(|_| ())
    }

    fn producer(&mut self) -> Result<&Native, BusError> {
        if self.native.is_none() {
            let id = match self.left {
                None | Some(0) => self.id.to_string(),
                Some(left) => format!("{}~{left}", self.id),
            };
            let producer = native(self.shared.config.transactional_producer(&id), &self.shared)?;
            if let Err(error) = producer.init_transactions(self.shared.config.timeout) {
                if error.rdkafka_error_code() == Some(Code::ConcurrentTransactions)
                    && let Some(left) = &mut self.left
                {
                    tracing::warn!(
                        transactional_id = id,
                        "a partition of its last transaction is away; going on under another id"
                    );
                    *left += 1;
                }
                return Err(self.shared.unanswered("start of a transactional producer", &error));
            }
            self.native = Some(producer);
        }
        self.native.as_ref().ok_or(BusError::Closed)
    }

    /// Publishes the outputs and commits the offsets, both or neither.
    pub(super) fn run(
        &mut self,
        outputs: &[Record],
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        let timeout = shared.config.timeout;
        let producer = self.producer().map_err(Failure::Refused)?;
        let (call, _) = Call::new(outputs.len(), None);
        let outcome = producer.begin_transaction().and_then(|()| {
            enqueue(producer, outputs, &call, &shared);
            if call.has_failed() {
                // librdkafka knows nothing of records that it refused, and would commit the rest.
                return Ok(Attempt::Refused);
            }
            if offsets.count() > 0 {
                producer.send_offsets_to_transaction(offsets, group, timeout)?;
            }
            producer.commit_transaction(timeout).map(|()| Attempt::Committed)
        });
        let error = match outcome {
            Ok(Attempt::Committed) => return Ok(()),
            Ok(Attempt::Refused) => None,
            Err(error) => Some(error),
        };
        Err(self.start_over(error.as_ref(), &call))
    }

    /// Publishes records, all or none, without offsets. After an error this transactor is of no use any more: it does
    /// not take its id back.
    pub(super) fn run_alone(&mut self, records: &[Record]) -> Result<(), BusError> {
        let shared = Arc::clone(&self.shared);
        let timeout = shared.config.timeout;
        let producer = self.native.take().ok_or(BusError::Closed)?;
        let (call, _) = Call::new(records.len(), None);
        let outcome = producer.begin_transaction().and_then(|()| {
            enqueue(&producer, records, &call, &shared);
            if call.has_failed() {
                return Ok(Attempt::Refused);
            }
            producer.commit_transaction(timeout).map(|()| Attempt::Committed)
        });
        let error = match outcome {
            Ok(Attempt::Committed) => {
                self.native = Some(producer);
                return Ok(());
            }
            Ok(Attempt::Refused) => None,
            Err(error) => Some(shared.operation("transaction").kafka_error(&error)),
        };
        if let Some(fenced @ BusError::Fenced { .. }) = error {
            return Err(fenced);
        }
        if call.has_failed() {
            // Records that can never be written fail the commit before it is sent. The abort only saves readers from
            // waiting for the transaction's timeout.
            let _ = producer.abort_transaction(timeout);
            call.result()?;
        }
        Err(error.unwrap_or(BusError::Closed))
    }

    /// Destroys the producer, and with it the transaction or the doubt about it.
    fn start_over(&mut self, error: Option<&KafkaError>, call: &Call) -> Failure {
        self.native = None;
        let settled = self.settle();
        let refused = call.result().err();
        // Records that can never be written fail the commit before it is sent: with the next producer the
        // transaction is gone for certain.
        let refused = match (refused, &settled) {
            (Some(refused), Ok(())) if refused.class() == ErrorClass::Permanent => return Failure::Refused(refused),
            (refused, _) => refused,
        };
        let said = error.map(|error| self.shared.operation("transaction").kafka_error(error));
        // What was not acknowledged in all that time.
        let late = matches!(said, Some(BusError::TimedOut { .. })) && !self.shared.health.is_down();
        let stuck = call.stuck().or_else(|| call.purged().filter(|_| late));
        // Fenced is what it will be called anyway.
        let text = |error: &BusError| match error {
            BusError::Fenced { reason } => reason.clone(),
            other => other.to_string(),
        };
        let reason = [said.as_ref(), refused.as_ref()].into_iter().flatten().map(text).collect::<Vec<_>>().join("; ");
        tracing::warn!(reason, transactional_id = %self.id, settled = settled.is_ok(), "transaction started over");
        // What no other attempt can change, such as rights that are missing.
        let hopeless = [said, refused].into_iter().flatten().find(|error| error.class() == ErrorClass::Fatal);
        Failure::StartOver(match error.and_then(KafkaError::rdkafka_error_code) {
            Some(code) if is_fenced(code) || code == Code::RebalanceInProgress => BusError::Fenced { reason },
            _ => hopeless.unwrap_or(BusError::Restarted { reason, partition: stuck }),
        })
    }
}

/// See [`Transactional`].
pub(super) struct KafkaTransactional {
    shared: Arc<Shared>,
    producer: Arc<KafkaProducer>,
    /// Gone after a transaction of unknown outcome.
    transactor: Option<Transactor>,
}

impl KafkaTransactional {
    pub(super) async fn open(
        shared: Arc<Shared>,
        producer: Arc<KafkaProducer>,
        id: Arc<str>,
    ) -> Result<Self, BusError> {
        let mut transactor = Transactor::new(Arc::clone(&shared), &id);
        let transactor = blocking(move || transactor.settle().map(|()| transactor)).await??;
        Ok(Self { shared, producer, transactor: Some(transactor) })
    }
}

#[async_trait]
impl Transactional for KafkaTransactional {
    async fn transact(&mut self, records: Vec<Record>) -> Result<(), BusError> {
        self.shared.check_open()?;
        if records.is_empty() {
            return Ok(());
        }
        self.producer.check(&records).await?;
        let over =
            || BusError::Fenced { reason: "an earlier transaction of this owner failed; open the id anew".into() };
        let mut transactor = self.transactor.take().ok_or_else(over)?;
        let (result, transactor) = blocking(move || (transactor.run_alone(&records), transactor)).await?;
        self.transactor = result.is_ok().then_some(transactor);
        result
    }
}

/// How far an attempt at a transaction came without an error.
enum Attempt {
    Committed,
    /// Some of its records were refused before anything was sent.
    Refused,
}
