//! A member of a consumer group.
//!
//! librdkafka wants one thread that polls without pause; the contract wants a caller that polls when it likes.
//! [`driver`] is that thread, [`inbox`] is where the two meet.

mod context;
mod driver;
mod inbox;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use afflux_schemas::topics::mirrored;
use async_trait::async_trait;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::Offset as RawOffset;
use tokio::sync::{mpsc, oneshot};

use self::context::MemberContext;
use self::driver::Driver;
use self::inbox::Inbox;
use super::admin::{offset_list, offsets};
use super::client::{Shared, blocking, lock};
use super::error::is_fenced;
use super::producer::KafkaProducer;
use super::transaction::{Failure, Transactor};
use crate::contract::{Consumer, ConsumerConfig, Event, Offset};
use crate::error::BusError;
use crate::record::{PartitionId, Record};

/// Pause before a commit is tried again during a rebalance.
const COMMIT_RETRY: Duration = Duration::from_millis(50);

/// What the caller's side and the driver share.
struct Member {
    shared: Arc<Shared>,
    config: ConsumerConfig,
    inbox: Inbox,
    consumer: Mutex<Option<Arc<BaseConsumer<MemberContext>>>>,
    /// Held while offsets are written, so that partitions are not given up meanwhile.
    gate: Mutex<Option<Transactor>>,
    over: AtomicBool,
}

impl Member {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) || self.shared.is_closed()
    }

    fn consumer(&self) -> Result<Arc<BaseConsumer<MemberContext>>, BusError> {
        lock(&self.consumer).clone().ok_or(BusError::Closed)
    }

    /// Makes sure that no transaction of this member is undecided.
    fn settle(&self) -> Result<(), BusError> {
        lock(&self.gate).as_mut().map_or(Ok(()), Transactor::settle)
    }

    /// One attempt to commit; `None` where a rebalance is under way and another attempt may succeed.
    fn try_commit(&self, offsets: &[Offset]) -> Option<Result<(), BusError>> {
        let _gate = lock(&self.gate);
        if let Err(error) = self.inbox.check(offsets) {
            return Some(Err(error));
        }
        let outcome = self.consumer().and_then(|consumer| Ok((consumer, raw_offsets(offsets)?)));
        let (consumer, list) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return Some(Err(error)),
        };
        match consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => Some(Ok(())),
            Err(error) => match error.rdkafka_error_code() {
                // Either the rebalance leaves these partitions here, or the next check finds them gone.
                Some(Code::RebalanceInProgress) => None,
                Some(code) if is_fenced(code) => None,
                _ => Some(Err(self.shared.operation("commit").kafka_error(&error))),
            },
        }
    }

    fn commit(&self, offsets: &[Offset]) -> Result<(), BusError> {
        let deadline = Instant::now() + self.shared.config.timeout;
        loop {
            if let Some(result) = self.try_commit(offsets) {
                return result;
            }
            if Instant::now() >= deadline {
                return Err(BusError::Fenced { reason: "the group has been rebalancing for long".to_owned() });
            }
            std::thread::sleep(COMMIT_RETRY);
        }
    }

    /// Refuses a transaction of an older generation. What the caller forgets then has to come again, of every
    /// partition, so the member starts over.
    fn check_all(&self, offsets: &[Offset]) -> Result<(), BusError> {
        let checked = self.inbox.check(offsets);
        if matches!(checked, Err(BusError::Fenced { .. })) {
            self.inbox.restart();
        }
        checked
    }

    fn transact(&self, outputs: &[Record], offsets: &[Offset]) -> Result<(), BusError> {
        let mut gate = lock(&self.gate);
        let transactor = gate.as_mut().ok_or(BusError::Closed)?;
        self.check_all(offsets)?;
        let consumer = self.consumer()?;
        let group = consumer.group_metadata().ok_or(BusError::Closed)?;
        match transactor.run(outputs, &raw_offsets(offsets)?, &group) {
            Ok(()) => Ok(()),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::StartOver(error)) => {
                self.inbox.restart();
                Err(error)
            }
        }
    }
}

/// See [`Consumer`].
pub(super) struct KafkaConsumer {
    member: Arc<Member>,
    producer: Arc<KafkaProducer>,
    ended: oneshot::Receiver<()>,
}

impl KafkaConsumer {
    /// Joins the group. `alive` is dropped when the member has left it.
    pub(super) async fn join(
        shared: Arc<Shared>,
        producer: Arc<KafkaProducer>,
        config: ConsumerConfig,
        alive: mpsc::Sender<()>,
    ) -> Result<Self, BusError> {
        let member = blocking(move || Self::open(shared, config)).await??;
        let (end, ended) = oneshot::channel();
        let (driver, consumer) = (Driver::new(Arc::clone(&member)), member.consumer()?);
        let run = move || {
            driver.run(consumer);
            drop((end, alive));
        };
        std::thread::Builder::new()
            .name("kafka-consumer".to_owned())
            .spawn(run)
            .map_err(|source| BusError::Full { reason: format!("no thread for a consumer: {source}") })?;
        Ok(Self { member, producer, ended })
    }

    async fn checked_transact(&self, outputs: Vec<Record>, offsets: &[Offset]) -> Result<(), BusError> {
        self.member.check_all(offsets)?;
        self.producer.check(&outputs).await?;
        let (member, offsets) = (Arc::clone(&self.member), offsets.to_vec());
        blocking(move || member.transact(&outputs, &offsets)).await?
    }

    fn open(shared: Arc<Shared>, config: ConsumerConfig) -> Result<Arc<Member>, BusError> {
        let transactor = match &config.transactional_id {
            Some(id) => {
                let mut transactor = Transactor::of_member(Arc::clone(&shared), id);
                // Decides what a former owner of the id left open, before its offsets are read.
                transactor.settle()?;
                Some(transactor)
            }
            None => None,
        };
        let context = MemberContext::new(Arc::clone(&shared));
        let fail = |error: rdkafka::error::KafkaError| shared.operation("joining a group").kafka_error(&error);
        let consumer =
            BaseConsumer::from_config_and_context(&shared.config.consumer(&config), context).map_err(fail)?;
        let topics: Vec<_> = config.topics.iter().map(|topic| subscription(topic)).collect();
        consumer.subscribe(&topics.iter().map(|topic| &**topic).collect::<Vec<_>>()).map_err(fail)?;
        Ok(Arc::new(Member {
            inbox: Inbox::new(config.fetch_bytes),
            consumer: Mutex::new(Some(Arc::new(consumer))),
            gate: Mutex::new(transactor),
            over: AtomicBool::new(false),
            config,
            shared,
        }))
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.member.over.store(true, Ordering::Release);
    }
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn poll(&mut self) -> Result<Event, BusError> {
        self.member.inbox.begin_poll();
        loop {
            if let Some(result) = self.member.inbox.take() {
                return result;
            }
            self.member.inbox.news().await;
        }
    }

    async fn commit(&mut self, offsets: &[Offset]) -> Result<(), BusError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let (member, offsets) = (Arc::clone(&self.member), offsets.to_vec());
        let patience = self.member.shared.config.timeout * 2;
        match tokio::time::timeout(patience, blocking(move || member.commit(&offsets))).await {
            Ok(result) => result?,
            Err(_) => Err(BusError::TimedOut { what: "commit", after: patience }),
        }
    }

    async fn transact(&mut self, outputs: Vec<Record>, offsets: &[Offset]) -> Result<(), BusError> {
        if self.member.config.transactional_id.is_none() {
            let reason = format!("group {} transacts without a transactional_id; set one", self.member.config.group);
            return Err(BusError::Config(reason));
        }
        if outputs.is_empty() && offsets.is_empty() {
            return Ok(());
        }
        // Whoever drops this future does not learn the outcome.
        let abandoned = StartOver(Some(Arc::clone(&self.member)));
        let result = self.checked_transact(outputs, offsets).await;
        abandoned.disarm();
        result
    }

    async fn committed(&mut self, partition: &PartitionId) -> Result<Option<u64>, BusError> {
        let (consumer, shared) = (self.member.consumer()?, Arc::clone(&self.member.shared));
        let wanted = partition.clone();
        blocking(move || {
            let ask = offset_list([(&wanted, RawOffset::Invalid)].into_iter())?;
            let answer = consumer
                .committed_offsets(ask, shared.config.timeout)
                .map_err(|error| shared.operation("committed offset").kafka_error(&error))?;
            Ok(offsets(&answer)?.get(&wanted).copied())
        })
        .await?
    }

    fn pause(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        self.member.inbox.set_paused(partition, true)
    }

    fn resume(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        self.member.inbox.set_paused(partition, false)
    }

    async fn close(mut self: Box<Self>) {
        self.member.over.store(true, Ordering::Release);
        let _ = (&mut self.ended).await;
    }
}

/// Starts the member over unless disarmed.
struct StartOver(Option<Arc<Member>>);

impl StartOver {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for StartOver {
    fn drop(&mut self) {
        if let Some(member) = &self.0 {
            member.inbox.restart();
        }
    }
}

/// A topic or a pattern as librdkafka takes it.
fn subscription(topic: &str) -> Cow<'_, str> {
    match mirrored(topic) {
        None => topic.into(),
        Some(of) => format!("^.+\\.{}$", of.replace('.', "\\.")).into(),
    }
}

fn raw_offsets(offsets: &[Offset]) -> Result<rdkafka::TopicPartitionList, BusError> {
    let raw = |offset: &Offset| RawOffset::Offset(i64::try_from(offset.next).unwrap_or(i64::MAX));
    offset_list(offsets.iter().map(|offset| (&offset.partition, raw(offset))))
}
