//! What is on the bus, against what has happened.

use std::collections::{BTreeMap, HashMap};

use afflux_bus::{Bus as _, LocalBus, LocalConfig, ReaderConfig, ReaderEvent, Received};
use anyhow::{Context as _, ensure};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;

use super::{ApiServer, EVENTS};

/// An event on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub version: u64,
    /// How often it had happened.
    pub count: i64,
    /// By how much that has grown.
    pub increment: Option<i64>,
    /// Attributes of its resource.
    pub resource: BTreeMap<String, String>,
    /// The event.
    pub body: serde_json::Value,
}

/// A gap on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub to_ms: i64,
    /// Why.
    pub reason: String,
    /// Of which cluster.
    pub cluster: String,
}

/// Every record of a topic of a local bus that nobody has open.
pub async fn read_local(dir: &std::path::Path, topic: &str) -> anyhow::Result<Vec<Received>> {
    let bus = LocalBus::open(LocalConfig::new(dir))?;
    let mut reader = bus.reader(ReaderConfig::new([topic.into()])).await?;
    let mut found = Vec::new();
    loop {
        match reader.next().await? {
            ReaderEvent::Records(records) => found.extend(records),
            ReaderEvent::CaughtUp(_) => {}
            ReaderEvent::Complete => break,
        }
    }
    drop(reader);
    bus.close().await;
    Ok(found)
}

/// The events and gaps that records hold.
pub fn published(records: &[Received]) -> anyhow::Result<(Vec<Published>, Vec<Gap>)> {
    let (mut events, mut gaps) = (Vec::new(), Vec::new());
    for record in records {
        let request = ExportLogsServiceRequest::decode(record.value.clone().context("a tombstone")?)?;
        for logs in &request.resource_logs {
            let resource = texts(&logs.resource.as_ref().context("no resource")?.attributes);
            for log in logs.scope_logs.iter().flat_map(|scope| &scope.log_records) {
                let attributes = texts(&log.attributes);
                let of = |name: &str| attributes.get(name).cloned().with_context(|| format!("no {name}"));
                let body = log.body.as_ref().and_then(|body| body.value.clone());
                let Some(Value::StringValue(body)) = body else { anyhow::bail!("the body is no text: {body:?}") };
                match log.event_name.as_str() {
                    "k8s.event" => events.push(Published {
                        uid: of("k8s.event.uid")?,
                        version: of("k8s.event.resource_version")?.parse()?,
                        count: of("k8s.event.count")?.parse()?,
                        increment: attributes.get("k8s.event.increment").map(|text| text.parse()).transpose()?,
                        resource: resource.clone(),
                        body: serde_json::from_str(&body)?,
                    }),
                    "k8s.event.gap" => {
                        let time = |name| -> anyhow::Result<i64> {
                            let time = humantime::parse_rfc3339(&of(name)?)?.duration_since(std::time::UNIX_EPOCH)?;
                            Ok(i64::try_from(time.as_millis())?)
                        };
                        gaps.push(Gap {
                            from_ms: time("k8s.event.gap.from")?,
                            to_ms: time("k8s.event.gap.to")?,
                            reason: of("k8s.event.gap.reason")?,
                            cluster: resource.get("k8s.cluster.name").cloned().unwrap_or_default(),
                        });
                    }
                    other => anyhow::bail!("an event named {other}"),
                }
            }
        }
    }
    Ok((events, gaps))
}

/// Checks that each observation of an event is published exactly once, or lies in a gap; how many lie in one.
pub fn check(server: &ApiServer, events: &[Published], gaps: &[Gap]) -> anyhow::Result<usize> {
    let mut times: HashMap<(&str, u64), usize> = HashMap::new();
    events.iter().for_each(|event| *times.entry((&event.uid, event.version)).or_default() += 1);
    let doubled: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    ensure!(
        doubled.is_empty(),
        "{} observations are published more than once, such as {:?}",
        doubled.len(),
        doubled[0]
    );
    let happened = server.observations(EVENTS);
    let mut missing = Vec::new();
    for (uid, version, at_ms) in &happened {
        if times.remove(&(uid.as_str(), *version)).is_none() {
            missing.push((uid, version, *at_ms));
        }
    }
    ensure!(times.is_empty(), "{} observations never happened, such as {:?}", times.len(), times.iter().next());
    let covered = |at_ms: i64| gaps.iter().any(|gap| gap.from_ms <= at_ms && at_ms <= gap.to_ms);
    let lost: Vec<_> = missing.iter().filter(|(_, _, at_ms)| !covered(*at_ms)).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} observations are lost, such as {:?} (gaps: {gaps:?})",
        lost.len(),
        happened.len(),
        lost[0]
    );
    Ok(missing.len())
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some((attribute.key.clone(), text.clone())),
        Value::IntValue(number) => Some((attribute.key.clone(), number.to_string())),
        _ => None,
    };
    attributes.iter().filter_map(text).collect()
}
