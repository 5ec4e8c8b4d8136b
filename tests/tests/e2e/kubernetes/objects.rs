//! Objects are a table: what there is, and tombstones for what is gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use afflux_schemas::objects::{Object, ObjectKey};
use afflux_tests::afflux::Afflux;
use afflux_tests::kubernetes::oracle;
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{SETTLE, World};

const PUBLISHED: &str = r#"afflux_accepted_items_total{component="producers.kubernetes",signal="objects"}"#;
const PODS: &str = "/api/v1/pods";
/// Each kind, its path and the namespace of its objects.
const KINDS: [(&str, &str, &str); 9] = [
    ("pod", PODS, "shop"),
    ("node", "/api/v1/nodes", ""),
    ("namespace", "/api/v1/namespaces", ""),
    ("deployment", "/apis/apps/v1/deployments", "shop"),
    ("replicaset", "/apis/apps/v1/replicasets", "shop"),
    ("statefulset", "/apis/apps/v1/statefulsets", "shop"),
    ("daemonset", "/apis/apps/v1/daemonsets", "shop"),
    ("job", "/apis/batch/v1/jobs", "shop"),
    ("cronjob", "/apis/batch/v1/cronjobs", "shop"),
];

fn object(uid: &str, namespace: &str) -> Value {
    json!({"metadata": {"name": format!("n-{uid}"), "namespace": namespace, "uid": uid,
        "labels": {"app": "web", "secret": "x"}, "annotations": {"team": "blue", "other": "x"}}})
}

fn pod(n: usize, ip: &str) -> Value {
    let mut pod = object(&format!("pod-{n:05}"), "shop");
    pod["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet", "name": "rs", "uid": "r", "controller": true}]);
    pod["spec"] = json!({"nodeName": "node-1", "containers": [{"image": "web:1", "env": [{"value": "secret"}]}]});
    pod["status"] = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]});
    pod
}

async fn world() -> anyhow::Result<World> {
    let mut world = World::new("enabled: false").await?;
    world.options = world
        .options
        .clone()
        .env("AFFLUX__PRODUCERS__KUBERNETES__OBJECTS__ENABLED", "true")
        .env("AFFLUX__PRODUCERS__KUBERNETES__OBJECTS__ANNOTATIONS", "[team]");
    Ok(world)
}

async fn publishes(afflux: &Afflux, objects: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    while afflux.metric(PUBLISHED).await?.unwrap_or_default() < objects as f64 {
        ensure!(begun.elapsed() < SETTLE, "{objects} objects were not published:\n{}", afflux.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The table, and how many records it is made of.
async fn table(world: &World) -> anyhow::Result<(BTreeMap<String, Object>, usize)> {
    let records = oracle::read_local(&world.dir.path().join("bus"), "afflux.objects").await?;
    let mut table = BTreeMap::new();
    for record in &records {
        let key = record.key.as_ref().context("no key")?;
        let parsed = ObjectKey::parse(key)?;
        ensure!(parsed.cluster == "eu", "{parsed}");
        match &record.value {
            Some(value) => drop(table.insert(parsed.to_string(), Object::decode_for(&parsed, value)?)),
            None => drop(table.remove(&parsed.to_string()).context("a tombstone for nothing")?),
        }
    }
    Ok((table, records.len()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_is_kept_with_what_is_allowed_and_nothing_is_written_twice() -> anyhow::Result<()> {
    let world = world().await?;
    for (kind, path, namespace) in KINDS {
        world.server.put(path, if kind == "pod" { pod(1, "10.0.0.1") } else { object(kind, namespace) });
    }
    let afflux = world.start().await?;
    // And the namespace kube-system.
    publishes(&afflux, 10).await?;
    afflux.stop().await?;
    let (found, records) = table(&world).await?;
    assert_eq!(records, 10);
    for (kind, _, namespace) in KINDS {
        let uid = if kind == "pod" { "pod-00001" } else { kind };
        let object = found.get(&format!("eu/{kind}/{uid}")).with_context(|| format!("no {kind} in {found:?}"))?;
        assert_eq!(object.namespace, namespace);
        assert_eq!(object.labels, BTreeMap::from([("app".to_owned(), "web".to_owned())]));
        assert_eq!(object.annotations, BTreeMap::from([("team".to_owned(), "blue".to_owned())]));
    }
    let pod = &found["eu/pod/pod-00001"];
    assert_eq!((pod.node.as_deref(), pod.images.as_slice()), (Some("node-1"), &["web:1".to_owned()][..]));
    assert_eq!(pod.owner.as_ref().map(|owner| owner.uid.as_str()), Some("r"));
    // The same again is no news.
    let afflux = world.start().await?;
    world.server.put(PODS, super::objects::pod(1, "10.0.0.1"));
    world.server.put(PODS, super::objects::pod(2, "10.0.0.2"));
    publishes(&afflux, 1).await?;
    afflux.stop().await?;
    assert_eq!(table(&world).await?.1, 11);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_and_goes_while_watched_or_while_down_ends_as_it_is() -> anyhow::Result<()> {
    let world = world().await?;
    for n in 0..1200 {
        world.server.put_silently(PODS, pod(n, "10.0.0.1"));
    }
    let afflux = world.start().await?;
    publishes(&afflux, 1201).await?;
    world.server.delete(PODS, "pod-00000");
    world.server.put(PODS, pod(1, "10.0.0.9"));
    publishes(&afflux, 1203).await?;
    afflux.kill()?;
    for n in 2..300 {
        world.server.delete(PODS, &format!("pod-{n:05}"));
    }
    world.server.put(PODS, pod(300, "10.0.0.8"));
    world.server.compact(afflux_tests::kubernetes::Compacted::Status);
    let afflux = world.start().await?;
    publishes(&afflux, 299).await?;
    world.server.expire_open_watches();
    world.server.put(PODS, pod(301, "10.0.0.7"));
    publishes(&afflux, 300).await?;
    afflux.stop().await?;
    let (found, _) = table(&world).await?;
    let pods = found.keys().filter(|key| key.contains("/pod/")).count();
    assert_eq!(pods, 1200 - 299);
    let ip = |n: usize| found[&format!("eu/pod/pod-{n:05}")].ips[0].to_string();
    assert_eq!([1, 300, 301, 302].map(ip), ["10.0.0.9", "10.0.0.8", "10.0.0.7", "10.0.0.1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_is_not_permitted_is_named_and_the_others_are_kept() -> anyhow::Result<()> {
    let world = world().await?;
    world.server.forbid(&[("list", "cronjobs")]);
    world.server.put(PODS, pod(1, "10.0.0.1"));
    let afflux = world.start().await?;
    publishes(&afflux, 2).await?;
    let said = "grant the verb `list` on the resource `cronjobs` of the API group `batch`";
    afflux.says(said, SETTLE).await?;
    ensure!(afflux.is_ready().await, "a process is taken out of service for a permission");
    afflux.stop().await
}
