//! What goes wrong.

use std::time::Duration;

/// What a request meets instead of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503.
    Unavailable,
    /// 500.
    ServerError,
    /// 429, with what it asks to wait, in whole seconds.
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
    /// One word for it, as in [`super::Arrival::outcome`].
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

/// Which request meets which.
pub(super) type Faults = crate::faults::Faults<Fault>;
