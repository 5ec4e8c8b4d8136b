//! What is known of the traces of one partition, within a window that moves on.
//!
//! The window ends at the last record that came and begins further and further on. So of every fact, the last record
//! that told it says whether it lies in the window.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::seconds::Seconds;

/// A trace id.
pub(super) type Id = [u8; 16];

/// What is known of one trace.
#[derive(Debug)]
pub(super) struct Trace {
    /// The last record with a span of it.
    last: u64,
    /// By condition, the last record with a span for which it holds; 0 for none, since numbers begin at 1.
    held: Box<[u64]>,
    /// Seconds in which spans came, and the last record of each.
    seconds: VecDeque<(i64, u64)>,
    /// Names, and the last record that has them.
    names: HashMap<u64, u64>,
}

/// A record that came.
#[derive(Debug)]
struct Came {
    time_ms: i64,
    bytes: u64,
    traces: Vec<Id>,
    /// Names of those traces.
    names: Vec<(Id, u64)>,
}

/// What is known of all traces.
#[derive(Debug)]
pub(super) struct Known {
    conditions: usize,
    /// Those in the window.
    came: VecDeque<Came>,
    /// Number of the first of them.
    first: u64,
    bytes: u64,
    traces: HashMap<Id, Trace>,
    /// How many traces have that name.
    names: HashMap<u64, u64>,
    seconds: Option<Seconds>,
}

impl Trace {
    /// Whether a condition holds for a span since that record.
    pub(super) fn holds_since(&self, condition: usize, record: u64) -> bool {
        self.held.get(condition).is_some_and(|last| *last >= record)
    }
}

impl Known {
    /// Nothing, for so many conditions; with the seconds in which traces have spans, where rates ask for them.
    pub(super) fn new(conditions: usize, rates: bool) -> Self {
        Self {
            conditions,
            came: VecDeque::new(),
            first: 1,
            bytes: 0,
            traces: HashMap::new(),
            names: HashMap::new(),
            seconds: rates.then(Seconds::default),
        }
    }

    /// The next record, which spans follow. Answers with its number.
    pub(super) fn record(&mut self, time_ms: i64, bytes: u64) -> u64 {
        self.came.push_back(Came { time_ms, bytes, traces: Vec::new(), names: Vec::new() });
        self.bytes += bytes;
        self.first + self.came.len() as u64 - 1
    }

    /// A span of that record: the conditions that hold for it, as bits, and its name, where that counts.
    pub(super) fn span(&mut self, id: &Id, conditions: u64, name: Option<u64>) {
        let number = self.first + (self.came.len() as u64).saturating_sub(1);
        let Some(came) = self.came.back_mut() else { return };
        let none = || Trace {
            last: 0,
            held: vec![0; self.conditions].into(),
            seconds: VecDeque::new(),
            names: HashMap::new(),
        };
        let trace = self.traces.entry(*id).or_insert_with(none);
        if trace.last != number {
            trace.last = number;
            came.traces.push(*id);
            if let Some(seconds) = &mut self.seconds {
                seconds.span(id, &mut trace.seconds, came.time_ms.div_euclid(1000), number);
            }
        }
        let mut rest = conditions;
        while rest != 0 {
            trace.held[rest.trailing_zeros() as usize] = number;
            rest &= rest - 1;
        }
        if let Some(name) = name {
            let before = trace.names.insert(name, number);
            if before != Some(number) {
                came.names.push((*id, name));
            }
            if before.is_none() {
                *self.names.entry(name).or_default() += 1;
            }
        }
    }

    /// Forgets records of that time and before.
    pub(super) fn forget_until(&mut self, time_ms: i64) {
        while self.came.front().is_some_and(|came| came.time_ms <= time_ms) {
            self.forget();
        }
    }

    /// Forgets the first records, until the others have no more bytes than that.
    pub(super) fn forget_beyond(&mut self, bytes: u64) {
        while self.bytes > bytes && !self.came.is_empty() {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let Some(came) = self.came.pop_front() else { return };
        let number = self.first;
        self.first += 1;
        self.bytes -= came.bytes;
        for (id, name) in &came.names {
            let Some(trace) = self.traces.get_mut(id) else { continue };
            if trace.names.get(name) == Some(&number) {
                trace.names.remove(name);
                if let Some(count) = self.names.get_mut(name) {
                    *count -= 1;
                    if *count == 0 {
                        self.names.remove(name);
                    }
                }
            }
        }
        for id in &came.traces {
            let Some(trace) = self.traces.get_mut(id) else { continue };
            if trace.seconds.front().is_some_and(|(_, last)| *last == number) {
                trace.seconds.pop_front();
            }
            if trace.last == number {
                self.traces.remove(id);
            }
        }
        if let Some(seconds) = &mut self.seconds {
            seconds.forget(number);
        }
    }

    /// Chooses the traces of every second that begins with this record or before, where that is not done. `candidate`
    /// says whether a trace takes part in a rate, by number, given the first record of the second.
    pub(super) fn choose(
        &mut self,
        record: u64,
        rates: impl ExactSizeIterator<Item = usize> + Clone,
        candidate: impl Fn(&Trace, usize, u64) -> bool,
    ) {
        let Some(seconds) = &mut self.seconds else { return };
        seconds.choose(record, rates, |id, rate, first| {
            self.traces.get(id).is_some_and(|trace| candidate(trace, rate, first))
        });
    }

    /// What is known of a trace.
    pub(super) fn trace(&self, id: &Id) -> Option<&Trace> {
        self.traces.get(id)
    }

    /// Whether a condition holds for a span in the window.
    pub(super) fn holds(&self, trace: &Trace, condition: usize) -> bool {
        trace.holds_since(condition, self.first)
    }

    /// Whether a trace was chosen in the first second in which it has spans in the window.
    pub(super) fn is_chosen(&self, id: &Id, trace: &Trace, rate: usize) -> bool {
        let second = trace.seconds.front().map(|(second, _)| *second);
        second.zip(self.seconds.as_ref()).is_some_and(|(second, seconds)| seconds.is_chosen(second, id, rate))
    }

    /// Whether a trace has a name that fewer traces have in the window.
    pub(super) fn is_rare(&self, trace: &Trace, fewer_than: u64) -> bool {
        trace.names.keys().any(|name| self.names.get(name).is_none_or(|count| *count < fewer_than))
    }

    /// Records in the window. Where there are none, there is nothing else.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let traces: usize = self.came.iter().map(|came| came.traces.len()).sum();
        if traces == 0 {
            assert!(self.traces.is_empty() && self.names.is_empty());
            assert!(self.seconds.as_ref().is_none_or(Seconds::is_empty));
        }
        self.came.len()
    }
}
