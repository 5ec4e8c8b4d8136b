//! Configuration of sampling.

use std::collections::BTreeMap;
use std::time::Duration;

use afflux_runtime::config::{ByteSize, Period};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::span_metrics::filter::{InvalidFilter, MatchType, PolicyValue};

/// `processors.sample`: which spans go on. All of them, unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SampleConfig {
    /// A share of all traces, chosen at once by the randomness in their ids, as OpenTelemetry's samplers do.
    pub probability: ProbabilityConfig,
    /// Whole traces, chosen by what they hold. Empty: not so.
    pub tail: Option<TailConfig>,
}

/// `processors.sample.probability`: the share of traces whose spans go on. They say so in their trace state, so that
/// they count for those that do not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProbabilityConfig {
    /// 1 keeps all, 0 none; else 0.000001 at least.
    pub ratio: f64,
    /// Ratios of single services, by name.
    pub services: BTreeMap<String, f64>,
}

impl Default for ProbabilityConfig {
    fn default() -> Self {
        Self { ratio: 1.0, services: BTreeMap::new() }
    }
}

/// `processors.sample.tail`: a trace is kept if any policy says so, once its spans have waited for each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TailConfig {
    /// How long spans wait for others of their trace, by the timestamps of records; 1s at least. Of traces that last
    /// longer, what lies around the spans that policies ask for is kept. What waits is lag. After each assignment, spans of
    /// a little over twice this time are read again.
    pub decision_wait: Period,
    /// Bytes of records that wait, for each partition. If there are more, the oldest are decided upon earlier.
    pub max_bytes: ByteSize,
    /// One of them is enough.
    pub policies: Vec<PolicyConfig>,
    /// Keeps traces that have what few others have. Empty: it does not count.
    pub keep_rare: Option<RareConfig>,
}

impl Default for TailConfig {
    fn default() -> Self {
        Self {
            decision_wait: Period(Duration::from_secs(10)),
            max_bytes: ByteSize::mib(64),
            policies: Vec::new(),
            keep_rare: None,
        }
    }
}

/// Which traces are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyConfig {
    /// Those with a span whose status is an error.
    Error(ErrorPolicy),
    /// Those with a slow span.
    Latency(LatencyPolicy),
    /// A share of them.
    Probability(ProbabilityPolicy),
    /// So many in each second.
    Rate(RatePolicy),
    /// Those with an attribute.
    Attribute(AttributePolicy),
    /// Those with a span of a service.
    Service(ServicePolicy),
    /// Those that all of these policies keep.
    And(Vec<PolicyConfig>),
    /// Those that one of these policies keeps.
    Or(Vec<PolicyConfig>),
    /// Those that this policy does not keep. It must not say `probability` or `rate`.
    Not(Box<PolicyConfig>),
}

/// `error`: traces with a span whose status is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorPolicy {}

/// `latency`: traces with a slow span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencyPolicy {
    /// The least time from the start of a span to its end.
    pub threshold: Period,
}

/// `probability`: a share of traces, chosen by the randomness in their ids. Unless another policy keeps them, they say
/// so in their trace state, so that they count for others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbabilityPolicy {
    /// 1 keeps all, 0 none; else 0.000001 at least.
    pub ratio: f64,
}

/// `rate`: so many traces in each second, those whose ids have the greatest randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RatePolicy {
    /// Traces kept of those that have spans in a second; for each partition. Within `and`, those count for which the
    /// others hold too.
    pub traces_per_second: u32,
}

/// `attribute`: traces with a span, or a resource, that has one of these values, or a number in a range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttributePolicy {
    /// `resource.KEY`, `span.KEY`, `name`, `kind` or `status`.
    pub key: String,
    /// How `values` are compared.
    #[serde(default = "strict")]
    pub match_type: MatchType,
    /// Texts, numbers, true or false; regular expressions with `match_type: regex`, which match anywhere in the value.
    #[serde(default)]
    pub values: Vec<PolicyValue>,
    /// The least number.
    #[serde(default)]
    pub min: Option<f64>,
    /// The greatest number.
    #[serde(default)]
    pub max: Option<f64>,
}

const fn strict() -> MatchType {
    MatchType::Strict
}

/// `service`: traces with a span of one of these services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServicePolicy {
    /// Values of `service.name`.
    pub names: Vec<String>,
}

/// `processors.sample.tail.keep_rare`: keeps traces with a service and span name that few traces have within
/// `decision_wait`, before and behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RareConfig {
    /// Of how many traces that is too many. The trace itself counts. For each partition.
    pub fewer_than: u64,
    /// Whose names count: `root` for those of root spans, `span` for those of all.
    pub by: RareBy,
}

impl Default for RareConfig {
    fn default() -> Self {
        Self { fewer_than: 10, by: RareBy::Root }
    }
}

/// Whose names count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RareBy {
    /// Those of root spans.
    Root,
    /// Those of all spans.
    Span,
}

/// What is wrong with `processors.sample`. `path` names the key at fault, such as
/// `processors.sample.tail.policies.1.and.0.probability.ratio`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidSample {
    /// No ratio.
    #[error("`{path}` is {ratio}; use 0 to keep nothing, or a ratio from 0.000001 to 1")]
    Ratio {
        /// The ratio's path.
        path: String,
        /// What it is.
        ratio: f64,
    },
    /// Two ways of sampling.
    #[error(
        "`processors.sample.probability` does nothing beside `processors.sample.tail`; remove it, or write it as a \
         policy into `processors.sample.tail.policies`"
    )]
    Beside,
    /// Nothing would be kept.
    #[error("`processors.sample.tail` has neither policies nor keep_rare, and would keep nothing; give it one")]
    NoPolicies,
    /// Too short a time.
    #[error("`processors.sample.tail.decision_wait` is {0}; it must be 1s at least")]
    Wait(Period),
    /// No room.
    #[error("`processors.sample.tail.max_bytes` is 0, with which no span waits; let it be 1MiB or more")]
    MaxBytes,
    /// A number that keeps nothing.
    #[error("`{path}` is {number}, which keeps nothing; let it be {least} or more")]
    TooFew {
        /// The number's path.
        path: String,
        /// What it is.
        number: u64,
        /// What it must be.
        least: u64,
    },
    /// A list without entries.
    #[error("`{path}` is empty; name what is meant, or remove the policy")]
    Empty {
        /// The list's path.
        path: String,
    },
    /// A policy of which there is no contrary.
    #[error("`{path}` says `{policy}`, which cannot be turned round; name what to leave out by other policies")]
    Not {
        /// The path of `not`.
        path: String,
        /// The policy within.
        policy: &'static str,
    },
    /// Neither values nor a range, or both.
    #[error("`{path}` needs either `values`, or `min` or `max`; say one of them")]
    Compare {
        /// The policy's path.
        path: String,
    },
    /// A range in which nothing lies.
    #[error("`{path}.min` is {min} and `{path}.max` is {max}, between which no number lies; let `min` be the less")]
    Range {
        /// The policy's path.
        path: String,
        /// The least number.
        min: f64,
        /// The greatest number.
        max: f64,
    },
    /// An attribute, value or regular expression that is none.
    #[error(transparent)]
    Attribute(#[from] InvalidFilter),
    /// Too many conditions.
    #[error("`processors.sample.tail.policies` has {0} conditions; let there be 64 at most")]
    TooMany(usize),
}
