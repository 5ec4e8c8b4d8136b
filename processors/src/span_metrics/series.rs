//! The series that spans are counted in, by what their labels are made of.

use std::sync::Arc;

use afflux_schemas::otlp::metrics::Labels;
use hashbrown::HashMap;

use super::cardinality::{Governor, OVERFLOW_LABEL, OVERFLOW_VALUE, Report, Ticket, Verdict, limited};
use super::plan::Plan;
use super::resources::Resources;
use super::slots::Last;
use super::{CODES, KINDS};
use crate::derive::{Owner, hash_of};
use crate::intern::{Keys, Texts};

/// Keys and resources that are remembered at most, and bytes of texts. Beyond them all is forgotten at a commit, and
/// found again.
const MOST: usize = 1 << 19;
const MOST_TEXTS: usize = 64 << 20;
/// Owners that are remembered: they are looked for one by one.
const MOST_OWNERS: usize = 1000;

/// A series.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) owner: u32,
    pub(super) labels: Labels,
    /// By which its partition is chosen.
    pub(super) hash: u32,
    ticket: Ticket,
    /// What limits have made of it, as a word for it.
    pub(super) limited: Option<&'static str>,
    /// The slot that it used last.
    pub(super) slot: Last,
}

/// All series, and what finds them.
pub(super) struct AllSeries {
    pub(super) texts: Texts,
    pub(super) names: Names,
    /// Numbers of the texts of kinds and codes.
    pub(super) kinds: [u32; 6],
    pub(super) codes: [u32; 3],
    pub(super) owners: Vec<Owner>,
    pub(super) keys: Keys,
    pub(super) all: Vec<Series>,
    by_labels: HashMap<(u32, Labels), u32>,
    governor: Governor,
    /// The greatest time of records, in milliseconds since the Unix epoch.
    now_ms: i64,
    /// Whether series are kept that the governor has forgotten or would now admit.
    stale: bool,
}

impl AllSeries {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut texts = Texts::default();
        let [kinds, codes] =
            [&KINDS[..], &CODES[..]].map(|all| all.iter().map(|t| texts.intern(t.as_bytes())).collect());
        let (kinds, codes): (Vec<u32>, Vec<u32>) = (kinds, codes);
        Self {
            kinds: std::array::from_fn(|at| kinds[at]),
            codes: std::array::from_fn(|at| codes[at]),
            texts,
            names: Names::default(),
            owners: Vec::new(),
            keys: Keys::new(plan.labels.len() + 1),
            all: Vec::new(),
            by_labels: HashMap::new(),
            governor: governor(plan),
            now_ms: 0,
            stale: false,
        }
    }

    /// Number of an owner.
    #[inline]
    pub(super) fn owner(&mut self, owner: Owner) -> u32 {
        let same = |known: &Owner| {
            (Arc::ptr_eq(&known.cluster, &owner.cluster) || known.cluster == owner.cluster)
                && known.tenant == owner.tenant
        };
        let at = self.owners.iter().position(same).unwrap_or_else(|| {
            self.owners.push(owner);
            self.owners.len() - 1
        });
        at as u32
    }

    /// Adds the series of a key that is not there, unless another key has led to it.
    pub(super) fn add(&mut self, key: &[u32], plan: &Plan) -> u32 {
        let owner = key[0];
        let text = |(at, &value): (usize, &u32)| (at, self.texts.text(value).to_owned());
        let mut values: Vec<(usize, String)> = key[1..].iter().enumerate().map(text).collect();
        let tenant = self.owners[owner as usize].governed();
        let verdict = self.governor.admit(&tenant, &mut values, self.now_ms);
        let labels = match verdict {
            Verdict::Own(_) => {
                let names = self.governor.labels();
                let values = values.iter().filter(|(_, value)| !value.is_empty());
                Labels::new(values.map(|(at, value)| (names[*at].as_str(), value.as_str())))
            }
            Verdict::Overflow(_) => Labels::new([OVERFLOW_LABEL]),
        };
        let limited = limited(&verdict, &values);
        let (all, ticket) = (&mut self.all, verdict.ticket());
        let at = *self.by_labels.entry((owner, labels.clone())).or_insert_with(|| {
            let hash = hash_of(&labels);
            all.push(Series { owner, labels, hash, ticket, limited, slot: Last::default() });
            (all.len() - 1) as u32
        });
        // What a limit has made of a name is of this tenant alone.
        let changed = |at: &usize| values[*at].1 != self.texts.text(key[at + 1]) && values[*at].1 != OVERFLOW_VALUE;
        match plan.name_label.filter(changed).filter(|_| matches!(verdict, Verdict::Own(_))) {
            // Whatever has this name from now on has the key of what it folds to.
            Some(name) => self.names.learn(key[name + 1], &values[name].1, &mut self.texts),
            None => self.keys.insert(key, at),
        }
        at
    }

    /// Tells the time of a record that is counted.
    #[inline]
    pub(super) fn tell_time(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Counts items of a series since the last commit.
    pub(super) fn touch(&mut self, at: u32, items: u64) {
        self.stale |= !self.governor.touch(self.all[at as usize].ticket, items, self.now_ms);
    }

    /// Ends a commit: forgets everything but what the governor knows, where there is too much or it is out of date. Says
    /// whether it did.
    pub(super) fn settle(&mut self, plan: &Plan, resources: &Resources) -> bool {
        let expired = !self.governor.expire(self.now_ms).is_empty();
        let full = self.keys.len() > MOST
            || self.owners.len() > MOST_OWNERS
            || resources.all.len() > MOST
            || self.texts.bytes() + resources.bytes > MOST_TEXTS;
        if !(std::mem::take(&mut self.stale) || expired || full) {
            return false;
        }
        let fresh = Self::new(plan);
        let governor = std::mem::replace(&mut self.governor, governor(plan));
        *self = Self { governor, now_ms: self.now_ms, ..fresh };
        true
    }

    /// What there is and what the limits do.
    pub(super) fn report(&self) -> Report {
        self.governor.report()
    }
}

fn governor(plan: &Plan) -> Governor {
    Governor::new(plan.config.cardinality.clone(), plan.labels.iter().map(|(name, _)| &**name), plan.name_label)
}

/// Names of spans that fold to others, with the numbers of these.
#[derive(Default)]
pub(super) struct Names(HashMap<u32, u32>);

impl Names {
    /// Number of what a name folds to, as far as it is known.
    #[inline]
    pub(super) fn of(&self, name: u32) -> u32 {
        if self.0.is_empty() { name } else { self.0.get(&name).copied().unwrap_or(name) }
    }

    fn learn(&mut self, name: u32, folded: &str, texts: &mut Texts) {
        self.0.insert(name, texts.intern(folded.as_bytes()));
    }
}
