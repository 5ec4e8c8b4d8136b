//! A YAML document as a tree that knows where each value was written.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::{Location, Spanned};

use super::ENV_PREFIX;
use super::error::{ConfigError, Place};
use super::shape::Shape;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) place: Place,
}

/// A value of YAML.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<Entry>),
}

/// A key, where it was written, and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Node {
    /// Parses a document; an empty one is an empty mapping.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let name: Arc<str> = name.into();
        let at = |location: Location| Place::File {
            name: Arc::clone(&name),
            line: location.line(),
            column: location.column(),
        };
        let node = match parse(text) {
            Ok(raw) => raw.into_node(&at),
            Err((location, reason)) => return Err(ConfigError::Syntax { place: at(location), reason }),
        };
        match node.kind {
            Kind::Null => Ok(Self { kind: Kind::Map(Vec::new()), place: node.place }),
            Kind::Map(_) => Ok(node),
            other => {
                let reason = format!("the file is {}, expected a mapping of keys like `bus: …`", other.brief());
                Err(ConfigError::Syntax { place: node.place, reason })
            }
        }
    }

    /// Puts the values of `AFFLUX__…` variables in place, in the order of their names.
    pub(super) fn apply_env(&mut self, shape: &Shape<'_>, env: impl IntoIterator<Item = (String, String)>) {
        let ours = |name: &str| name.get(..ENV_PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(ENV_PREFIX));
        let mut variables: Vec<_> = env.into_iter().filter(|(name, _)| ours(name)).collect();
        variables.sort();
        for (name, text) in variables {
            let place = Place::Source(name.as_str().into());
            let mut shape = Some(shape.clone());
            let mut path = Vec::new();
            for segment in name[ENV_PREFIX.len()..].split("__") {
                let known = shape.as_ref().map(Shape::keys).unwrap_or_default();
                let known = known.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(segment));
                let key = known.map_or_else(|| segment.to_lowercase(), |(key, _)| key.to_owned());
                shape = shape.and_then(|shape| shape.key(&key));
                path.push(key);
            }
            let kind = env_value(&text, shape.as_ref(), &place);
            self.set(&path, Node { kind, place });
        }
    }

    fn set(&mut self, path: &[String], node: Node) {
        let Some((first, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        if !matches!(self.kind, Kind::Map(_)) {
            self.kind = Kind::Map(Vec::new());
        }
        let Kind::Map(entries) = &mut self.kind else { return };
        match entries.iter_mut().find(|entry| entry.key == *first) {
            Some(entry) => entry.value.set(rest, node),
            None => {
                let place = node.place.clone();
                let mut value = Node { kind: Kind::Null, place: place.clone() };
                value.set(rest, node);
                entries.push(Entry { key: first.clone(), place, value });
            }
        }
    }

    /// The value at a path, unless it is missing or empty.
    pub(super) fn said(&self, path: &str) -> Option<&Node> {
        let found = path.split('.').try_fold(self, |node, key| match &node.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        });
        found.filter(|node| !matches!(node.kind, Kind::Null))
    }

    /// Sets a path that is not said. What is switched off (`false` on the way to it) stays off; what is switched on
    /// (`true`) is filled.
    pub(super) fn set_unsaid(&mut self, path: &str, node: Node) {
        let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
        let way = self.deepest(&keys);
        let open = matches!(way.kind, Kind::Map(_) | Kind::Null | Kind::Bool(true));
        if open && self.said(path).is_none() {
            self.set(&keys, node);
        }
    }

    /// A tree whose values all come from one place.
    pub(super) fn from_json(value: Value, place: &Place) -> Self {
        let kind = match value {
            Value::Null => Kind::Null,
            Value::Bool(flag) => Kind::Bool(flag),
            Value::Number(number) => Kind::Number(number),
            Value::String(text) => Kind::Text(text),
            Value::Array(items) => Kind::List(items.into_iter().map(|item| Self::from_json(item, place)).collect()),
            Value::Object(entries) => {
                let entry = |(key, value)| Entry { key, place: place.clone(), value: Self::from_json(value, place) };
                Kind::Map(entries.into_iter().map(entry).collect())
            }
        };
        Self { kind, place: place.clone() }
    }

    /// Fits scalars to their place: an empty value counts as absent unless null may stand there, and a bare
    /// number or `true` is a text where only a text may stand.
    pub(super) fn fit(&mut self, shape: &Shape<'_>) {
        match &mut self.kind {
            Kind::Map(entries) => {
                let below = |entry: &Entry| shape.key(&entry.key);
                entries.retain(|entry| {
                    !matches!(entry.value.kind, Kind::Null) || below(entry).is_none_or(|s| s.allows("null"))
                });
                for entry in entries {
                    if let Some(shape) = shape.key(&entry.key) {
                        entry.value.fit(&shape);
                    }
                }
            }
            Kind::List(items) => items.iter_mut().for_each(|item| item.fit(&shape.items())),
            Kind::Number(number) if shape.only_text() && !number.is_f64() => self.kind = Kind::Text(number.to_string()),
            Kind::Bool(flag) if shape.only_text() && shape.choices().is_empty() => {
                self.kind = Kind::Text(flag.to_string());
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => {}
        }
    }

    /// The tree without places.
    pub(super) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(flag) => Value::Bool(*flag),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => items.iter().map(Node::to_json).collect(),
            Kind::Map(entries) => entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect(),
        }
    }

    /// The value at a path, or the last one on the way to it.
    pub(super) fn deepest(&self, path: &[String]) -> &Node {
        let Some((first, rest)) = path.split_first() else { return self };
        let next = match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == *first).map(|entry| &entry.value),
            Kind::List(items) => first.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        next.map_or(self, |node| node.deepest(rest))
    }
}

impl Kind {
    /// As errors quote it.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Null => "empty".into(),
            Self::Bool(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) if text.chars().count() <= 60 => format!("`{text}`"),
            Self::Text(text) => format!("`{}…`", text.chars().take(57).collect::<String>()),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a mapping".into(),
        }
    }
}

/// The value of a variable: text where only text may stand, otherwise YAML, otherwise text.
fn env_value(text: &str, shape: Option<&Shape<'_>>, place: &Place) -> Kind {
    // A text is taken as it stands, however much a secret or a name may look like YAML; nothing is no text.
    if shape.is_some_and(Shape::only_text) && !(text.is_empty() && shape.is_some_and(|shape| shape.allows("null"))) {
        return Kind::Text(text.to_owned());
    }
    let kind = parse(text).map_or_else(|_| Kind::Text(text.to_owned()), |raw| raw.into_node(&|_| place.clone()).kind);
    let wants_list = shape.is_some_and(|shape| shape.allows("array") && !shape.allows("string"));
    if !wants_list || matches!(kind, Kind::List(_) | Kind::Map(_) | Kind::Null) {
        return kind;
    }
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let item =
        |text: &str| Node { kind: env_value(text, shape.map(Shape::items).as_ref(), place), place: place.clone() };
    Kind::List(items.map(item).collect())
}

fn parse(text: &str) -> Result<Spanned<Raw>, (Location, String)> {
    // Numbers that are more likely identifiers stay as they are written; `yes` and `on` are texts.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Option<Spanned<Raw>>>(text, options)
        .map(|raw| raw.unwrap_or(Spanned::new(Raw::Null, Location::UNKNOWN, Location::UNKNOWN)))
        .map_err(|error| {
            let location = error.location().unwrap_or(Location::UNKNOWN);
            let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            (location, without_location(&message).to_owned())
        })
}

/// The parser's message without its own mention of line and column.
fn without_location(message: &str) -> &str {
    let message = message.lines().next().unwrap_or_default();
    message.rsplit_once(" at line ").map_or(message, |(reason, _)| reason)
}

/// A value as the parser delivers it.
enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

trait IntoNode {
    fn into_node(self, at: &impl Fn(Location) -> Place) -> Node;
}

impl IntoNode for Spanned<Raw> {
    fn into_node(self, at: &impl Fn(Location) -> Place) -> Node {
        let kind = match self.value {
            Raw::Null => Kind::Null,
            Raw::Bool(flag) => Kind::Bool(flag),
            Raw::Number(number) => Kind::Number(number),
            Raw::Text(text) => Kind::Text(text),
            Raw::List(items) => Kind::List(items.into_iter().map(|item| item.into_node(at)).collect()),
            Raw::Map(entries) => {
                let entry = |(key, value): (Spanned<String>, Spanned<Raw>)| Entry {
                    place: at(key.referenced),
                    key: key.value,
                    value: value.into_node(at),
                };
                Kind::Map(entries.into_iter().map(entry).collect())
            }
        };
        Node { kind, place: at(self.referenced) }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Raw, E> {
        Number::from_f64(value)
            .map(Raw::Number)
            .ok_or_else(|| E::custom("infinite and undefined numbers have no use here"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
