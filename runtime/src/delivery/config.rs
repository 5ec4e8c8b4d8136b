//! Configuration that all sinks of this kind have in common.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{ByteSize, Period};

/// How a sink takes records off the bus and hands them over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryConfig {
    /// When a batch is sent: whichever comes first.
    pub batch: BatchConfig,
    /// Pauses between attempts. There is no last attempt.
    pub retry: RetryConfig,
    /// How long one attempt may take.
    pub timeout: Period,
    /// Memory for records that wait or are on their way, over all partitions. When it is full, reading pauses.
    pub in_flight: ByteSize,
    /// Requests of one partition that are on their way at once. A sink that must keep an order ignores it.
    pub concurrency: u32,
    /// Name of the consumer group. Empty: `afflux-` and the sink's name.
    pub group: Option<String>,
    /// Name of this instance within the group; must be unique and stay the same when it restarts. On Kafka, its
    /// partitions then wait for a restart instead of going to others and back. Empty: they do not.
    pub instance_id: Option<String>,
}

/// When a batch is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// Bytes of records. A record that is larger goes alone.
    pub bytes: ByteSize,
    /// Spans, log records or series.
    pub items: u64,
    /// Age of the oldest record, since it was read.
    pub age: Period,
}

/// Pauses between attempts: doubled each time, between half of and all of the value, and never shorter than the
/// backend asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// The first.
    pub initial: Period,
    /// The longest.
    pub max: Period,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            batch: BatchConfig::default(),
            retry: RetryConfig::default(),
            timeout: Period(Duration::from_secs(10)),
            in_flight: ByteSize::mib(64),
            concurrency: 4,
            group: None,
            instance_id: None,
        }
    }
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { bytes: ByteSize::mib(1), items: 20_000, age: Period(Duration::from_millis(200)) }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { initial: Period(Duration::from_millis(100)), max: Period(Duration::from_secs(5)) }
    }
}

/// A value that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: `{value}` is {problem}")]
pub struct InvalidDelivery {
    /// Below the sink's `delivery`.
    key: &'static str,
    value: String,
    problem: &'static str,
}

impl DeliveryConfig {
    /// Checks every value, without I/O.
    ///
    /// # Errors
    /// [`InvalidDelivery`] names the first key at fault.
    pub fn validate(&self) -> Result<(), InvalidDelivery> {
        let Self { batch, retry, timeout, in_flight, concurrency, group, .. } = self;
        let zero = |period: &Period| period.0.is_zero();
        let wrong = |key, value: String, problem| Err(InvalidDelivery { key, value, problem });
        if batch.bytes.0 == 0 {
            return wrong("batch.bytes", batch.bytes.to_string(), "too little; write 1MiB or so");
        }
        if batch.items == 0 {
            return wrong("batch.items", batch.items.to_string(), "too few; write 20000 or so");
        }
        if zero(&retry.initial) {
            return wrong("retry.initial", retry.initial.to_string(), "too short; write 100ms or so");
        }
        if retry.max < retry.initial {
            return wrong("retry.max", retry.max.to_string(), "less than `retry.initial`");
        }
        if zero(timeout) {
            return wrong("timeout", timeout.to_string(), "too short; write 10s or so");
        }
        if *in_flight < ByteSize::mib(8) {
            return wrong("in_flight", in_flight.to_string(), "too little; write at least 8MiB");
        }
        if *concurrency == 0 {
            return wrong("concurrency", concurrency.to_string(), "too few; write 4 or so");
        }
        if group.as_deref() == Some("") {
            return wrong("group", String::new(), "empty; name a consumer group, or leave it out");
        }
        Ok(())
    }
}
