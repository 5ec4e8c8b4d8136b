//! What a tenant has.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::super::sketch::Sketch;
use super::super::{CardinalityConfig, Folded, FoldedName, LabelReport, OVERFLOW_VALUE, TenantReport};
use super::hash;

/// Templates that are remembered; names of later ones are folded all the same.
const TEMPLATES: usize = 256;
/// Bytes of a template or example that are remembered.
const EXAMPLE_BYTES: usize = 512;
/// Templates that are reported.
const EXAMPLES: usize = 5;
/// A label without a value in a set.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(in super::super) struct Tenant {
    pub(super) name: Box<str>,
    /// Slots by the hash of the label set.
    pub(super) sets: HashMap<u128, u32>,
    /// Slot of the overflow series.
    pub(super) overflow: Option<u32>,
    /// Rises when there is room again.
    pub(super) epoch: u32,
    pub(super) items: u64,
    pub(super) overflow_items: u64,
    pub(super) overflowed: Sketch,
    labels: Vec<Label>,
    templates: BTreeMap<String, (Sketch, String)>,
}

/// The values of a label.
#[derive(Debug, Default)]
struct Label {
    by_hash: HashMap<u128, u32>,
    /// Hash, and how many label sets have it.
    values: Vec<(u128, u32)>,
    free: Vec<u32>,
    capped: Option<Sketch>,
}

impl Tenant {
    pub(super) fn new(name: &str, labels: usize) -> Self {
        Self {
            name: name.into(),
            sets: HashMap::new(),
            overflow: None,
            epoch: 0,
            items: 0,
            overflow_items: 0,
            overflowed: Sketch::default(),
            labels: (0..labels).map(|_| Label::default()).collect(),
            templates: BTreeMap::new(),
        }
    }

    /// Replaces values beyond the limit. Returns the hashes of the others by label, and whether any was replaced.
    pub(super) fn cap(&mut self, labels: &mut [(usize, String)], max: u64) -> (Vec<(usize, u128)>, bool) {
        let mut hashes = Vec::with_capacity(labels.len());
        let mut capped = false;
        for (at, value) in labels.iter_mut().filter(|(_, value)| !value.is_empty() && value != OVERFLOW_VALUE) {
            let Some(label) = self.labels.get_mut(*at) else { continue };
            let hash = hash(|hasher| value.hash(hasher));
            if max == 0 || (label.by_hash.len() as u64) < max || label.by_hash.contains_key(&hash) {
                hashes.push((*at, hash));
            } else {
                label.capped.get_or_insert_default().insert(hash as u64);
                OVERFLOW_VALUE.clone_into(value);
                capped = true;
            }
        }
        (hashes, capped)
    }

    /// Counts the values of a new label set.
    pub(super) fn hold(&mut self, hashes: &[(usize, u128)]) -> Box<[u32]> {
        let mut held = vec![NONE; self.labels.len()].into_boxed_slice();
        for (at, hash) in hashes {
            let label = &mut self.labels[*at];
            let before = std::mem::replace(&mut held[*at], label.hold(*hash));
            if before != NONE {
                label.release(before);
            }
        }
        held
    }

    /// Counts the values of a label set no longer.
    pub(super) fn release(&mut self, held: &[u32]) {
        let held = self.labels.iter_mut().zip(held).filter(|(_, value)| **value != NONE);
        held.for_each(|(label, value)| label.release(*value));
    }

    pub(super) fn note(&mut self, folded: Folded) {
        let Folded { mut name, mut template } = folded;
        let hash = hash(|hasher| name.hash(hasher));
        template.truncate(template.floor_char_boundary(EXAMPLE_BYTES));
        if let Some((names, _)) = self.templates.get_mut(&template) {
            names.insert(hash as u64);
        } else if self.templates.len() < TEMPLATES {
            let mut names = Sketch::default();
            names.insert(hash as u64);
            name.truncate(name.floor_char_boundary(EXAMPLE_BYTES));
            self.templates.insert(template, (names, name));
        }
    }

    /// `series` are those within the limits.
    pub(in super::super) fn report(&self, config: &CardinalityConfig, labels: &[String]) -> TenantReport {
        let label = |(name, label): (&String, &Label)| LabelReport {
            label: name.clone(),
            values: label.by_hash.len() as u64,
            max_values: config.max_values_per_label,
            capped_values: label.capped.as_ref().map_or(0, Sketch::estimate),
        };
        let folded = |(template, (names, example)): (&String, &(Sketch, String))| FoldedName {
            template: template.clone(),
            names: names.estimate(),
            example: example.clone(),
        };
        let mut folded: Vec<_> = self.templates.iter().map(folded).collect();
        folded.sort_by_key(|folded| std::cmp::Reverse(folded.names));
        folded.truncate(EXAMPLES);
        TenantReport {
            tenant: self.name.to_string(),
            series: self.sets.len() as u64,
            limited_series: self.sets.len() as u64,
            max_series: config.max_series,
            items: self.items,
            overflow_sets: self.overflowed.estimate(),
            overflow_items: self.overflow_items,
            labels: labels.iter().zip(&self.labels).map(label).collect(),
            folded,
        }
    }
}

impl Label {
    fn hold(&mut self, hash: u128) -> u32 {
        if let Some(&at) = self.by_hash.get(&hash) {
            self.values[at as usize].1 += 1;
            return at;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.values.push((0, 0));
            (self.values.len() - 1) as u32
        });
        self.values[at as usize] = (hash, 1);
        self.by_hash.insert(hash, at);
        at
    }

    fn release(&mut self, at: u32) {
        let (hash, sets) = &mut self.values[at as usize];
        *sets -= 1;
        if *sets == 0 {
            self.by_hash.remove(hash);
            self.free.push(at);
        }
    }
}
