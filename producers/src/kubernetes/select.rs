//! What a list brings that has not been published, in the order in which it happened.
//!
//! Pages come in the order of names. Published in the order of resource versions, each batch can say how far it has come,
//! and a restart goes on from there. So a list is held until its end; of more than the budget allows the lowest are kept,
//! and the rest is for the next list.

use std::collections::BTreeMap;

use super::event::Observation;
use super::progress::decimal;

/// See the module.
#[derive(Debug)]
pub(super) struct Selection {
    budget: usize,
    bytes: usize,
    ordered: BTreeMap<(u64, String), Observation>,
    /// Those whose resource versions cannot be compared, in the order in which they came.
    unordered: Vec<Observation>,
    /// Nothing at or above that is held.
    cut: Option<u64>,
    /// Whether there was anything new, of interest or not.
    pub(super) any_new: bool,
}

impl Selection {
    /// Of so many bytes at most, about.
    pub(super) fn new(budget: usize) -> Self {
        Self { budget, bytes: 0, ordered: BTreeMap::new(), unordered: Vec::new(), cut: None, any_new: false }
    }

    /// Takes one in.
    pub(super) fn insert(&mut self, event: Observation) {
        let Some(version) = decimal(&event.resource_version) else {
            self.bytes += event.size();
            self.unordered.push(event);
            return;
        };
        if self.cut.is_some_and(|cut| version >= cut) {
            return;
        }
        self.bytes += event.size();
        if let Some(before) = self.ordered.insert((version, event.uid.clone()), event) {
            self.bytes -= before.size();
        }
        while self.bytes > self.budget && self.ordered.len() > 1 {
            let Some(((version, _), event)) = self.ordered.pop_last() else { break };
            self.bytes -= event.size();
            self.cut = Some(version);
        }
        // All of one version or none.
        let cut = self.cut;
        while let Some(last) = self.ordered.last_entry()
            && cut.is_some_and(|cut| last.key().0 >= cut)
        {
            self.bytes -= last.remove().size();
        }
    }

    /// Whether some were left for the next list.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    /// Those that cannot be compared, then the others from the lowest up.
    pub(super) fn into_events(self) -> impl Iterator<Item = Observation> {
        self.unordered.into_iter().chain(self.ordered.into_values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(version: &str) -> Observation {
        Observation { uid: format!("u{version}"), resource_version: version.into(), ..Observation::default() }
    }

    fn versions(selection: Selection) -> Vec<String> {
        selection.into_events().map(|event| event.resource_version).collect()
    }

    #[test]
    fn the_order_is_that_of_numbers() {
        let mut selection = Selection::new(usize::MAX);
        ["9", "100", "x7", "20", "9"].into_iter().for_each(|version| selection.insert(event(version)));
        assert!(!selection.is_cut());
        assert_eq!(versions(selection), ["x7", "9", "20", "100"]);
    }

    #[test]
    fn beyond_the_budget_the_lowest_are_kept_whatever_the_order() {
        let size = event("10").size();
        for order in [["10", "11", "12", "13", "14"], ["14", "13", "12", "11", "10"], ["12", "14", "10", "13", "11"]] {
            let mut selection = Selection::new(2 * size);
            order.into_iter().for_each(|version| selection.insert(event(version)));
            assert!(selection.is_cut());
            assert_eq!(versions(selection), ["10", "11"], "{order:?}");
        }
        let mut alone = Selection::new(1);
        alone.insert(event("10"));
        assert_eq!(versions(alone), ["10"], "one goes whatever its size");
    }
}
