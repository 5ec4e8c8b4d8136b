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

use shape::Shape;
use tree::Node;

/// Environment variables that begin so override the file: `AFFLUX__BUS__KAFKA__BROKERS` is `bus.kafka.brokers`.
pub const ENV_PREFIX: &str = "AFFLUX__";

/// Reads a configuration from YAML text and environment variables, which win.
///
/// `name` is what errors call the text, e.g. the file's path. Variables without [`ENV_PREFIX`] are ignored. In a
/// variable's name two underscores separate levels and case does not matter; its value is a YAML scalar, list or
/// mapping, or for a list also its items separated by commas. A key with an empty value counts as absent.
pub fn load<T>(name: &str, text: &str, env: impl IntoIterator<Item = (String, String)>) -> Result<T, ConfigError>
where
    T: DeserializeOwned + JsonSchema,
{
    let schema = document::inlined_schema::<T>();
    let shape = Shape::new(&schema);
    let mut root = Node::parse(name, text)?;
    root.apply_env(&shape, env);
    root.refuse_unknown_keys(&shape)?;
    root.fit(&shape);
    let value = root.to_json();
    serde_path_to_error::deserialize(&value).map_err(|error| error::explain(&root, &shape, &error))
}

#[cfg(test)]
mod tests;
