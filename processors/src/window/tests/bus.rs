//! The mechanism on a real bus: reads, transacts, ends anywhere, and starts again.

use std::sync::Arc;

use afflux_bus::{
    Bus, Cleanup, Consumer, ConsumerConfig, Event, LocalBus, LocalConfig, Offset, Record, StartAt, TopicSpec,
};
use tokio::time::timeout;

use super::*;

const SILENCE: Duration = Duration::from_millis(200);

async fn topics(bus: &Arc<LocalBus>) {
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    let topic = |name: &str| TopicSpec { name: name.into(), partitions: 1, cleanup };
    bus.create_topics(&[topic("t"), topic("out")]).await.unwrap();
}

fn to(topic: &str, value: Vec<u8>, timestamp_ms: i64) -> Record {
    let to = PartitionId::new(topic, 0);
    Record { to, key: None, value: Some(value.into()), timestamp_ms, headers: Headers::new() }
}

/// Reads up to so many new records, in transactions of three, and then ends without a word: records in hand are lost
/// with it, unless it came to the end.
async fn run(bus: &Arc<LocalBus>, records: usize) {
    let mut replay = join(false)();
    let mut config = ConsumerConfig::new("windows", ["t".into()]);
    config.rewind = Some(replay.rewind());
    config.transactional_id = Some("windows".into());
    config.start_at = StartAt::Earliest;
    // Little at a time, so that a run may end anywhere.
    config.fetch_bytes = 1;
    let mut consumer = bus.consumer(config).await.unwrap();
    let (mut outputs, mut next, mut position, mut read) = (Vec::new(), None, 0, 0);
    while read < records {
        let Ok(event) = timeout(SILENCE, consumer.poll()).await else {
            return commit(&mut consumer, &mut outputs, &mut next).await;
        };
        match event.unwrap() {
            Event::Assigned(assignments) => {
                position = assignments[0].position;
                replay.assigned(&assignments[0].partition);
            }
            Event::Revoked(partitions) => replay.revoked(&partitions[0]),
            Event::Records(records) => {
                for record in records {
                    replay.item(&at(&record, position), &record, &mut |output| {
                        outputs.push(to("out", output.into_bytes(), 0))
                    });
                    if record.offset >= position {
                        read += 1;
                        let (partition, generation) = (record.from.clone(), record.generation);
                        next = Some(Offset { partition, generation, next: record.offset + 1 });
                        if read % 3 == 0 {
                            commit(&mut consumer, &mut outputs, &mut next).await;
                        }
                    }
                }
            }
            Event::Expired { .. } => panic!("nothing is lost"),
        }
    }
}

async fn commit(consumer: &mut Box<dyn Consumer>, outputs: &mut Vec<Record>, next: &mut Option<Offset>) {
    if let Some(next) = next.take() {
        consumer.transact(std::mem::take(outputs), &[next]).await.unwrap();
    }
}

#[tokio::test]
async fn runs_that_end_anywhere_write_what_one_run_would() {
    let steps: Vec<Step> = (0..60_u8)
        .map(|n| (n.wrapping_mul(37), n.wrapping_mul(11) % 60, n.wrapping_mul(7), n.wrapping_mul(5) % 3 == 0, false))
        .collect();
    // A log of the bus has no holes and starts at 0.
    let mut log = log(&steps);
    log.iter_mut().zip(0..).for_each(|(record, offset)| record.offset = offset);
    let expected = through(&log, &[], 2 * WAIT, join(false));
    assert!(expected.len() > 20, "{expected:?}");

    let dir = tempfile::tempdir().unwrap();
    let bus = LocalBus::open(LocalConfig::new(dir.path())).unwrap();
    topics(&bus).await;
    let records = log.iter().map(|record| to("t", record.value.clone().unwrap().to_vec(), record.timestamp_ms));
    bus.producer().await.unwrap().send(records.collect()).await.unwrap();
    for records in [1, 7, 2, 11, 4, 5, 13, usize::MAX] {
        run(&bus, records).await;
    }

    let mut reader = bus.consumer(ConsumerConfig::new("reader", ["out".into()])).await.unwrap();
    let mut written = Vec::new();
    while let Ok(event) = timeout(SILENCE, reader.poll()).await {
        if let Event::Records(records) = event.unwrap() {
            written.extend(records.iter().map(|r| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap()));
        }
    }
    assert_eq!(written, expected);
}
