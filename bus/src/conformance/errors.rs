//! What cannot be done is a typed error, soon.

use std::sync::Arc;
use std::time::Duration;

use super::{KEEP, Reader, Subject, config, number, numbered, send_numbers, topic, unique};
use crate::error::{BusError, ErrorClass};
use crate::record::{Cleanup, PartitionId, TopicSpec};

/// The error names the record's size and the limit, and what was sent along with it is not written either.
pub async fn a_record_over_the_limit_is_refused_and_nothing_is_written(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "large", 1, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    let limit = subject.max_record_bytes();
    let over = vec![numbered(&topic, 0, 0, 8), numbered(&topic, 0, 1, limit + 1)];
    match producer.send(over).await {
        Err(error @ BusError::TooLarge { .. }) => {
            assert_eq!(error.class(), ErrorClass::Permanent);
            let BusError::TooLarge { to, size, limit: named } = error else { unreachable!() };
            assert_eq!((to, size, named), (PartitionId::new(Arc::clone(&topic), 0), limit + 1, limit));
        }
        other => panic!("expected TooLarge, got {other:?}"),
    }
    producer.send(vec![numbered(&topic, 0, 2, limit)]).await.expect("the largest record");
    let mut reader = Reader::join(&*bus, config("large", &topic)).await;
    assert_eq!(reader.read(1).await.iter().map(number).collect::<Vec<_>>(), [2]);
    reader.close().await;
}

/// Topics are never made by writing to them or by reading them.
pub async fn an_unknown_topic_or_partition_is_refused(subject: &dyn Subject) {
    let bus = subject.open().await;
    let missing = unique("missing");
    let producer = bus.producer().await.expect("a producer");
    for attempt in 0..2 {
        let sent = producer.send(vec![numbered(&missing, 0, 0, 8)]).await;
        assert!(matches!(&sent, Err(BusError::UnknownTopic { topic }) if **topic == *missing), "{attempt}: {sent:?}");
        let counted = producer.partitions(&missing).await;
        assert!(matches!(counted, Err(BusError::UnknownTopic { .. })), "{attempt}: {counted:?}");
        let lag = bus.lag("missing", &[Arc::clone(&missing)]).await;
        assert!(matches!(lag, Err(BusError::UnknownTopic { .. })), "{attempt}: {lag:?}");
    }
    // "at once, otherwise at the first poll"
    let error = match bus.consumer(config("missing", &missing)).await {
        Err(error) => error,
        Ok(mut consumer) => tokio::time::timeout(super::DEADLINE, consumer.poll())
            .await
            .expect("an answer before the deadline")
            .expect_err("no topic"),
    };
    assert!(matches!(error, BusError::UnknownTopic { .. }), "{error:?}");

    let topic = topic(&*bus, "two", 2, KEEP).await;
    assert_eq!(producer.partitions(&topic).await.expect("a count"), 2);
    let sent = producer.send(vec![numbered(&topic, 1, 0, 8), numbered(&topic, 2, 0, 8)]).await;
    assert!(matches!(&sent, Err(BusError::UnknownPartition(p)) if p.partition == 2), "{sent:?}");
    let lag = bus.lag("two", &[topic]).await.expect("lag");
    assert_eq!(lag.iter().map(|l| l.end).collect::<Vec<_>>(), [0, 0], "something was written");
}

/// Nothing hangs where nobody answers.
pub async fn an_unreachable_bus_is_an_error_and_not_a_wait(subject: &dyn Subject) {
    let opened = tokio::time::timeout(Duration::from_secs(20), subject.open_unreachable());
    match opened.await.expect("an answer within 20 s") {
        None => {}
        Some(Err(error @ BusError::Unreachable { .. })) => assert_eq!(error.class(), ErrorClass::Transient(None)),
        Some(Err(error)) => panic!("expected Unreachable, got {error:?}"),
        Some(Ok(_)) => panic!("nobody is there"),
    }
}

/// A topic that exists stays as it is, with its records.
pub async fn creating_a_topic_again_changes_nothing(subject: &dyn Subject) {
    let bus = subject.open().await;
    let name = topic(&*bus, "exists", 2, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    send_numbers(&*producer, &name, 1, 0..5).await;
    let fresh = unique("exists-too");
    let again = TopicSpec { name: Arc::clone(&name), partitions: 5, cleanup: Cleanup::Compact };
    let new = TopicSpec { name: Arc::clone(&fresh), ..again.clone() };
    bus.create_topics(&[again, new]).await.expect("no error");
    assert_eq!(producer.partitions(&name).await.expect("a count"), 2);
    assert_eq!(producer.partitions(&fresh).await.expect("a count"), 5);
    let mut reader = Reader::join(&*bus, config("exists", &name)).await;
    assert_eq!(reader.read(5).await.len(), 5);
    reader.close().await;
}

/// Also to consumers and producers that it handed out before.
pub async fn a_closed_bus_says_so(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "closed", 1, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    let mut reader = Reader::join(&*bus, config("closed", &topic)).await;
    let partition = reader.assigned(1).await.remove(0);
    let offset = reader.read_offset(&partition);
    let closed = Arc::clone(&bus);
    let bus = {
        let reopened = tokio::time::timeout(super::DEADLINE, subject.reopen(bus));
        reopened.await.expect("closing does not wait for those who poll")
    };
    let answers = [
        ("send", producer.send(vec![numbered(&topic, 0, 0, 8)]).await.err()),
        ("poll", reader.raw().poll().await.err()),
        ("commit", reader.commit(&[offset]).await.err()),
        ("pause", reader.raw().pause(&partition).err()),
        ("producer", closed.producer().await.err()),
        ("consumer", closed.consumer(config("closed", &topic)).await.err()),
        ("lag", closed.lag("closed", &[Arc::clone(&topic)]).await.err()),
        ("create_topics", closed.create_topics(&[]).await.err()),
    ];
    for (call, error) in answers {
        assert!(matches!(error, Some(BusError::Closed)), "{call}: {error:?}");
    }
    send_numbers(&*bus.producer().await.expect("a producer"), &topic, 0, 0..1).await;
}
