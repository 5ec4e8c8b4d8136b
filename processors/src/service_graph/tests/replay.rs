//! Random logs: in one run they come out as the rules say, and in any runs as in one.

use std::ops::Range;

use afflux_bus::{Generation, Headers, PartitionId, Received};
use afflux_schemas::otlp::trace::TracesView;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, TracesData};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::chain::At;
use crate::window::{Replay, Windowed};

/// Halves that are taken in each eighth of the time.
const QUOTA: u64 = 4;

/// The pairing as a windowed processor. Services are named by record and place, so that outputs tell who has met whom.
struct Graph {
    rules: Arc<Rules>,
    pairs: Pairs,
}

impl Windowed for Graph {
    type Item = Received;
    type Output = String;

    fn advance(&mut self, _: i64, now_ms: i64, emit: &mut dyn FnMut(String)) {
        self.pairs.advance(now_ms, &mut |out| emit(show(&out)));
    }

    fn item(&mut self, record: &Received, _: &At<'_>, now_ms: i64, emit: &mut dyn FnMut(String)) {
        for block in TracesView::new(record.value.as_ref().unwrap()).resource_spans() {
            let resource = self.rules.resource(block.resource(), "").unwrap();
            for span in block.scope_spans().flat_map(|scope| scope.spans()) {
                let times = (record.timestamp_ms, now_ms);
                self.pairs.span(&resource, &span, 1, times, &mut |out| emit(show(&out)));
            }
        }
    }
}

fn rules() -> Arc<Rules> {
    Arc::new(Rules::new(&GraphConfig { max_items: 8 * QUOTA, ..config() }, filter()))
}

/// A half: under which key, on the client's side or not, what else it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sort {
    key: u8,
    client: bool,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Plain,
    /// A client with a peer, or a root server, which shares its key with no client.
    Virtual,
    Database,
    Rejected,
}

impl Sort {
    fn is_root(self) -> bool {
        !self.client && self.what == What::Virtual
    }

    fn is_database(self) -> bool {
        self.client && self.what == What::Database
    }

    fn given(self, name: &str) -> Given {
        let (kind, id, parent) = if self.client { (CLIENT, self.key, 0) } else { (SERVER, 9, self.key) };
        let given = span(name, kind, id, if self.is_root() { 0 } else { parent });
        match self.what {
            What::Virtual if self.client => given.with("peer.service", "peer"),
            What::Database if self.client => given.with("db.name", "db"),
            What::Rejected => given.with("rejected", ""),
            _ => given,
        }
    }
}

/// A record: how much later its clock is, how late it is, and what it holds.
type Step = (u8, u8, Vec<Sort>);

/// Offsets, timestamps and contents.
fn times(steps: &[Step]) -> Vec<(u64, i64, Vec<Sort>)> {
    let mut clock = 10_000;
    let record = |(offset, (later, late, sorts)): (u64, &Step)| {
        // One in sixteen is a long silence.
        clock += if later % 16 == 0 { 3 * WAIT } else { i64::from(later % 16) };
        (offset, clock - i64::from(*late), sorts.clone())
    };
    (0..).zip(steps).map(record).collect()
}

fn log(times: Vec<(u64, i64, Vec<Sort>)>) -> Vec<Received> {
    let record = |(offset, timestamp_ms, sorts): (u64, i64, Vec<Sort>)| {
        let block = |(at, sort): (usize, Sort)| {
            let Given { resource, span, .. } = sort.given(&format!("{offset}.{at}"));
            let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
            ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }
        };
        let value = TracesData { resource_spans: sorts.into_iter().enumerate().map(block).collect() };
        let (from, generation, headers) = (PartitionId::new("t", 0), Generation(1), Headers::new());
        Received {
            from,
            generation,
            offset,
            timestamp_ms,
            key: None,
            value: Some(value.encode_to_vec().into()),
            headers,
        }
    };
    times.into_iter().map(record).collect()
}

/// What is committed over runs that end at those offsets, and a last one that reads to the end.
fn through(log: &[Received], ends: &[u64], rewind_ms: i64) -> Vec<String> {
    let (mut outputs, mut position) = (Vec::new(), 0);
    for end in ends.iter().copied().chain([u64::MAX]) {
        let fresh = || Graph { pairs: Pairs::new(rules()), rules: rules() };
        let mut replay = Replay::new(rules().horizon(), fresh);
        let partition = PartitionId::new("t", 0);
        replay.assigned(&partition);
        let last = log.iter().rfind(|record| record.offset < position);
        let from = last.map_or(i64::MIN, |last| last.timestamp_ms - rewind_ms);
        let begin = log.iter().position(|record| record.timestamp_ms >= from).unwrap_or(log.len());
        for record in log[begin..].iter().take_while(|record| record.offset < end) {
            let Received { from, offset, timestamp_ms, .. } = record;
            let (timestamp_ms, repeat) = (*timestamp_ms, *offset < position);
            let at = At { from, offset: *offset, timestamp_ms, stream_time_ms: timestamp_ms, repeat, counted: false };
            replay.item(&at, record, &mut |output| outputs.push(format!("{offset}: {output}")));
        }
        position = end;
    }
    outputs
}

fn ends(mut ends: Vec<u64>) -> Vec<u64> {
    ends.sort_unstable();
    ends
}

fn sorts() -> impl Strategy<Value = Vec<Sort>> {
    let what = prop_oneof![
        5 => Just(What::Plain),
        3 => Just(What::Virtual),
        1 => Just(What::Database),
        1 => Just(What::Rejected),
    ];
    let sort = (1..4_u8, any::<bool>(), what).prop_map(|(key, client, what)| Sort { key, client, what });
    prop::collection::vec(sort, 0..4)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let late = prop_oneof![4 => 0..8_u8, 2 => 0..80_u8, 1 => 0..255_u8];
    prop::collection::vec((any::<u8>(), late, sorts()), 0..60)
}

fn runs() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0..60_u64, 0..6).prop_map(ends)
}

fn horizon() -> i64 {
    i64::try_from(rules().horizon().as_millis()).unwrap()
}

/// A half as the naive model knows it.
struct Came {
    offset: u64,
    name: String,
    time: i64,
    /// Stream time when it came.
    now: i64,
    sort: Sort,
}

impl Came {
    fn is_late(&self) -> bool {
        self.time + WAIT <= self.now
    }

    fn shares_key(&self, other: &Self) -> bool {
        self.sort.is_root() == other.sort.is_root() && (self.sort.is_root() || self.sort.key == other.sort.key)
    }
}

/// The documented rules, looked up in the whole log for each half.
struct Model(Vec<Came>);

impl Model {
    fn new(steps: &[Step]) -> Self {
        let (mut now, mut all) = (i64::MIN, Vec::new());
        for (offset, time, sorts) in times(steps) {
            now = now.max(time);
            let came = |(at, sort)| Came { offset, name: format!("{offset}.{at}"), time, now, sort };
            // A record beyond the horizon is not passed in.
            if time > now - horizon() {
                all.extend(sorts.into_iter().enumerate().map(came));
            }
        }
        Self(all)
    }

    fn is_dropped(&self, at: usize) -> bool {
        let slot = |came: &Came| came.time.div_euclid(SLOT);
        let earlier = self.0[..at].iter().filter(|came| !came.is_late() && slot(came) == slot(&self.0[at]));
        earlier.count() as u64 >= QUOTA
    }

    /// Halves with the key of this one that came within a range of places, were taken, and were rejected or not.
    fn taken(&self, of: usize, within: Range<usize>, rejected: bool) -> impl Iterator<Item = (usize, &Came)> {
        let came = within.map(|at| (at, &self.0[at])).filter(move |(_, came)| came.shares_key(&self.0[of]));
        let right = move |came: &Came| !came.is_late() && (came.sort.what == What::Rejected) == rejected;
        came.filter(move |(at, came)| right(came) && !self.is_dropped(*at))
    }

    /// Those of them that wait when this one comes.
    fn waiting(&self, of: usize, rejected: bool) -> impl Iterator<Item = (usize, &Came)> {
        self.taken(of, 0..of, rejected).filter(move |(_, came)| came.time + WAIT > self.0[of].now)
    }

    /// Those of the other side that come while this one waits.
    fn later(&self, of: usize, rejected: bool) -> impl Iterator<Item = (usize, &Came)> {
        let this = &self.0[of];
        self.taken(of, of + 1..self.0.len(), rejected)
            .filter(move |(_, came)| came.sort.client != this.sort.client && came.now < this.time + WAIT)
    }

    /// What comes of a half at once.
    fn at_once(&self, at: usize) -> Option<String> {
        let Came { name, sort, .. } = &self.0[at];
        let no_edge = |why: &str| Some(format!("{} {why}", if sort.client { "client" } else { "server" }));
        if self.0[at].is_late() {
            return no_edge("late");
        }
        if self.is_dropped(at) {
            return no_edge("dropped");
        }
        if sort.what == What::Rejected {
            return no_edge("filtered");
        }
        // The counterpart that has told nothing: nothing waited when it came, it is no database, and this is the first.
        let untold = self.waiting(at, false).find(|(other, came)| {
            came.sort.client != sort.client
                && !came.sort.is_database()
                && self.waiting(*other, false).next().is_none()
                && self.later(*other, false).next().is_some_and(|(first, _)| first == at)
        });
        if sort.is_database() && (untold.is_some() || self.waiting(at, false).next().is_none()) {
            return Some(format!("{name} > db database c=100 s=100"));
        }
        match untold {
            Some((_, other)) if sort.client => Some(format!("{name} > {} c=100 s=100", other.name)),
            Some((_, other)) => Some(format!("{} > {name} c=100 s=100", other.name)),
            None if self.waiting(at, false).next().is_some() => no_edge("duplicate"),
            None => None,
        }
    }

    /// What comes of a half that came to nothing at once and waits in vain.
    fn in_vain(&self, at: usize) -> Option<String> {
        let Came { name, sort, .. } = &self.0[at];
        if self.later(at, false).next().is_some() {
            return None;
        }
        let rejected = self.waiting(at, true).any(|(_, came)| came.sort.client != sort.client);
        Some(match (sort.client, sort.what) {
            (true, _) if rejected || self.later(at, true).next().is_some() => "client counterpart_filtered".into(),
            (false, _) if rejected || self.later(at, true).next().is_some() => "server counterpart_filtered".into(),
            (true, What::Virtual) => format!("{name} > peer virtual_node virtual=server c=100"),
            (false, What::Virtual) => format!("user > {name} virtual_node virtual=client s=100"),
            (true, _) => "client expired".into(),
            (false, _) => "server expired".into(),
        })
    }

    /// Everything, in the order in which it is told.
    fn outputs(&self, steps: &[Step]) -> Vec<String> {
        let (mut told, mut now) = (Vec::new(), i64::MIN);
        let mut in_vain: Vec<_> = (0..self.0.len())
            .filter(|at| self.at_once(*at).is_none())
            .filter_map(|at| self.in_vain(at).map(|output| (self.0[at].time, output)))
            .collect();
        in_vain.sort_by_key(|(time, _)| *time);
        let mut in_vain = in_vain.into_iter().peekable();
        for (offset, time, _) in times(steps) {
            now = now.max(time);
            while let Some((_, output)) = in_vain.next_if(|(time, _)| time + WAIT <= now) {
                told.push(format!("{offset}: {output}"));
            }
            let here = (0..self.0.len()).filter(|at| self.0[*at].offset == offset);
            told.extend(here.filter_map(|at| self.at_once(at)).map(|output| format!("{offset}: {output}")));
        }
        told
    }
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn one_run_tells_what_the_rules_say(steps in steps()) {
        prop_assert_eq!(through(&log(times(&steps)), &[], horizon()), Model::new(&steps).outputs(&steps));
    }

    #[test]
    fn any_runs_tell_what_one_run_tells(steps in steps(), runs in runs()) {
        let log = log(times(&steps));
        prop_assert_eq!(through(&log, &runs, horizon()), through(&log, &[], horizon()));
    }
}

/// How many of so many random logs come out otherwise in runs than in one, with another way back.
fn wrong(rewind_ms: i64, logs: usize) -> usize {
    let mut runner = TestRunner::deterministic();
    let differs = |_: &usize| {
        let (steps, runs) = (steps(), runs()).new_tree(&mut runner).unwrap().current();
        let log = log(times(&steps));
        through(&log, &runs, rewind_ms) != through(&log, &[], rewind_ms)
    };
    (0..logs).filter(differs).count()
}

#[test]
fn half_the_way_back_would_not_do() {
    assert_eq!(wrong(horizon(), 1000), 0);
    assert!(wrong(horizon() / 2, 1000) > 0);
}

/// A half that was dropped as one too many of its time would make a duplicate of a later one, were it read again
/// without what came before it.
#[test]
fn twice_the_wait_would_not_do_without_the_eighth() {
    let client = |key| Sort { key, client: true, what: What::Virtual };
    let crowd = (1..=QUOTA as u8).map(|n| client(10 + n)).collect();
    let (dropped, waits) = (1000 + SLOT - 1, 1000 + SLOT + WAIT - 2);
    let times = [
        (1000, crowd),
        (dropped, vec![client(1)]),
        (waits, vec![client(1)]),
        (waits + WAIT - 1, vec![]),
        (waits + WAIT, vec![]),
    ];
    let log = log((0..).zip(times).map(|(offset, (time, sorts))| (offset, time, sorts)).collect());
    let once = through(&log, &[], horizon());
    assert!(once.contains(&"1: client dropped".into()), "{once:?}");
    assert_eq!(once.last().unwrap(), "4: 2.0 > peer virtual_node virtual=server c=100");
    assert_eq!(through(&log, &[4], horizon()), once);
    assert_eq!(through(&log, &[4], 2 * WAIT), once[..once.len() - 1]);
}
