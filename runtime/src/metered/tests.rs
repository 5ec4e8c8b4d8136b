use std::time::Duration;

use afflux_bus::{
    Bus, Cleanup, ConsumerConfig, Generation, Headers, LocalBus, LocalConfig, PartitionId, Record, TopicSpec,
};

use super::*;

const COMPONENT: &str = "sinks.x";

/// The values of a metric by their last label.
fn values(metrics: &Metrics, name: &str) -> Vec<(String, f64)> {
    let samples = metrics.samples().into_iter().filter(|sample| sample.name == name);
    samples.map(|sample| (sample.labels.last().unwrap().1.clone(), sample.value)).collect()
}

fn value(metrics: &Metrics, name: &str, label: &str) -> Option<f64> {
    values(metrics, name).into_iter().find(|(of, _)| of == label).map(|(_, value)| value)
}

fn record(partition: u32, seconds_ago: i64) -> Record {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Record {
        to: PartitionId::new("t", partition),
        key: None,
        value: Some("v".into()),
        timestamp_ms: i64::try_from(now.as_millis()).unwrap() - seconds_ago * 1000,
        headers: Headers::new(),
    }
}

#[tokio::test]
async fn what_waits_and_what_was_decided_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let bus = LocalBus::open(LocalConfig::new(dir.path())).unwrap();
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    bus.create_topics(&[TopicSpec { name: "t".into(), partitions: 2, cleanup }]).await.unwrap();
    let records = vec![record(0, 60), record(0, 50), record(0, 40)];
    bus.producer().await.unwrap().send(records).await.unwrap();
    let metrics = Arc::new(Metrics::new());
    let mut config = ConsumerConfig::new("g", ["t".into()]);
    config.transactional_id = Some("id".into());
    let mut consumer = metered(bus.consumer(config).await.unwrap(), COMPONENT, &metrics);

    let Event::Assigned(assigned) = consumer.poll().await.unwrap() else { panic!("no assignment") };
    assert_eq!(values(&metrics, "rebalanced_partitions"), [("assigned".to_owned(), 2.0)]);
    let Event::Records(_) = consumer.poll().await.unwrap() else { panic!("no records") };
    tokio::time::sleep(Duration::from_millis(20)).await;
    let seconds = value(&metrics, "lag_seconds", "0").unwrap();
    assert!((60.0..100.0).contains(&seconds), "{seconds}");
    assert!(value(&metrics, "watermark_age_seconds", "0").unwrap() >= 0.02);
    assert_eq!(value(&metrics, "lag_seconds", "1"), Some(0.0));

    let own = assigned.iter().find(|a| a.partition.partition == 0).unwrap();
    let offset = |generation, next| Offset { partition: own.partition.clone(), generation, next };
    consumer.transact(Vec::new(), &[offset(own.generation, 1)]).await.unwrap();
    let seconds = value(&metrics, "lag_seconds", "0").unwrap();
    assert!((50.0..60.0).contains(&seconds), "{seconds}");
    assert!(consumer.commit(&[offset(Generation(0), 2)]).await.is_err());
    consumer.commit(&[offset(own.generation, 3)]).await.unwrap();
    assert_eq!(values(&metrics, "transactions"), [("committed".to_owned(), 1.0)]);
    let mut commits = values(&metrics, "commits");
    commits.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(commits, [("committed".to_owned(), 1.0), ("fenced".to_owned(), 1.0)]);
    assert_eq!(
        (value(&metrics, "lag_seconds", "0"), value(&metrics, "watermark_age_seconds", "0")),
        (Some(0.0), Some(0.0))
    );

    // Something is there that has not been read: it is no older than what was settled last.
    metrics.lag_records.get_or_create(&PartitionLabels::new(COMPONENT, &own.partition)).set(1);
    let seconds = value(&metrics, "lag_seconds", "0").unwrap();
    assert!((40.0..50.0).contains(&seconds), "{seconds}");

    consumer.close().await;
    assert_eq!((values(&metrics, "lag_seconds"), values(&metrics, "watermark_age_seconds")), (vec![], vec![]));
}
