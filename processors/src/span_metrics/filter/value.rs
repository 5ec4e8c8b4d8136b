//! The value of a policy, as text.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

/// Text, a number, true or false; kept as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PolicyValue(pub String);

impl<T: Into<String>> From<T> for PolicyValue {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

struct ValueVisitor;

impl Visitor<'_> for ValueVisitor {
    type Value = PolicyValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true or false")
    }

    fn visit_str<E>(self, text: &str) -> Result<PolicyValue, E> {
        Ok(text.into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<PolicyValue, E> {
        Ok(value.to_string().into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<PolicyValue, E> {
        Ok(number.to_string().into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<PolicyValue, E> {
        Ok(number.to_string().into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<PolicyValue, E> {
        Ok(number.to_string().into())
    }
}

impl<'de> Deserialize<'de> for PolicyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

impl JsonSchema for PolicyValue {
    fn schema_name() -> Cow<'static, str> {
        "PolicyValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}
