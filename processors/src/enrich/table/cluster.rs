//! The objects of one cluster and the indexes over them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem::{size_of, size_of_val};
use std::net::IpAddr;
use std::sync::Arc;

use afflux_schemas::objects::{Kind, Object};

use super::pod::{Pod, Workload, tags};
use crate::enrich::config::Selection;
use crate::enrich::strings::{Strings, Tag, map_bytes};

/// Number of a pod's slot.
type Slot = u32;

/// The objects of one cluster.
///
/// Every entry of an index belongs to an object that is there: what goes takes its entries along.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    slots: Vec<Option<Box<Pod>>>,
    free: Vec<Slot>,
    by_uid: HashMap<Arc<str>, Slot>,
    by_ip: HashMap<IpAddr, Slots>,
    /// By name.
    namespaces: HashMap<Arc<str>, Namespace>,
    /// By name.
    nodes: HashMap<Arc<str>, Node>,
    /// ReplicaSets and Jobs, and what else owns pods, by uid.
    controllers: HashMap<Arc<str>, Controller>,
    /// Names of the namespaces and nodes that have records, by uid.
    names: HashMap<Arc<str>, Arc<str>>,
}

/// Pods that share something, one mostly.
#[derive(Debug)]
enum Slots {
    One(Slot),
    Many(Box<[Slot]>),
}

#[derive(Debug, Default)]
struct Namespace {
    records: Vec<Named>,
    /// By name.
    pods: HashMap<Arc<str>, Slots>,
}

#[derive(Debug, Default)]
struct Node {
    records: Vec<Named>,
    pods: Vec<Slot>,
}

/// A namespace or node. Until a deletion has been heard of there may be two of one name.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    created_ms: Option<i64>,
    uid: Arc<str>,
    tags: Arc<[Tag]>,
}

#[derive(Debug, Default)]
struct Controller {
    /// Absent while only pods tell of it.
    record: Option<Record>,
    pods: Vec<Slot>,
}

/// What is kept of a ReplicaSet or Job: by whom it is owned, if at all.
type Record = Option<Workload>;

impl Cluster {
    /// Takes in an object; false if nothing that is kept is different.
    pub(super) fn put(&mut self, object: &Object, selection: &Selection, strings: &mut Strings) -> bool {
        match object.kind {
            Kind::Pod => self.put_pod(Pod::new(object, selection, strings)),
            Kind::Namespace => {
                let tags = tags("k8s.namespace.label.", &object.labels, &selection.namespace_labels, strings);
                self.put_namespace(strings.get(&object.name), named(object, tags, strings))
            }
            Kind::Node => {
                let tags = tags("k8s.node.label.", &object.labels, &selection.node_labels, strings);
                self.put_node(strings.get(&object.name), named(object, tags, strings))
            }
            Kind::ReplicaSet | Kind::Job => {
                let record = Workload::of(object, strings);
                self.put_controller(strings.get(&object.uid), record)
            }
            // Whoever they own says their name and uid.
            Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet | Kind::CronJob => false,
        }
    }

    fn put_pod(&mut self, pod: Pod) -> bool {
        if self.pod_by_uid(&pod.uid).is_some_and(|known| known.same(&pod)) {
            return false;
        }
        self.remove_pod(&pod.uid);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as Slot - 1
        });
        self.by_uid.insert(pod.uid.clone(), slot);
        for ip in &pod.ips {
            add(self.by_ip.entry(*ip), slot);
        }
        add(self.namespaces.entry(pod.namespace.clone()).or_default().pods.entry(pod.name.clone()), slot);
        if let Some(node) = &pod.node {
            self.nodes.entry(node.clone()).or_default().pods.push(slot);
        }
        if let Some(owner) = &pod.owner {
            self.controllers.entry(owner.uid.clone()).or_default().pods.push(slot);
        }
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(Box::new(pod));
        }
        true
    }

    /// Forgets a pod; false if there is none of that uid.
    pub(super) fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(slot) = self.by_uid.remove(uid) else { return false };
        let Some(pod) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return false };
        self.free.push(slot);
        for ip in &pod.ips {
            remove(self.by_ip.entry(*ip), slot);
        }
        if let Entry::Occupied(mut namespace) = self.namespaces.entry(pod.namespace.clone()) {
            remove(namespace.get_mut().pods.entry(pod.name.clone()), slot);
            if namespace.get().records.is_empty() && namespace.get().pods.is_empty() {
                namespace.remove();
            }
        }
        if let Some(Entry::Occupied(mut node)) = pod.node.clone().map(|node| self.nodes.entry(node)) {
            node.get_mut().pods.retain(|other| *other != slot);
            if node.get().records.is_empty() && node.get().pods.is_empty() {
                node.remove();
            }
        }
        if let Some(Entry::Occupied(mut owner)) = pod.owner.map(|owner| self.controllers.entry(owner.uid)) {
            owner.get_mut().pods.retain(|other| *other != slot);
            if owner.get().record.is_none() && owner.get().pods.is_empty() {
                owner.remove();
            }
        }
        true
    }

    fn put_namespace(&mut self, name: Arc<str>, record: Named) -> bool {
        let known = self.namespaces.get(&name).is_some_and(|namespace| namespace.records.contains(&record));
        if known {
            return false;
        }
        self.remove_namespace(&record.uid);
        self.names.insert(record.uid.clone(), name.clone());
        let namespace = self.namespaces.entry(name).or_default();
        namespace.records.push(record);
        forget(&mut self.slots, namespace.pods.values().flat_map(Slots::as_slice));
        true
    }

    /// Forgets a namespace; false if there is none of that uid.
    pub(super) fn remove_namespace(&mut self, uid: &str) -> bool {
        let Some(name) = self.names.get(uid).cloned() else { return false };
        let Entry::Occupied(mut namespace) = self.namespaces.entry(name) else { return false };
        let records = namespace.get().records.len();
        namespace.get_mut().records.retain(|record| &*record.uid != uid);
        if namespace.get().records.len() == records {
            return false;
        }
        self.names.remove(uid);
        forget(&mut self.slots, namespace.get().pods.values().flat_map(Slots::as_slice));
        if namespace.get().records.is_empty() && namespace.get().pods.is_empty() {
            namespace.remove();
        }
        true
    }

    fn put_node(&mut self, name: Arc<str>, record: Named) -> bool {
        if self.nodes.get(&name).is_some_and(|node| node.records.contains(&record)) {
            return false;
        }
        self.remove_node(&record.uid);
        self.names.insert(record.uid.clone(), name.clone());
        let node = self.nodes.entry(name).or_default();
        node.records.push(record);
        forget(&mut self.slots, &node.pods);
        true
    }

    /// Forgets a node; false if there is none of that uid.
    pub(super) fn remove_node(&mut self, uid: &str) -> bool {
        let Some(name) = self.names.get(uid).cloned() else { return false };
        let Entry::Occupied(mut node) = self.nodes.entry(name) else { return false };
        let records = node.get().records.len();
        node.get_mut().records.retain(|record| &*record.uid != uid);
        if node.get().records.len() == records {
            return false;
        }
        self.names.remove(uid);
        forget(&mut self.slots, &node.get().pods);
        if node.get().records.is_empty() && node.get().pods.is_empty() {
            node.remove();
        }
        true
    }

    fn put_controller(&mut self, uid: Arc<str>, record: Record) -> bool {
        let controller = self.controllers.entry(uid).or_default();
        if controller.record.as_ref() == Some(&record) {
            return false;
        }
        controller.record = Some(record);
        forget(&mut self.slots, &controller.pods);
        true
    }

    /// Forgets a workload; false if nothing is kept of that uid.
    pub(super) fn remove_controller(&mut self, uid: &str) -> bool {
        let Some(controller) = self.controllers.get_mut(uid) else { return false };
        let removed = controller.record.take().is_some();
        if removed {
            forget(&mut self.slots, &controller.pods);
        }
        if controller.pods.is_empty() {
            self.controllers.remove(uid);
        }
        removed
    }

    pub(super) fn pod_by_uid(&self, uid: &str) -> Option<&Pod> {
        self.pod(*self.by_uid.get(uid)?)
    }

    pub(super) fn pod_by_ip(&self, ip: IpAddr) -> Option<&Pod> {
        match self.by_ip.get(&ip)? {
            Slots::One(slot) => self.pod(*slot),
            Slots::Many(_) => None,
        }
    }

    pub(super) fn pod_by_name(&self, namespace: &str, name: &str) -> Option<&Pod> {
        let slots = self.namespaces.get(namespace)?.pods.get(name)?.as_slice();
        slots.iter().filter_map(|slot| self.pod(*slot)).max_by_key(|pod| pod.age_key())
    }

    fn pod(&self, slot: Slot) -> Option<&Pod> {
        self.slots.get(slot as usize)?.as_deref()
    }

    /// What is known of a ReplicaSet or Job: whether there is a record, and whom it names as owner.
    pub(super) fn owner_of(&self, uid: &str) -> Option<&Record> {
        self.controllers.get(uid)?.record.as_ref()
    }

    /// Attributes that pods of a namespace have by it.
    pub(super) fn namespace_tags(&self, name: &str) -> &[Tag] {
        self.namespaces.get(name).map_or(&[], |namespace| youngest(&namespace.records))
    }

    /// Attributes that pods on a node have by it.
    pub(super) fn node_tags(&self, name: &str) -> &[Tag] {
        self.nodes.get(name).map_or(&[], |node| youngest(&node.records))
    }

    pub(super) fn pods(&self) -> usize {
        self.by_uid.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_uid.is_empty() && self.names.is_empty() && self.controllers.is_empty()
    }

    /// Estimate of the heap it takes without the texts that it shares.
    pub(super) fn heap_bytes(&self) -> usize {
        let pods: usize = self.slots.iter().flatten().map(|pod| pod.heap_bytes()).sum();
        let slots = self.slots.capacity() * size_of::<Option<Box<Pod>>>() + self.free.capacity() * size_of::<Slot>();
        let named = |records: &Vec<Named>| records.capacity() * size_of::<Named>();
        let many = |slots: &Slots| match slots {
            Slots::One(_) => 0,
            Slots::Many(many) => size_of_val::<[Slot]>(many),
        };
        let namespaces = self.namespaces.values().map(|namespace| {
            let pods: usize = namespace.pods.values().map(many).sum();
            map_bytes::<(Arc<str>, Slots)>(namespace.pods.capacity()) + pods + named(&namespace.records)
        });
        let nodes = self.nodes.values().map(|node| node.pods.capacity() * size_of::<Slot>() + named(&node.records));
        let controllers = self.controllers.values().map(|controller| controller.pods.capacity() * size_of::<Slot>());
        let maps = map_bytes::<(Arc<str>, Slot)>(self.by_uid.capacity())
            + map_bytes::<(IpAddr, Slots)>(self.by_ip.capacity())
            + map_bytes::<(Arc<str>, Namespace)>(self.namespaces.capacity())
            + map_bytes::<(Arc<str>, Node)>(self.nodes.capacity())
            + map_bytes::<(Arc<str>, Controller)>(self.controllers.capacity())
            + map_bytes::<(Arc<str>, Arc<str>)>(self.names.capacity());
        let shared: usize = self.by_ip.values().map(many).sum();
        pods + slots + maps + shared + namespaces.chain(nodes).chain(controllers).sum::<usize>()
    }
}

impl Slots {
    fn as_slice(&self) -> &[Slot] {
        match self {
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }
}

fn add<K>(entry: Entry<'_, K, Slots>, slot: Slot) {
    match entry {
        Entry::Vacant(vacant) => drop(vacant.insert(Slots::One(slot))),
        Entry::Occupied(mut occupied) => {
            let all = occupied.get().as_slice().iter().copied().chain([slot]);
            *occupied.get_mut() = Slots::Many(all.collect());
        }
    }
}

fn remove<K>(entry: Entry<'_, K, Slots>, slot: Slot) {
    let Entry::Occupied(mut occupied) = entry else { return };
    let left: Vec<Slot> = occupied.get().as_slice().iter().copied().filter(|other| *other != slot).collect();
    match left[..] {
        [] => drop(occupied.remove()),
        [only] => *occupied.get_mut() = Slots::One(only),
        _ => *occupied.get_mut() = Slots::Many(left.into()),
    }
}

fn named(object: &Object, tags: Vec<Tag>, strings: &mut Strings) -> Named {
    Named { created_ms: object.created_ms, uid: strings.get(&object.uid), tags: strings.tags(&tags) }
}

fn youngest(records: &[Named]) -> &[Tag] {
    records.iter().max_by_key(|record| (record.created_ms, &record.uid)).map_or(&[], |record| &record.tags)
}

/// What these pods add is to be put together again.
fn forget<'s>(pods: &mut [Option<Box<Pod>>], slots: impl IntoIterator<Item = &'s Slot>) {
    for slot in slots {
        if let Some(pod) = pods.get_mut(*slot as usize).and_then(Option::as_mut) {
            pod.added.take();
        }
    }
}
