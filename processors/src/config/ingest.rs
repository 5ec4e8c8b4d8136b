//! `processors.ingest`: topics that others write.

use afflux_runtime::Signal;
use afflux_schemas::encoding::Encoding;
use afflux_schemas::topics::Topics;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ProcessorsConfig;

/// A topic that others write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IngestTopic {
    /// Its full name.
    pub topic: String,
    /// What its records hold.
    pub signal: SignalName,
    /// How they hold it.
    #[serde(default)]
    pub encoding: EncodingName,
    /// Cluster of records that name none, neither in a header nor in their resources. Empty: `cluster`.
    #[serde(default)]
    pub cluster: Option<String>,
}

/// What records hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignalName {
    /// Spans.
    Spans,
    /// Log records.
    Logs,
    /// Kubernetes events as log records.
    Events,
}

impl From<SignalName> for Signal {
    fn from(name: SignalName) -> Self {
        match name {
            SignalName::Spans => Self::Spans,
            SignalName::Logs => Self::Logs,
            SignalName::Events => Self::Events,
        }
    }
}

/// How records are encoded, as the OpenTelemetry Collector's Kafka components name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncodingName {
    /// OTLP in protobuf.
    #[default]
    OtlpProto,
    /// OTLP in JSON.
    OtlpJson,
    /// One Jaeger span in protobuf.
    JaegerProto,
    /// One Jaeger span in JSON.
    JaegerJson,
    /// Zipkin v2 spans in JSON.
    ZipkinJson,
    /// Zipkin v2 spans in protobuf.
    ZipkinProto,
}

impl From<EncodingName> for Encoding {
    fn from(name: EncodingName) -> Self {
        match name {
            EncodingName::OtlpProto => Self::OtlpProto,
            EncodingName::OtlpJson => Self::OtlpJson,
            EncodingName::JaegerProto => Self::JaegerProto,
            EncodingName::JaegerJson => Self::JaegerJson,
            EncodingName::ZipkinJson => Self::ZipkinJson,
            EncodingName::ZipkinProto => Self::ZipkinProto,
        }
    }
}

/// What is wrong with `processors.ingest`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIngest {
    /// A name that Kafka does not allow.
    #[error(
        "`processors.ingest.{at}.topic` is `{topic}`, which is no name of a topic: \
         up to 249 letters, digits, dots, underscores and dashes"
    )]
    Name {
        /// Position in the list, from 0.
        at: usize,
        /// The name.
        topic: String,
    },
    /// A topic named before.
    #[error("`processors.ingest.{at}.topic` is `{topic}`, which stands in the list already; name every topic once")]
    Twice {
        /// Position in the list, from 0.
        at: usize,
        /// The name.
        topic: String,
    },
    /// A topic of ours.
    #[error(
        "`processors.ingest.{at}.topic` is `{topic}`, a topic of afflux's own, which it reads or writes anyway; \
         remove the entry, or change `topics.prefix`"
    )]
    Own {
        /// Position in the list, from 0.
        at: usize,
        /// The name.
        topic: String,
    },
    /// An encoding that cannot hold the signal.
    #[error(
        "`processors.ingest.{at}.encoding` is {encoding}, which has spans and no logs; use otlp_proto or otlp_json"
    )]
    NoLogs {
        /// Position in the list, from 0.
        at: usize,
        /// Its name.
        encoding: &'static str,
    },
}

impl ProcessorsConfig {
    /// Checks what the types of the fields cannot.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn validate(&self, topics: &Topics) -> Result<(), InvalidIngest> {
        let own = topics.all();
        for (at, IngestTopic { topic, signal, encoding, .. }) in self.ingest.iter().enumerate() {
            if !is_topic_name(topic) {
                return Err(InvalidIngest::Name { at, topic: topic.clone() });
            }
            if own.contains(topic) {
                return Err(InvalidIngest::Own { at, topic: topic.clone() });
            }
            if self.ingest[..at].iter().any(|earlier| earlier.topic == *topic) {
                return Err(InvalidIngest::Twice { at, topic: topic.clone() });
            }
            let encoding = Encoding::from(*encoding);
            if *signal == SignalName::Logs && !encoding.has_logs() {
                return Err(InvalidIngest::NoLogs { at, encoding: encoding.as_str() });
            }
        }
        Ok(())
    }
}

/// As Kafka says. A name that began with `^` would be read as a pattern.
fn is_topic_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=249).contains(&name.len()) && name.chars().all(allowed) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(entries: &[(&str, SignalName, EncodingName)]) -> String {
        let entry = |&(topic, signal, encoding): &(&str, SignalName, EncodingName)| IngestTopic {
            topic: topic.into(),
            signal,
            encoding,
            cluster: None,
        };
        let config = ProcessorsConfig { ingest: entries.iter().map(entry).collect(), ..ProcessorsConfig::default() };
        config.validate(&Topics::default()).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_key() {
        use EncodingName::{OtlpJson, OtlpProto, ZipkinJson};
        use SignalName::{Logs, Spans};
        assert_eq!(verdict(&[("a", Spans, ZipkinJson), ("b", Logs, OtlpJson), ("c", Spans, OtlpProto)]), "");
        for (entries, expected) in [
            (
                &[("a", Logs, ZipkinJson)][..],
                "`processors.ingest.0.encoding` is zipkin_json, which has spans and no logs",
            ),
            (&[("a", Spans, OtlpProto), ("a", Logs, OtlpProto)], "`processors.ingest.1.topic` is `a`, which stands"),
            (&[("^a.*", Spans, OtlpProto)], "`processors.ingest.0.topic` is `^a.*`, which is no name of a topic"),
            (&[("", Spans, OtlpProto)], "`processors.ingest.0.topic` is ``, which is no name"),
            (&[("afflux.spans", Spans, OtlpProto)], "`processors.ingest.0.topic` is `afflux.spans`, a topic of afflux"),
        ] {
            let error = verdict(entries);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn encodings_are_named_as_the_collector_names_them() {
        for encoding in Encoding::ALL {
            let name: EncodingName = serde_json::from_value(encoding.as_str().into()).unwrap();
            assert_eq!(Encoding::from(name), encoding);
        }
    }
}
