//! Configuration: one YAML file and `AFFLUX__…` variables, parsed once into a type that cannot be wrong.
//!
//! What [`load`] guarantees: every key in the file and in the environment is known, every value has its type,
//! and whatever is not said has its default. An error names the place (line and column, or the variable), the
//! full path of the key, and what to write instead.

mod document;
mod error;
mod redact;
mod section;
mod shape;
mod tree;
mod units;
mod unknown;

pub use document::{commented_default, schema};
pub use error::{ConfigError, Place};
pub use redact::redacted;
pub use section::Section;
pub use units::{ByteSize, Period};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use shape::Shape;
use tree::Node;

/// Environment variables that begin so override the file: `AFFLUX__BUS__KAFKA__BROKERS` is `bus.kafka.brokers`.
pub const ENV_PREFIX: &str = "AFFLUX__";

/// Reads a configuration from YAML text and environment variables, which win.
///
/// See [`Loader`], which this is the short form of.
pub fn load<T>(name: &str, text: &str, env: impl IntoIterator<Item = (String, String)>) -> Result<T, ConfigError>
where
    T: DeserializeOwned + JsonSchema,
{
    Loader::new(name, text).env(env).load()
}

/// Where a configuration comes from: fallbacks, below a YAML text, below environment variables.
#[derive(Debug)]
pub struct Loader<'a> {
    name: &'a str,
    text: &'a str,
    env: Vec<(String, String)>,
    fallbacks: Vec<(&'a str, Fallback<'a>)>,
}

/// What a key is when neither the text nor the environment says.
#[derive(Debug)]
enum Fallback<'a> {
    /// The value, and what errors call its origin.
    Value(Value, &'a str),
    /// What that other key is.
    SameAs(&'a str),
}

impl<'a> Loader<'a> {
    /// A YAML text, empty where there is none. `name` is what errors call it, e.g. the file's path.
    pub fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text, env: Vec::new(), fallbacks: Vec::new() }
    }

    /// Variables that override the text; those without [`ENV_PREFIX`] are ignored.
    ///
    /// In a variable's name two underscores separate levels and case does not matter; its value is a YAML scalar,
    /// list or mapping, or for a list also its items separated by commas.
    pub fn env(mut self, env: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env.extend(env);
        self
    }

    /// The value of a key that is said nowhere, in place of its default; `origin` is e.g. `--data-dir`.
    pub fn fallback(mut self, path: &'a str, value: impl Into<Value>, origin: &'a str) -> Self {
        self.fallbacks.push((path, Fallback::Value(value.into(), origin)));
        self
    }

    /// Makes a key that is said nowhere follow another one.
    pub fn same_as(mut self, path: &'a str, other: &'a str) -> Self {
        self.fallbacks.push((path, Fallback::SameAs(other)));
        self
    }

    /// Reads it all. A key with an empty value counts as not said.
    pub fn load<T: DeserializeOwned + JsonSchema>(self) -> Result<T, ConfigError> {
        let schema = document::inlined_schema::<T>();
        let shape = Shape::new(&schema);
        let mut root = Node::parse(self.name, self.text)?;
        root.apply_env(&shape, self.env);
        for (path, fallback) in self.fallbacks {
            let node = match fallback {
                Fallback::Value(value, origin) => Some(Node::from_json(value, &Place::Source(origin.into()))),
                Fallback::SameAs(other) => root.said(other).cloned(),
            };
            if let Some(node) = node {
                root.set_unsaid(path, node);
            }
        }
        root.refuse_unknown_keys(&shape)?;
        root.fit(&shape);
        let value = root.to_json();
        serde_path_to_error::deserialize(&value).map_err(|error| error::explain(&root, &shape, &error))
    }
}

#[cfg(test)]
mod tests;
