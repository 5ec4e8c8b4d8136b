//! A table against a map of records that is searched from end to end.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const CLUSTERS: [&str; 2] = ["eu", "us/east"];
const NAMES: [&str; 2] = ["web-0", "web-1"];
const NAMESPACES: [&str; 2] = ["prod", "test"];
const NODES: [&str; 2] = ["node-a", "node-b"];
const IPS: [&str; 3] = ["10.0.0.1", "10.0.0.2", "fd00::1"];

fn config() -> EnrichConfig {
    EnrichConfig {
        pod_labels: vec!["a*".into()],
        namespace_labels: vec!["team".into()],
        node_labels: vec!["zone".into()],
        service_name: true,
        ..EnrichConfig::default()
    }
}

/// Every record by its key, as a compacted topic holds them.
type Records = BTreeMap<(&'static str, Kind, String), Object>;

/// What happens at a key.
#[derive(Clone, Debug)]
struct Step {
    cluster: &'static str,
    object: Object,
    deleted: bool,
}

fn labels(keys: &'static [&'static str]) -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(
        select(keys).prop_map(String::from),
        select(&["5f", "x"][..]).prop_map(String::from),
        0..3,
    )
}

fn owner(kinds: &'static [&'static str]) -> impl Strategy<Value = Option<Owner>> {
    let owner = (select(kinds), select(&["web-5f", "web-x", "db"][..]), 0..2_usize);
    prop::option::of(owner.prop_map(|(kind, name, uid)| Owner {
        kind: kind.into(),
        name: name.into(),
        uid: format!("{}-{uid}", kind.to_lowercase()),
    }))
}

fn pods() -> impl Strategy<Value = Object> {
    let place = (select(&NAMES[..]), select(&NAMESPACES[..]), 0..5_usize, prop::option::of(select(&NODES[..])));
    let ips = prop::collection::vec(select(&IPS[..]), 0..3);
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop::option::of(0..3_i64));
    let owner = owner(&["ReplicaSet", "Job", "StatefulSet", "Rollout"]);
    (place, ips, flags, owner, labels(&["a", "app", "b", "pod-template-hash"])).prop_map(
        |((name, namespace, uid, node), ips, (host_network, finished, created_ms), owner, labels)| Object {
            ips: ips.iter().map(|text| ip(text)).collect(),
            node: node.map(String::from),
            host_network,
            finished,
            created_ms,
            owner,
            labels,
            ..Object::new(Kind::Pod, namespace, name, format!("pod-{uid}"))
        },
    )
}

/// ReplicaSets and Jobs.
fn workloads() -> impl Strategy<Value = Object> {
    let kinds = select(&[Kind::ReplicaSet, Kind::Job][..]);
    (kinds, 0..2_usize, owner(&["Deployment", "CronJob", "Rollout"])).prop_map(|(kind, uid, owner)| Object {
        owner,
        ..Object::new(kind, "prod", "web-5f", format!("{}-{uid}", kind.as_str()))
    })
}

/// Namespaces and nodes, several of one name.
fn places() -> impl Strategy<Value = Object> {
    let kinds = select(&[(Kind::Namespace, NAMESPACES), (Kind::Node, NODES)][..]);
    (kinds, 0..2_usize, 0..3_usize, prop::option::of(0..3_i64), labels(&["team", "zone"])).prop_map(
        |((kind, names), name, uid, created_ms, labels)| Object {
            created_ms,
            labels,
            ..Object::new(kind, "", names[name], format!("{}-{uid}", kind.as_str()))
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let object = prop_oneof![3 => pods(), 1 => workloads(), 1 => places()];
    let step = (select(&CLUSTERS[..]), object, prop::bool::weighted(0.3));
    prop::collection::vec(step.prop_map(|(cluster, object, deleted)| Step { cluster, object, deleted }), 1..40)
}

fn step(table: &mut Table, step: &Step) -> Change {
    if step.deleted {
        delete(table, step.cluster, step.object.kind, &step.object.uid)
    } else {
        put(table, step.cluster, &step.object)
    }
}

/// Objects of a cluster and kind.
fn all<'r>(records: &'r Records, cluster: &str, kind: Kind) -> Vec<&'r Object> {
    records.iter().filter(|((c, k, _), _)| *c == cluster && *k == kind).map(|(_, object)| object).collect()
}

fn youngest(mut objects: Vec<&Object>) -> Option<&Object> {
    objects.sort_by_key(|object| (object.created_ms, object.uid.clone()));
    objects.pop()
}

/// Labels of the object of a kind and name, where selected.
fn label(records: &Records, cluster: &str, kind: Kind, name: &str, key: &str) -> Option<(String, String)> {
    let objects = all(records, cluster, kind).into_iter().filter(|object| object.name == name).collect();
    let value = youngest(objects)?.labels.get(key)?;
    Some((format!("k8s.{}.label.{key}", kind.as_str()), value.clone()))
}

/// What must be added to a resource of a pod.
fn expected(records: &Records, cluster: &'static str, pod: &Object) -> Vec<(String, String)> {
    let mut expected: Vec<(String, String)> = Vec::new();
    let mut add = |key: &str, value: &str| expected.push((key.into(), value.into()));
    add("k8s.namespace.name", &pod.namespace);
    add("k8s.pod.name", &pod.name);
    add("k8s.pod.uid", &pod.uid);
    pod.node.iter().for_each(|node| add("k8s.node.name", node));
    pod.created_ms.iter().for_each(|_| add("k8s.pod.start_time", "1970-01-01T00:00:00Z"));
    let mut service = None;
    let mut add_owner = |owner: &Owner| {
        if let Some(kind) = Kind::from_name(&owner.kind) {
            add(&format!("k8s.{}.name", kind.as_str()), &owner.name);
            add(&format!("k8s.{}.uid", kind.as_str()), &owner.uid);
            service = Some(owner.name.clone());
        }
    };
    if let Some(owner) = &pod.owner {
        add_owner(owner);
        let record =
            [Kind::ReplicaSet, Kind::Job].iter().find_map(|kind| records.get(&(cluster, *kind, owner.uid.clone())));
        match (record, pod.labels.get("pod-template-hash")) {
            (Some(record), _) => record.owner.iter().for_each(add_owner),
            (None, Some(hash)) if owner.kind == "ReplicaSet" && owner.name == format!("web-{hash}") => {
                add("k8s.deployment.name", "web");
                service = Some("web".into());
            }
            _ => {}
        }
    }
    let selected = pod.labels.iter().filter(|(key, _)| key.starts_with('a'));
    selected.for_each(|(key, value)| expected.push((format!("k8s.pod.label.{key}"), value.clone())));
    expected.extend(label(records, cluster, Kind::Namespace, &pod.namespace, "team"));
    expected.extend(pod.node.as_ref().and_then(|node| label(records, cluster, Kind::Node, node, "zone")));
    expected.extend(service.map(|service| ("service.name".into(), service)));
    expected
}

fn agrees(table: &Table, records: &Records) -> Result<(), TestCaseError> {
    for cluster in CLUSTERS {
        let pods = all(records, cluster, Kind::Pod);
        for uid in (0..5).map(|uid| format!("pod-{uid}")) {
            let known = pods.iter().find(|pod| pod.uid == uid).map(|pod| expected(records, cluster, pod));
            prop_assert_eq!(table.pod_by_uid(cluster, &uid).map(attributes), known);
        }
        for address in IPS.map(ip) {
            let have = |pod: &&&Object| pod.ips.contains(&address) && !pod.host_network && !pod.finished;
            let have: Vec<_> = pods.iter().filter(have).collect();
            let only = if have.len() == 1 { Some(&*have[0].uid) } else { None };
            prop_assert_eq!(table.pod_by_ip(cluster, address).map(|pod| pod.uid()), only);
        }
        for (namespace, name) in NAMESPACES.iter().flat_map(|namespace| NAMES.map(|name| (*namespace, name))) {
            let named = pods.iter().copied().filter(|pod| pod.namespace == namespace && pod.name == name).collect();
            let known = youngest(named).map(|pod| &*pod.uid);
            prop_assert_eq!(table.pod_by_name(cluster, namespace, name).map(|pod| pod.uid()), known);
        }
    }
    prop_assert_eq!(table.pods(), records.keys().filter(|(_, kind, _)| *kind == Kind::Pod).count());
    Ok(())
}

proptest! {
    /// Looked at after each record, so that what was put together before must have been forgotten.
    #[test]
    fn any_records_give_what_a_search_through_all_of_them_gives(steps in steps()) {
        let mut table = table(&config());
        let mut records = Records::new();
        for next in &steps {
            let key = (next.cluster, next.object.kind, next.object.uid.clone());
            if next.deleted {
                let known = records.remove(&key).is_some();
                prop_assert_eq!(step(&mut table, next) == Change::Removed, known);
            } else {
                let known = records.insert(key, next.object.clone());
                let same = known.as_ref() == Some(&next.object);
                let change = step(&mut table, next);
                prop_assert!(!same || change == Change::Same);
            }
            agrees(&table, &records)?;
        }
        for (cluster, kind, uid) in records.keys() {
            delete(&mut table, cluster, *kind, uid);
        }
        agrees(&table, &Records::new())?;
        prop_assert!(table.clusters().is_empty());
    }

    #[test]
    fn records_in_any_order_end_in_the_same_table(
        (first, second) in steps().prop_flat_map(|steps| {
            let last = |records: &mut Records, step: &Step| {
                records.insert((step.cluster, step.object.kind, step.object.uid.clone()), step.object.clone());
            };
            let mut records = Records::new();
            steps.iter().for_each(|step| last(&mut records, step));
            let put = |((cluster, _, _), object): ((&'static str, Kind, String), Object)| Step { cluster, object, deleted: false };
            let steps: Vec<_> = records.into_iter().map(put).collect();
            (Just(steps.clone()), Just(steps).prop_shuffle())
        }),
    ) {
        let (mut one, mut other) = (table(&config()), table(&config()));
        for next in &first {
            step(&mut one, next);
        }
        for next in &second {
            step(&mut other, next);
            // Asked for in between, when half is known.
            next.object.owner.iter().for_each(|_| drop(other.pod_by_uid(next.cluster, "pod-0").map(attributes)));
        }
        for cluster in CLUSTERS {
            for uid in (0..5).map(|uid| format!("pod-{uid}")) {
                let [one, other] = [&one, &other].map(|table| table.pod_by_uid(cluster, &uid).map(|pod| pod.attributes()));
                prop_assert_eq!(one, other);
            }
        }
    }
}
