//! What a record holds.

use std::collections::HashMap;

use afflux_tests::kafka::KafkaServer;
use afflux_tests::kubernetes::{CLUSTER_UID, EVENTS, event, oracle};
use afflux_tests::topic;

use super::{World, publishes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_grow_by_increments_that_add_up_over_restarts() -> anyhow::Result<()> {
    let world = World::new("").await?;
    world.happen(0..30, 3);
    let afflux = world.start().await?;
    publishes(&afflux, 30).await?;
    world.happen(0..30, 4);
    world.happen(0..10, 9);
    publishes(&afflux, 70).await?;
    afflux.kill()?;
    // While nobody looks.
    world.happen(0..5, 12);
    world.happen(30..35, 2);
    let afflux = world.start().await?;
    publishes(&afflux, 10).await?;
    let (events, gaps) = world.settle(afflux).await?;
    assert_eq!(oracle::check(&world.server, &events, &gaps)?, 0);
    assert_eq!(gaps, []);
    let mut sums: HashMap<&str, i64> = HashMap::new();
    for event in &events {
        *sums.entry(&event.uid).or_default() += event.increment.expect("known");
    }
    for (n, expected) in [(0, 12), (4, 12), (5, 9), (9, 9), (10, 4), (29, 4), (30, 2), (34, 2)] {
        assert_eq!(sums[&*event::uid(n)], expected, "event {n}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_api_groups_give_the_same_records_with_the_clusters_identity() -> anyhow::Result<()> {
    let mut found = Vec::new();
    for group in ["v1", "events.k8s.io/v1"] {
        let world = World::new(&format!("api: '{group}'")).await?;
        let mut listed = event::event(1, 2);
        listed["metadata"]["creationTimestamp"] = "2026-11-03T08:51:07Z".into();
        listed["firstTimestamp"] = "2026-11-03T08:51:07Z".into();
        listed["lastTimestamp"] = "2026-11-03T08:51:09Z".into();
        let mut watched = listed.clone();
        watched["count"] = 3.into();
        world.server.put(EVENTS, listed);
        let afflux = world.start().await?;
        publishes(&afflux, 1).await?;
        world.server.put(EVENTS, watched);
        publishes(&afflux, 2).await?;
        afflux.stop().await?;
        let (events, _) = world.bus().await?;
        for event in &events {
            assert_eq!(event.resource["k8s.cluster.name"], "eu");
            assert_eq!(event.resource["k8s.cluster.uid"], CLUSTER_UID);
            assert_eq!((&event.body["kind"], &event.body["apiVersion"]), (&"Event".into(), &"v1".into()));
            assert!(event.body["metadata"].get("managedFields").is_none(), "{}", event.body);
            assert_eq!(event.body["involvedObject"]["name"], "web-00001");
        }
        found.push(events);
    }
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0].len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_drop_and_match_by_fields_and_by_labels_of_the_object() -> anyhow::Result<()> {
    let rules = "drop: [{reason: '^Pulled$'}], match: [{labels: {app: '^w.b$'}}, {min_count: 7}]";
    let world = World::new(rules).await?;
    let pod = |n: usize, app: &str| {
        serde_json::json!({"metadata": {"name": format!("web-{n:05}"), "namespace": format!("shop-{}", n % 7),
            "uid": format!("aaaaaaaa-0000-4000-8000-{n:012}"), "labels": {"app": app}}})
    };
    // Those that three divides are of reason BackOff.
    world.server.put("/api/v1/pods", pod(3, "web"));
    world.server.put("/api/v1/pods", pod(6, "db"));
    world.server.put("/api/v1/pods", pod(7, "web"));
    world.happen(0..12, 1);
    let afflux = world.start().await?;
    publishes(&afflux, 1).await?;
    world.happen(6..10, 8);
    publishes(&afflux, 3).await?;
    world.server.put("/api/v1/pods", pod(99, "web"));
    let mut other = event::event(99, 1);
    other["metadata"]["uid"] = "another".into();
    world.server.put(EVENTS, other);
    publishes(&afflux, 4).await?;
    afflux.stop().await?;
    let (events, gaps) = world.bus().await?;
    let found: Vec<_> = events.iter().map(|event| (event.uid.as_str(), event.count)).collect();
    let of = event::uid;
    let (three, six, nine) = (of(3), of(6), of(9));
    assert_eq!(found.len(), 4, "{found:?}");
    for expected in [(three.as_str(), 1), (&six, 8), (&nine, 8), ("another", 1)] {
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    }
    assert_eq!(gaps, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_bit_by_bit_is_on_kafka_bit_by_bit() -> anyhow::Result<()> {
    let Some(kafka) = KafkaServer::shared() else { return Ok(()) };
    let prefix = format!("k8s-bits-{:x}", rand::random::<u64>());
    let mut world = World::new("").await?;
    world.options = world.options.clone().on_kafka(&kafka.brokers(), &prefix);
    world.happen(0..20, 1);
    let afflux = world.start().await?;
    for round in 1..20 {
        publishes(&afflux, 20 * round).await?;
        world.happen(0..20, 1 + round as i64);
    }
    publishes(&afflux, 400).await?;
    afflux.stop().await?;
    let topic = format!("{prefix}.ingest.events");
    let records = topic::read(&kafka.brokers(), &[&topic], |records| {
        oracle::published(records).is_ok_and(|(events, _)| events.len() >= 400)
    })
    .await?;
    let (events, gaps) = oracle::published(&records)?;
    assert_eq!((oracle::check(&world.server, &events, &gaps)?, gaps), (0, vec![]));
    Ok(())
}

/// Prints a figure, which is one only of a release build (`AFFLUX_BIN`) and a release build of these tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_events_are_listed_and_published() -> anyhow::Result<()> {
    const EVENTS_IN_ALL: usize = 20_000;
    let world = World::new("").await?;
    world.happen(0..EVENTS_IN_ALL, 1);
    let afflux = world.start().await?;
    let begun = std::time::Instant::now();
    publishes(&afflux, EVENTS_IN_ALL).await?;
    let (took, (cpu, bytes)) = (begun.elapsed(), afflux.usage()?);
    eprintln!("{EVENTS_IN_ALL} events in {took:?}, {cpu} s of CPU, {} MiB at most", bytes >> 20);
    afflux.stop().await?;
    let (events, gaps) = world.bus().await?;
    assert_eq!(oracle::check(&world.server, &events, &gaps)?, 0);
    Ok(())
}
