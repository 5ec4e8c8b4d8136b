//! What goes wrong, and when.

use std::time::Duration;

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
pub(super) type Faults = crate::faults::Faults<Fault>;
