//! Outputs and offsets become visible together, or not at all.

use std::sync::Arc;

use super::{KEEP, Reader, Subject, config, number, numbered, send_numbers, topic, unique};
use crate::contract::{Bus, ConsumerConfig, Event, PartitionLag};
use crate::error::BusError;
use crate::record::PartitionId;

fn transactional(group: &str, id: &Arc<str>, topic: &Arc<str>) -> ConsumerConfig {
    ConsumerConfig { transactional_id: Some(Arc::clone(id)), ..config(group, topic) }
}

/// What a consumer of the topic sees, up to a marker that is written now.
async fn visible(bus: &dyn Bus, topic: &Arc<str>) -> Vec<u64> {
    const MARKER: u64 = u64::MAX;
    send_numbers(&*bus.producer().await.expect("a producer"), topic, 0, MARKER - 1..MARKER).await;
    let mut reader = Reader::join(bus, config(&unique("visible"), topic)).await;
    let mut numbers = Vec::new();
    while numbers.last() != Some(&(MARKER - 1)) {
        numbers.extend(reader.read(1).await.iter().map(number));
    }
    reader.close().await;
    numbers.retain(|n| *n < MARKER - 1);
    numbers
}

/// A stage reads, writes twice as much and commits, over several transactions and a restart.
pub async fn outputs_and_offsets_come_together(subject: &dyn Subject) {
    let bus = subject.open().await;
    let input = topic(&*bus, "tx-in", 1, KEEP).await;
    let output = topic(&*bus, "tx-out", 1, KEEP).await;
    let from = PartitionId::new(Arc::clone(&input), 0);
    let producer = bus.producer().await.expect("a producer");
    let id = unique("tx-together");
    let mut stage = Reader::join(&*bus, transactional("tx-together", &id, &input)).await;
    for turn in 0..3u64 {
        send_numbers(&*producer, &input, 0, turn * 10..turn * 10 + 10).await;
        let records = stage.read(10).await;
        let outputs = records.iter().flat_map(|r| [number(r) * 2, number(r) * 2 + 1]);
        let outputs = outputs.map(|n| numbered(&output, 0, n, 100)).collect();
        let offset = stage.read_offset(&from);
        stage.transact(outputs, std::slice::from_ref(&offset)).await.expect("a transaction");
        assert_eq!(stage.committed(&from).await, Some(offset.next));
    }
    stage.close().await;
    assert_eq!(visible(&*bus, &output).await, (0..60).collect::<Vec<_>>());

    let bus = subject.reopen(bus).await;
    send_numbers(&*bus.producer().await.expect("a producer"), &input, 0, 30..31).await;
    let mut stage = Reader::join(&*bus, transactional("tx-together", &id, &input)).await;
    assert_eq!(stage.read(1).await.iter().map(number).collect::<Vec<_>>(), [30]);
    let offset = stage.read_offset(&from);
    stage.transact(Vec::new(), &[offset]).await.expect("offsets alone");
    stage.transact(vec![numbered(&output, 0, 60, 8)], &[]).await.expect("outputs alone");
    stage.close().await;
    assert_eq!(visible(&*bus, &output).await, (0..=60).collect::<Vec<_>>());
}

/// Who has read everything that transactions wrote is not behind, whatever they leave besides; one more record shows.
pub async fn marks_of_transactions_are_no_lag(subject: &dyn Subject) {
    let bus = subject.open().await;
    let input = topic(&*bus, "marks-in", 1, KEEP).await;
    let output = topic(&*bus, "marks-out", 2, KEEP).await;
    let id = unique("marks");
    let mut writer = Reader::join(&*bus, transactional("marks-writer", &id, &input)).await;
    writer.assigned(1).await;
    for n in 0..3 {
        let outputs = vec![numbered(&output, 0, n, 8), numbered(&output, 1, n, 8)];
        writer.transact(outputs, &[]).await.expect("a transaction");
    }
    let group = unique("marks");
    let lag = async || {
        let lag = bus.lag(&group, &[Arc::clone(&output)]).await.expect("lag");
        lag.iter().map(PartitionLag::records).collect::<Vec<_>>()
    };
    let mut reader = Reader::join(&*bus, config(&group, &output)).await;
    let partitions = reader.assigned(2).await;
    reader.read(6).await;
    reader.commit_read(&partitions).await;
    for _ in 0..2 {
        assert_eq!(lag().await, [0, 0]);
    }
    writer.transact(vec![numbered(&output, 1, 3, 8)], &[]).await.expect("a transaction");
    let behind = lag().await;
    assert!(behind[0] == 0 && behind[1] > 0, "{behind:?}");
    reader.read(1).await;
    reader.commit_read(&partitions).await;
    assert_eq!(lag().await, [0, 0]);
    writer.close().await;
    reader.close().await;
}

/// A missing topic, a record that is too large: neither outputs nor offsets, and the same member goes on.
pub async fn a_refused_transaction_leaves_neither(subject: &dyn Subject) {
    let bus = subject.open().await;
    let input = topic(&*bus, "refused-in", 1, KEEP).await;
    let output = topic(&*bus, "refused-out", 1, KEEP).await;
    let from = PartitionId::new(Arc::clone(&input), 0);
    send_numbers(&*bus.producer().await.expect("a producer"), &input, 0, 0..10).await;
    let id = unique("tx-refused");
    let mut stage = Reader::join(&*bus, transactional("tx-refused", &id, &input)).await;
    stage.read(10).await;
    let good = stage.read_offset(&from);
    let one = || numbered(&output, 0, 1, 8);
    let missing = numbered(&unique("refused-missing"), 0, 2, 8);
    let large = numbered(&output, 0, 3, subject.max_record_bytes() + 1);

    let unknown = stage.transact(vec![one(), missing], std::slice::from_ref(&good)).await;
    assert!(matches!(unknown, Err(BusError::UnknownTopic { .. })), "{unknown:?}");
    let too_large = stage.transact(vec![one(), large], std::slice::from_ref(&good)).await;
    assert!(matches!(too_large, Err(BusError::TooLarge { .. })), "{too_large:?}");
    assert_eq!(stage.committed(&from).await, None);
    stage.transact(vec![numbered(&output, 0, 4, 8)], std::slice::from_ref(&good)).await.expect("the member goes on");
    assert_eq!(stage.committed(&from).await, Some(10));
    stage.close().await;
    assert_eq!(visible(&*bus, &output).await, [4]);
}

/// One offset of an older generation refuses all of a transaction, and everything in hand comes again: of the other
/// partitions too, which the caller forgets like this one.
pub async fn a_stale_transaction_starts_the_member_over(subject: &dyn Subject) {
    let bus = subject.open().await;
    let input = topic(&*bus, "stale-in", 2, KEEP).await;
    let output = topic(&*bus, "stale-out", 1, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    for partition in 0..2 {
        let first = u64::from(partition) * 10;
        send_numbers(&*producer, &input, partition, first..first + 10).await;
    }
    let id = unique("tx-stale");
    let mut stage = Reader::join(&*bus, transactional("tx-stale", &id, &input)).await;
    stage.read(20).await;
    let partitions = [0, 1].map(|partition| PartitionId::new(Arc::clone(&input), partition));
    let good = partitions.each_ref().map(|partition| stage.read_offset(partition));
    let mut stale = good.clone();
    stale[1].generation.0 = stale[1].generation.0.wrapping_sub(1);

    let fenced = stage.transact(vec![numbered(&output, 0, 1, 8)], &stale).await;
    assert!(matches!(fenced, Err(BusError::Fenced { .. })), "{fenced:?}");
    let Event::Revoked(mut revoked) = stage.next().await else { panic!("no revocation") };
    revoked.sort();
    assert_eq!(revoked, partitions);
    stage.assigned(2).await;
    let mut again: Vec<_> = stage.read(20).await.iter().map(number).collect();
    again.sort_unstable();
    assert_eq!(again, (0..20).collect::<Vec<_>>());
    let fresh = partitions.each_ref().map(|partition| stage.read_offset(partition));
    assert!(fresh.iter().zip(&good).all(|(new, old)| new.generation > old.generation));
    stage.transact(vec![numbered(&output, 0, 2, 8)], &fresh).await.expect("the fresh generation");
    stage.close().await;
    assert_eq!(visible(&*bus, &output).await, [2]);
}

/// Whoever drops the future does not know what became of the transaction, and finds out by what comes next: what it
/// read comes again, unless it is committed, with its outputs.
pub async fn a_dropped_transaction_happens_as_a_whole_or_not_at_all(subject: &dyn Subject) {
    let bus = subject.open().await;
    let input = topic(&*bus, "dropped-in", 1, KEEP).await;
    let output = topic(&*bus, "dropped-out", 1, KEEP).await;
    let from = PartitionId::new(Arc::clone(&input), 0);
    send_numbers(&*bus.producer().await.expect("a producer"), &input, 0, 0..10).await;
    let id = unique("tx-dropped");
    let mut stage = Reader::join(&*bus, transactional("tx-dropped", &id, &input)).await;
    for _ in 0..3 {
        stage.read(10).await;
        let offset = stage.read_offset(&from);
        tokio::select! {
            biased;
            _ = stage.transact(vec![numbered(&output, 0, offset.next, 8)], std::slice::from_ref(&offset)) => {}
            () = std::future::ready(()) => {}
        }
        assert_eq!(stage.next().await, Event::Revoked(vec![from.clone()]));
        stage.assigned(1).await;
        if stage.position(&from) == 10 {
            break;
        }
    }
    if stage.position(&from) == 0 {
        stage.read(10).await;
        let offset = stage.read_offset(&from);
        stage.transact(vec![numbered(&output, 0, 10, 8)], &[offset]).await.expect("a transaction");
    }
    assert_eq!(stage.committed(&from).await, Some(10));
    stage.close().await;
    assert_eq!(visible(&*bus, &output).await, [10]);
}

/// A second member with the same id takes over: what the first then attempts leaves nothing.
pub async fn a_newer_owner_of_the_id_fences_the_older(subject: &dyn Subject) {
    let bus = subject.open().await;
    let input = topic(&*bus, "fenced-in", 1, KEEP).await;
    let output = topic(&*bus, "fenced-out", 1, KEEP).await;
    let from = PartitionId::new(Arc::clone(&input), 0);
    send_numbers(&*bus.producer().await.expect("a producer"), &input, 0, 0..10).await;
    let id = unique("tx-fenced");
    let mut older = Reader::join(&*bus, transactional("tx-fenced", &id, &input)).await;
    older.read(10).await;
    let offset = older.read_offset(&from);
    older.transact(vec![numbered(&output, 0, 1, 8)], std::slice::from_ref(&offset)).await.expect("it was alone");

    // It joins another group, so that only the id stands between them.
    let newer = Reader::join(&*bus, transactional("tx-fenced-other", &id, &input)).await;
    send_numbers(&*bus.producer().await.expect("a producer"), &input, 0, 10..20).await;
    older.read(10).await;
    let offset = older.read_offset(&from);
    let refused = older.transact(vec![numbered(&output, 0, 2, 8)], std::slice::from_ref(&offset)).await;
    assert!(matches!(refused, Err(BusError::Fenced { .. })), "{refused:?}");
    assert_eq!(older.committed(&from).await, Some(10));

    // It delivers everything anew from the committed offset, under a new generation.
    assert_eq!(older.next().await, Event::Revoked(vec![from.clone()]));
    older.assigned(1).await;
    assert!(older.generation(&from) > offset.generation);
    assert_eq!(older.read(10).await.iter().map(number).collect::<Vec<_>>(), (10..20).collect::<Vec<_>>());
    newer.close().await;
    older.close().await;
    assert_eq!(visible(&*bus, &output).await, [1]);
}

/// Without an id a transaction is a mistake in the configuration.
pub async fn transactions_need_an_id(subject: &dyn Subject) {
    let bus = subject.open().await;
    let input = topic(&*bus, "no-id", 1, KEEP).await;
    let mut stage = Reader::join(&*bus, config("no-id", &input)).await;
    let partition = stage.assigned(1).await.remove(0);
    let offset = stage.read_offset(&partition);
    let refused = stage.transact(Vec::new(), &[offset]).await;
    assert!(matches!(refused, Err(BusError::Config(_))), "{refused:?}");
    stage.close().await;
}
