//! Whatever an API server does: each observation is on the bus once, or in a gap.

use std::time::Duration;

use afflux_tests::afflux::Afflux;
use afflux_tests::kubernetes::{ApiServer, Compacted, EVENTS, event, oracle};
use anyhow::ensure;

use super::{World, publishes};

/// A cluster whose events 0 to 20 are published, and the process that did it.
async fn watched(config: &str) -> anyhow::Result<(World, Afflux)> {
    let world = World::new(config).await?;
    world.happen(0..20, 1);
    let afflux = world.start().await?;
    publishes(&afflux, 20).await?;
    open(&world.server).await?;
    Ok((world, afflux))
}

/// Waits until a watch is open.
async fn open(server: &ApiServer) -> anyhow::Result<()> {
    let begun = std::time::Instant::now();
    while server.watches() == 0 {
        ensure!(begun.elapsed() < super::SETTLE, "no watch is opened");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Everything is published, nothing lies in a gap, and there is none.
async fn settles_without_a_gap(world: &World, afflux: Afflux) -> anyhow::Result<()> {
    let (events, gaps) = world.settle(afflux).await?;
    assert_eq!(oracle::check(&world.server, &events, &gaps)?, 0);
    assert_eq!(gaps, []);
    Ok(())
}

/// There is a gap for that reason, and what is missing lies in it; how much that is.
async fn settles_with_a_gap(world: &World, afflux: Afflux, reason: &str) -> anyhow::Result<usize> {
    let (events, gaps) = world.settle(afflux).await?;
    let missing = oracle::check(&world.server, &events, &gaps)?;
    assert!(gaps.iter().any(|gap| gap.reason == reason && gap.cluster == "eu"), "{gaps:?}");
    Ok(missing)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_watches_that_end_and_a_server_that_comes_back_cost_nothing() -> anyhow::Result<()> {
    let (mut world, afflux) = watched("").await?;
    world.server.cut();
    world.happen(0..20, 2);
    publishes(&afflux, 40).await?;
    world.server.end_watches();
    world.happen(0..20, 3);
    publishes(&afflux, 60).await?;
    world.server.fail(Some(503));
    world.server.cut();
    world.happen(20..25, 1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.server.fail(None);
    publishes(&afflux, 65).await?;
    world.server.go_down();
    world.happen(0..20, 4);
    afflux.says("the cluster cannot be read", super::SETTLE).await?;
    world.happen(0..20, 5);
    ensure!(afflux.is_ready().await, "a process is taken out of service for a cluster");
    world.server.come_up().await?;
    publishes(&afflux, 105).await?;
    settles_without_a_gap(&world, afflux).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repetitions_are_dropped_and_what_comes_late_is_not() -> anyhow::Result<()> {
    let (world, afflux) = watched("").await?;
    let versions: Vec<u64> = (0..20).map(|n| world.server.put_silently(EVENTS, event::event(n, 2))).collect();
    for at in [3, 0, 1, 0, 2, 3, 19, 4] {
        world.server.tell(versions[at]);
    }
    publishes(&afflux, 26).await?;
    // The checkpoint knows what came out of order: the rest comes from the history, what was published does not.
    afflux.kill()?;
    let afflux = world.start().await?;
    publishes(&afflux, 14).await?;
    open(&world.server).await?;
    versions.iter().rev().for_each(|version| world.server.tell(*version));
    settles_without_a_gap(&world, afflux).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_object_in_an_open_watch_lists_the_cluster_and_publishes_a_gap() -> anyhow::Result<()> {
    let (world, afflux) = watched("").await?;
    // Nobody is told of these, and the history of them goes.
    world.happen_silently(0..10, 2);
    world.happen_silently(0..5, 3);
    world.server.compact(Compacted::Status);
    world.server.expire_open_watches();
    publishes(&afflux, 30).await?;
    let missing = settles_with_a_gap(&world, afflux, "expired").await?;
    assert_eq!(missing, 5, "those that were updated again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_is_gone_while_down_is_a_gap_in_all_its_forms() -> anyhow::Result<()> {
    let forms = [Compacted::Status, Compacted::Object, Compacted::Empty, Compacted::Silent];
    for (form, reason) in forms.into_iter().zip(["expired", "expired", "stale", "stale"]) {
        let (world, afflux) = watched("").await?;
        afflux.kill()?;
        world.happen(0..10, 2);
        world.happen(0..5, 3);
        world.server.delete(EVENTS, &event::uid(9));
        world.happen(20..22, 1);
        world.server.compact(form);
        let afflux = world.start().await?;
        publishes(&afflux, 11).await?;
        let missing = settles_with_a_gap(&world, afflux, reason).await?;
        assert_eq!(missing, 6, "{form:?}: those that were updated again, and one that is gone");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bookmarks_keep_a_quiet_watch_from_expiring() -> anyhow::Result<()> {
    let (world, afflux) = watched("").await?;
    // Others write to the cluster.
    (0..50).for_each(|n| {
        let pod =
            serde_json::json!({"metadata": {"name": format!("p-{n}"), "namespace": "x", "uid": format!("p-{n}")}});
        world.server.put("/api/v1/pods", pod);
    });
    world.server.bookmark();
    // Written with the next event.
    world.happen(0..1, 2);
    publishes(&afflux, 21).await?;
    let before = world.server.observations(EVENTS).last().expect("some").1;
    afflux.kill()?;
    let lists = world.server.requests("GET /api/v1/events?limit=500 ");
    let afflux = world.start().await?;
    open(&world.server).await?;
    let from: u64 = before - 1;
    ensure!(world.server.requests(&format!("resourceVersion={from}")) > 0, "the watch begins at the bookmark, {from}");
    assert_eq!(world.server.requests("GET /api/v1/events?limit=500 "), lists);
    settles_without_a_gap(&world, afflux).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_watches_of_a_quiet_cluster_are_no_gap() -> anyhow::Result<()> {
    let (world, afflux) = watched("").await?;
    let silent = r#"afflux_cluster_watches_total{component="producers.kubernetes",outcome="silent"}"#;
    let begun = std::time::Instant::now();
    world.server.put("/api/v1/pods", serde_json::json!({"metadata": {"name": "p", "namespace": "x", "uid": "p"}}));
    while afflux.metric(silent).await?.unwrap_or_default() < 2.0 {
        ensure!(begun.elapsed() < super::SETTLE, "no watch was silent");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    settles_without_a_gap(&world, afflux).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_list_in_pages_that_are_gone_is_begun_again_and_nothing_is_doubled() -> anyhow::Result<()> {
    let world = World::new("page: 500").await?;
    world.happen(0..20_000, 1);
    world.server.slow_lists(Duration::from_millis(20), 1);
    let afflux = world.start().await?;
    world.server.asked("continue=", 4).await?;
    // While it is listed.
    world.happen(100..200, 2);
    publishes(&afflux, 20_100).await?;
    settles_without_a_gap(&world, afflux).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_larger_than_what_is_held_comes_in_parts_and_in_order() -> anyhow::Result<()> {
    let world = World::new("page: 50, list_bytes: 64KiB").await?;
    world.happen(0..300, 1);
    let afflux = world.start().await?;
    publishes(&afflux, 300).await?;
    let (events, gaps) = world.settle(afflux).await?;
    assert_eq!(oracle::check(&world.server, &events, &gaps)?, 0);
    assert!(gaps.iter().all(|gap| gap.reason == "cut"), "{gaps:?}");
    assert!(world.server.requests("GET /api/v1/events?limit=50 ") > 2, "it is listed more than once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expires_is_read_again() -> anyhow::Result<()> {
    let (world, afflux) = watched("").await?;
    world.server.expect_token("second");
    world.server.cut();
    afflux.says("does not accept the credentials (401)", super::SETTLE).await?;
    world.happen(0..20, 2);
    std::fs::write(world.token(), "second")?;
    publishes(&afflux, 40).await?;
    settles_without_a_gap(&world, afflux).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_restored_from_a_copy_is_a_gap() -> anyhow::Result<()> {
    let (world, afflux) = watched("").await?;
    afflux.kill()?;
    world.server.roll_back(10);
    let afflux = world.start().await?;
    afflux.says("has begun anew", super::SETTLE).await?;
    afflux.stop().await?;
    let (events, gaps) = world.bus().await?;
    assert_eq!(events.len(), 40, "everything that there is, perhaps again");
    assert!(gaps.iter().any(|gap| gap.reason == "rolled_back"), "{gaps:?}");
    Ok(())
}
