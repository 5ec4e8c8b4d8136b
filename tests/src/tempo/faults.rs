//! What goes wrong, and when.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// What a request meets instead of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `UNAVAILABLE`, 503.
    Unavailable,
    /// `INTERNAL`, 500.
    ServerError,
    /// `RESOURCE_EXHAUSTED`, 429, with what it asks to wait.
    RateLimited(Option<Duration>),
    /// A reset connection, before anything is written.
    Reset,
    /// A reset connection, after everything is written.
    StoreAndReset,
    /// A closed connection, after everything is written.
    StoreAndClose,
    /// No answer at all, after everything is written.
    StoreAndHang,
    /// Success, but so many spans are said to be rejected.
    Partial(i64),
}

impl Fault {
    /// One word for it, as in [`super::Arrival::outcome`].
    pub fn word(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::ServerError => "server_error",
            Self::RateLimited(Some(_)) => "told_to_wait",
            Self::RateLimited(None) => "rate_limited",
            Self::Reset => "reset",
            Self::StoreAndReset => "stored_and_reset",
            Self::StoreAndClose => "stored_and_closed",
            Self::StoreAndHang => "stored_and_hung",
            Self::Partial(_) => "partial",
        }
    }
}

/// Which request meets which.
#[derive(Debug, Default)]
pub(super) struct Faults {
    scripted: VecDeque<Fault>,
    always: Option<Fault>,
    sometimes: Option<(StdRng, u32, Vec<Fault>)>,
}

impl Faults {
    pub(super) fn script(&mut self, requests: usize, fault: Fault) {
        self.scripted.extend(std::iter::repeat_n(fault, requests));
    }

    pub(super) fn always(&mut self, fault: Option<Fault>) {
        self.always = fault;
    }

    pub(super) fn sometimes(&mut self, seed: u64, one_in: u32, faults: &[Fault]) {
        let some = !faults.is_empty();
        self.sometimes = some.then(|| (StdRng::seed_from_u64(seed), one_in.max(1), faults.to_vec()));
    }

    /// That of the next request.
    pub(super) fn next(&mut self) -> Option<Fault> {
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
