//! What is kept of objects.

use std::mem::{size_of, size_of_val};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use afflux_schemas::objects::{Kind, Object};

use super::is_own;
use crate::enrich::config::Selection;
use crate::enrich::strings::{Strings, Tag, shared_bytes};
use crate::names::Names;

/// What is kept of a pod.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) uid: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) namespace: Arc<str>,
    pub(super) node: Option<Arc<str>>,
    pub(super) owner: Option<Workload>,
    /// The Deployment that the names of owner and pod tell, for as long as the owner is not known.
    pub(super) guess: Option<Arc<str>>,
    /// Name of the only container's image, without tag and digest.
    pub(super) image: Option<Arc<str>>,
    /// Addresses that are its own; none once it has finished.
    pub(super) ips: Box<[IpAddr]>,
    pub(super) tags: Arc<[Tag]>,
    pub(super) created_ms: Option<i64>,
    pub(super) started_ms: Option<i64>,
    /// What a join adds, once somebody has asked; a function of this pod, its owner's owner, namespace and node.
    pub(super) added: OnceLock<Box<[u8]>>,
}

/// A workload that owns something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) kind: Kind,
    pub(super) name: Arc<str>,
    pub(super) uid: Arc<str>,
}

impl Workload {
    /// The owner of an object, where it is a workload.
    pub(super) fn of(object: &Object, strings: &mut Strings) -> Option<Self> {
        let owner = object.owner.as_ref()?;
        let kind =
            Kind::from_name(&owner.kind).filter(|kind| !matches!(kind, Kind::Pod | Kind::Node | Kind::Namespace))?;
        Some(Self { kind, name: strings.get(&owner.name), uid: strings.get(&owner.uid) })
    }
}

impl Pod {
    pub(super) fn new(object: &Object, selection: &Selection, strings: &mut Strings) -> Self {
        let owner = Workload::of(object, strings);
        let guess = owner.as_ref().and_then(|owner| deployment_of(owner, object));
        let mut tags = tags("k8s.pod.label.", &object.labels, &selection.pod_labels, strings);
        tags.extend(self::tags("k8s.pod.annotation.", &object.annotations, &selection.pod_annotations, strings));
        let mut ips: Vec<_> = object.ips.iter().map(IpAddr::to_canonical).filter(|ip| is_own(*ip)).collect();
        ips.sort_unstable();
        ips.dedup();
        if object.host_network || object.finished {
            ips = Vec::new();
        }
        let image = match &object.images[..] {
            [image] => Some(strings.get(image_name(image))),
            _ => None,
        };
        Self {
            uid: object.uid.as_str().into(),
            name: object.name.as_str().into(),
            namespace: strings.get(&object.namespace),
            node: object.node.as_ref().filter(|node| !node.is_empty()).map(|node| strings.get(node)),
            guess: guess.map(|name| strings.get(name)),
            owner,
            image,
            ips: ips.into(),
            tags: strings.tags(&tags),
            created_ms: object.created_ms,
            started_ms: object.started_ms,
            added: OnceLock::new(),
        }
    }

    /// Whether all that is kept is the same.
    pub(super) fn same(&self, other: &Self) -> bool {
        let texts = |pod: &Self| {
            let optional = (pod.node.clone(), pod.guess.clone(), pod.image.clone());
            (pod.uid.clone(), pod.name.clone(), pod.namespace.clone(), optional)
        };
        let times = |pod: &Self| (pod.created_ms, pod.started_ms);
        texts(self) == texts(other)
            && times(self) == times(other)
            && self.owner == other.owner
            && self.ips == other.ips
            && self.tags == other.tags
    }

    /// Which of several pods of a name or address is the youngest.
    pub(super) fn age_key(&self) -> (Option<i64>, &str) {
        (self.created_ms, &self.uid)
    }

    /// Estimate of the heap it takes without what it shares with others.
    pub(super) fn heap_bytes(&self) -> usize {
        let added = self.added.get().map_or(0, |added| added.len().next_multiple_of(16));
        size_of::<Self>()
            + shared_bytes(&self.uid)
            + shared_bytes(&self.name)
            + size_of_val::<[IpAddr]>(&self.ips)
            + added
    }
}

/// Attributes of those labels or annotations that are selected.
pub(super) fn tags<'o>(
    prefix: &str,
    all: impl IntoIterator<Item = (&'o String, &'o String)>,
    selected: &Names,
    strings: &mut Strings,
) -> Vec<Tag> {
    let selected = all.into_iter().filter(|(name, _)| selected.contains(name.as_bytes()));
    selected.map(|(name, value)| (strings.get(&format!("{prefix}{name}")), strings.get(value))).collect()
}

/// The Deployment of a pod's ReplicaSet by name: the controller names it `NAME-HASH` and labels its pods with the hash.
fn deployment_of<'o>(owner: &Workload, pod: &'o Object) -> Option<&'o str> {
    let hash = pod.labels.get("pod-template-hash").filter(|hash| !hash.is_empty())?;
    let name = &pod.owner.as_ref()?.name;
    let deployment = name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    (owner.kind == Kind::ReplicaSet && !deployment.is_empty()).then_some(deployment)
}

/// An image without digest and tag; a colon before the last slash belongs to a port.
fn image_name(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}
