//! Configuration of editing and redaction.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `processors.attributes`: attributes are set, renamed, deleted and redacted, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AttributesConfig {
    /// Attributes that are given a text.
    pub set: Vec<SetAttribute>,
    /// Attributes that get another name.
    pub rename: Vec<RenameAttribute>,
    /// Attributes that are left out.
    pub delete: Vec<DeleteAttribute>,
    /// What is made unreadable in the texts of attributes and log bodies.
    pub redact: RedactConfig,
}

/// An attribute that is given a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAttribute {
    /// Its name.
    pub key: String,
    /// The text.
    pub value: String,
    /// Whether a value that the sender gives is replaced.
    #[serde(default)]
    pub overwrite: bool,
    /// Where: `resource` unless said.
    #[serde(default = "resource")]
    pub on: Vec<Place>,
}

/// An attribute that gets another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameAttribute {
    /// The name it has.
    pub from: String,
    /// The name it gets. Where there is an attribute of that name already, nothing is renamed.
    pub to: String,
    /// Where: everywhere unless said.
    #[serde(default = "everywhere")]
    pub on: Vec<Place>,
}

/// An attribute that is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteAttribute {
    /// Its name, or the beginning of names and `*`.
    pub key: String,
    /// Where: everywhere unless said.
    #[serde(default = "everywhere")]
    pub on: Vec<Place>,
}

/// Where attributes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// On resources.
    Resource,
    /// On spans and log records.
    Items,
    /// On events of spans.
    Events,
}

/// `processors.attributes.redact`: what is made unreadable in the texts of attributes of resources, spans, log records
/// and events of spans, and in log bodies, within arrays and maps too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedactConfig {
    /// Patterns, applied in this order.
    pub patterns: Vec<PatternConfig>,
    /// Goes into the hashes of patterns whose `action` is `hash`, so that nobody without it can try out what a hash is of.
    /// The same over all instances, and kept secret.
    pub secret: String,
}

/// A pattern by its name alone, or a regular expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatternConfig {
    /// `email`: addresses; `card`: numbers of payment cards, 13 to 19 digits with spaces or dashes between them and a
    /// right check digit; `bearer`: tokens after `Bearer`, credentials after `Authorization:`, and values of attributes
    /// named `authorization`. Any other name for an expression of your own: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// A regular expression without look-around and backreferences. If it has a group named `secret`, only that is
    /// replaced.
    #[serde(default)]
    pub regex: Option<String>,
    /// What becomes of a match: `mask` replaces it by `[redacted:NAME]`, `hash` by `[NAME:HASH]` with the first 16 hex
    /// digits of the SHA-256 of `secret` and the match, so that equal texts can still be told to be equal.
    #[serde(default)]
    pub action: Action,
}

/// What becomes of a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Nothing of it is left.
    #[default]
    Mask,
    /// It can be compared, and not read.
    Hash,
}

fn resource() -> Vec<Place> {
    vec![Place::Resource]
}

fn everywhere() -> Vec<Place> {
    vec![Place::Resource, Place::Items, Place::Events]
}

/// What is wrong with `processors.attributes`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAttributes {
    /// No name of an attribute.
    #[error("`processors.attributes.{key}` is `{value}`, which is no name of an attribute: {reason}")]
    Name {
        /// The key behind `processors.attributes`.
        key: String,
        /// What stands there.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nowhere to do it.
    #[error("`processors.attributes.{key}` is empty; name `resource`, `items` or `events`, or remove the key")]
    Nowhere {
        /// The key behind `processors.attributes`.
        key: String,
    },
    /// No name of a pattern.
    #[error("`processors.attributes.redact.patterns.{at}.name` is `{name}`, {reason}")]
    Pattern {
        /// Position in the list, from 0.
        at: usize,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Hashes that anybody could make.
    #[error(
        "`processors.attributes.redact.patterns.{at}.action` is `hash`, which needs `processors.attributes.redact.secret`: \
         without one, what a hash is of could be found by trying"
    )]
    NoSecret {
        /// Position in the list, from 0.
        at: usize,
    },
    /// No regular expression.
    #[error("`processors.attributes.redact.patterns.{at}.regex` is `{regex}`, which cannot be used: {reason}")]
    Regex {
        /// Position in the list, from 0.
        at: usize,
        /// The expression.
        regex: String,
        /// What is wrong with it, and where.
        reason: String,
    },
}
