//! From a record of a source to its copy.

use std::sync::Arc;

use afflux_bus::{Headers, PartitionId, Received, Record};
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ORIGIN, HEADER_SOURCE_CLUSTER, Topics};
use bytes::Bytes;

use super::config::SourceConfig;
use super::publish::To;

/// The topics that are copied: what producers write. A partition of a source becomes one here, so that of the objects, too,
/// the last record of a key stays the last.
pub(super) fn copied(topics: &Topics) -> [String; 4] {
    [topics.ingest_spans(), topics.ingest_logs(), topics.ingest_events(), topics.objects()]
}

/// Where the records of one source go.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    name: String,
    /// Topic there, topic here and its partitions.
    topics: Vec<(Arc<str>, Arc<str>, u32)>,
}

impl Routes {
    pub(super) fn new(config: &SourceConfig, to: &To) -> Self {
        let route = |(from, (topic, partitions)): (String, &(Arc<str>, u32))| (from.into(), topic.clone(), *partitions);
        let topics = copied(&config.topics).into_iter().zip(&to.topics).map(route).collect();
        Self { name: config.name.clone(), topics }
    }

    /// The topics to read.
    pub(super) fn sources(&self) -> Vec<Arc<str>> {
        self.topics.iter().map(|(from, _, _)| from.clone()).collect()
    }

    /// The copy of a record: all that it holds, and where it comes from. `None` for one of a topic not asked for.
    ///
    /// It keeps the number of its partition where there are as many here. What has been copied before keeps the first
    /// origin, by which its copies are known however far they go.
    pub(super) fn copy(&self, record: Received) -> Option<Record> {
        let (_, topic, partitions) = self.topics.iter().find(|(from, _, _)| *from == record.from.topic)?;
        let mut headers = record.headers;
        if !headers.get(HEADER_ORIGIN).is_some_and(is_origin) {
            headers.set(HEADER_ORIGIN, format!("{}:{}/{}", self.name, record.from, record.offset));
        }
        // Whoever wrote it may know better, and so may its resources: it is no cluster header.
        if !has(&headers, HEADER_CLUSTER) && !has(&headers, HEADER_SOURCE_CLUSTER) {
            headers.set(HEADER_SOURCE_CLUSTER, self.name.clone());
        }
        Some(Record {
            to: PartitionId { topic: topic.clone(), partition: record.from.partition % partitions },
            key: record.key,
            value: record.value,
            timestamp_ms: record.timestamp_ms,
            headers,
        })
    }
}

fn has(headers: &Headers, name: &str) -> bool {
    headers.get(name).is_some_and(|value| !value.is_empty())
}

/// Whether that is the origin of one record.
fn is_origin(value: &Bytes) -> bool {
    let parse = |text: &str| {
        let (name, position) = text.split_once(':')?;
        let mut parts = position.rsplitn(3, '/');
        parts.next()?.parse::<u64>().ok()?;
        parts.next()?.parse::<u32>().ok()?;
        Some(!name.is_empty() && !parts.next()?.is_empty())
    };
    std::str::from_utf8(value).ok().and_then(parse).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use afflux_bus::Generation;

    fn routes() -> Routes {
        let config =
            SourceConfig { name: "east".into(), group: "g".into(), topics: Topics::new("region"), fetch_bytes: 1 };
        let route = |(from, to): (String, String)| (from.into(), to.into(), 3);
        let topics = copied(&config.topics).into_iter().zip(copied(&Topics::default()));
        Routes { name: config.name, topics: topics.map(route).collect() }
    }

    fn record(topic: &str, partition: u32, headers: &[(&str, &str)]) -> Received {
        Received {
            from: PartitionId::new(topic, partition),
            generation: Generation(1),
            offset: 17,
            timestamp_ms: 42,
            key: Some("key".into()),
            value: None,
            headers: Headers(
                headers.iter().map(|(n, v)| ((*n).into(), Bytes::copy_from_slice(v.as_bytes()))).collect(),
            ),
        }
    }

    fn headers(record: &Record) -> Vec<(String, String)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        record.headers.0.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    #[test]
    fn a_copy_holds_what_the_record_held_and_where_it_comes_from() {
        let copy = routes().copy(record("region.ingest.logs", 2, &[("a", "1"), ("a", "2")])).unwrap();
        assert_eq!(copy.to, PartitionId::new("afflux.ingest.logs", 2));
        assert_eq!((copy.key.as_deref(), &copy.value, copy.timestamp_ms), (Some(&b"key"[..]), &None, 42));
        let expected =
            [("a", "1"), ("a", "2"), (HEADER_ORIGIN, "east:region.ingest.logs/2/17"), (HEADER_SOURCE_CLUSTER, "east")];
        assert_eq!(headers(&copy), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn events_and_objects_are_copied_and_so_is_that_an_object_went() {
        for (from, to) in [("region.ingest.events", "afflux.ingest.events"), ("region.objects", "afflux.objects")] {
            let copy = routes().copy(record(from, 1, &[(HEADER_CLUSTER, "edge")])).unwrap();
            assert_eq!((copy.to, copy.key.as_deref(), copy.value), (PartitionId::new(to, 1), Some(&b"key"[..]), None));
        }
        assert_eq!(routes().copy(record("region.checkpoints", 0, &[])), None, "of a region's own producers");
    }

    #[test]
    fn partitions_beyond_those_that_there_are_share() {
        let routes = routes();
        let to = |partition| routes.copy(record("region.ingest.spans", partition, &[])).unwrap().to.partition;
        assert_eq!([0, 2, 3, 7].map(to), [0, 2, 0, 1]);
        assert_eq!(routes.copy(record("other", 0, &[])), None);
    }

    #[test]
    fn a_cluster_header_is_left_to_speak_for_itself_and_an_empty_one_says_nothing() {
        let source = |cluster| {
            let copy = routes().copy(record("region.ingest.spans", 0, &[(HEADER_CLUSTER, cluster)])).unwrap();
            copy.headers.get(HEADER_SOURCE_CLUSTER).cloned()
        };
        assert_eq!(source("west"), None);
        assert_eq!(source(""), Some("east".into()));
    }

    #[test]
    fn a_copy_of_a_copy_keeps_its_first_origin_and_a_stranger_is_overwritten() {
        let kept = [(HEADER_ORIGIN, "plant:afflux.ingest.spans/0/5"), (HEADER_SOURCE_CLUSTER, "plant")];
        let copy = routes().copy(record("region.ingest.spans", 0, &kept)).unwrap();
        assert_eq!(headers(&copy), kept.map(|(n, v)| (n.to_owned(), v.to_owned())));
        for stranger in ["x", "a:t/0/1-2", ":t/0/1", "a:0/1"] {
            let copy = routes().copy(record("region.ingest.spans", 0, &[(HEADER_ORIGIN, stranger)])).unwrap();
            assert_eq!(headers(&copy)[0].1, "east:region.ingest.spans/0/17", "{stranger}");
        }
    }
}
