//! The decisions of the range-intent protocol, as pure functions.
//!
//! A partition is written range by range, each in four steps: (1) stream the rows into uploads, none completed;
//! (2) put the intent, only if absent; (3) complete the uploads; (4) commit `last + 1` on the bus. Whoever finds
//! an intent where a range of its own would begin writes exactly the range that the intent names. So every range
//! is written by all its writers alike, whoever of them dies where, and committed offsets need not be fenced.

use super::error::Stop;
use super::intent::{Fingerprint, Intent};
use super::layout::LAYOUT_VERSION;

/// What became of the attempt to put an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The range is as planned: complete its uploads.
    Write,
    /// Another writer cut the range differently: abort the uploads and write its range.
    Replay(Intent),
}

/// Decides step 2 where an intent was found in the place of `ours`.
///
/// An intent that names the same range under the same names is as good as our own: it *is* our own where the
/// store took it but the answer got lost.
pub(crate) fn claim(ours: &Intent, found: Intent) -> Result<Claim, Stop> {
    admissible(&found, ours.first)?;
    if found.fingerprint != ours.fingerprint {
        return Err(recreated(&found, ours.fingerprint));
    }
    let same_names = found.layout == ours.layout && found.default_cluster == ours.default_cluster;
    Ok(if found.last == ours.last && same_names { Claim::Write } else { Claim::Replay(found) })
}

/// Refuses an intent that this code cannot replay.
pub(crate) fn admissible(intent: &Intent, first: u64) -> Result<(), Stop> {
    if intent.layout < LAYOUT_VERSION {
        // Written again under today's names, its rows would be there twice.
        return Err(Stop::OlderLayout { first, last: intent.last, found: intent.layout });
    }
    if intent.layout > LAYOUT_VERSION {
        return Err(Stop::NewerLayout { first, found: intent.layout, known: LAYOUT_VERSION });
    }
    if intent.first != first || intent.last < first || intent.fingerprint.offset < first {
        return Err(Stop::BadIntent { first, reason: "its offsets contradict each other".into() });
    }
    Ok(())
}

/// Checks the first record of a replay against the intent.
pub(crate) fn recognise(intent: &Intent, record: Fingerprint) -> Result<(), Stop> {
    if record == intent.fingerprint {
        Ok(())
    } else if record.offset > intent.fingerprint.offset {
        // Retention took the beginning. Writing the rest under the same names would destroy complete files.
        Err(Stop::Expired { first: intent.first, last: intent.last, oldest: record.offset })
    } else {
        Err(recreated(intent, record))
    }
}

fn recreated(intent: &Intent, record: Fingerprint) -> Stop {
    Stop::Recreated { first: intent.first, offset: record.offset }
}

/// Where a writer goes on whose reading of its position was too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Where the range begins, as thought.
    Unchanged,
    /// Somebody else has moved it: give the range up and begin anew.
    Moved,
}

/// Compares a position read anew with where the range in hand begins.
///
/// A group that has not committed yet reads from where it starts, so only a commit counts as a move.
pub(crate) fn position(first: u64, committed: Option<u64>) -> Position {
    match committed {
        Some(committed) if committed != first => Position::Moved,
        _ => Position::Unchanged,
    }
}

/// Where a group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// There: no range is in question.
    At(u64),
    /// Perhaps behind the range that begins at `first`; see [`resume_after`].
    Within {
        /// Its beginning.
        first: u64,
        /// Whether another range begins behind it.
        followed: bool,
    },
}

/// Decides where a group begins, given the beginnings of all ranges in order and the oldest
/// offset that the bus still has.
///
/// A range with a successor is complete: its writer had committed before the next one could begin.
///
/// Offsets that somebody set back lead to the same question: a range that began in the midst of another one would
/// double its rows.
pub(crate) fn resume(firsts: &[u64], oldest: u64) -> Resume {
    let next = firsts.partition_point(|&first| first <= oldest);
    match next.checked_sub(1).map(|i| firsts[i]) {
        Some(first) if first < oldest => Resume::Within { first, followed: next < firsts.len() },
        _ => Resume::At(oldest),
    }
}

/// Decides the same where the range before is in question: behind it, where it is complete and reaches so far. A
/// range that reaches further and is not followed may be incomplete, whether or not its offsets were `committed`.
pub(crate) fn resume_after(range: Option<&Intent>, followed: bool, oldest: u64, committed: bool) -> Result<u64, Stop> {
    match range {
        Some(range) if range.last >= oldest && followed => Ok(range.last + 1),
        Some(&Intent { first, last, .. }) if last >= oldest => {
            let stop = if committed {
                Stop::Inside { first, last, position: oldest }
            } else {
                Stop::Expired { first, last, oldest }
            };
            Err(stop)
        }
        _ => Ok(oldest),
    }
}

/// What a writer does with a record below the floor.
///
/// Such records are stored already: the group's offsets were lost or set back. Unless they are younger than the
/// floor, which was raised when they should have been a week old: then the topic was recreated.
pub(crate) fn below_floor(offset: u64, timestamp_ms: i64, raised_ms: i64) -> Result<(), Stop> {
    if timestamp_ms > raised_ms { Err(Stop::BelowFloor { offset }) } else { Ok(()) }
}

/// The intents that may go, given all of them in order, the position, and which are old enough.
///
/// Returns the floor to raise first and how many of the intents to remove then. An intent goes only if its
/// successor begins at or below the position, which shows that its own range is complete and committed, and if the
/// successor is old enough, which shows that it was so for long: its own age tells only when the range was begun.
pub(crate) fn removable(firsts: &[u64], position: u64, old: impl Fn(usize) -> bool) -> Option<(u64, usize)> {
    let mut floor = None;
    for (i, pair) in firsts.windows(2).enumerate() {
        if !old(i + 1) || pair[1] > position {
            break;
        }
        floor = Some((pair[1], i + 1));
    }
    floor
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINT: Fingerprint = Fingerprint { offset: 12, timestamp_ms: 1000, crc32c: 7 };

    fn intent(last: u64) -> Intent {
        Intent { layout: LAYOUT_VERSION, writer: 1, first: 10, last, default_cluster: "eu".into(), fingerprint: PRINT }
    }

    #[test]
    fn an_intent_for_the_same_range_is_as_good_as_our_own() {
        let newer_writer = Intent { writer: 9, ..intent(20) };
        assert_eq!(claim(&intent(20), intent(20)).unwrap(), Claim::Write);
        assert_eq!(claim(&intent(20), newer_writer).unwrap(), Claim::Write);
    }

    #[test]
    fn another_cut_or_other_names_are_replayed() {
        let renamed = Intent { default_cluster: "us".into(), ..intent(20) };
        for theirs in [intent(19), intent(21), renamed] {
            assert_eq!(claim(&intent(20), theirs.clone()).unwrap(), Claim::Replay(theirs));
        }
    }

    #[test]
    fn another_first_record_means_a_recreated_topic() {
        for other in [
            Fingerprint { timestamp_ms: 1001, ..PRINT },
            Fingerprint { crc32c: 8, ..PRINT },
            Fingerprint { offset: 11, ..PRINT },
        ] {
            let theirs = Intent { fingerprint: other, ..intent(20) };
            assert!(matches!(claim(&intent(20), theirs.clone()), Err(Stop::Recreated { first: 10, .. })), "{other:?}");
            assert!(matches!(recognise(&intent(20), other), Err(Stop::Recreated { first: 10, .. })), "{other:?}");
        }
        assert!(recognise(&intent(20), PRINT).is_ok());
    }

    #[test]
    fn a_replay_whose_beginning_has_expired_is_refused() {
        let oldest = Fingerprint { offset: 13, ..PRINT };
        let stop = recognise(&intent(20), oldest).unwrap_err();
        assert!(matches!(stop, Stop::Expired { first: 10, last: 20, oldest: 13 }));
    }

    #[test]
    fn an_intent_of_another_layout_or_without_sense_is_refused() {
        let newer = Intent { layout: LAYOUT_VERSION + 1, ..intent(20) };
        assert!(matches!(admissible(&newer, 10), Err(Stop::NewerLayout { .. })));
        let older = Intent { layout: LAYOUT_VERSION - 1, ..intent(20) };
        assert!(matches!(admissible(&older, 10), Err(Stop::OlderLayout { first: 10, last: 20, .. })));
        assert!(matches!(admissible(&intent(20), 11), Err(Stop::BadIntent { .. })));
        assert!(matches!(admissible(&intent(9), 10), Err(Stop::BadIntent { .. })));
    }

    #[test]
    fn only_a_commit_moves_the_position() {
        assert_eq!(position(10, None), Position::Unchanged);
        assert_eq!(position(10, Some(10)), Position::Unchanged);
        assert_eq!(position(10, Some(11)), Position::Moved);
        assert_eq!(position(10, Some(9)), Position::Moved);
    }

    #[test]
    fn a_group_without_offsets_begins_where_a_range_does() {
        let firsts = [10, 20, 30];
        assert_eq!(resume(&[], 5), Resume::At(5));
        assert_eq!(resume(&firsts, 5), Resume::At(5), "all ranges are written again");
        assert_eq!(resume(&firsts, 20), Resume::At(20));
        assert_eq!(resume(&firsts, 15), Resume::Within { first: 10, followed: true });
        assert_eq!(resume(&firsts, 31), Resume::Within { first: 30, followed: false });
    }

    #[test]
    fn a_last_range_whose_beginning_has_expired_stops_the_group() {
        assert_eq!(resume_after(None, false, 15, false).unwrap(), 15);
        assert_eq!(resume_after(Some(&intent(14)), false, 15, false).unwrap(), 15);
        let stop = resume_after(Some(&intent(15)), false, 15, false).unwrap_err();
        assert!(matches!(stop, Stop::Expired { first: 10, last: 15, oldest: 15 }));
        let stop = resume_after(Some(&intent(15)), false, 15, true).unwrap_err();
        assert!(matches!(stop, Stop::Inside { first: 10, last: 15, position: 15 }));
    }

    #[test]
    fn a_range_that_is_followed_is_complete_and_what_lies_between_it_and_the_next_is_not() {
        assert_eq!(resume_after(Some(&intent(15)), true, 12, true).unwrap(), 16);
        assert_eq!(resume_after(Some(&intent(15)), true, 18, true).unwrap(), 18);
    }

    #[test]
    fn records_below_the_floor_are_skipped_unless_they_are_younger() {
        assert!(below_floor(3, 999, 1000).is_ok());
        assert!(matches!(below_floor(3, 1001, 1000), Err(Stop::BelowFloor { offset: 3 })));
    }

    #[test]
    fn intents_go_only_when_old_and_followed_by_one_at_or_below_the_position() {
        let firsts = [0, 10, 20, 30];
        assert_eq!(removable(&firsts, 30, |_| true), Some((30, 3)));
        assert_eq!(removable(&firsts, 29, |_| true), Some((20, 2)));
        assert_eq!(removable(&firsts, 30, |i| i < 2), Some((10, 1)));
        assert_eq!(removable(&firsts, 30, |i| i < 1), None, "committed only just now");
        assert_eq!(removable(&firsts, 9, |_| true), None);
        assert_eq!(removable(&[5], 100, |_| true), None);
    }
}
