//! Changing messages field by field.

use afflux_schemas::otlp::common::{Attributes, KeyValueView};
use afflux_schemas::wire::{Field, Fields, LEN, RECURSION_LIMIT, key, len_field_size, put_len_field, put_len_header};

use super::Editor;
use super::config::{AttributesConfig, InvalidAttributes, Place};
use super::redact::{Redactor, is_credential};
use crate::names::Names;

/// What is done to the attributes of one place.
#[derive(Debug, Default)]
pub(super) struct Rules {
    set: Vec<Set>,
    /// Names before and after.
    rename: Vec<(String, String)>,
    delete: Names,
}

#[derive(Debug)]
struct Set {
    key: String,
    /// The `KeyValue` message.
    attribute: Vec<u8>,
    overwrite: bool,
}

impl Rules {
    pub(super) fn new(config: &AttributesConfig, place: Place) -> Result<Self, InvalidAttributes> {
        let mut rules = Self::default();
        for (at, rule) in config.set.iter().enumerate() {
            check(|| format!("set.{at}"), "key", &rule.key, &rule.on)?;
            single(|| format!("set.{at}.key"), &rule.key)?;
            if rule.on.contains(&place) {
                let attribute = key_value(&rule.key, &rule.value);
                rules.set.push(Set { key: rule.key.clone(), attribute, overwrite: rule.overwrite });
            }
        }
        for (at, rule) in config.rename.iter().enumerate() {
            check(|| format!("rename.{at}"), "from", &rule.from, &rule.on)?;
            check(|| format!("rename.{at}"), "to", &rule.to, &rule.on)?;
            single(|| format!("rename.{at}.from"), &rule.from)?;
            single(|| format!("rename.{at}.to"), &rule.to)?;
            if rule.on.contains(&place) {
                rules.rename.push((rule.from.clone(), rule.to.clone()));
            }
        }
        for (at, rule) in config.delete.iter().enumerate() {
            check(|| format!("delete.{at}"), "key", &rule.key, &rule.on)?;
        }
        let name = |at: usize| config.delete.get(at).map(|rule| rule.key.clone()).unwrap_or_default();
        let fault = |at| InvalidAttributes::Name {
            key: format!("delete.{at}.key"),
            value: name(at),
            reason: "only its end may be `*`",
        };
        Names::new(config.delete.iter().map(|rule| &*rule.key)).map_err(fault)?;
        let here = config.delete.iter().filter(|rule| rule.on.contains(&place));
        rules.delete = Names::new(here.map(|rule| &*rule.key)).map_err(fault)?;
        Ok(rules)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.rename.is_empty() && self.delete.is_empty()
    }
}

fn check(rule: impl Fn() -> String, key: &str, name: &str, on: &[Place]) -> Result<(), InvalidAttributes> {
    if name.is_empty() {
        let key = format!("{}.{key}", rule());
        return Err(InvalidAttributes::Name { key, value: String::new(), reason: "it is empty" });
    }
    if on.is_empty() {
        return Err(InvalidAttributes::Nowhere { key: format!("{}.on", rule()) });
    }
    Ok(())
}

/// Only what is deleted may be named by its beginning.
fn single(key: impl Fn() -> String, name: &str) -> Result<(), InvalidAttributes> {
    if name.ends_with('*') {
        let reason = "only `delete` takes the beginning of names";
        return Err(InvalidAttributes::Name { key: key(), value: name.into(), reason });
    }
    Ok(())
}

/// Edits a `Resource` message.
pub(super) fn resource(editor: &mut Editor, raw: &[u8]) -> Option<Vec<u8>> {
    attributes(&editor.resource, &mut editor.redactor, 1, raw)
}

/// Edits a `Span` message.
pub(super) fn span(editor: &mut Editor, raw: &[u8]) -> Option<Vec<u8>> {
    const EVENTS: u32 = key(11, LEN);
    let mut edited = attributes(&editor.items, &mut editor.redactor, 9, raw);
    if !editor.events.is_empty() || !editor.redactor.is_empty() {
        pass(raw, &mut edited, |raw| {
            fields(raw, |field| if field.key == EVENTS { Fate::of(event(editor, field.value)) } else { Fate::Stay })
        });
    }
    edited
}

/// Edits an `Event` message of a span.
fn event(editor: &mut Editor, raw: &[u8]) -> Option<Vec<u8>> {
    attributes(&editor.events, &mut editor.redactor, 3, raw)
}

/// Edits a `LogRecord` message.
pub(super) fn log_record(editor: &mut Editor, raw: &[u8]) -> Option<Vec<u8>> {
    const BODY: u32 = key(5, LEN);
    let mut edited = attributes(&editor.items, &mut editor.redactor, 6, raw);
    if !editor.redactor.is_empty() {
        pass(raw, &mut edited, |raw| {
            fields(raw, |field| match field.key {
                BODY => Fate::of(redact_value(&mut editor.redactor, field.value, false, RECURSION_LIMIT)),
                _ => Fate::Stay,
            })
        });
    }
    edited
}

/// Edits the attributes of a message, whose field `number` they are.
fn attributes(rules: &Rules, redactor: &mut Redactor, number: u32, raw: &[u8]) -> Option<Vec<u8>> {
    let mut edited = None;
    for rule in &rules.set {
        pass(raw, &mut edited, |raw| set(rule, number, raw));
    }
    for (from, to) in &rules.rename {
        pass(raw, &mut edited, |raw| rename(from.as_bytes(), to.as_bytes(), number, raw));
    }
    if !rules.delete.is_empty() {
        pass(raw, &mut edited, |raw| {
            fields(raw, |field| match key_in(field, number) {
                Some(name) if rules.delete.contains(name) => Fate::Go,
                _ => Fate::Stay,
            })
        });
    }
    if !redactor.is_empty() {
        pass(raw, &mut edited, |raw| {
            fields(raw, |field| match key_in(field, number) {
                Some(_) => Fate::of(redact_attribute(redactor, field.value, false, RECURSION_LIMIT)),
                None => Fate::Stay,
            })
        });
    }
    // One rule may have undone what another did.
    edited.filter(|edited| *edited != raw)
}

fn set(rule: &Set, number: u32, raw: &[u8]) -> Option<Vec<u8>> {
    let name = rule.key.as_bytes();
    if !has(raw, number, name) {
        let mut out = Vec::with_capacity(raw.len() + len_field_size(number, rule.attribute.len()));
        out.extend_from_slice(raw);
        put_len_field(&mut out, number, &rule.attribute);
        return Some(out);
    }
    if !rule.overwrite {
        return None;
    }
    fields(raw, |field| {
        let other = key_in(field, number) == Some(name) && field.value != rule.attribute;
        if other { Fate::Become(rule.attribute.clone()) } else { Fate::Stay }
    })
}

fn rename(from: &[u8], to: &[u8], number: u32, raw: &[u8]) -> Option<Vec<u8>> {
    if !has(raw, number, from) || has(raw, number, to) {
        return None;
    }
    fields(raw, |field| match key_in(field, number) {
        Some(name) if name == from => Fate::of(fields(field.value, |part| match part.key {
            KEY => Fate::Become(to.to_vec()),
            _ => Fate::Stay,
        })),
        _ => Fate::Stay,
    })
}

/// Key of the field of a `KeyValue` that is its name.
const KEY: u32 = key(1, LEN);

fn has(raw: &[u8], number: u32, name: &[u8]) -> bool {
    Attributes::new(raw, number).any(|attribute| attribute.key_bytes() == name)
}

/// Name of an attribute, if a field is one.
fn key_in<'a>(field: &Field<'a>, number: u32) -> Option<&'a [u8]> {
    (field.key == key(number, LEN)).then(|| KeyValueView::new(field.value).key_bytes())
}

/// Redacts a `KeyValue` message, within `depth` further levels.
fn redact_attribute(redactor: &mut Redactor, raw: &[u8], credential: bool, depth: u32) -> Option<Vec<u8>> {
    const VALUE: u32 = key(2, LEN);
    let credential = credential || is_credential(KeyValueView::new(raw).key_bytes());
    fields(raw, |field| match field.key {
        VALUE => Fate::of(redact_value(redactor, field.value, credential, depth)),
        _ => Fate::Stay,
    })
}

/// Redacts an `AnyValue` message, within `depth` further levels.
fn redact_value(redactor: &mut Redactor, raw: &[u8], credential: bool, depth: u32) -> Option<Vec<u8>> {
    const STRING: u32 = key(1, LEN);
    const ARRAY: u32 = key(5, LEN);
    const KVLIST: u32 = key(6, LEN);
    const ELEMENT: u32 = key(1, LEN);
    let depth = depth.checked_sub(1)?;
    fields(raw, |field| match field.key {
        STRING => {
            let text = std::str::from_utf8(field.value).ok();
            Fate::of(text.and_then(|text| redactor.redact(text, credential)).map(String::into_bytes))
        }
        ARRAY => Fate::of(fields(field.value, |element| match element.key {
            ELEMENT => Fate::of(redact_value(redactor, element.value, credential, depth)),
            _ => Fate::Stay,
        })),
        KVLIST => Fate::of(fields(field.value, |element| match element.key {
            ELEMENT => Fate::of(redact_attribute(redactor, element.value, credential, depth)),
            _ => Fate::Stay,
        })),
        _ => Fate::Stay,
    })
}

/// What becomes of a field.
enum Fate {
    Stay,
    Go,
    /// The value of a field of messages, strings or bytes.
    Become(Vec<u8>),
}

impl Fate {
    fn of(edited: Option<Vec<u8>>) -> Self {
        edited.map_or(Self::Stay, Self::Become)
    }
}

/// A message with its fields as `fate` says; none if all of them stay.
fn fields<'a>(raw: &'a [u8], mut fate: impl FnMut(&Field<'a>) -> Fate) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut position, mut copied, mut changed) = (0, 0, false);
    for field in Fields::new(raw) {
        let start = position;
        position += field.raw.len();
        let fate = fate(&field);
        if matches!(fate, Fate::Stay) {
            continue;
        }
        changed = true;
        out.extend_from_slice(&raw[copied..start]);
        copied = position;
        if let Fate::Become(value) = fate {
            put_len_field(&mut out, field.key >> 3, &value);
        }
    }
    out.extend_from_slice(if changed { &raw[copied..] } else { &[] });
    changed.then_some(out)
}

/// Changes what earlier passes have made of a message, or the message itself.
fn pass(raw: &[u8], edited: &mut Option<Vec<u8>>, change: impl FnOnce(&[u8]) -> Option<Vec<u8>>) {
    if let Some(changed) = change(edited.as_deref().unwrap_or(raw)) {
        *edited = Some(changed);
    }
}

/// A `KeyValue` message of text.
fn key_value(name: &str, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_len_field(&mut out, 1, name.as_bytes());
    put_len_header(&mut out, 2, len_field_size(1, text.len()));
    put_len_field(&mut out, 1, text.as_bytes());
    out
}
