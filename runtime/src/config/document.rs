//! What the user reads of a configuration type: its commented default and its JSON schema.

use std::fmt::Write;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value;

use super::error::ConfigError;
use super::shape::Shape;
use super::tree::{Entry, Kind, Node};

/// Columns at which comments wrap.
const WIDTH: usize = 100;

/// The JSON schema (draft 2020-12) of a configuration type, for editors and validators.
pub fn schema<T: JsonSchema>() -> Value {
    SchemaGenerator::new(SchemaSettings::draft2020_12()).into_root_schema_for::<T>().to_value()
}

/// The schema with every reference replaced by what it refers to.
pub(super) fn inlined_schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value()
}

/// A YAML file that sets every key to its default, each with the description from the type's documentation.
///
/// Keys without a default are commented out. Loading the text gives `T::default()`. An error says that the type
/// has a default that no file can express.
pub fn commented_default<T: JsonSchema + Default + Serialize>() -> Result<String, ConfigError> {
    let schema = inlined_schema::<T>();
    // By way of YAML text, which keeps the order of the fields.
    let unwritable = |error: serde_saphyr::SerializeError| ConfigError::Default { reason: error.to_string() };
    let text = serde_saphyr::to_string(&T::default()).map_err(unwritable)?;
    let root = Node::parse("default", &text)?;
    let mut out = String::new();
    if let Kind::Map(entries) = &root.kind {
        write_entries(&mut out, entries, &Shape::new(&schema), 0);
    }
    Ok(out)
}

fn write_entries(out: &mut String, entries: &[Entry], shape: &Shape<'_>, depth: usize) {
    let indent = "  ".repeat(depth);
    for (position, entry) in entries.iter().enumerate() {
        let below = shape.key(&entry.key);
        if depth == 0 && position > 0 {
            out.push('\n');
        }
        let description = below.as_ref().map(describe).unwrap_or_default();
        description.iter().for_each(|paragraph| wrap(out, &indent, paragraph));
        let key = scalar(&entry.key);
        // Writing to a String cannot fail.
        let _ = match &entry.value.kind {
            Kind::Map(inner) if !inner.is_empty() => {
                let _ = writeln!(out, "{indent}{key}:");
                if let Some(shape) = below {
                    write_entries(out, inner, &shape, depth + 1);
                }
                Ok(())
            }
            Kind::Null => writeln!(out, "{indent}# {key}:"),
            value => writeln!(out, "{indent}{key}: {}", flow(value)),
        };
    }
}

/// Paragraphs of the description, then the choices. Line breaks within a paragraph mean nothing.
fn describe(shape: &Shape<'_>) -> Vec<String> {
    let text = shape.description().unwrap_or_default();
    let mut paragraphs: Vec<String> = text.split("\n\n").map(str::to_owned).collect();
    let choices = shape.choices();
    if !choices.is_empty() {
        paragraphs.push(format!("One of: {}.", choices.join(", ")));
    }
    paragraphs
}

fn wrap(out: &mut String, indent: &str, paragraph: &str) {
    let mut column = 0;
    for word in paragraph.split_whitespace() {
        if column > 0 && column + 1 + word.chars().count() > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            out.push_str(indent);
            out.push('#');
            column = indent.len() + 1;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.chars().count();
    }
    if column > 0 {
        out.push('\n');
    }
}

/// A value on one line.
fn flow(kind: &Kind) -> String {
    match kind {
        Kind::Null => "null".into(),
        Kind::Bool(flag) => flag.to_string(),
        Kind::Number(number) => number.to_string(),
        Kind::Text(text) => scalar(text),
        Kind::List(items) => {
            format!("[{}]", items.iter().map(|item| flow(&item.kind)).collect::<Vec<_>>().join(", "))
        }
        Kind::Map(entries) => {
            let entry = |entry: &Entry| format!("{}: {}", scalar(&entry.key), flow(&entry.value.kind));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A text, in quotes unless it reads back as the same text without.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_');
    let bare = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '.' | '/'))
        && text.chars().all(|c| plain(c) || c == ':')
        && !text.ends_with(':')
        && !["true", "false", "null", "yes", "no", "on", "off"].contains(&text.to_lowercase().as_str());
    let duration_or_size = text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ');
    if bare || duration_or_size { text.to_owned() } else { Value::from(text).to_string() }
}
