//! Which spans count: `filter_policies`, as Tempo's metrics-generator has them.
//!
//! A span that any `exclude` matches is left out. Of the others, one that any `include_any` matches counts; else every
//! `include` must match it. Where there is `include_any` and no `include`, the rest is left out.
//!
//! A regular expression may match anywhere within the value. There is one difference from Tempo: numbers and truth values
//! are compared as text, so that `200` matches the number and the text.

mod condition;
mod value;

use afflux_schemas::otlp::common::ResourceView;
use afflux_schemas::otlp::trace::SpanView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use condition::Condition;
pub use value::PolicyValue;

/// A rule about which spans count. It has `include`, `include_any` or `exclude`, or several of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FilterPolicy {
    /// Only spans that match count; of several policies, all must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include: Option<PolicyMatch>,
    /// Spans that match count, whatever `include` says; of several policies, one is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_any: Option<PolicyMatch>,
    /// Spans that match do not count, whatever else matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<PolicyMatch>,
}

/// What a span must be like. All attributes must match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyMatch {
    /// How values are compared.
    pub match_type: MatchType,
    /// What is compared; one at least.
    pub attributes: Vec<PolicyAttribute>,
}

/// How values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MatchType {
    /// They must be equal.
    Strict,
    /// A regular expression must match somewhere in the value.
    Regex,
}

/// A value that a span must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyAttribute {
    /// `kind`, `status`, `name`, `resource.KEY` or `span.KEY`.
    pub key: String,
    /// Text, a number, true or false; a regular expression with `match_type: regex`. Kinds are named like
    /// `SPAN_KIND_SERVER`, statuses like `STATUS_CODE_ERROR`. A span without the attribute does not match.
    pub value: PolicyValue,
}

/// What is wrong with a list of policies. `path` names the key at fault, such as
/// `processors.span_metrics.filter_policies.0.include.attributes.1.value`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// A policy that says nothing.
    #[error("`{path}` has neither include, include_any nor exclude; give it one, or remove it")]
    Empty {
        /// The policy.
        path: String,
    },
    /// A match that compares nothing.
    #[error("`{path}` is empty, and would match every span; name an attribute, or remove the match")]
    NoAttributes {
        /// The list.
        path: String,
    },
    /// A key that names nothing.
    #[error("`{path}` is `{key}`; use kind, status, name, resource.KEY or span.KEY")]
    Key {
        /// The key's path.
        path: String,
        /// What it is.
        key: String,
    },
    /// A kind or status that does not exist.
    #[error("`{path}` is `{value}`, which no span has; use {known}")]
    Value {
        /// The value's path.
        path: String,
        /// What it is.
        value: String,
        /// What exists.
        known: String,
    },
    /// A regular expression that is none, or takes too much memory.
    #[error("`{path}` is `{pattern}`, which is no regular expression{}: {reason}", at(*.position))]
    Pattern {
        /// The value's path.
        path: String,
        /// What it is.
        pattern: String,
        /// The character at fault, from 1, where it is known.
        position: Option<usize>,
        /// What is wrong there.
        reason: String,
    },
}

fn at(position: Option<usize>) -> String {
    position.map(|position| format!(" at character {position}")).unwrap_or_default()
}

/// Policies made ready for matching. Without policies, every span passes at no cost.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    include: Vec<All>,
    include_any: Vec<All>,
    exclude: Vec<All>,
}

/// Conditions that must all be met, the cheap ones first.
#[derive(Clone, Debug)]
struct All(Vec<Condition>);

impl Filter {
    /// Makes policies ready. `path` is the key of the list in the configuration, for errors.
    ///
    /// # Errors
    /// Names the key at fault, and what to do.
    pub fn new(policies: &[FilterPolicy], path: &str) -> Result<Self, InvalidFilter> {
        let mut filter = Self::default();
        for (at, policy) in policies.iter().enumerate() {
            let path = format!("{path}.{at}");
            if policy == &FilterPolicy::default() {
                return Err(InvalidFilter::Empty { path });
            }
            for (key, found, list) in [
                ("include", &policy.include, &mut filter.include),
                ("include_any", &policy.include_any, &mut filter.include_any),
                ("exclude", &policy.exclude, &mut filter.exclude),
            ] {
                if let Some(found) = found {
                    list.push(All::new(found, &format!("{path}.{key}"))?);
                }
            }
        }
        Ok(filter)
    }

    /// Whether a span of that resource counts.
    #[inline]
    pub fn keeps(&self, resource: ResourceView<'_>, span: &SpanView<'_>) -> bool {
        self.is_empty() || self.decide(resource, span)
    }

    /// Whether every span passes, since there are no policies.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.include_any.is_empty() && self.exclude.is_empty()
    }

    fn decide(&self, resource: ResourceView<'_>, span: &SpanView<'_>) -> bool {
        let met = |all: &All| all.met(resource, span);
        if self.exclude.iter().any(met) {
            return false;
        }
        if self.include_any.iter().any(met) {
            return true;
        }
        if self.include.is_empty() { self.include_any.is_empty() } else { self.include.iter().all(met) }
    }
}

impl All {
    fn new(found: &PolicyMatch, path: &str) -> Result<Self, InvalidFilter> {
        if found.attributes.is_empty() {
            return Err(InvalidFilter::NoAttributes { path: format!("{path}.attributes") });
        }
        let ready = |(at, attribute)| Condition::new(found.match_type, attribute, &format!("{path}.attributes.{at}"));
        let mut conditions = found.attributes.iter().enumerate().map(ready).collect::<Result<Vec<_>, _>>()?;
        conditions.sort_by_key(Condition::cost);
        Ok(Self(conditions))
    }

    fn met(&self, resource: ResourceView<'_>, span: &SpanView<'_>) -> bool {
        self.0.iter().all(|condition| condition.met(resource, span))
    }
}

#[cfg(test)]
mod tests;
