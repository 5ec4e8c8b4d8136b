//! Where the lines of a file come from, as the resource that they are sent under.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;

use afflux_schemas::partition::stream_partition;
use afflux_schemas::wire::{put_len_field, put_message_field, put_varint_field};

/// Links that are followed from a path to a pod's.
const LINKS: usize = 4;

/// The resource of a path. All files that stand at it one after the other share it.
#[derive(Debug)]
pub(super) struct Origin {
    /// The bytes of a `Resource` message.
    pub(super) resource: Vec<u8>,
    pub(super) partition: u32,
}

/// What all files of this process have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    /// Resource attributes that are configured.
    pub(super) attributes: BTreeMap<String, String>,
    /// `host.name` of files that are no pod's.
    pub(super) host: String,
    /// Names the cluster in the partition's key.
    pub(super) cluster: String,
    /// Partitions of the topic.
    pub(super) partitions: u32,
}

/// A container's log, as the kubelet names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pod {
    namespace: String,
    name: String,
    uid: Option<String>,
    container: String,
    restarts: Option<u64>,
    container_id: Option<String>,
}

impl Origin {
    /// The origin of a path, which is resolved where it is a link.
    pub(super) fn of(path: &Path, common: &Common) -> Self {
        let resource = resource(path, pod_behind(path), common);
        let partition = stream_partition(&common.cluster, &resource, common.partitions);
        Self { resource, partition }
    }
}

fn pod_behind(path: &Path) -> Option<Pod> {
    let (mut pod, mut at) = (Pod::of_link(path), path.to_owned());
    for _ in 0..LINKS {
        if let Some(mut found) = Pod::of_file(&at) {
            found.container_id = pod.and_then(|pod| pod.container_id);
            return Some(found);
        }
        let Ok(target) = std::fs::read_link(&at) else { break };
        at = at.parent().map_or_else(|| target.clone(), |parent| parent.join(&target));
        pod = pod.or_else(|| Pod::of_link(&at));
    }
    pod
}

impl Pod {
    /// `…/pods/NAMESPACE_POD_UID/CONTAINER/RESTARTS.log`, also of a rotated file.
    fn of_file(path: &Path) -> Option<Self> {
        let mut names = path.iter().rev().map(|name| name.to_str());
        let (file, container, pod) = (names.next()??, names.next()??, names.next()??);
        if names.next()?? != "pods" {
            return None;
        }
        let mut parts = pod.split('_');
        let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || [namespace, name, uid].contains(&"") {
            return None;
        }
        let (restarts, rest) = file.split_once('.')?;
        if !rest.starts_with("log") {
            return None;
        }
        Some(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            // That of a static pod is a hash of its configuration, which nobody else knows it by.
            uid: is_uuid(uid).then(|| uid.to_owned()),
            container: container.to_owned(),
            restarts: restarts.parse().ok(),
            container_id: None,
        })
    }

    /// `…/POD_NAMESPACE_CONTAINER-ID.log`, a link in `/var/log/containers`.
    fn of_link(path: &Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".log")?;
        let mut parts = stem.split('_');
        let (name, namespace, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let (container, id) = rest.rsplit_once('-')?;
        let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_id && parts.next().is_none() && ![namespace, name, container].contains(&"")).then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            container: container.to_owned(),
            container_id: Some(id.to_owned()),
            ..Self::default()
        })
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Attributes in a fixed order, so that a path has the same bytes after every restart.
fn resource(path: &Path, pod: Option<Pod>, common: &Common) -> Vec<u8> {
    let mut out = Vec::new();
    match pod {
        Some(pod) => {
            put_text(&mut out, "k8s.namespace.name", &pod.namespace);
            put_text(&mut out, "k8s.pod.name", &pod.name);
            if let Some(uid) = &pod.uid {
                put_text(&mut out, "k8s.pod.uid", uid);
            }
            put_text(&mut out, "k8s.container.name", &pod.container);
            if let Some(restarts) = pod.restarts {
                put_number(&mut out, "k8s.container.restart_count", restarts);
            }
            if let Some(id) = &pod.container_id {
                put_text(&mut out, "container.id", id);
            }
        }
        None => put_text(&mut out, "host.name", &common.host),
    }
    put_text(&mut out, "log.file.path", &path.to_string_lossy());
    for (key, value) in &common.attributes {
        put_text(&mut out, key, value);
    }
    out
}

fn put_text(out: &mut Vec<u8>, key: &str, text: &str) {
    attribute(out, 1, key, |value| put_len_field(value, 1, text.as_bytes()));
}

fn put_number(out: &mut Vec<u8>, key: &str, number: u64) {
    attribute(out, 1, key, |value| put_varint_field(value, 3, number));
}

/// Appends a `KeyValue` as field `number`, whose `AnyValue` is appended by `value`.
pub(super) fn attribute(out: &mut Vec<u8>, number: u32, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    let Ok(()) = put_message_field(out, number, |out| {
        put_len_field(out, 1, key.as_bytes());
        put_message_field(out, 2, |out| {
            value(out);
            Ok::<_, Infallible>(())
        })
    });
}

#[cfg(test)]
pub(super) mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message;

    use super::*;

    pub(in crate::files) fn common() -> Common {
        let attributes = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
        Common { attributes, host: "node-1".into(), cluster: String::new(), partitions: 4 }
    }

    fn attributes(path: &Path) -> Vec<(String, String)> {
        let resource = Resource::decode(&*Origin::of(path, &common()).resource).unwrap();
        let text = |value: Option<Value>| match value.unwrap() {
            Value::StringValue(text) => text,
            Value::IntValue(number) => format!("{number}"),
            other => panic!("{other:?}"),
        };
        resource.attributes.into_iter().map(|kv| (kv.key, text(kv.value.unwrap().value))).collect()
    }

    fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    const UID: &str = "0af76519-16cd-43dd-8448-eb211c80319c";

    #[test]
    fn pods_are_told_from_the_path_and_the_hash_of_a_static_pod_is_no_uid() {
        let path = format!("/var/log/pods/shop_cart-0_{UID}/server/12.log");
        let pod = [
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "cart-0"),
            ("k8s.pod.uid", UID),
            ("k8s.container.name", "server"),
            ("k8s.container.restart_count", "12"),
            ("log.file.path", &path),
            ("team", "shop"),
        ];
        assert_eq!(attributes(Path::new(&path)), expected(&pod));
        let path = "/x/pods/kube-system_etcd-node-1_0123456789abcdef0123456789abcdef/etcd/0.log";
        let keys: Vec<_> = attributes(Path::new(path)).into_iter().map(|(key, _)| key).collect();
        assert!(keys.contains(&"k8s.pod.name".to_owned()) && !keys.contains(&"k8s.pod.uid".to_owned()), "{keys:?}");
    }

    #[test]
    fn other_files_are_told_by_host_and_path() {
        for path in ["/var/log/syslog", "/pods/a_b/c/0.log", "/pods/a_b_c_d/e/0.log", "/x/a_b_c/d/0.log"] {
            let plain = [("host.name", "node-1"), ("log.file.path", path), ("team", "shop")];
            assert_eq!(attributes(Path::new(path)), expected(&plain));
        }
    }

    #[test]
    fn links_lead_to_the_pod_and_say_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join(format!("pods/shop_cart-0_{UID}/server"));
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(target.join("0.log"), "").unwrap();
        let id = "ab".repeat(32);
        let link = dir.path().join(format!("cart-0_shop_server-{id}.log"));
        std::os::unix::fs::symlink(target.join("0.log"), &link).unwrap();
        let found = attributes(&link);
        assert!(found.contains(&("k8s.pod.uid".into(), UID.into())), "{found:?}");
        assert!(found.contains(&("container.id".into(), id.clone())), "{found:?}");
        let dangling = attributes(Path::new(&format!("/nowhere/cart-0_shop_server-{id}.log")));
        assert!(dangling.contains(&("k8s.container.name".into(), "server".into())), "{dangling:?}");
    }
}
