//! Finding the pod of a resource, and adding to the resource what is known of it.

use std::net::IpAddr;

use afflux_schemas::otlp::common::{KeyValueView, ResourceView, ValueView};
use afflux_schemas::wire::Fields;

use super::config::JoinKey;
use super::table::{PodRef, Table, is_own};

/// What a search for the pod of a resource comes to.
#[derive(Clone, Copy, Debug)]
pub enum Join<'t> {
    /// Its pod.
    Joined(PodRef<'t>),
    /// It names no pod, by none of the attributes.
    NoKey,
    /// It names a pod that the table does not have, or that cannot be told from others.
    Missing,
}

/// What a resource says of its pod. Empty text and other types than text are as good as nothing; of a repeated attribute
/// the first one counts.
#[derive(Default)]
struct Said<'a> {
    uid: Option<&'a str>,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    pod_ip: Option<ValueView<'a>>,
    ip: Option<ValueView<'a>>,
    net_host_ip: Option<ValueView<'a>>,
    host_ip: Option<ValueView<'a>>,
}

impl<'a> Said<'a> {
    fn by(resource: ResourceView<'a>) -> Self {
        let mut said = Self::default();
        for attribute in resource.attributes() {
            match attribute.key_bytes() {
                b"k8s.pod.uid" => note_text(&mut said.uid, &attribute),
                b"k8s.namespace.name" => note_text(&mut said.namespace, &attribute),
                b"k8s.pod.name" => note_text(&mut said.name, &attribute),
                b"k8s.pod.ip" => note(&mut said.pod_ip, &attribute),
                b"ip" => note(&mut said.ip, &attribute),
                b"net.host.ip" => note(&mut said.net_host_ip, &attribute),
                b"host.ip" => note(&mut said.host_ip, &attribute),
                _ => {}
            }
        }
        said
    }

    /// Whether a pod may be the one that the resource speaks of.
    fn agrees(&self, pod: &PodRef<'_>) -> bool {
        self.uid.is_none_or(|uid| uid == pod.uid())
            && self.namespace.is_none_or(|namespace| namespace == pod.namespace())
            && self.name.is_none_or(|name| name == pod.name())
    }
}

fn note_text<'a>(place: &mut Option<&'a str>, attribute: &KeyValueView<'a>) {
    if place.is_none() {
        *place = attribute.value().as_str().filter(|text| !text.is_empty());
    }
}

fn note<'a>(place: &mut Option<ValueView<'a>>, attribute: &KeyValueView<'a>) {
    if place.is_none() {
        *place = Some(attribute.value());
    }
}

/// The first address that `look` says yes to, among an attribute's text or texts.
fn any_address<T>(value: &ValueView<'_>, mut look: impl FnMut(IpAddr) -> Option<T>) -> Option<T> {
    let mut look = |text: &str| text.parse().ok().filter(|ip| is_own(*ip)).and_then(&mut look);
    match value {
        ValueView::Str(text) => look(text),
        ValueView::Array(values) => values.clone().filter_map(|value| value.as_str()).find_map(look),
        _ => None,
    }
}

/// Finds the pod of a resource by the attributes `join_by`, tried in order.
///
/// A pod that contradicts what the resource says of its uid, namespace or name is passed over. So is one that was made after
/// `time_ms`, milliseconds since the Unix epoch, when the resource was received, unless it is known by its uid: addresses
/// and names go to other pods in time.
pub fn find<'t>(
    table: &'t Table,
    join_by: &[JoinKey],
    (cluster, time_ms): (&str, i64),
    resource: ResourceView<'_>,
) -> Join<'t> {
    let said = Said::by(resource);
    let mut named = false;
    for key in join_by {
        let pod = match key {
            JoinKey::PodUid => said.uid.and_then(|uid| {
                named = true;
                table.pod_by_uid(cluster, uid)
            }),
            JoinKey::PodIp => by_address(table, cluster, &said.pod_ip, &mut named),
            JoinKey::Ip => by_address(table, cluster, &said.ip, &mut named),
            JoinKey::NetHostIp => by_address(table, cluster, &said.net_host_ip, &mut named),
            JoinKey::HostIp => by_address(table, cluster, &said.host_ip, &mut named),
            JoinKey::PodName => said.namespace.zip(said.name).and_then(|(namespace, name)| {
                named = true;
                table.pod_by_name(cluster, namespace, name)
            }),
        };
        let was_there = |pod: &PodRef<'_>| *key == JoinKey::PodUid || pod.was_there_at(time_ms);
        if let Some(pod) = pod.filter(|pod| said.agrees(pod) && was_there(pod)) {
            return Join::Joined(pod);
        }
    }
    if named { Join::Missing } else { Join::NoKey }
}

fn by_address<'t>(
    table: &'t Table,
    cluster: &str,
    value: &Option<ValueView<'_>>,
    named: &mut bool,
) -> Option<PodRef<'t>> {
    any_address(value.as_ref()?, |ip| {
        *named = true;
        table.pod_by_ip(cluster, ip)
    })
}

/// Appends a resource and those `attributes` (fields of a `Resource` message, every key once) whose key it does not have.
///
/// False, with nothing appended, if it has them all.
pub fn add_absent(resource: ResourceView<'_>, attributes: &[u8], out: &mut Vec<u8>) -> bool {
    let fields = Fields::new(attributes).map(|field| (KeyValueView::new(field.value).key_bytes(), field.raw));
    let mut absent: Vec<(&[u8], &[u8])> = fields.collect();
    for attribute in resource.attributes() {
        absent.retain(|(key, _)| *key != attribute.key_bytes());
        if absent.is_empty() {
            return false;
        }
    }
    out.extend_from_slice(resource.raw());
    absent.iter().for_each(|(_, raw)| out.extend_from_slice(raw));
    !absent.is_empty()
}
