//! Which traces are chosen of those that have spans in one second.

use std::collections::VecDeque;

use hashbrown::HashSet;

use super::known::Id;

/// Seconds of stream time in which records came, in order.
#[derive(Debug, Default)]
pub(super) struct Seconds(VecDeque<Second>);

#[derive(Debug)]
struct Second {
    /// Since the Unix epoch.
    number: i64,
    /// Its first record and its last one.
    records: (u64, u64),
    /// Until they are chosen from: the traces with spans, each once.
    traces: Vec<Id>,
    /// By rate.
    chosen: Option<Vec<HashSet<Id>>>,
}

impl Seconds {
    /// A span of a trace came in a record, the trace's first one in it. `of_trace` has its seconds so far.
    pub(super) fn span(&mut self, id: &Id, of_trace: &mut VecDeque<(i64, u64)>, number: i64, record: u64) {
        if self.0.back().is_none_or(|last| last.number != number) {
            self.0.push_back(Second { number, records: (record, record), traces: Vec::new(), chosen: None });
        }
        let Some(second) = self.0.back_mut() else { return };
        second.records.1 = record;
        match of_trace.back_mut() {
            Some((last, until)) if *last == number => *until = record,
            _ => {
                of_trace.push_back((number, record));
                if second.chosen.is_none() {
                    second.traces.push(*id);
                }
            }
        }
    }

    /// Chooses in every second whose first record is this one or an earlier one. Of the candidates, those whose ids
    /// have the greatest randomness are chosen, as a sampler by probability would; `rates` says how many.
    pub(super) fn choose(
        &mut self,
        record: u64,
        rates: impl ExactSizeIterator<Item = usize> + Clone,
        candidate: impl Fn(&Id, usize, u64) -> bool,
    ) {
        // Records are decided upon in their order, so that what is open lies behind.
        let open = self.0.iter_mut().rev().skip_while(|second| second.records.0 > record);
        for second in open.take_while(|second| second.chosen.is_none()) {
            let traces = std::mem::take(&mut second.traces);
            let choose = |(rate, most): (usize, usize)| {
                let candidates = traces.iter().filter(|id| candidate(id, rate, second.records.0));
                let mut candidates: Vec<(u64, Id)> = candidates.map(|id| (rank(id), *id)).collect();
                if most < candidates.len() {
                    candidates.select_nth_unstable(most);
                    candidates.truncate(most);
                }
                candidates.into_iter().map(|(_, id)| id).collect()
            };
            second.chosen = Some(rates.clone().enumerate().map(choose).collect());
        }
    }

    pub(super) fn is_chosen(&self, number: i64, id: &Id, rate: usize) -> bool {
        let second = self.0.binary_search_by_key(&number, |second| second.number).ok().and_then(|at| self.0.get(at));
        let chosen = second.and_then(|second| second.chosen.as_ref()?.get(rate));
        chosen.is_some_and(|chosen| chosen.contains(id))
    }

    /// Records up to this one are out of the window.
    pub(super) fn forget(&mut self, record: u64) {
        while self.0.front().is_some_and(|second| second.records.1 <= record) {
            self.0.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Least for the greatest randomness.
fn rank(id: &Id) -> u64 {
    let [.., a, b, c, d, e, f, g] = *id;
    !u64::from_be_bytes([0, a, b, c, d, e, f, g])
}
