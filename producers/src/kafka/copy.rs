//! From a record of a source to its copy.

use std::sync::Arc;

use afflux_bus::{Headers, PartitionId, Received, Record};
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ORIGIN, HEADER_SOURCE_CLUSTER};
use bytes::Bytes;

use super::config::SourceConfig;
use super::publish::To;

/// Where the records of one source go.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    name: String,
    /// Topic there, topic here and its partitions.
    topics: [(Arc<str>, Arc<str>, u32); 2],
}

impl Routes {
    pub(super) fn new(config: &SourceConfig, to: &To) -> Self {
        let route = |from: String, (topic, partitions): &(Arc<str>, u32)| (from.into(), topic.clone(), *partitions);
        let topics = [route(config.topics.ingest_spans(), &to.spans), route(config.topics.ingest_logs(), &to.logs)];
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
    use afflux_bus::Generation;
    use afflux_schemas::topics::Topics;

    use super::*;

    fn routes() -> Routes {
        let config =
            SourceConfig { name: "east".into(), group: "g".into(), topics: Topics::new("region"), fetch_bytes: 1 };
        let topics = [config.topics.ingest_spans(), config.topics.ingest_logs()];
        let [spans, logs] = topics.map(Arc::from);
        Routes {
            name: config.name,
            topics: [(spans, "afflux.ingest.spans".into(), 3), (logs, "afflux.ingest.logs".into(), 3)],
        }
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
