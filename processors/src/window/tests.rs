use std::collections::BTreeMap;

use afflux_bus::{Generation, Headers, Received};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

mod bus;

/// Waits in the join and width of the counter's windows, in milliseconds.
const WAIT: i64 = 100;
const GRACE: i64 = 30;

/// Two kinds of records meet under a key, or wait in vain.
#[derive(Default)]
struct Join {
    /// By key: time, stream time at arrival, kind, number.
    kept: BTreeMap<u8, Vec<Kept>>,
    /// Lets go of what has met, and remembers nothing: a chain.
    consumes: bool,
}

#[derive(Clone, Copy)]
struct Kept {
    time: i64,
    came: i64,
    kind: bool,
    number: u64,
}

impl Kept {
    fn meets(&self, other: &Self) -> bool {
        self.kind != other.kind && self.came.max(other.came) < self.time.min(other.time) + WAIT
    }
}

impl Windowed for Join {
    type Item = Received;
    type Output = String;

    fn advance(&mut self, before_ms: i64, now_ms: i64, emit: &mut dyn FnMut(String)) {
        for kept in self.kept.values_mut() {
            for one in kept.iter().filter(|one| one.time + WAIT > before_ms && one.time + WAIT <= now_ms) {
                if !kept.iter().any(|other| one.meets(other)) {
                    emit(format!("{} alone", one.number));
                }
            }
            kept.retain(|one| one.time + 2 * WAIT > now_ms);
        }
    }

    fn item(&mut self, record: &Received, _: &At<'_>, now_ms: i64, emit: &mut dyn FnMut(String)) {
        let (key, kind, number) = facts(record);
        let one = Kept { time: record.timestamp_ms, came: now_ms, kind, number };
        if one.time + WAIT <= now_ms {
            return;
        }
        let kept = self.kept.entry(key).or_default();
        if self.consumes {
            if let Some(at) = kept.iter().position(|other| one.meets(other)) {
                emit(format!("{} and {number}", kept.remove(at).number));
                return;
            }
        } else {
            kept.iter()
                .filter(|other| one.meets(other))
                .for_each(|other| emit(format!("{} and {number}", other.number)));
        }
        kept.push(one);
    }
}

/// Counts by window and key.
#[derive(Default)]
struct Counter(BTreeMap<(i64, u8), u64>);

impl Windowed for Counter {
    type Item = Received;
    type Output = String;

    fn advance(&mut self, _: i64, now_ms: i64, emit: &mut dyn FnMut(String)) {
        while let Some(first) = self.0.first_entry().filter(|first| first.key().0 + WAIT + GRACE <= now_ms) {
            let ((window, key), count) = first.remove_entry();
            emit(format!("{window} {key} {count}"));
        }
    }

    fn item(&mut self, record: &Received, _: &At<'_>, now_ms: i64, _: &mut dyn FnMut(String)) {
        let window = record.timestamp_ms.div_euclid(WAIT) * WAIT;
        if window + WAIT + GRACE > now_ms {
            *self.0.entry((window, facts(record).0)).or_default() += 1;
        }
    }
}

fn facts(record: &Received) -> (u8, bool, u64) {
    let value = record.value.as_ref().map_or(&[][..], |value| value);
    (value[0], value[1] == 1, record.offset)
}

fn at(record: &Received, position: u64) -> At<'_> {
    let Received { from, offset, timestamp_ms, .. } = record;
    // Greater ones before are known to the replay.
    let stream_time_ms = *timestamp_ms;
    At {
        from,
        offset: *offset,
        timestamp_ms: *timestamp_ms,
        stream_time_ms,
        repeat: *offset < position,
        counted: false,
    }
}

/// One step of a log: how much later its clock is, how late the record is, key, kind, offsets left out.
type Step = (u8, u8, u8, bool, bool);

fn log(steps: &[Step]) -> Vec<Received> {
    let (mut clock, mut offset) = (10_000, 0);
    let record = |(later, late, key, kind, hole): &Step| {
        // One in sixteen is a long silence.
        clock += if later % 16 == 0 { 3 * WAIT } else { i64::from(*later) % 16 };
        offset += 1 + u64::from(*hole);
        Received {
            from: PartitionId::new("t", 0),
            generation: Generation(1),
            offset,
            timestamp_ms: clock - i64::from(*late) * 2,
            key: None,
            value: Some(vec![key % 4, u8::from(*kind)].into()),
            headers: Headers::new(),
        }
    };
    steps.iter().map(record).collect()
}

/// Where the bus begins, as its contract says.
fn start(log: &[Received], position: u64, rewind: i64) -> usize {
    let Some(last) = log.iter().rfind(|record| record.offset < position) else { return 0 };
    log.iter().position(|record| record.timestamp_ms >= last.timestamp_ms - rewind).unwrap_or(log.len())
}

/// One run: records read before it ends, after how many of them each commit comes, and whether the same process goes on.
type Run = (u8, u8, bool);

/// What is committed over all runs, the last of which reads to the end.
fn through<W: Windowed<Item = Received, Output = String>>(
    log: &[Received],
    runs: &[Run],
    rewind: i64,
    replay: impl Fn() -> Replay<W>,
) -> Vec<String> {
    let (mut committed, mut position, mut member) = (Vec::new(), 0, replay());
    for (count, cadence, same) in runs.iter().copied().chain([(u8::MAX, 7, false)]) {
        if !same {
            member = replay();
        }
        let partition = PartitionId::new("t", 0);
        member.revoked(&partition);
        member.assigned(&partition);
        let begin = start(log, position, rewind).min(log.partition_point(|record| record.offset < position));
        let fresh = log.iter().filter(|record| record.offset >= position);
        let last = if count == u8::MAX {
            u64::MAX
        } else {
            fresh.map(|record| record.offset).nth(count.into()).unwrap_or(u64::MAX)
        };
        let (mut pending, mut since) = (Vec::new(), 0);
        for record in log[begin..].iter().take_while(|record| record.offset < last) {
            member.item(&at(record, position), record, &mut |output| pending.push(output));
            since += u8::from(record.offset >= position);
            if since > cadence % 16 {
                committed.append(&mut pending);
                (position, since) = (record.offset + 1, 0);
            }
        }
        if last == u64::MAX {
            committed.append(&mut pending);
            position = u64::MAX;
        }
    }
    committed
}

fn join(consumes: bool) -> impl Fn() -> Replay<Join> {
    move || Replay::new(Duration::from_millis(2 * WAIT as u64), move || Join { consumes, ..Join::default() })
}

fn counter() -> Replay<Counter> {
    Replay::new(Duration::from_millis((WAIT + GRACE) as u64), Counter::default)
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let late = prop_oneof![4 => 0..8_u8, 2 => 0..80_u8, 1 => 0..255_u8];
    prop::collection::vec((any::<u8>(), late, any::<u8>(), any::<bool>(), prop::bool::weighted(0.1)), 0..80)
}

fn runs() -> impl Strategy<Value = Vec<Run>> {
    prop::collection::vec((0..40_u8, any::<u8>(), any::<bool>()), 0..8)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_split_into_runs_joins_the_same_once(steps in steps(), runs in runs()) {
        let log = log(&steps);
        let once = through(&log, &[], 2 * WAIT, join(false));
        prop_assert_eq!(through(&log, &runs, 2 * WAIT, join(false)), once);
    }

    #[test]
    fn any_split_into_runs_counts_the_same_once(steps in steps(), runs in runs()) {
        let log = log(&steps);
        let once = through(&log, &[], WAIT + GRACE, counter);
        prop_assert_eq!(through(&log, &runs, WAIT + GRACE, counter), once);
    }
}

#[test]
fn repeats_and_late_records_are_counted() {
    let log = log(&[(1, 0, 0, false, false), (5, 0, 0, true, false), (3, 255, 0, true, false)]);
    let mut replay = join(false)();
    let partition = PartitionId::new("t", 0);
    replay.assigned(&partition);
    let mut outputs = Vec::new();
    log.iter().for_each(|record| replay.item(&at(record, 2), record, &mut |output| outputs.push(output)));
    assert_eq!((replay.repeated, replay.late), (1, 1));
    assert_eq!(outputs, ["1 and 2"]);
    assert_eq!(replay.rewind(), Duration::from_millis(200));
}

/// How many of two thousand random logs and splits come out otherwise than in one run.
fn wrong<W: Windowed<Item = Received, Output = String>>(rewind: i64, replay: impl Fn() -> Replay<W>) -> usize {
    let mut runner = TestRunner::deterministic();
    let differs = |_: &usize| {
        let (steps, runs) = (steps(), runs()).new_tree(&mut runner).unwrap().current();
        let log = log(&steps);
        through(&log, &runs, rewind, &replay) != through(&log, &[], rewind, &replay)
    };
    (0..2000).filter(differs).count()
}

#[test]
fn a_shorter_way_back_and_a_state_with_chains_would_not_do() {
    assert_eq!(wrong(2 * WAIT, join(false)), 0);
    assert!(wrong(WAIT, join(false)) > 0, "half the way");
    assert!(wrong(GRACE, counter) > 0, "without the window");
    assert!(wrong(2 * WAIT, join(true)) > 0, "consuming what has met");
}
