use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn topics(names: &[(&str, u32)]) -> Vec<(Arc<str>, u32)> {
    names.iter().map(|(name, partitions)| (Arc::from(*name), *partitions)).collect()
}

/// Everyone gives up what is asked for, until nothing is.
fn settle(group: &mut Group) {
    let ids: Vec<_> = group.members.keys().copied().collect();
    while group.deadline().is_some() {
        for id in &ids {
            let leaving: Vec<_> = group.held(*id).into_iter().filter(|(_, h)| h.leaving).map(|(p, _)| p).collect();
            group.give_up(*id, &leaving);
        }
    }
}

#[test]
fn a_new_member_takes_no_more_than_its_share_and_the_others_keep_theirs() {
    let (mut group, now) = (Group::default(), Instant::now());
    group.join(1, &topics(&[("t", 4)]), TIMEOUT, now);
    group.join(2, &topics(&[("t", 4)]), TIMEOUT, now);
    assert_eq!(group.held(2).len(), 0, "not before the owner has given up");
    settle(&mut group);
    let before = (group.held(1), group.held(2));
    assert_eq!((before.0.len(), before.1.len()), (2, 2));
    group.join(3, &topics(&[("t", 4)]), TIMEOUT, now);
    settle(&mut group);
    let after = (group.held(1), group.held(2));
    assert_eq!(group.held(3).len(), 1);
    let kept = after.0.iter().filter(|(p, h)| before.0.get(p) == Some(h)).count()
        + after.1.iter().filter(|(p, h)| before.1.get(p) == Some(h)).count();
    assert_eq!(kept, 3, "untouched, generation included");
}

#[test]
fn a_member_that_stays_silent_is_relieved_at_its_deadline_and_fenced() {
    let (mut group, now) = (Group::default(), Instant::now());
    group.join(1, &topics(&[("t", 2)]), TIMEOUT, now);
    let old = group.held(1);
    group.join(2, &topics(&[("t", 2)]), TIMEOUT, now);
    assert_eq!(group.deadline(), Some(now + TIMEOUT));
    assert!(!group.expire(now + TIMEOUT - Duration::from_millis(1)));
    assert!(group.expire(now + TIMEOUT));
    let (partition, held) = group.held(2).pop_first().unwrap();
    assert!(held.generation > old[&partition].generation);
    assert!(!group.owns(1, &partition, old[&partition].generation));
    assert!(group.owns(2, &partition, held.generation));
}

#[test]
fn whoever_comes_and_goes_every_partition_has_one_owner_and_shares_are_even() {
    for seed in 0..500 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut group, mut now) = (Group::default(), Instant::now());
        let all = topics(&[("a", 5), ("b", 3)]);
        let mut generations: BTreeMap<PartitionId, Generation> = BTreeMap::new();
        for id in 0..12 {
            match rng.random_range(0..3) {
                0 if !group.members.is_empty() => {
                    let at = rng.random_range(0..group.members.len());
                    let gone = *group.members.keys().nth(at).unwrap();
                    group.leave(gone, now);
                }
                1 => {
                    now += Duration::from_secs(6);
                    group.expire(now);
                }
                _ => group.join(id, &all, TIMEOUT, now),
            }
            if rng.random_bool(0.5) {
                settle(&mut group);
                let held: Vec<_> = group.members.keys().map(|id| group.held(*id).len()).collect();
                let sum: usize = held.iter().sum();
                assert_eq!(sum, if held.is_empty() { 0 } else { 8 }, "seed {seed}: {held:?}");
                let even = held.iter().max().zip(held.iter().min()).is_none_or(|(max, min)| max - min <= 1);
                assert!(even, "seed {seed}: {held:?}");
            }
            for (partition, slot) in &group.slots {
                if let Some(owner) = &slot.owner {
                    let last = generations.insert(partition.clone(), owner.generation);
                    assert!(last <= Some(owner.generation), "seed {seed}: generations fall");
                }
            }
        }
    }
}
