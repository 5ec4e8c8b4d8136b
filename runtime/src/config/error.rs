//! What can be wrong with a configuration, and where.

use std::fmt;
use std::sync::Arc;

use serde_path_to_error::Segment;

use super::redact::is_secret;
use super::shape::Shape;
use super::tree::{Kind, Node};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file; line and column count from 1.
    File {
        /// As the user named it.
        name: Arc<str>,
        /// Line.
        line: u64,
        /// Column, in characters.
        column: u64,
    },
    /// In that environment variable or command-line option.
    Source(Arc<str>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line: 0, .. } => f.write_str(name),
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Source(name) => f.write_str(name),
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is no YAML, or not one mapping.
    #[error("{place}: {reason}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser met.
        reason: String,
    },
    /// A key that nothing reads.
    #[error("{place}: unknown key `{path}`; {hint}")]
    UnknownKey {
        /// Where.
        place: Place,
        /// Full path.
        path: String,
        /// The nearest known key, or all that are known there.
        hint: String,
    },
    /// A value of another type than the key takes.
    #[error("{place}: `{path}` is {value}, expected {expected}")]
    WrongType {
        /// Where.
        place: Place,
        /// Full path.
        path: String,
        /// The value as written.
        value: String,
        /// What to write.
        expected: String,
    },
    /// A default that cannot be written as YAML: a defect of the program.
    #[error("the default configuration cannot be written: {reason}")]
    Default {
        /// What the serializer met.
        reason: String,
    },
    /// A value of the right type that makes no sense.
    #[error("{place}: `{path}` is {value}: {reason}")]
    Invalid {
        /// Where.
        place: Place,
        /// Full path.
        path: String,
        /// The value as written.
        value: String,
        /// What is wrong, and what to write.
        reason: String,
    },
}

/// Turns serde's complaint into one that names place, path, value and what is expected.
pub(super) fn explain(
    root: &Node,
    shape: &Shape<'_>,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> ConfigError {
    let segments: Vec<String> = error
        .path()
        .iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect();
    let node = root.deepest(&segments);
    let path = segments.join(".");
    let value = if is_secret(&path) { "(hidden)".to_owned() } else { node.kind.brief() };
    let message = error.inner().to_string();
    let place = node.place.clone();
    let of_type = ["invalid type: ", "invalid value: "].iter().any(|prefix| message.starts_with(prefix));
    match message.split_once(", expected ") {
        Some((_, expected)) if of_type => {
            let expected = in_words(expected, shape.range(&segments));
            ConfigError::WrongType { place, path, value, expected }
        }
        _ => ConfigError::Invalid { place, path, value, reason: advise(&node.kind, message) },
    }
}

/// Names of Rust types as the writer of a file would call them.
fn in_words(expected: &str, range: Option<(u64, u64)>) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => match range {
            Some((least, u64::MAX)) => format!("a whole number from {least}"),
            Some((least, most)) => format!("a whole number from {least} to {most}"),
            None => "a whole number".into(),
        },
        "f32" | "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a string" | "string" | "path string" => "a text".into(),
        "a sequence" => "a list".into(),
        other if other == "a map" || other.starts_with("struct ") => "a mapping of keys".into(),
        other => other.into(),
    }
}

/// Adds how to write the value, where a library's message does not say it.
fn advise(value: &Kind, reason: String) -> String {
    match (reason.as_str(), value) {
        ("invalid socket address syntax", Kind::Text(_)) => "not an address; write it like 127.0.0.1:4317".into(),
        _ => reason,
    }
}
