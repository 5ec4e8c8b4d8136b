//! Topic names and headers.

/// Name of the cluster that a record comes from.
pub const HEADER_CLUSTER: &str = "afflux-cluster";
/// Tenant that a record belongs to.
pub const HEADER_TENANT: &str = "afflux-tenant";
/// Number of spans or log records in the value, in decimal digits.
pub const HEADER_ITEMS: &str = "afflux-items";
/// On the replay of a record that lay in another encoding than the one of its topic: the encoding that it is in.
pub const HEADER_ENCODING: &str = "afflux-encoding";
/// `topic/partition/first-last`: the input offsets that an output was made of.
pub const HEADER_SOURCE: &str = "afflux-source";
/// `NAME:topic/partition/offset`: where a record that was copied from another Kafka cluster stands there, and in the
/// outputs, `NAME:topic/partition/first-last,first-last…`: where all those stood that an output was made of.
pub const HEADER_ORIGIN: &str = "afflux-origin";
/// Cluster of a record where neither [`HEADER_CLUSTER`] nor the resource names one: that of the process that received
/// it, else the name of the source that it was copied from.
pub const HEADER_SOURCE_CLUSTER: &str = "afflux-source-cluster";
/// The one component that a record is for, which has refused it before; others that read its topic pass it over.
pub const HEADER_REPLAY_TO: &str = "afflux-replay-to";
/// How often that component has tried, in decimal digits.
pub const HEADER_ATTEMPTS: &str = "afflux-attempts";

/// Prefix of every topic unless configured.
pub const DEFAULT_PREFIX: &str = "afflux";

/// The pattern of all topics named `SOURCE.topic`, as MirrorMaker 2 names what it mirrors.
pub fn mirrors(topic: &str) -> String {
    format!("*.{topic}")
}

/// `topic` of the pattern that [`mirrors`] makes of it.
pub fn mirrored(pattern: &str) -> Option<&str> {
    pattern.strip_prefix("*.")
}

/// `SOURCE` of `SOURCE.topic`.
pub fn mirror_source<'n>(name: &'n str, topic: &str) -> Option<&'n str> {
    name.strip_suffix(topic)?.strip_suffix('.').filter(|source| !source.is_empty())
}

/// Full names of all topics under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self::new(DEFAULT_PREFIX)
    }
}

impl Topics {
    /// Topics named `prefix.…`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// What stands before the first dot.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn name(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }

    /// Spans as received; partitioned by trace id.
    pub fn ingest_spans(&self) -> String {
        self.name("ingest.spans")
    }

    /// Log records as received; partitioned by stream.
    pub fn ingest_logs(&self) -> String {
        self.name("ingest.logs")
    }

    /// Kubernetes events as received; partitioned by cluster and uid of the object involved.
    pub fn ingest_events(&self) -> String {
        self.name("ingest.events")
    }

    /// Kubernetes objects; compacted, key `cluster/kind/uid`.
    pub fn objects(&self) -> String {
        self.name("objects")
    }

    /// How far each producer has come; compacted, key the producer's identity.
    pub fn checkpoints(&self) -> String {
        self.name("checkpoints")
    }

    /// Spans as processed; partitioned as ingested.
    pub fn spans(&self) -> String {
        self.name("spans")
    }

    /// Log records as processed; partitioned as ingested.
    pub fn logs(&self) -> String {
        self.name("logs")
    }

    /// Kubernetes events as processed; partitioned as ingested.
    pub fn events(&self) -> String {
        self.name("events")
    }

    /// Deltas of derived metrics; partitioned by series.
    pub fn metrics(&self) -> String {
        self.name("metrics")
    }

    /// Cumulative series; compacted, key the series.
    pub fn series(&self) -> String {
        self.name("series")
    }

    /// What could not be delivered, with the reason; partitioned by source topic.
    pub fn dead_letters(&self) -> String {
        self.name("dead-letters")
    }

    /// Every topic, in the order of the pipeline.
    pub fn all(&self) -> [String; 11] {
        [
            self.ingest_spans(),
            self.ingest_logs(),
            self.ingest_events(),
            self.objects(),
            self.checkpoints(),
            self.spans(),
            self.logs(),
            self.events(),
            self.metrics(),
            self.series(),
            self.dead_letters(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_named_after_their_source() {
        let pattern = mirrors("afflux.ingest.spans");
        let topic = mirrored(&pattern).expect("a pattern");
        assert_eq!(mirror_source("eu.west.afflux.ingest.spans", topic), Some("eu.west"));
        for other in ["afflux.ingest.spans", ".afflux.ingest.spans", "xafflux.ingest.spans", "eu.afflux.ingest.logs"] {
            assert_eq!(mirror_source(other, topic), None, "{other}");
        }
        assert_eq!(mirrored("afflux.ingest.spans"), None);
    }

    #[test]
    fn names_are_those_that_peers_subscribe_to() {
        let expected = "afflux.ingest.spans afflux.ingest.logs afflux.ingest.events afflux.objects \
                        afflux.checkpoints afflux.spans afflux.logs afflux.events afflux.metrics afflux.series \
                        afflux.dead-letters";
        assert_eq!(Topics::default().all().join(" "), expected);
        assert_eq!(Topics::new("eu.afflux").spans(), "eu.afflux.spans");
    }
}
