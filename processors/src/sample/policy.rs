//! Policies made ready: what must be known of a trace, and whether it is kept then.

use std::time::Duration;

use afflux_schemas::otlp::common::ResourceView;
use afflux_schemas::otlp::trace::SpanView;

use super::config::{InvalidSample, PolicyConfig, RareBy, RareConfig, TailConfig};
use super::leaf::Leaf;
use super::probability::{ALWAYS, NEVER, threshold};

/// Conditions on spans that there may be: a bit for each.
const MOST_LEAVES: usize = 64;
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// What kept a span: the sort of a policy, each with the word it is counted by.
pub(super) const KINDS: [&str; 10] = [
    "kept_by_error",
    "kept_by_latency",
    "kept_by_probability",
    "kept_by_rate",
    "kept_by_attribute",
    "kept_by_service",
    "kept_by_and",
    "kept_by_or",
    "kept_by_not",
    "kept_by_rare",
];
/// Position of `kept_by_rare`.
pub(super) const RARE: usize = 9;

/// A policy whose answer is the least randomness of spans that are kept, from [`ALWAYS`] to [`NEVER`].
///
/// So spans are marked with the probability that they had, whatever the policies are made of.
#[derive(Clone, Debug)]
pub(super) enum Policy {
    /// Whether a condition, by number, holds for a span of the trace.
    Holds(usize),
    /// This threshold.
    Threshold(u64),
    /// Whether the trace is among the first of its second, by number of the rate.
    Rate(usize),
    And(Vec<Policy>),
    Or(Vec<Policy>),
    Not(Box<Policy>),
}

/// So many traces of each second.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    pub(super) traces: usize,
    /// What stands beside it: a trace for which it does not hold takes no place.
    pub(super) beside: Policy,
}

/// All policies of `processors.sample.tail`.
#[derive(Debug)]
pub(super) struct Policies {
    pub(super) leaves: Vec<Leaf>,
    pub(super) rates: Vec<Rate>,
    /// With the position in [`KINDS`].
    pub(super) any: Vec<(usize, Policy)>,
    pub(super) rare: Option<RareConfig>,
    pub(super) wait_ms: i64,
    pub(super) max_bytes: u64,
}

impl Policy {
    /// The least randomness of spans that are kept. `holds` and `chosen` answer by number of a condition or a rate.
    pub(super) fn threshold(&self, holds: &dyn Fn(usize) -> bool, chosen: &dyn Fn(usize) -> bool) -> u64 {
        let of = |policy: &Self| policy.threshold(holds, chosen);
        let either = |yes| if yes { ALWAYS } else { NEVER };
        match self {
            Self::Holds(leaf) => either(holds(*leaf)),
            Self::Threshold(threshold) => *threshold,
            Self::Rate(rate) => either(chosen(*rate)),
            Self::And(all) => all.iter().map(of).max().unwrap_or(ALWAYS),
            Self::Or(any) => any.iter().map(of).min().unwrap_or(NEVER),
            Self::Not(policy) => either(of(policy) == NEVER),
        }
    }

    /// Whether spans may be kept, leaving out whether there is room and whether their randomness will do.
    pub(super) fn may_hold(&self, holds: &dyn Fn(usize) -> bool) -> bool {
        self.threshold(holds, &|_| true) < NEVER
    }
}

impl Policies {
    pub(super) fn new(config: &TailConfig) -> Result<Self, InvalidSample> {
        let TailConfig { decision_wait, max_bytes, policies, keep_rare } = config;
        if decision_wait.0 < LEAST_WAIT {
            return Err(InvalidSample::Wait(*decision_wait));
        }
        if max_bytes.0 == 0 {
            return Err(InvalidSample::MaxBytes);
        }
        if policies.is_empty() && keep_rare.is_none() {
            return Err(InvalidSample::NoPolicies);
        }
        if let Some(RareConfig { fewer_than: number @ 0..2, .. }) = *keep_rare {
            let path = "processors.sample.tail.keep_rare.fewer_than".into();
            return Err(InvalidSample::TooFew { path, number, least: 2 });
        }
        let mut ready = Self {
            leaves: Vec::new(),
            rates: Vec::new(),
            any: Vec::new(),
            rare: keep_rare.clone(),
            wait_ms: i64::try_from(decision_wait.0.as_millis()).unwrap_or(i64::MAX).min(i64::MAX / 4),
            max_bytes: max_bytes.0,
        };
        for (at, policy) in policies.iter().enumerate() {
            let made = ready.policy(policy, &format!("processors.sample.tail.policies.{at}"))?;
            ready.any.push((kind(policy), made));
        }
        match ready.leaves.len() {
            0..=MOST_LEAVES => Ok(ready),
            leaves => Err(InvalidSample::TooMany(leaves)),
        }
    }

    /// How far back from its record a decision reaches.
    pub(super) fn horizon(&self) -> Duration {
        let second = if self.rates.is_empty() { 0 } else { 1000 };
        Duration::from_millis(self.wait_ms.saturating_add(second).unsigned_abs())
    }

    /// Conditions that hold for all spans of a resource, as bits.
    pub(super) fn of_resource(&self, resource: ResourceView<'_>) -> u64 {
        self.bits(|leaf| leaf.holds_for_all(resource))
    }

    /// Those that hold for a span, as bits, but for those that the resource alone decides.
    pub(super) fn of_span(&self, resource: ResourceView<'_>, span: &SpanView<'_>) -> u64 {
        self.bits(|leaf| leaf.holds(resource, span))
    }

    fn bits(&self, holds: impl Fn(&Leaf) -> bool) -> u64 {
        self.leaves.iter().enumerate().fold(0, |bits, (at, leaf)| bits | u64::from(holds(leaf)) << at)
    }

    /// Whether the name of a span with or without a parent counts as the trace's.
    pub(super) fn names(&self, has_parent: bool) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.by == RareBy::Span || !has_parent)
    }

    fn leaf(&mut self, leaf: Leaf) -> Policy {
        self.leaves.push(leaf);
        Policy::Holds(self.leaves.len() - 1)
    }

    fn policy(&mut self, config: &PolicyConfig, path: &str) -> Result<Policy, InvalidSample> {
        let some = |empty: bool, path: String| if empty { Err(InvalidSample::Empty { path }) } else { Ok(()) };
        Ok(match config {
            PolicyConfig::Error(_) => self.leaf(Leaf::Error),
            PolicyConfig::Latency(latency) => self.leaf(Leaf::Latency(latency.threshold.0.as_nanos())),
            PolicyConfig::Attribute(attribute) => {
                let leaf = Leaf::attribute(attribute, &format!("{path}.attribute"))?;
                self.leaf(leaf)
            }
            PolicyConfig::Service(service) => {
                some(service.names.is_empty(), format!("{path}.service.names"))?;
                self.leaf(Leaf::Service(service.names.clone()))
            }
            PolicyConfig::Probability(share) => {
                Policy::Threshold(threshold(share.ratio, || format!("{path}.probability.ratio"))?)
            }
            PolicyConfig::Rate(rate) => {
                let path = || format!("{path}.rate.traces_per_second");
                let traces = rate.traces_per_second as usize;
                if traces == 0 {
                    return Err(InvalidSample::TooFew { path: path(), number: 0, least: 1 });
                }
                self.rates.push(Rate { traces, beside: Policy::And(Vec::new()) });
                Policy::Rate(self.rates.len() - 1)
            }
            PolicyConfig::And(all) => {
                some(all.is_empty(), format!("{path}.and"))?;
                self.all(all, path)?
            }
            PolicyConfig::Or(any) => {
                some(any.is_empty(), format!("{path}.or"))?;
                let made = any.iter().enumerate().map(|(at, one)| self.policy(one, &format!("{path}.or.{at}")));
                Policy::Or(made.collect::<Result<_, _>>()?)
            }
            PolicyConfig::Not(policy) => match random(policy) {
                Some(policy) => return Err(InvalidSample::Not { path: format!("{path}.not"), policy }),
                None => Policy::Not(Box::new(self.policy(policy, &format!("{path}.not"))?)),
            },
        })
    }

    /// The policies of an `and`; each rate among them learns what stands beside it.
    fn all(&mut self, all: &[PolicyConfig], path: &str) -> Result<Policy, InvalidSample> {
        let (mut made, mut rates) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        for (at, one) in all.iter().enumerate() {
            let first = self.rates.len();
            made.push(self.policy(one, &format!("{path}.and.{at}"))?);
            rates.push(first..self.rates.len());
        }
        for (at, rates) in rates.into_iter().enumerate() {
            let beside = made.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, policy)| policy.clone());
            for rate in rates {
                let so_far = self.rates[rate].beside.clone();
                self.rates[rate].beside = Policy::And(beside.clone().chain([so_far]).collect());
            }
        }
        Ok(Policy::And(made))
    }
}

/// Position of a policy's word in [`KINDS`].
fn kind(policy: &PolicyConfig) -> usize {
    match policy {
        PolicyConfig::Error(_) => 0,
        PolicyConfig::Latency(_) => 1,
        PolicyConfig::Probability(_) => 2,
        PolicyConfig::Rate(_) => 3,
        PolicyConfig::Attribute(_) => 4,
        PolicyConfig::Service(_) => 5,
        PolicyConfig::And(_) => 6,
        PolicyConfig::Or(_) => 7,
        PolicyConfig::Not(_) => 8,
    }
}

/// The name of a policy within this one that depends on more than what the trace holds.
fn random(policy: &PolicyConfig) -> Option<&'static str> {
    match policy {
        PolicyConfig::Probability(_) => Some("probability"),
        PolicyConfig::Rate(_) => Some("rate"),
        PolicyConfig::And(policies) | PolicyConfig::Or(policies) => policies.iter().find_map(random),
        PolicyConfig::Not(policy) => random(policy),
        PolicyConfig::Error(_) | PolicyConfig::Latency(_) | PolicyConfig::Attribute(_) | PolicyConfig::Service(_) => {
            None
        }
    }
}
