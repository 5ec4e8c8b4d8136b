//! Enrichment with a large table of pods.

use std::time::Instant;

use afflux_processors::enrich::Shared;
use afflux_schemas::objects::{Kind, Object, ObjectKey, Owner};
use anyhow::Result;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::{Driver, Load, case, enriching, seconds};

const PODS: usize = 100_000;
/// Pods that one node has, one ReplicaSet, and one namespace.
const EACH: [usize; 3] = [50, 10, 1000];
/// Pods that come and go in a minute.
const CHURN: usize = PODS / 100;

/// Measures the join by uid and by address, and what it costs to keep the table.
pub(super) fn measure(plain: &Load, rounds: usize, only: &str) -> Result<()> {
    for (name, key) in [("enrich, by uid", "k8s.pod.uid"), ("enrich, by address", "k8s.pod.ip")] {
        if !name.contains(only) {
            continue;
        }
        let (chain, table) = enriching()?;
        let began = Instant::now();
        let filling = seconds(|| fill(&table, &plain.cluster));
        let (pods, heap) = (table.read().table().pods(), table.read().table().heap_bytes());
        println!("{name}: {pods} pods in {filling:.2} CPU-s ({:.2?}), {heap} bytes of heap", began.elapsed());
        let (mut at, mut joined) = (0, 0);
        let load = plain.with_resources(|resource| {
            // Coprime with the number of pods: every pod comes before one comes again.
            at = (at + 61_803) % PODS;
            joined += 1;
            of_pod(resource, at, key);
        });
        println!("{name}: {:.1} spans to a resource", load.spans as f64 / f64::from(joined));
        let mut driver = Driver::new(chain);
        super::measure(&load, vec![case(name, move |load| _ = driver.work(load))], rounds, only);
        let mut churned: Vec<f64> = (0..5).map(|minute| seconds(|| churn(&table, &plain.cluster, minute))).collect();
        churned.sort_by(f64::total_cmp);
        println!("{name}: {CHURN} pods replaced in {:.1} CPU-ms", churned[2] * 1e3);
        println!("{name}: then {} bytes of heap", table.read().table().heap_bytes());
    }
    Ok(())
}

/// A resource as an SDK makes it that only knows this of its pod.
fn of_pod(resource: &mut Resource, pod: usize, key: &str) {
    resource.attributes.retain(|attribute| !attribute.key.starts_with("k8s."));
    let text = if key == "k8s.pod.uid" { uid(pod, 0) } else { address(pod) };
    let value = Some(AnyValue { value: Some(Value::StringValue(text)) });
    resource.attributes.push(KeyValue { key: key.into(), value, key_strindex: 0 });
}

fn uid(pod: usize, generation: usize) -> String {
    format!("{:08x}-{generation:04x}-4000-8000-{pod:012x}", pod * 0x9e37 % 0xffff_ffff)
}

fn address(pod: usize) -> String {
    format!("10.{}.{}.{}", pod >> 16, pod >> 8 & 255, pod & 255)
}

fn owned(object: Object, kind: &str, name: &str) -> Object {
    let (kind, name, uid) = (kind.to_owned(), name.to_owned(), format!("{kind}-{name}"));
    Object { owner: Some(Owner { kind, name, uid }), ..object }
}

fn pod(at: usize, generation: usize) -> Object {
    let [node, set, namespace] = EACH.map(|each| at / each);
    let (namespace, set) = (format!("team-{namespace}"), format!("service-{set}"));
    let name = format!("{set}-6c9f7d5b8-{at:05x}{generation}");
    let object = Object::new(Kind::Pod, namespace, name, uid(at, generation));
    let labels = [
        ("app.kubernetes.io/name", set.clone()),
        ("app.kubernetes.io/version", format!("1.{}.0", at % 40)),
        ("app.kubernetes.io/part-of", "shop".into()),
        ("pod-template-hash", "6c9f7d5b8".into()),
    ];
    let object = Object {
        labels: labels.map(|(key, value)| (key.to_owned(), value)).into(),
        ips: address(at).parse().into_iter().collect(),
        node: Some(format!("node-{node}")),
        images: vec![format!("registry.example.com/shop/{set}:1.{}.0", at % 40)],
        created_ms: Some(1_767_225_600_000),
        started_ms: Some(1_767_225_601_000),
        ..object
    };
    owned(object, "ReplicaSet", &format!("{set}-6c9f7d5b8"))
}

fn put(table: &Shared, cluster: &str, object: &Object) {
    let key = ObjectKey { cluster, kind: object.kind, uid: &object.uid }.to_string();
    let applied = object.encode().and_then(|value| table.write().apply(key.as_bytes(), Some(&value)));
    assert!(applied.is_ok(), "{applied:?}");
}

fn fill(table: &Shared, cluster: &str) {
    for set in 0..PODS / EACH[1] {
        let (name, namespace) = (format!("service-{set}-6c9f7d5b8"), format!("team-{}", set * EACH[1] / EACH[2]));
        let uid = format!("ReplicaSet-{name}");
        let object = Object::new(Kind::ReplicaSet, namespace, name, uid);
        put(table, cluster, &owned(object, "Deployment", &format!("service-{set}")));
    }
    for node in 0..PODS / EACH[0] {
        put(table, cluster, &Object::new(Kind::Node, "", format!("node-{node}"), format!("node-uid-{node}")));
    }
    (0..PODS).for_each(|at| put(table, cluster, &pod(at, 0)));
}

/// A minute's churn: pods are deleted, and others come in their place, with their addresses.
fn churn(table: &Shared, cluster: &str, minute: usize) {
    for at in (0..PODS).step_by(PODS / CHURN) {
        let gone = uid(at, minute);
        let key = ObjectKey { cluster, kind: Kind::Pod, uid: &gone }.to_string();
        let applied = table.write().apply(key.as_bytes(), None);
        assert!(applied.is_ok(), "{applied:?}");
        put(table, cluster, &pod(at, minute + 1));
    }
}
