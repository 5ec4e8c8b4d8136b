//! The governor against a model that keeps label sets as they are and looks at all of them each time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;

const TENANTS: [&str; 2] = ["a", "b"];
const IDLE_MS: i64 = 8_000;
/// A quarter of that.
const SCAN_MS: i64 = 2_000;

type Set = Vec<(usize, String)>;

#[derive(Default)]
struct Model {
    max_series: usize,
    max_values: usize,
    tenants: BTreeMap<&'static str, Tenant>,
    now_ms: i64,
    scanned_ms: Option<i64>,
}

#[derive(Default)]
struct Tenant {
    /// When each came last.
    sets: BTreeMap<Set, i64>,
    overflow_ms: Option<i64>,
    /// How often there was room again.
    rooms: u64,
}

impl Tenant {
    fn values(&self, label: usize) -> BTreeSet<&str> {
        let values = self.sets.keys().flatten().filter(|(at, _)| *at == label).map(|(_, value)| value.as_str());
        values.filter(|value| *value != OVERFLOW_VALUE).collect()
    }
}

impl Model {
    /// What the label set becomes; nothing, if it is beyond. And whether a limit played a part.
    fn admit(&mut self, name: &'static str, set: &Set, now_ms: i64) -> (Option<Set>, bool) {
        self.now_ms = self.now_ms.max(now_ms);
        let tenant = self.tenants.entry(name).or_default();
        let mut admitted: Set = set.iter().filter(|(_, value)| !value.is_empty()).cloned().collect();
        let mut limited = false;
        for (label, value) in &mut admitted {
            let values = tenant.values(*label);
            if self.max_values > 0 && !values.contains(value.as_str()) && values.len() >= self.max_values {
                *value = OVERFLOW_VALUE.into();
                limited = true;
            }
        }
        if self.max_series > 0 && !tenant.sets.contains_key(&admitted) && tenant.sets.len() >= self.max_series {
            tenant.overflow_ms = Some(self.now_ms);
            return (None, true);
        }
        tenant.sets.insert(admitted.clone(), self.now_ms);
        (Some(admitted), limited)
    }

    fn touch(&mut self, name: &'static str, admitted: Option<&Set>, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
        let tenant = self.tenants.entry(name).or_default();
        match admitted {
            Some(set) => *tenant.sets.get_mut(set).unwrap() = self.now_ms,
            None => tenant.overflow_ms = Some(self.now_ms),
        }
    }

    /// How many were forgotten.
    fn expire(&mut self, now_ms: i64) -> usize {
        self.now_ms = self.now_ms.max(now_ms);
        let since = *self.scanned_ms.get_or_insert(self.now_ms);
        if self.now_ms - since < SCAN_MS {
            return 0;
        }
        self.scanned_ms = Some(self.now_ms);
        let stays = |last_ms: i64| self.now_ms - last_ms <= IDLE_MS;
        let mut forgotten = 0;
        for tenant in self.tenants.values_mut() {
            let before = tenant.sets.len();
            tenant.sets.retain(|_, last_ms| stays(*last_ms));
            let gone = before - tenant.sets.len();
            tenant.rooms += u64::from(gone > 0);
            forgotten += gone + usize::from(tenant.overflow_ms.is_some_and(|last_ms| !stays(last_ms)));
            tenant.overflow_ms = tenant.overflow_ms.filter(|last_ms| stays(*last_ms));
        }
        forgotten
    }
}

/// What a processor would keep beside a label set as it came.
struct Known {
    verdict: Verdict,
    admitted: Option<Set>,
    /// The tenant's rooms, where a limit played a part.
    rooms: Option<u64>,
}

/// One item: tenant, values, how much later, and whether expiry is called.
type Step = (usize, Vec<u8>, i64, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let later = prop_oneof![6 => 0..300_i64, 2 => -500..3_000_i64, 1 => 5_000..20_000_i64];
    prop::collection::vec((0..2_usize, prop::collection::vec(0..5_u8, 0..4), later, any::<bool>()), 0..120)
}

struct Run {
    governor: Governor,
    model: Model,
    known: HashMap<(usize, Vec<u8>), Known>,
    /// Items of each series that there ever was.
    items: BTreeMap<Series, u64>,
    live: BTreeMap<Series, (usize, Option<Set>)>,
}

impl Run {
    fn new(max_series: u64, max_values: u64) -> Self {
        let idle = Period(Duration::from_millis(IDLE_MS as u64));
        let governor = governor(CardinalityConfig { idle, fold_names: false, ..config(max_series, max_values) });
        let model = Model { max_series: max_series as usize, max_values: max_values as usize, ..Model::default() };
        Self { governor, model, known: HashMap::new(), items: BTreeMap::new(), live: BTreeMap::new() }
    }

    fn step(&mut self, (tenant, values, _, expires): &Step, now_ms: i64) -> Result<(), TestCaseError> {
        let name = TENANTS[*tenant];
        if *expires {
            let forgotten = self.governor.expire(now_ms);
            prop_assert_eq!(forgotten.len(), self.model.expire(now_ms));
            for series in forgotten {
                prop_assert!(self.live.remove(&series).is_some(), "forgotten once, and nothing that never was");
            }
        }
        let raw = (*tenant, values.clone());
        let rooms = |model: &Model| model.tenants.get(name).map_or(0, |tenant| tenant.rooms);
        let counted = match self.known.get(&raw) {
            Some(known) => {
                let there = self.live.contains_key(&known.verdict.ticket().series());
                let valid = there && known.rooms.is_none_or(|then| then == rooms(&self.model));
                let counted = self.governor.touch(known.verdict.ticket(), 1, now_ms);
                prop_assert_eq!(counted, valid);
                if counted {
                    self.model.touch(name, known.admitted.as_ref(), now_ms);
                }
                counted
            }
            None => false,
        };
        if !counted {
            self.admit(raw.clone(), now_ms)?;
        }
        *self.items.entry(self.known[&raw].verdict.ticket().series()).or_default() += 1;
        Ok(())
    }

    fn admit(&mut self, raw: (usize, Vec<u8>), now_ms: i64) -> Result<(), TestCaseError> {
        let name = TENANTS[raw.0];
        let text = |value: &u8| if *value == 0 { String::new() } else { format!("v{value}") };
        let set: Set = raw.1.iter().map(text).enumerate().collect();
        let (admitted, limited) = self.model.admit(name, &set, now_ms);
        let mut labels = set.clone();
        let verdict = self.governor.admit(name, &mut labels, now_ms);
        prop_assert_eq!(matches!(verdict, Verdict::Overflow(_)), admitted.is_none());
        if let Some(admitted) = &admitted {
            labels.retain(|(_, value)| !value.is_empty());
            prop_assert_eq!(&labels, admitted);
        }
        let series = verdict.ticket().series();
        let same = self.live.entry(series).or_insert((raw.0, admitted.clone()));
        prop_assert_eq!(&*same, &(raw.0, admitted.clone()), "one series for one label set");
        prop_assert!(self.governor.touch(verdict.ticket(), 1, now_ms));
        let rooms = limited.then(|| self.model.tenants[name].rooms);
        self.known.insert(raw, Known { verdict, admitted, rooms });
        Ok(())
    }

    fn check(&self, max_series: u64, max_values: u64) -> Result<(), TestCaseError> {
        let report = self.governor.report();
        let model =
            self.model.tenants.iter().filter(|(_, tenant)| !tenant.sets.is_empty() || tenant.overflow_ms.is_some());
        let names: Vec<_> = model.clone().map(|(name, _)| *name).collect();
        prop_assert_eq!(report.tenants.iter().map(|tenant| tenant.tenant.as_str()).collect::<Vec<_>>(), names);
        for (found, (_, expected)) in report.tenants.iter().zip(model) {
            prop_assert_eq!(found.series, expected.sets.len() as u64);
            prop_assert!(max_series == 0 || found.series <= max_series);
            for (at, label) in found.labels.iter().enumerate() {
                prop_assert_eq!(label.values, expected.values(at).len() as u64);
                prop_assert!(max_values == 0 || label.values <= max_values);
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_item_counts_once_and_the_limits_hold_at_all_times(
        steps in steps(), max_series in 0..6_u64, max_values in 0..4_u64,
    ) {
        let mut run = Run::new(max_series, max_values);
        let mut now_ms = 1_000_000;
        for step in &steps {
            now_ms += step.2;
            run.step(step, now_ms)?;
            run.check(max_series, max_values)?;
        }
        prop_assert_eq!(run.items.values().sum::<u64>(), steps.len() as u64);
    }

    #[test]
    fn the_same_calls_have_the_same_answers(steps in steps(), max_series in 0..6_u64, dry_run in any::<bool>()) {
        let all = || {
            let idle = Period(Duration::from_millis(IDLE_MS as u64));
            let mut governor = governor(CardinalityConfig { idle, dry_run, ..config(max_series, 2) });
            let mut now_ms = 0;
            let mut answers = Vec::new();
            for (tenant, values, later, _) in &steps {
                now_ms += later;
                let mut labels: Set = values.iter().map(|value| format!("v {value}")).enumerate().collect();
                let verdict = governor.admit(TENANTS[*tenant], &mut labels, now_ms);
                answers.push((verdict, labels, governor.expire(now_ms)));
            }
            (answers, governor.report())
        };
        prop_assert_eq!(all(), all());
    }
}
