//! From Zipkin's model to OTLP.

use super::model::{Endpoint, Span};
use crate::lenient;
use crate::otlp::build::{self, AttributeMap, Code, Gather, Kind, SpanDraft, Value, from_micros, put_event, put_link};
use crate::{hex, zipkin::model};

/// What exporters of OTLP write for want of a service name.
const NO_SERVICE: &str = "otlpresourcenoservicename";
/// Names the attribute that an exporter took the service name from.
const SERVICE_SOURCE: &str = "otlp.service.name.source";
/// Says that a span had no time.
const NO_START: &str = "otel.zipkin.absentField.startTime";
/// Links of a span that are looked for in its tags.
const LINKS: usize = 128;

/// Tags that tell of the resource rather than of the span.
const OF_RESOURCE: [&str; 81] = [
    "aws.ecs.cluster.arn",
    "aws.ecs.container.arn",
    "aws.ecs.launchtype",
    "aws.ecs.task.arn",
    "aws.ecs.task.family",
    "aws.ecs.task.revision",
    "aws.eks.cluster.arn",
    "aws.log.group.arns",
    "aws.log.group.names",
    "aws.log.stream.arns",
    "aws.log.stream.names",
    "cloud.account.id",
    "cloud.availability_zone",
    "cloud.platform",
    "cloud.provider",
    "cloud.region",
    "cloud.resource_id",
    "container.id",
    "container.image.name",
    "container.image.tag",
    "container.name",
    "container.runtime",
    "deployment.environment",
    "deployment.environment.name",
    "device.id",
    "device.manufacturer",
    "device.model.identifier",
    "device.model.name",
    "faas.id",
    "faas.instance",
    "faas.max_memory",
    "faas.name",
    "faas.version",
    "host.arch",
    "host.id",
    "host.image.id",
    "host.image.name",
    "host.image.version",
    "host.name",
    "host.type",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.container.restart_count",
    "k8s.cronjob.name",
    "k8s.cronjob.uid",
    "k8s.daemonset.name",
    "k8s.daemonset.uid",
    "k8s.deployment.name",
    "k8s.deployment.uid",
    "k8s.job.name",
    "k8s.job.uid",
    "k8s.namespace.name",
    "k8s.node.name",
    "k8s.node.uid",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.replicaset.name",
    "k8s.replicaset.uid",
    "k8s.statefulset.name",
    "k8s.statefulset.uid",
    "opencensus.exporterversion",
    "opencensus.resourcetype",
    "opencensus.starttime",
    "os.description",
    "os.name",
    "os.type",
    "os.version",
    "process.command",
    "process.command_args",
    "process.command_line",
    "process.executable.name",
    "process.executable.path",
    "process.owner",
    "process.pid",
    "process.runtime.description",
    "process.runtime.name",
    "process.runtime.version",
    "service.instance.id",
    "service.name",
    "service.namespace",
    "service.version",
];

/// Prefixes of further such tags.
const OF_RESOURCE_TOO: [&str; 3] = ["telemetry.sdk.", "telemetry.auto.", "webengine."];

fn is_of_resource(key: &str) -> bool {
    OF_RESOURCE.binary_search(&key).is_ok() || OF_RESOURCE_TOO.iter().any(|prefix| key.starts_with(prefix))
}

/// Adds a span.
pub(super) fn span(span: Span<'_>, gather: &mut Gather) {
    let mut resource = AttributeMap::default();
    let mut draft = SpanDraft {
        trace_id: span.trace_id,
        span_id: span.id,
        // A parent that is the span itself is none, unless it is shared.
        parent_span_id: if span.shared || span.parent != span.id { span.parent } else { [0; 8] },
        name: span.name,
        kind: span.kind,
        start: from_micros(span.timestamp),
        end: from_micros(span.timestamp.saturating_add(span.duration)),
        flags: span.debug.into(),
        ..SpanDraft::default()
    };
    if span.shared {
        draft.parent_span_id = span.id;
    }
    for (key, value) in span.tags {
        let of = if is_of_resource(&key) { &mut resource } else { &mut draft.attributes };
        of.set(key, Value::Str(value));
    }
    name_service(&span.local, &mut resource, &mut draft.attributes);
    let scope = scope(&mut draft.attributes);
    set_kind_and_status(&mut draft);
    take_links(&mut draft);
    draft.attributes.supersede("http.status_code", "http.response.status_code");
    set_endpoints(&span.local, &span.remote, &mut draft.attributes);
    if span.timestamp == 0 {
        draft.attributes.set(NO_START, Value::Bool(true));
    }
    for (time, text) in &span.annotations {
        event(from_micros(*time), text, &mut draft.events);
    }
    gather.add(build::resource(&resource), scope, &draft.encode());
}

fn name_service<'a>(local: &Endpoint<'a>, resource: &mut AttributeMap<'a>, tags: &mut AttributeMap<'a>) {
    let source = tags.take_text(SERVICE_SOURCE).filter(|source| !source.is_empty());
    if !local.service.is_empty() && !local.service.eq_ignore_ascii_case(NO_SERVICE) {
        resource.set_text(source.unwrap_or("service.name".into()), local.service.clone());
    }
    resource.supersede("faas.id", "cloud.resource_id");
}

fn scope(tags: &mut AttributeMap<'_>) -> Vec<u8> {
    let mut newer_of = |newer, older| {
        let older = tags.take_text(older);
        tags.take_text(newer).or(older).unwrap_or_default()
    };
    let name = newer_of("otel.scope.name", "otel.library.name");
    let version = newer_of("otel.scope.version", "otel.library.version");
    build::scope(&name, &version)
}

fn set_kind_and_status(draft: &mut SpanDraft<'_>) {
    let tags = &mut draft.attributes;
    if draft.kind == Kind::Unspecified
        && let Some(kind) = tags.take_text("span.kind")
        && kind == "internal"
    {
        draft.kind = Kind::Internal;
    }
    draft.trace_state = tags.take_text("w3c.tracestate").unwrap_or_default();
    if let Some(code) = tags.take_text("otel.status_code") {
        draft.code = match &*code {
            "STATUS_CODE_OK" | "Ok" | "OK" => Code::Ok,
            "STATUS_CODE_ERROR" | "Error" | "ERROR" => Code::Error,
            _ => Code::Unset,
        };
        draft.message = tags.take_text("otel.status_description").unwrap_or_default();
    }
    // Whatever it says: a tag of that name means that the span failed.
    if let Some(error) = tags.get("error") {
        draft.code = Code::Error;
        if *error == Value::Str("true".into()) {
            tags.take("error");
        }
    }
}

/// Takes out the links that exporters of OTLP number through as `otlp.link.0` and so on.
fn take_links(draft: &mut SpanDraft<'_>) {
    for number in 0..LINKS {
        let key = format!("otlp.link.{number}");
        let Some(Value::Str(text)) = draft.attributes.get(&key) else { return };
        if link(text, &mut draft.links).is_some() {
            draft.attributes.take(&key);
        }
    }
}

/// `trace id|span id|trace state|attributes as JSON|dropped attributes`
fn link(text: &str, links: &mut Vec<u8>) -> Option<()> {
    let mut parts = text.splitn(4, '|');
    let ids = (hex::decode::<16>(parts.next()?)?, hex::decode::<8>(parts.next()?)?);
    let (trace_state, rest) = (parts.next()?, parts.next()?);
    let (json, dropped) = rest.rsplit_once('|')?;
    put_link(links, ids, trace_state, &lenient::attributes(json)?, dropped.parse().ok()?);
    Some(())
}

/// `name`, or `name|attributes as JSON|dropped attributes`
fn event(time: u64, text: &str, events: &mut Vec<u8>) {
    let parts = || {
        let (name, rest) = text.split_once('|')?;
        let (json, dropped) = rest.rsplit_once('|')?;
        Some((name, lenient::attributes(json)?, dropped.parse().ok()?))
    };
    let (name, attributes, dropped) = parts().unwrap_or_else(|| (text, AttributeMap::default(), 0));
    put_event(events, time, name, &attributes, dropped);
}

fn set_endpoints<'a>(local: &Endpoint<'a>, remote: &Endpoint<'a>, attributes: &mut AttributeMap<'a>) {
    if !remote.service.is_empty() {
        attributes.set_text("service.peer.name", remote.service.clone());
    }
    let ends = [(local, "network.local.address", "net.host.port"), (remote, "network.peer.address", "net.peer.port")];
    for (model::Endpoint { address, port, .. }, address_key, port_key) in ends {
        if !address.is_empty() {
            attributes.set_text(address_key, address.clone());
        }
        if *port != 0 {
            attributes.set(port_key, Value::Int((*port).into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_of_resources_are_sorted() {
        assert!(OF_RESOURCE.is_sorted());
        assert!(is_of_resource("k8s.pod.name") && is_of_resource("telemetry.sdk.language"));
        assert!(!is_of_resource("http.url") && !is_of_resource(SERVICE_SOURCE));
    }
}
