//! Addresses of Kafka brokers, as a list or as one text.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// `host:port` of every broker to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Brokers(pub(crate) Vec<String>);

impl Brokers {
    /// As Kafka clients take it: separated by commas.
    pub(crate) fn joined(&self) -> String {
        self.0.join(",")
    }
}

impl Serialize for Brokers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Brokers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BrokersVisitor)
    }
}

struct BrokersVisitor;

impl<'de> Visitor<'de> for BrokersVisitor {
    type Value = Brokers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("addresses like kafka-0:9092, as a list or separated by commas")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Brokers, E> {
        let brokers = text.split(',').map(str::trim).filter(|broker| !broker.is_empty());
        Ok(Brokers(brokers.map(str::to_owned).collect()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Brokers, A::Error> {
        let mut brokers = Vec::new();
        while let Some(broker) = seq.next_element()? {
            brokers.push(broker);
        }
        Ok(Brokers(brokers))
    }
}

impl JsonSchema for Brokers {
    fn schema_name() -> Cow<'static, str> {
        "Brokers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["array", "string"], "items": {"type": "string"}})
    }
}
