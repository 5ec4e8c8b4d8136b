//! A Kubernetes event as it is published, whichever API group it was read by.
//!
//! Both groups show one stored object under different names. What is published has the names of core/v1, which consumers
//! of event loggers know, with `kind` and `apiVersion`, which lists leave out, and without `managedFields`.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Fields of events.k8s.io/v1 and what core/v1 calls them.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

/// One observation of an event: what it was at one resource version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) object: Reference,
    pub(super) reason: String,
    pub(super) message: String,
    /// `Normal`, `Warning`, or what others wrote.
    pub(super) kind: String,
    pub(super) action: String,
    /// What has reported it.
    pub(super) component: String,
    /// The node that has reported it, or the name of the reporting instance.
    pub(super) host: String,
    /// Node of the reporter, where it says so.
    pub(super) node: String,
    /// How often it has happened, at least 1.
    pub(super) count: i64,
    /// When it happened last, in nanoseconds since the Unix epoch; 0 where it does not say.
    pub(super) time: u64,
    /// When the event was created, in RFC 3339.
    pub(super) created: String,
    /// The whole event as JSON.
    pub(super) body: String,
}

/// The object that an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) field_path: String,
    pub(super) resource_version: String,
}

impl Observation {
    /// Reads an event of either group; gives back what is none, and says what is missing.
    pub(super) fn read(event: Value) -> Result<Self, (Value, &'static str)> {
        let there = |field| event.pointer(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if !there("/metadata/uid") || !there("/metadata/resourceVersion") {
            return Err((event, "an event has no uid or no resourceVersion"));
        }
        let Value::Object(event) = event else { return Err((event, "an event is no JSON object")) };
        let event = normalised(event);
        let nothing = Map::new();
        let metadata = event.get("metadata").and_then(Value::as_object).unwrap_or(&nothing);
        let of = |field: &str| text(metadata, field);
        let (uid, resource_version) = (of("uid"), of("resourceVersion"));
        let series = event.get("series").and_then(Value::as_object);
        let counts = [event.get("count"), series.and_then(|series| series.get("count"))];
        let count = counts.into_iter().flatten().filter_map(Value::as_i64).fold(1, i64::max);
        let source = event.get("source").and_then(Value::as_object);
        let of_source = |field: &str| source.map(|source| text(source, field)).unwrap_or_default();
        let or = |first: String, second: &str| if first.is_empty() { text(&event, second) } else { first };
        let created = of("creationTimestamp");
        let last = series.map(|series| text(series, "lastObservedTime")).unwrap_or_default();
        let times = [last, text(&event, "lastTimestamp"), text(&event, "eventTime"), text(&event, "firstTimestamp")];
        let time = times.iter().chain([&created]).find_map(|time| nanos(time)).unwrap_or_default();
        Ok(Self {
            uid,
            resource_version,
            name: of("name"),
            namespace: of("namespace"),
            object: event.get("involvedObject").and_then(Value::as_object).map(Reference::read).unwrap_or_default(),
            reason: text(&event, "reason"),
            message: text(&event, "message"),
            kind: text(&event, "type"),
            action: text(&event, "action"),
            component: or(of_source("component"), "reportingComponent"),
            host: or(of_source("host"), "reportingInstance"),
            node: of_source("host"),
            count,
            time,
            created,
            body: Value::Object(event).to_string(),
        })
    }

    /// Bytes that it takes, about.
    pub(super) fn size(&self) -> usize {
        // The message and the names are in the body once more.
        self.body.len() + self.message.len() + 512
    }
}

impl Reference {
    fn read(object: &Map<String, Value>) -> Self {
        let of = |field: &str| text(object, field);
        Self {
            api_version: of("apiVersion"),
            kind: of("kind"),
            namespace: of("namespace"),
            name: of("name"),
            uid: of("uid"),
            field_path: of("fieldPath"),
            resource_version: of("resourceVersion"),
        }
    }

    /// What tells it from all others of its cluster: its uid, or for want of one its names.
    pub(super) fn identity(&self) -> String {
        if self.uid.is_empty() {
            return format!("{}/{}/{}", self.kind, self.namespace, self.name);
        }
        self.uid.clone()
    }
}

/// The event under the names of core/v1, with what Go prints of such an event even where it is empty.
fn normalised(mut event: Map<String, Value>) -> Map<String, Value> {
    for (theirs, ours) in RENAMED {
        if let Some(value) = event.remove(theirs) {
            event.insert(ours.to_owned(), value);
        }
    }
    if let Some(Value::Object(metadata)) = event.get_mut("metadata") {
        metadata.remove("managedFields");
    }
    event.insert("kind".to_owned(), "Event".into());
    event.insert("apiVersion".to_owned(), "v1".into());
    for field in ["eventTime", "firstTimestamp", "lastTimestamp"] {
        event.entry(field).or_insert(Value::Null);
    }
    for field in ["reportingComponent", "reportingInstance"] {
        event.entry(field).or_insert_with(|| "".into());
    }
    for field in ["involvedObject", "source"] {
        event.entry(field).or_insert_with(|| Map::new().into());
    }
    // Left out where they are empty.
    let empty = |value: &Value| value.is_null() || *value == 0 || value.as_str() == Some("");
    for field in ["count", "series", "related", "reason", "message", "type", "action"] {
        if event.get(field).is_some_and(empty) {
            event.remove(field);
        }
    }
    event
}

fn text(of: &Map<String, Value>, field: &str) -> String {
    of.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Nanoseconds since the Unix epoch of a time in RFC 3339.
fn nanos(time: &str) -> Option<u64> {
    let time: Timestamp = time.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok().filter(|nanos| *nanos > 0)
}

#[cfg(test)]
mod tests;
