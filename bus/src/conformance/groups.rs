//! Members come and go; no record is lost, and none that was committed comes again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use afflux_schemas::topics::mirrors;
use tokio::sync::watch;

use super::{DEADLINE, KEEP, Reader, Subject, after, config, number, numbered, send_numbers, topic, unique};
use crate::contract::Event;
use crate::error::BusError;
use crate::record::{PartitionId, TopicSpec};

/// How often each number was delivered, over all members.
type Deliveries = Arc<Mutex<BTreeMap<u64, usize>>>;

/// Reads until told to stop, committing what it has whenever partitions are taken away, and at its end.
fn member(mut reader: Reader, seen: Deliveries, mut stop: watch::Receiver<bool>) -> tokio::task::JoinHandle<usize> {
    tokio::spawn(async move {
        let mut owned = Vec::new();
        let mut count = 0;
        loop {
            let event = tokio::select! {
                event = reader.next_within(DEADLINE) => event,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match event {
                Some(Event::Assigned(new)) => owned.extend(new.into_iter().map(|a| a.partition)),
                Some(Event::Revoked(gone)) => {
                    reader.commit_read(&gone).await;
                    owned.retain(|p| !gone.contains(p));
                }
                Some(Event::Records(records)) => {
                    count += records.len();
                    let mut seen = seen.lock().expect("no panic");
                    records.iter().for_each(|r| *seen.entry(number(r)).or_default() += 1);
                }
                Some(Event::Expired { partition, records }) => panic!("{records} records of {partition} are lost"),
                None => {}
            }
        }
        reader.commit_read(&owned).await;
        reader.close().await;
        count
    })
}

/// A second member joins under load and leaves again. Everything in flight is committed before partitions are
/// given up, so every record is delivered exactly once, and both members have had their share.
pub async fn two_members_share_partitions_without_loss_or_repetition(subject: &dyn Subject) {
    const RECORDS: u64 = 4000;
    let bus = subject.open().await;
    let topic = topic(&*bus, "share", 4, KEEP).await;
    let group = unique("share");
    let mut config = config(&group, &topic);
    config.fetch_bytes = 4096;
    let seen = Deliveries::default();
    let (stop_first, first_stopped) = watch::channel(false);
    let (stop_second, second_stopped) = watch::channel(false);
    let first = member(Reader::join(&*bus, config.clone()).await, Arc::clone(&seen), first_stopped);
    let producer = bus.producer().await.expect("a producer");
    let mut second = None;
    for call in 0..RECORDS / 20 {
        let records = (call * 20..call * 20 + 20).map(|n| numbered(&topic, (n % 4) as u32, n, 64)).collect();
        producer.send(records).await.expect("an acknowledgement");
        if call == 40 {
            let reader = Reader::join(&*bus, config.clone()).await;
            second = Some(member(reader, Arc::clone(&seen), second_stopped.clone()));
        }
        if (40..160).contains(&call) {
            // Load goes on while the group rebalances, however long that takes.
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
    let wait_for = |count: u64| {
        let seen = Arc::clone(&seen);
        async move {
            let deadline = tokio::time::Instant::now() + DEADLINE;
            while (seen.lock().expect("no panic").len() as u64) < count {
                assert!(tokio::time::Instant::now() < deadline, "records are missing");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    wait_for(RECORDS).await;
    stop_second.send_replace(true);
    let by_second = second.expect("it joined").await.expect("the second member");
    assert!(by_second > 0, "the second member got nothing");
    // The first takes over what the second had.
    producer
        .send((RECORDS..RECORDS + 40).map(|n| numbered(&topic, (n % 4) as u32, n, 64)).collect())
        .await
        .expect("ok");
    wait_for(RECORDS + 40).await;
    stop_first.send_replace(true);
    let by_first = first.await.expect("the first member");
    let seen = std::mem::take(&mut *seen.lock().expect("no panic"));
    let repeated: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
    assert!(repeated.is_empty(), "delivered more than once: {repeated:?}");
    assert_eq!(by_first + by_second, seen.len());
    let lag = bus.lag(&group, &[topic]).await.expect("lag");
    assert_eq!(lag.iter().map(crate::PartitionLag::records).sum::<u64>(), 0, "{lag:?}");
}

/// After a rebalance the offsets of the former generation are refused, as a whole, and change nothing.
pub async fn an_older_generation_cannot_commit(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "older", 2, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    send_numbers(&*producer, &topic, 0, 0..10).await;
    send_numbers(&*producer, &topic, 1, 10..20).await;
    let mut first = Reader::join(&*bus, config("older", &topic)).await;
    let read = first.read(20).await;
    let old: Vec<_> = (0..2).filter_map(|p| read.iter().rfind(|r| r.from.partition == p)).map(after).collect();
    assert_eq!(old.len(), 2);

    let mut second = Reader::join(&*bus, config("older", &topic)).await;
    let theirs = tokio::select! {
        theirs = second.assigned(1) => theirs[0].clone(),
        () = async { loop { first.next().await; } } => unreachable!("an endless loop"),
    };
    // The first has given one up, whether or not it has another.
    let refused = first.commit(&old).await;
    assert!(matches!(refused, Err(BusError::Fenced { .. })), "{refused:?}");
    for offset in &old {
        assert_eq!(second.committed(&offset.partition).await, None, "{}", offset.partition);
    }
    // What it missed is the second's.
    let position = second.position(&theirs);
    assert_eq!(position, 0);
    let again = second.read(10).await;
    second.commit(&[after(again.last().expect("ten"))]).await.expect("the owner commits");
    first.close().await;
    second.close().await;
}

/// A member whose caller is stuck loses what another member waits for, after `revoke_timeout`.
pub async fn a_member_that_does_not_poll_gives_its_partitions_up(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "stuck", 2, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    for partition in 0..2 {
        let records = (0..200).map(|n| numbered(&topic, partition, n, 2000)).collect();
        producer.send(records).await.expect("an acknowledgement");
    }
    let mut config = config("stuck", &topic);
    config.revoke_timeout = Duration::from_millis(500);
    // Far less than there is to read, so that the member is stuck with a full queue.
    config.fetch_bytes = 20_000;
    let mut stuck = Reader::join(&*bus, config.clone()).await;
    let read = stuck.read(1).await;
    let mut other = Reader::join(&*bus, config).await;
    let theirs: PartitionId = other.assigned(1).await[0].clone();
    let late = crate::Offset { generation: read[0].generation, partition: theirs.clone(), next: 1 };
    let refused = stuck.commit(&[late]).await;
    assert!(matches!(refused, Err(BusError::Fenced { .. })), "{refused:?}");
    let mut theirs_read = Vec::new();
    while theirs_read.len() < 200 {
        theirs_read.extend(other.read(1).await.into_iter().filter(|r| r.from == theirs).map(|r| number(&r)));
    }
    assert_eq!(theirs_read, (0..200).collect::<Vec<_>>());
    stuck.close().await;
    other.close().await;
}

/// Two groups read everything each, and commit apart.
pub async fn groups_do_not_see_each_other(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "apart", 1, KEEP).await;
    send_numbers(&*bus.producer().await.expect("a producer"), &topic, 0, 0..10).await;
    let mut one = Reader::join(&*bus, config("apart-one", &topic)).await;
    let mut two = Reader::join(&*bus, config("apart-two", &topic)).await;
    let read = one.read(10).await;
    one.commit(&[after(&read[9])]).await.expect("a commit");
    assert_eq!(two.read(10).await.len(), 10);
    assert_eq!(two.committed(&read[9].from).await, None);
    one.close().await;
    two.close().await;
}

/// A pattern brings what exists, and what is created while the group reads; lag counts both.
pub async fn mirrors_are_read_under_their_own_names_also_new_ones(subject: &dyn Subject) {
    let bus = subject.open().await;
    let base = unique("mirrored");
    let cleanup = KEEP;
    let create = async |source: &str| {
        let name: Arc<str> = format!("{source}.{base}").into();
        let spec = TopicSpec { name: Arc::clone(&name), partitions: 2, cleanup };
        bus.create_topics(&[spec]).await.expect("a topic");
        name
    };
    let producer = bus.producer().await.expect("a producer");
    let east = create("east").await;
    // Neither the topic itself nor one that only ends like it is a mirror.
    let plain = TopicSpec { name: Arc::clone(&base), partitions: 1, cleanup };
    let alike = TopicSpec { name: format!("x{base}").into(), partitions: 1, cleanup };
    bus.create_topics(&[plain, alike]).await.expect("topics");
    send_numbers(&*producer, &east, 1, 0..10).await;

    let pattern: Arc<str> = mirrors(&base).into();
    let group = unique("mirrors");
    let mut reader = Reader::join(&*bus, config(&group, &pattern)).await;
    let read = reader.read(10).await;
    assert!(read.iter().all(|record| record.from.topic == east));
    let west = create("west.of.here").await;
    send_numbers(&*producer, &west, 0, 10..20).await;
    let mut read: Vec<_> = reader.read(10).await;
    // A rebalance may bring again what was not committed.
    while !(10..20).all(|n| read.iter().any(|record| number(record) == n)) {
        read.extend(reader.read(1).await);
    }
    assert!(read.iter().all(|record| (record.from.topic == west) == (number(record) >= 10)));
    let mut lag = bus.lag(&group, &[Arc::clone(&pattern)]).await.expect("lag");
    lag.sort_by(|a, b| a.partition.cmp(&b.partition));
    let ends: Vec<_> = lag.iter().map(|lag| (&*lag.partition.topic, lag.end)).collect();
    assert_eq!(ends, [(&*east, 0), (&*east, 10), (&*west, 10), (&*west, 0)]);
    reader.close().await;
}
