//! What may stand where: questions to a JSON schema.

use serde_json::Value;

/// One place of a schema without references: the alternatives that may stand there.
#[derive(Clone, Debug)]
pub(super) struct Shape<'a> {
    alternatives: Vec<&'a Value>,
}

impl<'a> Shape<'a> {
    /// The place that the schema describes.
    pub(super) fn new(schema: &'a Value) -> Self {
        let mut alternatives = Vec::new();
        collect(schema, &mut alternatives);
        Self { alternatives }
    }

    /// Keys that may stand here and what may stand behind them, each key once.
    pub(super) fn keys(&self) -> Vec<(&'a str, Shape<'a>)> {
        let mut keys: Vec<(&'a str, Shape<'a>)> = Vec::new();
        for (name, schema) in self.alternatives.iter().filter_map(|s| s.get("properties")?.as_object()).flatten() {
            let shape = Shape::new(schema);
            match keys.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => known.alternatives.extend(shape.alternatives),
                None => keys.push((name, shape)),
            }
        }
        keys
    }

    /// What may stand behind a key; `None` where the key is unknown.
    pub(super) fn key(&self, name: &str) -> Option<Shape<'a>> {
        let known = self.keys().into_iter().find(|(known, _)| *known == name);
        known.map(|(_, shape)| shape).or_else(|| self.any_key())
    }

    /// What may stand behind keys that the user chooses; `None` where keys are fixed.
    fn any_key(&self) -> Option<Shape<'a>> {
        self.alternatives.iter().find_map(|schema| match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            Some(values) => Some(Shape::new(values)),
            // No statement about keys at all: any object.
            None if is_object(schema) && schema.get("properties").is_none() => Some(Shape { alternatives: vec![] }),
            None => None,
        })
    }

    /// What may stand in a list here.
    pub(super) fn items(&self) -> Shape<'a> {
        let mut alternatives = Vec::new();
        self.alternatives.iter().filter_map(|s| s.get("items")).for_each(|s| collect(s, &mut alternatives));
        Shape { alternatives }
    }

    /// Whether a value of that JSON type may stand here. Where nothing is known, everything may.
    pub(super) fn allows(&self, kind: &str) -> bool {
        self.alternatives.is_empty() || self.alternatives.iter().any(|schema| has_type(schema, kind))
    }

    /// Whether only a text may stand here, or nothing.
    pub(super) fn only_text(&self) -> bool {
        let others = ["boolean", "integer", "number", "array", "object"];
        self.allows("string") && others.iter().all(|kind| !self.allows(kind))
    }

    /// Whether a mapping with fixed keys may stand here.
    pub(super) fn has_fixed_keys(&self) -> bool {
        self.alternatives.iter().any(|s| is_object(s)) && self.any_key().is_none()
    }

    /// The description written for this place.
    pub(super) fn description(&self) -> Option<&'a str> {
        self.alternatives.iter().find_map(|schema| schema.get("description")?.as_str())
    }

    /// The texts among which one must choose, where that is so.
    pub(super) fn choices(&self) -> Vec<&'a str> {
        let listed = self.alternatives.iter().filter_map(|s| s.get("enum")?.as_array()).flatten();
        let single = self.alternatives.iter().filter_map(|s| s.get("const"));
        listed.chain(single).filter_map(Value::as_str).collect()
    }

    /// Least and greatest whole number at a path below here.
    pub(super) fn range(&self, path: &[String]) -> Option<(u64, u64)> {
        let Some((first, rest)) = path.split_first() else { return self.own_range() };
        match self.key(first) {
            Some(below) => below.range(rest),
            None => self.items().range(rest),
        }
    }

    fn own_range(&self) -> Option<(u64, u64)> {
        let whole = self.alternatives.iter().find(|schema| has_type(schema, "integer"))?;
        let most = match whole.get("format").and_then(Value::as_str) {
            Some("uint8") => u64::from(u8::MAX),
            Some("uint16") => u64::from(u16::MAX),
            Some("uint32") => u64::from(u32::MAX),
            Some("uint" | "uint64") => u64::MAX,
            _ => return None,
        };
        let bound = |name: &str| whole.get(name).and_then(Value::as_u64);
        Some((bound("minimum").unwrap_or(0), bound("maximum").unwrap_or(most)))
    }
}

/// The leaves of `anyOf`, `oneOf` and `allOf`, and the schema itself, whose description comes first.
fn collect<'a>(schema: &'a Value, into: &mut Vec<&'a Value>) {
    let parts = ["anyOf", "oneOf", "allOf"].iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
    let before = into.len();
    parts.for_each(|part| collect(part, into));
    let composed = into.len() > before;
    if !composed || schema.get("description").is_some() || schema.get("properties").is_some() {
        into.insert(before, schema);
    }
}

fn is_object(schema: &Value) -> bool {
    has_type(schema, "object")
}

/// Whether one schema without alternatives takes a JSON type.
fn has_type(schema: &Value, kind: &str) -> bool {
    let one = |name: &str| name == kind || (name == "number" && kind == "integer");
    match schema.get("type") {
        Some(Value::String(name)) => one(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(one),
        // An enumeration of texts, or a schema that only groups others.
        _ if schema.get("const").is_some_and(Value::is_string) => kind == "string",
        _ if ["anyOf", "oneOf", "allOf"].iter().any(|word| schema.get(word).is_some()) => false,
        _ => *schema == Value::Bool(true) || schema.as_object().is_some_and(|o| !o.contains_key("const")),
    }
}
