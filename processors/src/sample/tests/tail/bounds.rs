//! What is kept in memory, and for how long.

use super::*;
use crate::sample::window::Window;

/// Bytes of a request of one span with a name of one letter.
fn one() -> usize {
    request(&[span(1, "a")]).len()
}

fn bounded(bytes: usize, policies: &str) -> Run {
    Run::new(&config(&format!("tail: {{decision_wait: 1s, max_bytes: {bytes}, policies: [{policies}]}}")))
}

#[test]
fn what_has_no_room_is_decided_early_the_oldest_first() {
    let record = |offset, given: Given| envelope(offset, 10, request(&[given]));
    let mut run = bounded(2 * one(), "{service: {names: [shop]}}");
    run.pass(record(0, span(1, "a")));
    run.pass(record(1, span(2, "b")));
    assert!(run.names().is_empty(), "there is room for two");
    run.pass(record(2, span(3, "c")));
    assert_eq!(run.names(), ["a"]);
    run.pass(record(3, of("cart", span(4, "d"))));
    assert_eq!(run.names(), ["b"]);
    run.pass(envelope(4, 10, request(&["e", "f", "g"].map(|name| span(5, name)))));
    assert_eq!(run.names(), ["c", "e f g"], "one that is larger than all waits for nothing");
    let tally = run.tally();
    assert_eq!(tally.outcomes, counts(&[("decided_early", 7), ("kept_by_service", 6)]));
    assert_eq!(tally.dropped, counts(&[("sampled_out", 1)]));
}

#[test]
fn early_is_with_what_is_known_then() {
    let trace = |offset, name, error: bool| {
        let given = span(1, name);
        envelope(offset, 10 + offset as i64, request(&[if error { failed(given) } else { given }]))
    };
    let errors = |errors: [bool; 6]| {
        // An error adds four bytes.
        let mut run = bounded(2 * (one() + 4), "{error: {}}");
        (0..).zip(errors).for_each(|(at, error)| run.pass(trace(at, &"abcdef"[at as usize..=at as usize], error)));
        run.all(&[]).names()
    };
    let (yes, no) = (true, false);
    assert_eq!(errors([no, no, yes, no, no, no]), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(errors([no, no, no, yes, no, no]), ["b", "c", "d", "e", "f"], "came when the first had gone");
    // What is known goes when twice as many bytes have come since.
    assert_eq!(errors([yes, no, no, no, no, no]), ["a", "b", "c"]);
}

#[test]
fn nothing_is_remembered_beyond_twice_the_wait() {
    let config = config(
        "tail: {decision_wait: 1s, policies: [{error: {}}, {rate: {traces_per_second: 3}}], keep_rare: {by: span}}",
    );
    let policies = Arc::new(Policies::new(config.tail.as_ref().unwrap()).unwrap());
    let mut window = Window::new(policies);
    let from = PartitionId::new("t", 0);
    let at = |offset: u64, now| At {
        from: &from,
        offset,
        timestamp_ms: now,
        stream_time_ms: now,
        repeat: false,
        counted: false,
    };
    let (mut waiting, mut most) = (std::collections::VecDeque::new(), (0, 0));
    let mut come = |offset: u64, now: i64, spans: &[Given]| {
        while waiting.front().is_some_and(|(_, came, _)| came + 1000 <= now)
            && let Some((offset, came, envelope)) = waiting.pop_front()
        {
            window.decide(envelope, &at(offset, came), false);
        }
        let envelope = envelope(offset, now, request(spans));
        window.foresee(&envelope, &at(offset, now));
        waiting.push_back((offset, now, envelope));
        let sizes = window.sizes();
        most = (most.0.max(sizes.0), most.1.max(sizes.1));
        sizes
    };
    for offset in 0..100 {
        let spans: Vec<_> = (0..3).map(|n| span(offset / 3 + n, &n.to_string())).collect();
        come(offset, offset as i64 * 37, &spans);
    }
    let last = 99 * 37;
    let (known, foreseen) = come(100, last + 1999, &[]);
    assert_eq!((known, foreseen), (2, 2), "what came last may still count");
    assert_eq!(come(101, last + 2000, &[]).0, 2, "but for those without spans");
    assert_eq!(most, (55, 29), "of 37 ms each");
}

#[test]
fn partitions_do_not_know_of_each_other() {
    let mut run = run("{error: {}}");
    run.pass(envelope(0, 10, request(&[span(1, "a")])));
    let other = std::mem::replace(&mut run.from, PartitionId::new("t", 1));
    run.step.chain.assigned(&run.from);
    run.pass(envelope(0, 20, request(&[failed(span(1, "b"))])));
    run.pass(envelope(1, 5000, request(&[])));
    assert_eq!(run.names(), ["b"]);
    // One that has gone and comes again knows nothing, and nothing of it waits.
    run.from = other;
    run.step.chain.revoked(&run.from);
    run.waiting.iter_mut().for_each(|waiting| waiting.forget(&run.from));
    run.step.chain.assigned(&run.from);
    run.pass(envelope(1, 9000, request(&[failed(span(1, "c"))])));
    assert!(run.names().is_empty());
    assert_eq!(run.all(&[]).names(), ["c"]);
}
