//! From an object of the API to what is kept of it.

use std::collections::BTreeMap;

use afflux_schemas::objects::{Kind, Object, Owner};
use jiff::Timestamp;
use serde::Deserialize;

/// What is read of an object; the rest is passed over while it is parsed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Seen {
    pub(super) metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    name: String,
    namespace: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    creation_timestamp: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    owner_references: Vec<OwnerReference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OwnerReference {
    kind: String,
    name: String,
    uid: String,
    controller: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    host_network: bool,
    containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    image: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: String,
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    start_time: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

/// Names of labels or annotations; one that ends in `*` stands for all that begin so.
#[derive(Clone, Debug)]
pub(super) struct Names(Vec<String>);

impl Names {
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.to_vec())
    }

    fn of(&self, texts: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let kept = |name: &str| {
            self.0.iter().any(|rule| match rule.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => rule == name,
            })
        };
        texts.into_iter().filter(|(name, _)| kept(name)).collect()
    }
}

impl Seen {
    /// What is kept of it.
    pub(super) fn keep(self, kind: Kind, labels: &Names, annotations: &Names) -> Object {
        let Self { metadata, spec, status } = self;
        let mut object = Object::new(kind, metadata.namespace, metadata.name, metadata.uid);
        object.labels = labels.of(metadata.labels);
        object.annotations = annotations.of(metadata.annotations);
        object.created_ms = metadata.creation_timestamp.as_deref().and_then(millis);
        object.resource_version = metadata.resource_version;
        let owner = metadata.owner_references.into_iter().find(|owner| owner.controller);
        object.owner = owner.map(|owner| Owner { kind: owner.kind, name: owner.name, uid: owner.uid });
        if kind == Kind::Pod {
            let ips = status.pod_ips.iter().map(|ip| &ip.ip).chain([&status.pod_ip]);
            for ip in ips.filter_map(|ip| ip.parse().ok()) {
                if !object.ips.contains(&ip) {
                    object.ips.push(ip);
                }
            }
            object.host_network = spec.host_network;
            object.finished = matches!(status.phase.as_str(), "Succeeded" | "Failed");
            object.node = Some(spec.node_name).filter(|node| !node.is_empty());
            object.images = spec.containers.into_iter().map(|container| container.image).collect();
            object.started_ms = status.start_time.as_deref().and_then(millis);
        }
        object
    }
}

fn millis(time: &str) -> Option<i64> {
    Some(time.parse::<Timestamp>().ok()?.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Names {
        Names::new(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn of_a_pod_what_the_join_needs_is_kept_and_no_more() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/kubernetes/fixtures/pod.json"));
        let seen: Seen = serde_json::from_str(&text.unwrap()).unwrap();
        let object = seen.keep(Kind::Pod, &names(&["app", "app.kubernetes.io/*"]), &names(&["example.com/team"]));
        let expected = r#"{"kind":"pod","name":"checkout-7d9c6f5b8-x2x7q","namespace":"shop","uid":"c2b1a7f4-3d5e-4c8a-8f0b-1e2d3c4b5a69","labels":{"app":"checkout","app.kubernetes.io/version":"2.4.1"},"annotations":{"example.com/team":"blue"},"ips":["10.0.3.44","fd00::2c"],"node":"ip-10-0-3-17.eu-central-1.compute.internal","owner":{"kind":"ReplicaSet","name":"checkout-7d9c6f5b8","uid":"9d3c2b1a-4f5e-4a6b-8c7d-0e1f2a3b4c5d"},"images":["registry.example.com/shop/checkout:2.4.1","registry.example.com/mesh/proxy:1.9.0"],"created_ms":1793695801000,"started_ms":1793695802000,"resource_version":"48213377"}"#;
        assert_eq!(String::from_utf8(object.encode().unwrap()).unwrap(), expected);
    }

    #[test]
    fn of_other_kinds_there_is_only_metadata() {
        let seen = r#"{"metadata": {"name": "n", "uid": "u", "labels": {"a": "b"}}, "spec": {"nodeName": "x"}}"#;
        let object = serde_json::from_str::<Seen>(seen).unwrap().keep(Kind::Node, &names(&["*"]), &names(&[]));
        assert_eq!(
            String::from_utf8(object.encode().unwrap()).unwrap(),
            r#"{"kind":"node","name":"n","uid":"u","labels":{"a":"b"}}"#
        );
    }

    #[test]
    fn finished_pods_and_those_on_their_nodes_network_are_marked() {
        let seen = r#"{"metadata": {"name": "n", "uid": "u"}, "spec": {"hostNetwork": true},
            "status": {"phase": "Failed", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}}"#;
        let object = serde_json::from_str::<Seen>(seen).unwrap().keep(Kind::Pod, &names(&[]), &names(&[]));
        assert!(object.finished && object.host_network && object.node.is_none());
        assert_eq!(object.ips, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    }
}
