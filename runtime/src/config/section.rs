//! A part of the configuration that may be switched off.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};

/// Settings of a component, or `false`, which leaves the component out.
///
/// `true` and an empty value stand for the component's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section<T> {
    /// The component runs, so configured.
    On(T),
    /// The component does not run.
    Off,
}

impl<T> Section<T> {
    /// The settings, where the component runs.
    pub fn on(&self) -> Option<&T> {
        match self {
            Self::On(settings) => Some(settings),
            Self::Off => None,
        }
    }

    /// The settings to change, where the component runs.
    pub fn on_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::On(settings) => Some(settings),
            Self::Off => None,
        }
    }
}

impl<T: Default> Default for Section<T> {
    fn default() -> Self {
        Self::On(T::default())
    }
}

impl<T: Serialize> Serialize for Section<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::On(settings) => settings.serialize(serializer),
            Self::Off => serializer.serialize_bool(false),
        }
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SectionVisitor(PhantomData))
    }
}

struct SectionVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for SectionVisitor<T> {
    type Value = Section<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of keys, or false to switch it off")
    }

    fn visit_bool<E>(self, on: bool) -> Result<Self::Value, E> {
        Ok(if on { Section::default() } else { Section::Off })
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Section::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Section::On)
    }
}

impl<T: JsonSchema> JsonSchema for Section<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrFalse", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let settings = generator.subschema_for::<T>();
        json_schema!({"anyOf": [settings, {"type": "boolean"}]})
    }
}
