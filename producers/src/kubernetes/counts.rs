//! How often each event had happened when it was published last.

use std::collections::HashMap;

/// Events that are remembered, about: the oldest half goes when there are more.
const MOST: usize = 131_072;

/// See the module.
#[derive(Debug)]
pub(super) struct Counts {
    young: HashMap<u64, i64>,
    old: HashMap<u64, i64>,
    /// Whether every event is here that was published and is still alive.
    complete: bool,
    most: usize,
}

impl Counts {
    /// Nothing has been published yet, if `complete`; else nothing is known.
    pub(super) fn new(complete: bool) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), complete, most: MOST }
    }

    /// The event is published with that count: by how much it has grown since it was published last. `None` where it may
    /// have been published, and nothing is known of it any more.
    pub(super) fn publish(&mut self, uid: u64, count: i64) -> Option<i64> {
        let before = self.get(uid);
        self.insert(uid, before.unwrap_or(0).max(count));
        match before {
            Some(before) => Some((count - before).max(0)),
            None if self.complete || count == 1 => Some(count),
            None => None,
        }
    }

    /// The event was published with that count.
    pub(super) fn restore(&mut self, uid: u64, count: i64) {
        let before = self.get(uid).unwrap_or(0);
        self.insert(uid, before.max(count));
    }

    /// There is no such event any more.
    pub(super) fn remove(&mut self, uid: u64) {
        self.young.remove(&uid);
        self.old.remove(&uid);
    }

    /// Everything that was published has been restored.
    pub(super) fn completed(&mut self) {
        self.complete = true;
    }

    fn get(&self, uid: u64) -> Option<i64> {
        self.young.get(&uid).or_else(|| self.old.get(&uid)).copied()
    }

    fn insert(&mut self, uid: u64, count: i64) {
        if self.young.len() >= self.most / 2 {
            self.old = std::mem::take(&mut self.young);
            // What was in `old` before is forgotten.
            self.complete = false;
        }
        self.young.insert(uid, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increments_add_up_to_the_greatest_count() {
        let mut counts = Counts::new(true);
        let found: Vec<_> = [3, 5, 5, 4, 9].into_iter().map(|count| counts.publish(1, count)).collect();
        assert_eq!(found, [Some(3), Some(2), Some(0), Some(0), Some(4)]);
        assert_eq!(counts.publish(2, 7), Some(7), "another one");
    }

    #[test]
    fn nothing_is_made_up_for_what_may_have_been_published_before() {
        let mut counts = Counts::new(false);
        counts.restore(1, 4);
        counts.restore(1, 2);
        assert_eq!(counts.publish(1, 6), Some(2));
        assert_eq!(counts.publish(2, 6), None);
        assert_eq!(counts.publish(2, 8), Some(2));
        assert_eq!(counts.publish(3, 1), Some(1), "it has happened once in all");
        counts.completed();
        assert_eq!(counts.publish(4, 6), Some(6));
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_is_known_to_be() {
        let mut counts = Counts { most: 8, ..Counts::new(true) };
        for uid in 0..100 {
            counts.publish(uid, 2);
            assert!(counts.young.len() + counts.old.len() <= 8);
        }
        assert_eq!(counts.publish(99, 5), Some(3), "the last is known");
        assert_eq!(counts.publish(0, 5), None, "the first is not");
    }
}
