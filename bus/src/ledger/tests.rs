use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn partition(n: u32) -> PartitionId {
    PartitionId::new("t", n)
}

fn assigned(ledger: &mut Ledger, n: u32, generation: u64, position: u64) {
    ledger.assign(&Assignment { partition: partition(n), generation: Generation(generation), position });
}

#[test]
fn an_offset_that_nobody_settled_holds_the_watermark() {
    let (mut ledger, now, p, g) = (Ledger::new(), Instant::now(), partition(0), Generation(1));
    assigned(&mut ledger, 0, 1, 10);
    for offset in [10, 11, 15] {
        ledger.delivered(&p, g, offset, (0, now + Duration::from_secs(offset)));
    }
    assert_eq!(ledger.settle(&p, g, 15), Settle::Held);
    assert_eq!(ledger.settle(&p, g, 11), Settle::Held);
    assert_eq!(ledger.committable(), []);
    assert_eq!(ledger.oldest_unsettled(), Some((p.clone(), 10, now + Duration::from_secs(10))));
    assert_eq!(ledger.settle(&p, g, 10), Settle::Advanced);
    let risen = Offset { partition: p.clone(), generation: g, next: 16 };
    assert_eq!(ledger.committable(), std::slice::from_ref(&risen));
    assert_eq!(ledger.committable(), std::slice::from_ref(&risen), "until it is committed");
    ledger.committed(&[risen]);
    assert_eq!((ledger.committable(), ledger.oldest_unsettled(), ledger.unsettled()), (vec![], None, 0));
}

#[test]
fn a_settle_of_an_older_generation_is_ignored_and_counted() {
    let (mut ledger, now, p) = (Ledger::new(), Instant::now(), partition(0));
    assigned(&mut ledger, 0, 1, 0);
    ledger.delivered(&p, Generation(1), 0, (0, now));
    assigned(&mut ledger, 0, 2, 0);
    ledger.delivered(&p, Generation(1), 0, (0, now));
    assert_eq!(ledger.unsettled(), 0, "a late delivery of the old generation");
    ledger.delivered(&p, Generation(2), 0, (0, now));
    assert_eq!(ledger.settle(&p, Generation(1), 0), Settle::Stale);
    assert_eq!(ledger.settle(&partition(1), Generation(2), 0), Settle::Stale);
    assert_eq!((ledger.committable(), ledger.stale()), (vec![], 2));
    ledger.revoke(&p);
    assert_eq!(ledger.settle(&p, Generation(2), 0), Settle::Stale);
}

#[test]
fn a_commit_settles_everything_below_it() {
    let (mut ledger, now, p, g) = (Ledger::new(), Instant::now(), partition(0), Generation(1));
    assigned(&mut ledger, 0, 1, 0);
    for (offset, timestamp_ms) in [(0, 70), (1, 50), (4, 60), (5, 80)] {
        ledger.delivered(&p, g, offset, (timestamp_ms, now));
    }
    assert_eq!(ledger.settle(&p, g, 4), Settle::Held);
    let offset = |generation, next| Offset { partition: p.clone(), generation: Generation(generation), next };
    assert_eq!(ledger.settle_below(&[offset(0, 6)]), [], "of an older generation");
    assert_eq!(ledger.oldest_of(&p), Some((70, now)));
    assert_eq!(ledger.settle_below(&[offset(1, 1)]), [(p.clone(), 70)]);
    assert_eq!(ledger.oldest_of(&p), Some((50, now)));
    // With what was settled behind it.
    assert_eq!(ledger.settle_below(&[offset(1, 2)]), [(p.clone(), 60)]);
    assert_eq!((ledger.oldest_of(&p), ledger.unsettled(), ledger.stale()), (Some((80, now)), 1, 1));
    assert_eq!(ledger.committable(), [offset(1, 5)]);
}

#[test]
fn what_was_not_delivered_or_is_settled_is_unknown() {
    let (mut ledger, now, p, g) = (Ledger::new(), Instant::now(), partition(0), Generation(1));
    assigned(&mut ledger, 0, 1, 5);
    ledger.delivered(&p, g, 5, (0, now));
    ledger.delivered(&p, g, 6, (0, now));
    assert_eq!(ledger.settle(&p, g, 4), Settle::Unknown);
    assert_eq!(ledger.settle(&p, g, 7), Settle::Unknown);
    assert_eq!((ledger.settle(&p, g, 6), ledger.settle(&p, g, 6)), (Settle::Held, Settle::Unknown));
    assert_eq!((ledger.settle(&p, g, 5), ledger.settle(&p, g, 5)), (Settle::Advanced, Settle::Unknown));
}

/// The naive model: per partition its generation, all deliveries, all settles, and the committed offset.
#[derive(Default)]
struct Model {
    partitions: HashMap<u32, ModelPartition>,
    stale: u64,
}

#[derive(Default)]
struct ModelPartition {
    generation: u64,
    position: u64,
    committed: u64,
    delivered: BTreeSet<u64>,
    settled: BTreeSet<u64>,
}

impl ModelPartition {
    fn watermark(&self) -> u64 {
        let done = self.delivered.iter().take_while(|offset| self.settled.contains(offset));
        done.last().map_or(self.position, |last| last + 1)
    }
}

#[derive(Clone, Debug)]
enum Action {
    Assign(u32, u64, u64),
    Revoke(u32),
    Deliver(u32, u64, u64),
    Settle(u32, u64, u64),
    Commit(bool),
}

fn action() -> impl Strategy<Value = Action> {
    let (p, g, o) = (0..3u32, 1..4u64, 0..12u64);
    prop_oneof![
        1 => (p.clone(), g.clone(), 0..4u64).prop_map(|(p, g, o)| Action::Assign(p, g, o)),
        1 => p.clone().prop_map(Action::Revoke),
        8 => (p.clone(), g.clone(), o.clone()).prop_map(|(p, g, o)| Action::Deliver(p, g, o)),
        12 => (p, g, o).prop_map(|(p, g, o)| Action::Settle(p, g, o)),
        2 => any::<bool>().prop_map(Action::Commit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn agrees_with_the_naive_model(actions in prop::collection::vec(action(), 1..80)) {
        let (mut ledger, mut model) = (Ledger::new(), Model::default());
        let start = Instant::now();
        for (step, action) in actions.into_iter().enumerate() {
            let now = start + Duration::from_secs(step as u64);
            match action {
                Action::Assign(p, g, position) => {
                    assigned(&mut ledger, p, g, position);
                    let fresh = ModelPartition { generation: g, position, committed: position, ..Default::default() };
                    model.partitions.insert(p, fresh);
                }
                Action::Revoke(p) => {
                    ledger.revoke(&partition(p));
                    model.partitions.remove(&p);
                }
                Action::Deliver(p, g, offset) => {
                    ledger.delivered(&partition(p), Generation(g), offset, (0, now));
                    if let Some(known) = model.partitions.get_mut(&p).filter(|known| known.generation == g)
                        && offset >= known.delivered.last().map_or(known.position, |last| last + 1)
                    {
                        known.delivered.insert(offset);
                    }
                }
                Action::Settle(p, g, offset) => {
                    let expected = match model.partitions.get_mut(&p).filter(|known| known.generation == g) {
                        None => {
                            model.stale += 1;
                            Settle::Stale
                        }
                        Some(known) if !known.delivered.contains(&offset) => Settle::Unknown,
                        Some(known) => {
                            let before = known.watermark();
                            match known.settled.insert(offset) {
                                false => Settle::Unknown,
                                true if known.watermark() > before => Settle::Advanced,
                                true => Settle::Held,
                            }
                        }
                    };
                    prop_assert_eq!(ledger.settle(&partition(p), Generation(g), offset), expected);
                }
                Action::Commit(all) => {
                    let offsets = ledger.committable();
                    let done = if all { &offsets[..] } else { &offsets[..offsets.len() / 2] };
                    ledger.committed(done);
                    for offset in done {
                        let known = model.partitions.get_mut(&offset.partition.partition).unwrap();
                        known.committed = offset.next;
                    }
                }
            }
            let mut risen: Vec<_> = model.partitions.iter()
                .filter(|(_, known)| known.watermark() > known.committed)
                .map(|(p, known)| (partition(*p), Generation(known.generation), known.watermark()))
                .collect();
            risen.sort();
            let found: Vec<_> = ledger.committable().into_iter().map(|o| (o.partition, o.generation, o.next)).collect();
            prop_assert_eq!(found, risen);
            prop_assert_eq!(ledger.stale(), model.stale);
            let open = |known: &ModelPartition| known.delivered.difference(&known.settled).copied().collect::<Vec<_>>();
            prop_assert_eq!(ledger.unsettled(), model.partitions.values().map(|known| open(known).len()).sum::<usize>());
            if let Some((p, offset, _)) = ledger.oldest_unsettled() {
                prop_assert_eq!(open(&model.partitions[&p.partition]).first().copied(), Some(offset));
            } else {
                prop_assert!(model.partitions.values().all(|known| open(known).is_empty()));
            }
        }
    }
}
