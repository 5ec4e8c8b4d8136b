//! Which request to a scripted server meets which fault.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The faults to come, of a server's own kinds.
#[derive(Debug)]
pub(crate) struct Faults<F> {
    scripted: VecDeque<F>,
    always: Option<F>,
    sometimes: Option<(StdRng, u32, Vec<F>)>,
}

impl<F> Default for Faults<F> {
    fn default() -> Self {
        Self { scripted: VecDeque::new(), always: None, sometimes: None }
    }
}

impl<F: Copy> Faults<F> {
    /// The next so many requests meet that one.
    pub(crate) fn script(&mut self, requests: usize, fault: F) {
        self.scripted.extend(std::iter::repeat_n(fault, requests));
    }

    /// Every request does, until told otherwise.
    pub(crate) fn always(&mut self, fault: Option<F>) {
        self.always = fault;
    }

    /// About one in so many requests meets one of these, by that seed, until told otherwise.
    pub(crate) fn sometimes(&mut self, seed: u64, one_in: u32, faults: &[F]) {
        let some = !faults.is_empty();
        self.sometimes = some.then(|| (StdRng::seed_from_u64(seed), one_in.max(1), faults.to_vec()));
    }

    /// That of the next request.
    pub(crate) fn next(&mut self) -> Option<F> {
        if let Some(fault) = self.scripted.pop_front().or(self.always) {
            return Some(fault);
        }
        let (random, one_in, faults) = self.sometimes.as_mut()?;
        if random.random_range(0..*one_in) > 0 {
            return None;
        }
        faults.get(random.random_range(0..faults.len())).copied()
    }
}
