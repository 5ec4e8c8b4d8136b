//! Kubernetes events as people look at them, read from the topic `events`.

use std::borrow::Cow;
use std::sync::Arc;

use afflux_bus::{Bus, BusError, ErrorClass, Reader, ReaderConfig, ReaderEvent, Received, Start};
use afflux_schemas::otlp::common::Attributes;
use afflux_schemas::otlp::logs::LogsView;
use afflux_schemas::topics::{HEADER_CLUSTER, Topics};
use serde::{Deserialize, Serialize};

/// `event_name` of an event, and of a record that says that some may be missing.
const NAMES: [&str; 2] = ["k8s.event", "k8s.event.gap"];
const WARNING: &str = "Warning";

/// An observation of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubernetesEvent {
    /// When it happened last, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// When it happened first, as RFC 3339 writes it; empty where that is not known.
    pub start: String,
    /// Cluster that it comes from.
    pub cluster: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Kind of the object, such as `Pod`.
    pub kind: String,
    /// Name of the object.
    pub object: String,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The reason.
    pub reason: String,
    /// What it is about, where the step `classify` has said so.
    pub category: String,
    /// How often it has happened so far.
    pub count: u64,
    /// Names the event through all its observations; empty for a gap.
    pub uid: String,
    /// What happened.
    pub message: String,
}

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventFilter {
    /// Of that cluster.
    pub cluster: Option<String>,
    /// In that namespace.
    pub namespace: Option<String>,
    /// About that pod.
    pub pod: Option<String>,
    /// No normal ones.
    pub warnings: bool,
    /// Of then or later, milliseconds since the Unix epoch.
    pub since_ms: i64,
}

impl EventFilter {
    /// Whether it is one of them. A gap is one for every question about its cluster, as what is missing may be too.
    pub fn admits(&self, event: &KubernetesEvent) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        let pod = self.pod.is_none() || (event.kind == "Pod" && is(&self.pod, &event.object));
        let about = event.uid.is_empty() || (is(&self.namespace, &event.namespace) && pod);
        event.time_ms >= self.since_ms
            && is(&self.cluster, &event.cluster)
            && about
            && (!self.warnings || event.event_type == WARNING)
    }
}

/// What an event's JSON says that attributes do not.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body<'a> {
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    note: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    event_type: Option<Cow<'a, str>>,
}

impl KubernetesEvent {
    /// Fills in what is not known from the event's JSON, or takes a text that is none as the message.
    pub fn complete(&mut self, body: &str) {
        let known: Body<'_> = serde_json::from_str(body).unwrap_or_default();
        let message = known.message.or(known.note).unwrap_or(Cow::Borrowed(body));
        self.message = message.into_owned();
        for (field, value) in [(&mut self.reason, known.reason), (&mut self.event_type, known.event_type)] {
            if field.is_empty() {
                *field = value.unwrap_or_default().into_owned();
            }
        }
    }
}

/// The events that a record of the topic holds.
pub fn events_of(record: &Received) -> Vec<KubernetesEvent> {
    let mut all = Vec::new();
    let cluster = record.headers.get(HEADER_CLUSTER).map(|name| String::from_utf8_lossy(name).into_owned());
    for block in LogsView::new(record.value.as_deref().unwrap_or_default()).resource_logs() {
        let of_object = |key| text(block.resource().attributes(), key);
        let resource = KubernetesEvent {
            cluster: cluster.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| of_object("k8s.cluster.name")),
            namespace: of_object("k8s.namespace.name"),
            kind: of_object("k8s.object.kind"),
            object: of_object("k8s.object.name"),
            ..KubernetesEvent::default()
        };
        for log in block.scope_logs().flat_map(|scope| scope.log_records()) {
            if !NAMES.contains(&log.event_name()) {
                continue;
            }
            let own = |key| text(log.attributes(), key);
            let nanos = [log.time_unix_nano(), log.observed_time_unix_nano()].into_iter().find(|nanos| *nanos > 0);
            let time_ms =
                nanos.map_or(record.timestamp_ms, |nanos| i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX));
            let namespace = Some(own("k8s.namespace.name")).filter(|namespace| !namespace.is_empty());
            let mut event = KubernetesEvent {
                time_ms,
                start: own("k8s.event.start_time"),
                namespace: namespace.unwrap_or_else(|| resource.namespace.clone()),
                event_type: own("k8s.event.type"),
                reason: own("k8s.event.reason"),
                category: own("k8s.event.category"),
                count: own("k8s.event.count").parse().unwrap_or(1),
                uid: own("k8s.event.uid"),
                ..resource.clone()
            };
            event.complete(log.body().as_str().unwrap_or_default());
            all.push(event);
        }
    }
    all
}

fn text(attributes: Attributes<'_>, key: &str) -> String {
    let mut text = String::new();
    if let Some(attribute) = attributes.into_iter().find(|attribute| attribute.key() == key) {
        match attribute.value().as_str() {
            Some(value) => text.push_str(value),
            None => attribute.value().write_json(&mut text),
        }
    }
    text
}

/// The events on a bus.
#[derive(Clone)]
pub struct Events {
    bus: Arc<dyn Bus>,
    topic: Arc<str>,
}

/// What a [`Watch`] brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Some events that were asked for, perhaps none.
    Events(Vec<KubernetesEvent>),
    /// All that there were when it began have been brought.
    Complete,
}

/// Reads events, and then those that come.
pub struct Watch {
    reader: Box<dyn Reader>,
    filter: EventFilter,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Events {
    /// Those of our topic.
    pub fn new(bus: Arc<dyn Bus>, topics: &Topics) -> Self {
        Self { bus, topic: topics.events().into() }
    }

    /// Begins with the oldest that was written at the time from which on they are asked for.
    ///
    /// # Errors
    /// Of the bus.
    pub async fn watch(&self, filter: EventFilter) -> Result<Watch, BusError> {
        let from = Start::Timestamp(filter.since_ms);
        let config = ReaderConfig { from, ..ReaderConfig::new([Arc::clone(&self.topic)]) };
        Ok(Watch { reader: self.bus.reader(config).await?, filter })
    }
}

impl Watch {
    /// What comes next; waits for a bus that does not answer.
    ///
    /// # Errors
    /// Of the bus, which waiting does not mend.
    pub async fn next(&mut self) -> Result<Seen, BusError> {
        let mut backoff = crate::Backoff::new(std::time::Duration::from_millis(100), std::time::Duration::from_secs(5));
        loop {
            match self.reader.next().await {
                Ok(ReaderEvent::Records(records)) => {
                    let mut events: Vec<_> = records.iter().flat_map(events_of).collect();
                    events.retain(|event| self.filter.admits(event));
                    return Ok(Seen::Events(events));
                }
                Ok(ReaderEvent::CaughtUp(_)) => {}
                Ok(ReaderEvent::Complete) => return Ok(Seen::Complete),
                Err(error) => {
                    let ErrorClass::Transient(after) = error.class() else { return Err(error) };
                    tokio::time::sleep(backoff.next(after)).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
