//! What librdkafka tells a member: rebalances, errors, its log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Statistics, TopicPartitionList};

use crate::kafka::client::{Shared, lock};

/// A rebalance that librdkafka waits for.
pub(super) enum Rebalance {
    /// These are ours when we say so.
    Assign(TopicPartitionList),
    /// These are ours until we say so.
    Revoke(TopicPartitionList),
}

/// Sets rebalances aside for the driver, which answers them when the caller is ready.
pub(super) struct MemberContext {
    shared: Arc<Shared>,
    rebalances: Mutex<VecDeque<Rebalance>>,
    leaving: AtomicBool,
}

impl MemberContext {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, rebalances: Mutex::default(), leaving: AtomicBool::new(false) }
    }

    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        lock(&self.rebalances).pop_front()
    }

    /// From now on everything is given up at once.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }
}

impl ClientContext for MemberContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.shared.log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.shared.observe(&error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.shared.token()
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assign = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.leaving.load(Ordering::Acquire) {
            let result = match consumer.rebalance_protocol() {
                // Every rebalance wants an answer; the revocation follows.
                RebalanceProtocol::Cooperative if assign => consumer.incremental_assign(list),
                RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
                _ => consumer.unassign(),
            };
            if let Err(error) = result {
                tracing::debug!(%error, "leaving a group");
            }
            return;
        }
        let list = list.clone();
        lock(&self.rebalances).push_back(if assign { Rebalance::Assign(list) } else { Rebalance::Revoke(list) });
    }
}
