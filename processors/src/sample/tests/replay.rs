//! Random logs: in one run they come out as the rules say, and in any runs as in one.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::chain::Step as _;

mod model;

/// Time that spans wait in all tests, in milliseconds.
const WAIT: i64 = 1000;
const SECOND: i64 = 1000;
const POLICIES: &str = "{error: {}}, {and: [{service: {names: [cart]}}, {rate: {traces_per_second: 1}}]}, \
                        {and: [{service: {names: [shop]}}, {probability: {ratio: 0.3}}]}";
const RARE: &str = ", keep_rare: {fewer_than: 2, by: root}";
const NO_BOUND: u64 = 1 << 20;

/// A span in the making: its trace, of eight, and what it is.
#[derive(Clone, Copy, Debug)]
struct Sort {
    trace: u8,
    cart: bool,
    failed: bool,
    root: bool,
    name: u8,
}

/// A record: how much later its clock is, how late it is, and what it holds.
type Step = (u8, u8, Vec<Sort>);

impl Sort {
    fn given(self, name: u8) -> Given {
        // All randomness is different, and half of it above a half.
        let trace = (u64::from(self.trace % 8) << 53) | u64::from(self.trace % 8);
        let given = with(span(trace, ["x", "y", "z"][usize::from(self.name % 3)]), |span| {
            span.span_id = vec![name; 8];
            span.status = self.failed.then(|| Status { code: 2, ..Status::default() });
            span.parent_span_id = if self.root { vec![] } else { vec![9; 8] };
        });
        if self.cart { of("cart", given) } else { given }
    }
}

fn log(steps: &[Step]) -> Vec<Envelope> {
    let mut clock = 100_000;
    let record = |(offset, (later, late, sorts)): (u64, &Step)| {
        // One in sixteen is a long silence, and half come together with others.
        clock += match later % 16 {
            0 => 3 * WAIT,
            1..8 => 0,
            more => i64::from(more) * 37,
        };
        let spans: Vec<_> = (0..).zip(sorts).map(|(at, sort)| sort.given(at)).collect();
        envelope(offset, clock - i64::from(*late) * 11, request(&spans))
    };
    (0..).zip(steps).map(record).collect()
}

/// What came out, as the offset at which it did, and the record's offset and the spans.
type Out = (u64, u64, Vec<(u8, String)>);

fn out(offset: u64, envelope: &Envelope) -> Out {
    let spans = spans(&envelope.value).into_iter().map(|span| (span.span_id[0], span.trace_state));
    (offset, envelope.route.offset, spans.collect())
}

fn settings(max_bytes: u64, rest: &str) -> SampleConfig {
    config(&format!("tail: {{decision_wait: 1s, max_bytes: {max_bytes}, {rest}}}"))
}

/// A run that ends: the offset before which it reads, and how many of the last records it reads without a commit.
type End = (u64, u64);

/// What is committed over runs that end so, and a last one that reads to the end.
fn through(log: &[Envelope], config: &SampleConfig, ends: &[End], rewind_ms: i64) -> Vec<Out> {
    let (mut outs, mut position) = (Vec::new(), 0);
    for (end, lost) in ends.iter().copied().chain([(u64::MAX, 0)]) {
        let mut run = Run::new(config);
        let last = log.iter().rfind(|record| record.route.offset < position);
        let from = last.map_or(i64::MIN, |last| last.timestamp_ms - rewind_ms);
        let begin = log.iter().position(|record| record.timestamp_ms >= from).unwrap_or(log.len());
        let committed = end - lost.min(end);
        let before = position;
        for record in log[begin..].iter().take_while(|record| record.route.offset < end) {
            let offset = record.route.offset;
            run.pass_at(vec![record.clone()], offset < before);
            let out = run.step.out.drain(..).map(|envelope| out(offset, &envelope));
            if offset < committed {
                outs.extend(out);
                position = run.step.settled.unwrap_or(before);
            }
        }
    }
    outs
}

fn horizon(config: &SampleConfig) -> i64 {
    Sample::new(config).unwrap().horizon().as_millis() as i64
}

fn sorts() -> impl Strategy<Value = Vec<Sort>> {
    let (often, seldom) = (|| any::<bool>(), || prop::bool::weighted(0.1));
    let sort = (any::<u8>(), often(), seldom(), often(), any::<u8>());
    let sort = sort.prop_map(|(trace, cart, failed, root, name)| Sort { trace, cart, failed, root, name });
    prop::collection::vec(sort, 0..4)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let late = prop_oneof![4 => 0..2_u8, 2 => 0..80_u8, 1 => 0..255_u8];
    prop::collection::vec((any::<u8>(), late, sorts()), 0..60)
}

fn ends() -> impl Strategy<Value = Vec<End>> {
    let lost = prop_oneof![Just(0), 0..20_u64];
    prop::collection::vec((0..60_u64, lost), 0..6).prop_map(|mut ends| {
        ends.sort_unstable();
        ends
    })
}

/// Without a bound; with one that is met often; and one that single records are larger than.
fn bound() -> impl Strategy<Value = u64> {
    prop_oneof![Just(NO_BOUND), Just(1200), Just(500), Just(150)]
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn one_run_keeps_what_the_rules_say(steps in steps(), bound in bound()) {
        let (log, config) = (log(&steps), settings(bound, &format!("policies: [{POLICIES}]{RARE}")));
        prop_assert_eq!(through(&log, &config, &[], horizon(&config)), model::outs(&log, bound, true));
    }

    #[test]
    fn one_run_without_what_is_rare_keeps_what_the_rules_say(steps in steps(), bound in bound()) {
        let (log, config) = (log(&steps), settings(bound, &format!("policies: [{POLICIES}]")));
        prop_assert_eq!(through(&log, &config, &[], horizon(&config)), model::outs(&log, bound, false));
    }

    #[test]
    fn any_runs_keep_what_one_run_keeps(steps in steps(), ends in ends(), bound in bound(), rare: bool) {
        let rare = if rare { RARE } else { "" };
        let (log, config) = (log(&steps), settings(bound, &format!("policies: [{POLICIES}]{rare}")));
        let once = through(&log, &config, &[], horizon(&config));
        prop_assert_eq!(through(&log, &config, &ends, horizon(&config)), once);
    }
}

/// How many of so many random logs come out otherwise in runs than in one, with another way back.
fn wrong(rewind_ms: i64, logs: usize) -> usize {
    let config = settings(NO_BOUND, &format!("policies: [{POLICIES}]"));
    let mut runner = TestRunner::deterministic();
    let differs = |_: &usize| {
        let (steps, ends) = (steps(), ends()).new_tree(&mut runner).unwrap().current();
        let log = log(&steps);
        through(&log, &config, &ends, rewind_ms) != through(&log, &config, &[], rewind_ms)
    };
    (0..logs).filter(differs).count()
}

#[test]
fn a_shorter_way_back_would_not_do() {
    assert_eq!(wrong(WAIT + SECOND, 400), 0);
    assert!(wrong(WAIT / 2, 400) > 0);
}

fn record(offset: u64, timestamp_ms: i64, spans: &[Given]) -> Envelope {
    envelope(offset, timestamp_ms, request(spans))
}

fn places(outs: &[Out]) -> Vec<(u64, u64)> {
    outs.iter().map(|out| (out.0, out.1)).collect()
}

/// An error that came just less than the wait before the first span that is not committed.
#[test]
fn an_error_at_the_edge_of_the_horizon_counts() {
    let at = 10_000 + WAIT - 1;
    let log = [
        record(0, 10_000, &[failed(span(1, "error"))]),
        record(1, at - 1, &[span(2, "other")]),
        record(2, at, &[span(1, "kept")]),
        record(3, at + WAIT - 1, &[span(2, "other")]),
        record(4, at + WAIT, &[span(2, "other")]),
    ];
    let config = settings(NO_BOUND, "policies: [{error: {}}]");
    let once = through(&log, &config, &[], 0);
    assert_eq!(places(&once), [(3, 0), (4, 2)]);
    assert_eq!(horizon(&config), WAIT);
    assert_eq!(through(&log, &config, &[(4, 0)], WAIT - 2), once);
    assert_eq!(through(&log, &config, &[(4, 0)], WAIT - 3), once[..1]);
}

/// A trace whose second began just less than a second before it, with another trace that was chosen.
#[test]
fn the_wait_would_not_do_without_the_second_where_there_are_rates() {
    let begins = 10_000 + SECOND - 1;
    let at = begins + WAIT - 1;
    let log = [
        record(0, 10_000, &[span(9, "chosen")]),
        record(1, begins, &[span(1, "first")]),
        record(2, at - 1, &[span(2, "other")]),
        record(3, at, &[span(1, "second")]),
        record(4, at + WAIT - 1, &[span(2, "other")]),
        record(5, at + WAIT, &[span(2, "other")]),
    ];
    let config = settings(NO_BOUND, "policies: [{rate: {traces_per_second: 1}}]");
    let once = through(&log, &config, &[], 0);
    assert_eq!(places(&once), [(2, 0), (4, 2)]);
    assert_eq!(horizon(&config), WAIT + SECOND);
    assert_eq!(through(&log, &config, &[(5, 0)], horizon(&config)), once);
    assert_eq!(places(&through(&log, &config, &[(5, 0)], WAIT)), [(2, 0), (4, 2), (5, 3)]);
}

/// What is known in one process and what in another must not differ by what waited when one of them ended.
#[test]
fn spans_that_wait_when_a_run_ends_leave_once_in_the_next_one() {
    let log = [
        record(0, 10_000, &[span(1, "a")]),
        record(1, 10_400, &[failed(span(1, "b"))]),
        record(2, 10_900, &[span(2, "c")]),
        record(3, 14_000, &[span(2, "d")]),
    ];
    let config = settings(NO_BOUND, "policies: [{error: {}}]");
    for ends in [&[(1, 0)][..], &[(2, 0)], &[(3, 0)], &[(4, 1)], &[(1, 0), (2, 1), (3, 0)], &[(4, 0), (4, 0)]] {
        let outs = through(&log, &config, ends, horizon(&config));
        assert_eq!(places(&outs), [(3, 0), (3, 1)], "{ends:?}");
    }
}

/// Whatever was read under other settings: what waited is decided upon by those that are.
#[test]
fn what_waits_is_decided_upon_by_the_settings_that_are() {
    let log: Vec<_> = (0..40).map(|at| record(at, 10_000 + at as i64 * 100, &[failed(span(at, "e"))])).collect();
    let mut run = Run::new(&settings(NO_BOUND, "policies: [{error: {}}]"));
    log.iter().for_each(|record| run.pass(record.clone()));
    let settled = run.step.settled.unwrap();
    assert_eq!((settled, run.step.out.len()), (30, 30));
    // With no way back at all.
    let mut run = Run::new(&SampleConfig::default());
    log[settled as usize..].iter().for_each(|record| run.pass(record.clone()));
    assert_eq!(run.step.out, log[settled as usize..]);
}
