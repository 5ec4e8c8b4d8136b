//! Tables as scenarios, and against a naive model.

mod model;
mod requests;
mod size;

use std::net::IpAddr;

use afflux_schemas::objects::{Kind, Object, ObjectKey, Owner};
use afflux_schemas::otlp::common::{KeyValueView, ValueView};
use afflux_schemas::wire::Fields;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod(uid: &str, name: &str, ips: &[&str]) -> Object {
    Object { ips: ips.iter().map(|text| ip(text)).collect(), ..Object::new(Kind::Pod, "prod", name, uid) }
}

fn owned(object: Object, kind: &str, name: &str, uid: &str) -> Object {
    Object { owner: Some(Owner { kind: kind.into(), name: name.into(), uid: uid.into() }), ..object }
}

fn labelled(mut object: Object, labels: &[(&str, &str)]) -> Object {
    object.labels.extend(labels.iter().map(|(key, value)| ((*key).into(), (*value).into())));
    object
}

fn table(config: &EnrichConfig) -> Table {
    Table::new(config).unwrap()
}

fn put(table: &mut Table, cluster: &str, object: &Object) -> Change {
    let key = ObjectKey::new(cluster, object.kind, &object.uid).unwrap().to_string();
    table.apply(key.as_bytes(), Some(&object.encode().unwrap())).unwrap()
}

fn delete(table: &mut Table, cluster: &str, kind: Kind, uid: &str) -> Change {
    table.apply(ObjectKey::new(cluster, kind, uid).unwrap().to_string().as_bytes(), None).unwrap()
}

fn attributes(pod: PodRef<'_>) -> Vec<(String, String)> {
    let attribute = |raw| {
        let attribute = KeyValueView::new(raw);
        let ValueView::Str(text) = attribute.value() else { panic!("{:?}", attribute.value()) };
        (attribute.key().to_owned(), text.to_owned())
    };
    Fields::new(pod.attributes()).map(|field| attribute(field.value)).collect()
}

/// The attributes whose key begins so, as `key=value`.
fn some(table: &Table, uid: &str, prefixes: &[&str]) -> Vec<String> {
    let all = attributes(table.pod_by_uid("eu", uid).unwrap()).into_iter();
    let some = all.filter(|(key, _)| prefixes.iter().any(|prefix| key.starts_with(prefix)));
    some.map(|(key, value)| format!("{key}={value}")).collect()
}

fn at<'t>(table: &'t Table, cluster: &str, address: &str) -> Option<&'t str> {
    table.pod_by_ip(cluster, ip(address)).map(|pod| pod.uid())
}

#[test]
fn everything_that_is_known_of_a_pod_is_added_once() {
    let config = EnrichConfig {
        pod_labels: vec!["app".into(), "example.com/*".into()],
        pod_annotations: vec!["*".into()],
        namespace_labels: vec!["team".into()],
        node_labels: vec!["zone".into()],
        service_name: true,
        ..EnrichConfig::default()
    };
    let mut table = table(&config);
    let mut cart = Object {
        node: Some("node-1".into()),
        images: vec!["registry.example:5000/shop/cart:1.2@sha256:abc".into()],
        created_ms: Some(1_700_000_000_000),
        started_ms: Some(1_700_000_001_999),
        ..owned(pod("p", "cart-7d4b9-x2x5z", &[]), "ReplicaSet", "cart-7d4b9", "r")
    };
    cart.annotations.insert("note".into(), "x".into());
    let cart =
        labelled(cart, &[("app", "cart"), ("apple", "no"), ("example.com/tier", "web"), ("example.org/x", "no")]);
    let namespace = labelled(Object::new(Kind::Namespace, "", "prod", "n"), &[("team", "shop"), ("other", "no")]);
    let node = labelled(Object::new(Kind::Node, "", "node-1", "m"), &[("zone", "a")]);
    let replica_set = owned(Object::new(Kind::ReplicaSet, "prod", "cart-7d4b9", "r"), "Deployment", "cart", "d");
    for object in [&cart, &namespace, &node, &replica_set] {
        assert_eq!(put(&mut table, "eu", object), Change::Put);
    }
    let expected = [
        ("k8s.namespace.name", "prod"),
        ("k8s.pod.name", "cart-7d4b9-x2x5z"),
        ("k8s.pod.uid", "p"),
        ("k8s.node.name", "node-1"),
        ("k8s.pod.start_time", "2023-11-14T22:13:21Z"),
        ("k8s.replicaset.name", "cart-7d4b9"),
        ("k8s.replicaset.uid", "r"),
        ("k8s.deployment.name", "cart"),
        ("k8s.deployment.uid", "d"),
        ("container.image.name", "registry.example:5000/shop/cart"),
        ("k8s.pod.label.app", "cart"),
        ("k8s.pod.label.example.com/tier", "web"),
        ("k8s.pod.annotation.note", "x"),
        ("k8s.namespace.label.team", "shop"),
        ("k8s.node.label.zone", "a"),
        ("service.name", "cart"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(attributes(table.pod_by_uid("eu", "p").unwrap()), expected);
}

#[test]
fn a_reused_address_belongs_to_the_living_pod_of_its_cluster() {
    let mut table = table(&EnrichConfig::default());
    put(&mut table, "eu", &pod("old", "a", &["10.0.0.1", "fd00::1"]));
    put(&mut table, "us", &pod("other", "a", &["10.0.0.1"]));
    assert_eq!([at(&table, "eu", "10.0.0.1"), at(&table, "us", "10.0.0.1")], [Some("old"), Some("other")]);
    assert_eq!(at(&table, "eu", "::ffff:10.0.0.1"), Some("old"));
    assert_eq!(at(&table, "eu", "fd00::1"), Some("old"));
    assert_eq!(at(&table, "nowhere", "10.0.0.1"), None);
    // Its successor is heard of before its own end: for that long, nobody's.
    put(&mut table, "eu", &pod("new", "b", &["10.0.0.1"]));
    assert_eq!([at(&table, "eu", "10.0.0.1"), at(&table, "us", "10.0.0.1")], [None, Some("other")]);
    assert_eq!(delete(&mut table, "eu", Kind::Pod, "old"), Change::Removed);
    assert_eq!(at(&table, "eu", "10.0.0.1"), Some("new"));
    assert_eq!(at(&table, "eu", "fd00::1"), None);
    delete(&mut table, "eu", Kind::Pod, "new");
    assert_eq!([at(&table, "eu", "10.0.0.1"), at(&table, "us", "10.0.0.1")], [None, Some("other")]);
    assert_eq!(delete(&mut table, "eu", Kind::Pod, "new"), Change::Same);
    assert_eq!(table.pods(), 1);
}

#[test]
fn an_address_goes_with_a_pod_that_changes_or_ends() {
    let mut table = table(&EnrichConfig::default());
    let job = pod("job", "a", &["10.0.0.1"]);
    put(&mut table, "eu", &job);
    put(&mut table, "eu", &Object { finished: true, ..job });
    assert_eq!(at(&table, "eu", "10.0.0.1"), None);
    put(&mut table, "eu", &pod("web", "b", &["10.0.0.1"]));
    assert_eq!(at(&table, "eu", "10.0.0.1"), Some("web"));
    put(&mut table, "eu", &pod("web", "b", &["10.0.0.2"]));
    assert_eq!([at(&table, "eu", "10.0.0.1"), at(&table, "eu", "10.0.0.2")], [None, Some("web")]);
    assert_eq!(table.pod_by_uid("eu", "job").map(|pod| pod.name()), Some("a"));
}

#[test]
fn the_address_of_a_node_is_no_pods() {
    let mut table = table(&EnrichConfig::default());
    // One that says so, then several that do not.
    put(&mut table, "eu", &Object { host_network: true, ..pod("proxy", "a", &["192.168.0.1"]) });
    assert_eq!(at(&table, "eu", "192.168.0.1"), None);
    put(&mut table, "eu", &pod("x", "x", &["192.168.0.2", "127.0.0.1"]));
    put(&mut table, "eu", &pod("y", "y", &["192.168.0.2"]));
    put(&mut table, "eu", &pod("z", "z", &["192.168.0.2"]));
    assert_eq!(at(&table, "eu", "192.168.0.2"), None);
    delete(&mut table, "eu", Kind::Pod, "y");
    assert_eq!(at(&table, "eu", "192.168.0.2"), None);
    assert_eq!(at(&table, "eu", "127.0.0.1"), None);
}

#[test]
fn a_name_belongs_to_the_youngest_pod() {
    let mut table = table(&EnrichConfig::default());
    let db = |uid, created_ms| Object { created_ms: Some(created_ms), ..pod(uid, "db-0", &[]) };
    let named = |table: &Table| table.pod_by_name("eu", "prod", "db-0").map(|pod| pod.uid().to_owned());
    put(&mut table, "eu", &db("new", 2));
    put(&mut table, "eu", &db("old", 1));
    assert_eq!(named(&table).as_deref(), Some("new"));
    delete(&mut table, "eu", Kind::Pod, "new");
    assert_eq!(named(&table).as_deref(), Some("old"));
    delete(&mut table, "eu", Kind::Pod, "old");
    assert_eq!(named(&table), None);
}

const OWNERS: &[&str] = &["k8s.deployment", "k8s.replicaset", "k8s.job", "k8s.cronjob", "k8s.statefulset", "service"];

#[test]
fn workloads_are_followed_to_the_outermost() {
    let config = EnrichConfig { service_name: true, ..EnrichConfig::default() };
    let mut table = table(&config);
    put(&mut table, "eu", &owned(pod("a", "db-0", &[]), "StatefulSet", "db", "s"));
    put(&mut table, "eu", &owned(pod("b", "tidy-1-x", &[]), "Job", "tidy-28912345", "j"));
    put(&mut table, "eu", &owned(pod("c", "kafka-0", &[]), "StrimziPodSet", "kafka", "k"));
    put(&mut table, "eu", &pod("d", "alone", &[]));
    let stateful = ["k8s.statefulset.name=db", "k8s.statefulset.uid=s", "service.name=db"];
    assert_eq!(some(&table, "a", OWNERS), stateful);
    let alone = ["k8s.job.name=tidy-28912345", "k8s.job.uid=j", "service.name=tidy-28912345"];
    assert_eq!(some(&table, "b", OWNERS), alone);
    put(&mut table, "eu", &owned(Object::new(Kind::Job, "prod", "tidy-28912345", "j"), "CronJob", "tidy", "c"));
    let cron = ["k8s.job.name=tidy-28912345", "k8s.job.uid=j", "k8s.cronjob.name=tidy", "k8s.cronjob.uid=c"];
    assert_eq!(some(&table, "b", &OWNERS[..5]), cron);
    assert_eq!(some(&table, "b", &["service"]), ["service.name=tidy"]);
    delete(&mut table, "eu", Kind::Job, "j");
    assert_eq!(some(&table, "b", OWNERS), alone);
    assert!(some(&table, "c", OWNERS).is_empty());
    assert!(some(&table, "d", OWNERS).is_empty());
}

#[test]
fn a_deployment_is_told_by_names_only_where_its_replica_set_is_unknown() {
    let mut table = table(&EnrichConfig::default());
    let web = |uid: &str, hash: &str, owner: &str| {
        labelled(owned(pod(uid, "web", &[]), "ReplicaSet", owner, "r"), &[("pod-template-hash", hash)])
    };
    let deployment = |table: &Table, uid: &str| some(table, uid, &["k8s.deployment"]);
    for (at, (hash, owner, expected)) in [
        ("7d4b9", "web-app-7d4b9", &["k8s.deployment.name=web-app"][..]),
        ("7d4b9", "web-app-7d4b8", &[]),
        ("7d4b9", "web7d4b9", &[]),
        ("7d4b9", "-7d4b9", &[]),
        ("", "web-", &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let uid = at.to_string();
        put(&mut table, "eu", &web(&uid, hash, owner));
        assert_eq!(deployment(&table, &uid), expected, "{owner}");
    }
    // A ReplicaSet that nobody owns, or another than a Deployment, is believed.
    let replica_set = Object::new(Kind::ReplicaSet, "prod", "web-app-7d4b9", "r");
    put(&mut table, "eu", &replica_set);
    assert!(deployment(&table, "0").is_empty());
    put(&mut table, "eu", &owned(replica_set.clone(), "Rollout", "web-app", "o"));
    assert!(deployment(&table, "0").is_empty());
    put(&mut table, "eu", &owned(replica_set, "Deployment", "renamed", "d"));
    assert_eq!(deployment(&table, "0"), ["k8s.deployment.name=renamed", "k8s.deployment.uid=d"]);
    delete(&mut table, "eu", Kind::ReplicaSet, "r");
    assert_eq!(deployment(&table, "0"), ["k8s.deployment.name=web-app"]);
}

#[test]
fn only_a_single_container_has_its_image_named() {
    let mut table = table(&EnrichConfig::default());
    for (images, expected) in [
        (&[][..], None),
        (&["cart"], Some("cart")),
        (&["shop/cart:1.2"], Some("shop/cart")),
        (&["localhost:5000/cart"], Some("localhost:5000/cart")),
        (&["cart@sha256:0a"], Some("cart")),
        (&["cart", "proxy"], None),
    ] {
        let images: Vec<_> = images.iter().map(|image| (*image).to_owned()).collect();
        put(&mut table, "eu", &Object { images, ..pod("p", "p", &[]) });
        let expected: Vec<_> = expected.iter().map(|name| format!("container.image.name={name}")).collect();
        assert_eq!(some(&table, "p", &["container"]), expected);
    }
}

#[test]
fn records_that_change_nothing_or_make_no_sense_leave_the_table_alone() {
    let mut table = table(&EnrichConfig::default());
    let cart = pod("p", "cart", &["10.0.0.1"]);
    assert_eq!(put(&mut table, "eu", &cart), Change::Put);
    let later = Object { resource_version: "2".into(), ..labelled(cart, &[("not", "selected")]) };
    assert_eq!(put(&mut table, "eu", &later), Change::Same);
    assert_eq!(put(&mut table, "eu", &Object::new(Kind::Deployment, "prod", "cart", "d")), Change::Same);
    assert_eq!(delete(&mut table, "eu", Kind::Deployment, "d"), Change::Same);
    assert_eq!(delete(&mut table, "nowhere", Kind::Pod, "p"), Change::Same);
    assert_eq!(table.apply(b"eu/service/s", None), Ok(Change::Unknown));
    assert_eq!(table.apply(b"eu/service/s", Some(b"?")), Ok(Change::Unknown));
    table.apply(b"eu", None).unwrap_err();
    table.apply(b"eu/pod/p", Some(b"{}")).unwrap_err();
    table.apply(b"eu/pod/p", Some(b"")).unwrap_err();
    table.apply(b"eu/pod/q", Some(&later.encode().unwrap())).unwrap_err();
    assert_eq!(at(&table, "eu", "10.0.0.1"), Some("p"));
    assert_eq!(table.pods(), 1);
}

#[test]
fn a_configuration_that_would_do_nothing_is_refused_with_its_key() {
    let error = |config: EnrichConfig| Table::new(&config).unwrap_err().to_string();
    let empty = error(EnrichConfig { join_by: vec![], ..EnrichConfig::default() });
    assert!(empty.starts_with("`processors.enrich.join_by` is empty"), "{empty}");
    let name = |name: &str| vec!["app".to_owned(), name.to_owned()];
    for (config, expected) in [
        (EnrichConfig { pod_labels: name("*a"), ..EnrichConfig::default() }, "pod_labels.1` is `*a`"),
        (EnrichConfig { pod_annotations: name("a*b*"), ..EnrichConfig::default() }, "pod_annotations.1` is `a*b*`"),
        (EnrichConfig { namespace_labels: name(""), ..EnrichConfig::default() }, "namespace_labels.1` is ``"),
        (EnrichConfig { node_labels: name("**"), ..EnrichConfig::default() }, "node_labels.1` is `**`"),
    ] {
        let error = error(config);
        assert!(error.starts_with(&format!("`processors.enrich.{expected}, which is no name")), "{error}");
    }
    let yaml = "join_by: [k8s.pod.ip, ip, net.host.ip, host.ip]";
    let read: EnrichConfig = afflux_runtime::config::load("afflux.yaml", yaml, []).unwrap();
    assert_eq!(read.join_by, [JoinKey::PodIp, JoinKey::Ip, JoinKey::NetHostIp, JoinKey::HostIp]);
    serde_json::from_str::<EnrichConfig>(r#"{"join_by":["pod"]}"#).unwrap_err();
    serde_json::from_str::<EnrichConfig>(r#"{"labels":[]}"#).unwrap_err();
}
