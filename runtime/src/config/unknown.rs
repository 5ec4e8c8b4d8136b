//! Keys that nothing reads, and what was probably meant.

use super::error::{ConfigError, Place};
use super::shape::Shape;
use super::tree::{Kind, Node};

/// Edits, as a share of a name's length, up to which two names count as near.
const NEAR: f64 = 0.4;

impl Node {
    /// Answers with the first key, in the order of the file, that the schema does not know.
    pub(super) fn refuse_unknown_keys(&self, shape: &Shape<'_>) -> Result<(), ConfigError> {
        self.walk(shape, shape, &mut Vec::new())
    }

    fn walk<'a>(&'a self, shape: &Shape<'_>, root: &Shape<'_>, path: &mut Vec<&'a str>) -> Result<(), ConfigError> {
        match &self.kind {
            Kind::Map(entries) => {
                for entry in entries {
                    path.push(&entry.key);
                    match shape.key(&entry.key) {
                        Some(below) => entry.value.walk(&below, root, path)?,
                        None if shape.has_fixed_keys() => return Err(unknown(&entry.place, path, shape, root)),
                        // Not a place for keys at all: the type of the value is wrong, which is found later.
                        None => {}
                    }
                    path.pop();
                }
                Ok(())
            }
            Kind::List(items) => items.iter().try_for_each(|item| item.walk(&shape.items(), root, path)),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => Ok(()),
        }
    }
}

fn unknown(place: &Place, path: &[&str], shape: &Shape<'_>, root: &Shape<'_>) -> ConfigError {
    let (name, parents) = path.split_last().unwrap_or((&"", &[]));
    let here: Vec<&str> = shape.keys().into_iter().map(|(key, _)| key).collect();
    let nearest = here
        .iter()
        .map(|key| (strsim::damerau_levenshtein(&key.to_lowercase(), &name.to_lowercase()), *key))
        .min()
        .filter(|(edits, key)| *edits as f64 <= NEAR * key.chars().count() as f64)
        .map(|(_, key)| parents.iter().copied().chain([key]).collect::<Vec<_>>().join("."));
    let hint = match nearest.or_else(|| elsewhere(name, root)) {
        Some(key) => format!("did you mean `{key}`?"),
        None if here.is_empty() => "no key is known here".into(),
        None => format!("known here: {}", here.join(", ")),
    };
    ConfigError::UnknownKey { place: place.clone(), path: path.join("."), hint }
}

/// The one other place where a key of that name is known.
fn elsewhere(name: &str, root: &Shape<'_>) -> Option<String> {
    let mut found = Vec::new();
    find(name, root, &mut Vec::new(), &mut found);
    if found.len() == 1 { found.pop() } else { None }
}

fn find<'a>(name: &str, shape: &Shape<'a>, path: &mut Vec<&'a str>, found: &mut Vec<String>) {
    for (key, below) in shape.keys() {
        path.push(key);
        if key == name {
            found.push(path.join("."));
        }
        find(name, &below, path, found);
        path.pop();
    }
}
