//! One condition of a policy, made ready.

use afflux_schemas::otlp::common::{Attributes, ResourceView, ValueView};
use afflux_schemas::otlp::trace::SpanView;
use regex::Regex;

use super::{InvalidFilter, MatchType, PolicyAttribute};
use crate::span_metrics::{CODES, KINDS};

/// What must be true of a span.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// The bit of the kind is set.
    Kind(u8),
    /// The bit of the status is set.
    Status(u8),
    /// The name matches.
    Name(Text),
    /// The first attribute of that key matches.
    Span(String, Text),
    /// The first attribute of that key matches.
    Resource(String, Text),
}

impl Condition {
    pub(super) fn new(match_type: MatchType, attribute: &PolicyAttribute, path: &str) -> Result<Self, InvalidFilter> {
        let value = format!("{path}.value");
        let text = || Text::new(match_type, &attribute.value.0, &value);
        Ok(match attribute.key.as_str() {
            "kind" | "span:kind" => Self::Kind(bits(&text()?, &KINDS, &value)?),
            "status" | "span:status" => Self::Status(bits(&text()?, &CODES, &value)?),
            "name" | "span:name" => Self::Name(text()?),
            key => match (key.strip_prefix("span."), key.strip_prefix("resource.")) {
                (Some(key), _) if !key.is_empty() => Self::Span(unquoted(key), text()?),
                (_, Some(key)) if !key.is_empty() => Self::Resource(unquoted(key), text()?),
                _ => return Err(InvalidFilter::Key { path: format!("{path}.key"), key: key.into() }),
            },
        })
    }

    /// Lower comes first.
    pub(super) fn cost(&self) -> u8 {
        match self {
            Self::Kind(_) | Self::Status(_) => 0,
            Self::Name(_) => 1,
            Self::Resource(..) => 2,
            Self::Span(..) => 3,
        }
    }

    pub(super) fn met(&self, resource: ResourceView<'_>, span: &SpanView<'_>) -> bool {
        match self {
            Self::Kind(bits) => is_set(*bits, span.kind()),
            Self::Status(bits) => is_set(*bits, span.status().code()),
            Self::Name(text) => text.is_text(span.name()),
            Self::Span(key, text) => text.is_value_of(key, span.attributes()),
            Self::Resource(key, text) => text.is_value_of(key, resource.attributes()),
        }
    }
}

/// TraceQL puts names with unusual characters in quotes.
fn unquoted(key: &str) -> String {
    let inner = key.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.map_or_else(|| key.into(), |inner| inner.replace("\\\"", "\"").replace("\\\\", "\\"))
}

/// Which of the names match: a bit for each. There must be one, unless it is a regular expression.
fn bits(text: &Text, names: &[&str], path: &str) -> Result<u8, InvalidFilter> {
    let bits = names.iter().enumerate().fold(0, |bits, (at, name)| bits | u8::from(text.is_text(name)) << at);
    match text {
        Text::Equal { text, .. } if bits == 0 => {
            Err(InvalidFilter::Value { path: path.into(), value: text.clone(), known: names.join(", ") })
        }
        _ => Ok(bits),
    }
}

fn is_set(bits: u8, number: i32) -> bool {
    (0..8).contains(&number) && bits >> number & 1 == 1
}

/// What a value is compared with.
#[derive(Clone, Debug)]
pub(super) enum Text {
    /// Equal to the text; the others are the value of each type that is written so.
    Equal { text: String, int: Option<i64>, double: Option<f64>, boolean: Option<bool> },
    /// A pattern that matches somewhere in the value.
    Pattern(Regex),
}

impl Text {
    fn new(match_type: MatchType, text: &str, path: &str) -> Result<Self, InvalidFilter> {
        Ok(match match_type {
            MatchType::Strict => Self::Equal {
                text: text.into(),
                int: text.parse().ok().filter(|int: &i64| int.to_string() == text),
                double: text.parse().ok().filter(|double: &f64| double.to_string() == text),
                boolean: text.parse().ok(),
            },
            MatchType::Regex => Self::Pattern(pattern(text, path)?),
        })
    }

    fn is_text(&self, found: &str) -> bool {
        match self {
            Self::Equal { text, .. } => text == found,
            Self::Pattern(pattern) => pattern.is_match(found),
        }
    }

    fn is_value_of(&self, key: &str, mut attributes: Attributes<'_>) -> bool {
        let found = attributes.find(|attribute| attribute.key_bytes() == key.as_bytes());
        found.is_some_and(|attribute| self.is_value(&attribute.value()))
    }

    /// Nothing matches bytes, lists and maps.
    fn is_value(&self, found: &ValueView<'_>) -> bool {
        match (found, self) {
            (ValueView::Str(found), _) => self.is_text(found),
            (ValueView::Int(found), Self::Equal { int, .. }) => *int == Some(*found),
            (ValueView::Bool(found), Self::Equal { boolean, .. }) => *boolean == Some(*found),
            (ValueView::Double(found), Self::Equal { double, .. }) => {
                double.is_some_and(|double| double.to_bits() == found.to_bits() || double.is_nan() && found.is_nan())
            }
            (ValueView::Int(found), Self::Pattern(pattern)) => pattern.is_match(&found.to_string()),
            (ValueView::Bool(found), Self::Pattern(pattern)) => pattern.is_match(if *found { "true" } else { "false" }),
            (ValueView::Double(found), Self::Pattern(pattern)) => pattern.is_match(&found.to_string()),
            _ => false,
        }
    }
}

/// A regular expression that must match somewhere, as in Tempo: `^` and `$` are for whoever wants the whole value.
fn pattern(text: &str, path: &str) -> Result<Regex, InvalidFilter> {
    Regex::new(text).map_err(|error| {
        let (position, reason) = fault(&error);
        InvalidFilter::Pattern { path: path.into(), pattern: text.into(), position, reason }
    })
}

/// Character at fault, from 1, and the reason. Both stand in a message of several lines: the pattern, a mark below the
/// place, and the reason.
fn fault(error: &regex::Error) -> (Option<usize>, String) {
    const INDENT: usize = 4;
    let message = error.to_string();
    let is_mark = |line: &&str| line.contains('^') && line.trim_matches([' ', '^']).is_empty();
    let mark = message.lines().rfind(is_mark).and_then(|line| line.chars().position(|c| c == '^'));
    let reason = message.lines().filter_map(|line| line.strip_prefix("error: ")).next_back();
    let reason = reason.map_or_else(|| message.replace('\n', " "), str::to_owned);
    // Patterns of several lines are shown with the numbers of their lines.
    let position = mark.filter(|_| !message.contains("~~~~")).map(|column| column.saturating_sub(INDENT) + 1);
    (position, reason)
}
