//! Two replicas: one leads, the other takes over, and nothing is there twice.

use std::time::{Duration, Instant};

use afflux_tests::afflux::Afflux;
use afflux_tests::kafka::KafkaServer;
use afflux_tests::kubernetes::{EVENTS, event, oracle};
use afflux_tests::topic;
use anyhow::ensure;

use super::{SETTLE, World, publishes};

const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";
const LEASE: &str = "afflux-kubernetes";
const ELECTED: &str = "elected: this replica leads";
const RESIGNED: &str = "leads no more";

async fn world() -> anyhow::Result<World> {
    let mut world = World::new("").await?;
    for (key, value) in
        [("ENABLED", "true"), ("LEASE_DURATION", "6s"), ("RENEW_DEADLINE", "4s"), ("RETRY_PERIOD", "300ms")]
    {
        let variable = format!("AFFLUX__PRODUCERS__KUBERNETES__LEADER_ELECTION__{key}");
        world.options = world.options.clone().env(&variable, value);
    }
    Ok(world)
}

fn holder(world: &World) -> String {
    let lease = world.server.object(LEASES, "telemetry", LEASE).unwrap_or_default();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_leads_by_a_lease_renews_it_and_gives_it_up() -> anyhow::Result<()> {
    let world = world().await?;
    world.happen(0..5, 1);
    let afflux = world.start().await?;
    publishes(&afflux, 5).await?;
    let first = holder(&world);
    ensure!(!first.is_empty(), "nobody has the lease");
    let renewed = |world: &World| {
        let lease = world.server.object(LEASES, "telemetry", LEASE).unwrap_or_default();
        lease["spec"]["renewTime"].as_str().unwrap_or_default().to_owned()
    };
    let (before, begun) = (renewed(&world), Instant::now());
    while renewed(&world) == before {
        ensure!(begun.elapsed() < SETTLE, "the lease is not renewed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Another one takes it, as if this one had slept.
    let mut stolen = world.server.object(LEASES, "telemetry", LEASE).expect("it is there");
    stolen["spec"]["holderIdentity"] = "thief".into();
    world.server.put(LEASES, stolen);
    afflux.says("leads no more", SETTLE).await?;
    // Who is not heard of again.
    world.happen(5..9, 1);
    publishes(&afflux, 9).await?;
    assert_eq!(holder(&world), first);
    afflux.stop().await?;
    assert_eq!(holder(&world), "", "given up");
    let (events, gaps) = world.bus().await?;
    assert_eq!(oracle::check(&world.server, &events, &gaps)?, 0);
    assert_eq!(gaps, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_stopped_and_goes_on_publishes_nothing_twice() -> anyhow::Result<()> {
    let Some(kafka) = KafkaServer::shared() else { return Ok(()) };
    let prefix = format!("k8s-leaders-{:x}", rand::random::<u64>());
    let mut world = world().await?;
    world.options = world.options.clone().on_kafka(&kafka.brokers(), &prefix);
    world.happen(0..50, 1);
    let first = world.start().await?;
    first.says(ELECTED, SETTLE).await?;
    publishes(&first, 50).await?;
    let mut replicas = [first, world.start().await?];
    let mut count = 1;
    for _ in 0..4 {
        let leader = leader(&world, &replicas).await?;
        let (holder, resigned) = (holder(&world), times(&replicas[leader], RESIGNED));
        let before = replicas[leader].metric(super::PUBLISHED).await?.unwrap_or_default() as usize;
        count += 1;
        world.happen(0..50, count);
        publishes(&replicas[leader], before + 50).await?;
        // Updates go on all the time, so that the leader is stopped in the middle of something.
        for _ in 0..10 {
            count += 1;
            world.happen(0..50, count);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        replicas[leader].signal("STOP")?;
        count += 1;
        world.happen(0..50, count);
        let begun = Instant::now();
        while super::leaders::holder(&world) == holder {
            ensure!(begun.elapsed() < SETTLE, "nobody takes the lease over:\n{}", replicas[1 - leader].log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        count += 1;
        world.happen(0..50, count);
        replicas[leader].signal("CONT")?;
        count += 1;
        world.happen(0..50, count);
        let begun = Instant::now();
        while times(&replicas[leader], RESIGNED) == resigned {
            ensure!(begun.elapsed() < SETTLE, "who was stopped goes on leading:\n{}", replicas[leader].log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let last = world.server.put(EVENTS, event::event(super::LAST, 1));
    let records = topic::read(&kafka.brokers(), &[&format!("{prefix}.ingest.events")], |records| {
        oracle::published(records).is_ok_and(|(events, _)| events.iter().any(|event| event.version == last))
    })
    .await?;
    for replica in &mut replicas {
        ensure!(replica.is_running()?, "a replica has ended:\n{}", replica.log());
    }
    let (events, gaps) = oracle::published(&records)?;
    assert_eq!(oracle::check(&world.server, &events, &gaps)?, 0);
    assert_eq!(gaps, []);
    Ok(())
}

fn times(replica: &Afflux, text: &str) -> usize {
    replica.log().matches(text).count()
}

/// Which replica has the lease.
async fn leader(world: &World, replicas: &[Afflux; 2]) -> anyhow::Result<usize> {
    let begun = Instant::now();
    loop {
        let holder = holder(world);
        if let Some(leader) = replicas.iter().position(|replica| !holder.is_empty() && replica.log().contains(&holder))
        {
            return Ok(leader);
        }
        ensure!(begun.elapsed() < SETTLE, "nobody leads:\n{}", replicas[0].log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
