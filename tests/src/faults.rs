//! What goes wrong with scripted servers, and when.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// What a request meets instead of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503, `UNAVAILABLE`.
    Unavailable,
    /// 500, `INTERNAL`.
    ServerError,
    /// 429, `RESOURCE_EXHAUSTED`, with what it asks to wait; whole seconds over HTTP.
    RateLimited(Option<Duration>),
    /// A reset connection, before anything is stored.
    Reset,
    /// A reset connection, after what is valid is stored.
    StoreAndReset,
    /// A closed connection, after what is valid is stored.
    StoreAndClose,
    /// No answer at all, after what is valid is stored.
    StoreAndHang,
}

impl Fault {
    /// One word for it, which no rule of a server has.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::ServerError => "server_error",
            Self::RateLimited(Some(_)) => "told_to_wait",
            Self::RateLimited(None) => "slowed_down",
            Self::Reset => "reset",
            Self::StoreAndReset => "stored_and_reset",
            Self::StoreAndClose => "stored_and_closed",
            Self::StoreAndHang => "stored_and_hung",
        }
    }
}

/// Faults that come in between; with them, answers are lost after the write.
pub const SOMETIMES: [Fault; 6] = [
    Fault::Reset,
    Fault::StoreAndReset,
    Fault::StoreAndClose,
    Fault::StoreAndHang,
    Fault::Unavailable,
    Fault::RateLimited(None),
];

/// Whether outages last for a whole minute: `AFFLUX_LONG=1`.
pub fn is_long() -> bool {
    std::env::var("AFFLUX_LONG").is_ok_and(|long| long == "1")
}

/// One after another: what a backend does, and for how long.
pub fn outages() -> Vec<(Fault, Duration)> {
    let long = is_long();
    let outage = Duration::from_secs(if long { 60 } else { 5 });
    let storm = Duration::from_secs(if long { 30 } else { 2 });
    vec![
        (Fault::Unavailable, outage),
        (Fault::RateLimited(None), storm),
        (Fault::RateLimited(Some(Duration::from_secs(1))), storm),
        (Fault::ServerError, outage),
        (Fault::Reset, storm),
    ]
}

/// That of `AFFLUX_SEED`, or a new one; says so.
pub fn seed() -> u64 {
    let seed = std::env::var("AFFLUX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("seed {seed}; set AFFLUX_SEED to repeat");
    seed
}

/// Which request meets which fault.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    scripted: VecDeque<Fault>,
    always: Option<Fault>,
    sometimes: Option<(StdRng, u32, Vec<Fault>)>,
}

impl Faults {
    /// The next so many requests meet that one.
    pub(crate) fn script(&mut self, requests: usize, fault: Fault) {
        self.scripted.extend(std::iter::repeat_n(fault, requests));
    }

    /// Every request does, until told otherwise.
    pub(crate) fn always(&mut self, fault: Option<Fault>) {
        self.always = fault;
    }

    /// About one in so many requests meets one of these, by that seed, until told otherwise.
    pub(crate) fn sometimes(&mut self, seed: u64, one_in: u32, faults: &[Fault]) {
        let some = !faults.is_empty();
        self.sometimes = some.then(|| (StdRng::seed_from_u64(seed), one_in.max(1), faults.to_vec()));
    }

    /// That of the next request.
    pub(crate) fn next(&mut self) -> Option<Fault> {
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
