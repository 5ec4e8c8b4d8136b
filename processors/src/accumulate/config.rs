//! Configuration of the accumulation of series.

use std::time::Duration;

use afflux_runtime::config::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `processors.accumulate`: from deltas to the cumulative series that Prometheus knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccumulateConfig {
    /// Consumer group.
    pub group: String,
    /// Name of this instance's transactions; must be unique per instance and stay the same when it restarts. By default
    /// the group and the host name.
    pub transactional_id: Option<String>,
    /// Name of this instance within the group; must be unique and stay the same when it restarts. Empty: it has none.
    pub instance_id: Option<String>,
    /// Time between two samples of a series. Read anew after a restart is what came since the last.
    pub interval: Period,
    /// How long a series that does not change goes without a sample. Prometheus looks back five minutes.
    pub refresh: Period,
    /// A series that has not changed for so long ends.
    pub idle: Period,
}

impl Default for AccumulateConfig {
    fn default() -> Self {
        Self {
            group: "afflux-accumulate".into(),
            transactional_id: None,
            instance_id: None,
            interval: Period(Duration::from_secs(15)),
            refresh: Period(Duration::from_secs(2 * 60)),
            idle: Period(Duration::from_secs(15 * 60)),
        }
    }
}

/// What is wrong with `processors.accumulate`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAccumulate {
    /// Samples without time between them.
    #[error("`processors.accumulate.interval` is {0}ms; it must be one second at least")]
    Interval(u128),
    /// A period that is shorter than the interval.
    #[error("`processors.accumulate.{key}` is shorter than `interval`; it must be at least as long")]
    Shorter {
        /// `refresh` or `idle`.
        key: &'static str,
    },
}

impl AccumulateConfig {
    /// Checks what the types of the fields cannot.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn validate(&self) -> Result<(), InvalidAccumulate> {
        if self.interval.0.as_millis() < 1000 {
            return Err(InvalidAccumulate::Interval(self.interval.0.as_millis()));
        }
        let shorter = [("refresh", self.refresh), ("idle", self.idle)].into_iter().find(|(_, p)| p.0 < self.interval.0);
        shorter.map_or(Ok(()), |(key, _)| Err(InvalidAccumulate::Shorter { key }))
    }
}
