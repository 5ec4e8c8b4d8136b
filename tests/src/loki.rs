//! A server that speaks Loki's push protocol and keeps to its documented rules, with faults on demand.
//!
//! It checks what Loki checks (labels, limits, times, order within a stream), stores what is valid of a request and
//! refuses the rest with Loki's status and words, ignores what Loki would know as sent before, and tells what it holds.
//! A gateway that checks credentials stands before it, as Loki itself knows none. Queries are not its business.

mod http;
mod otlp;
mod push;
mod rules;
mod selector;
mod store;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ::http::HeaderMap;

pub use self::rules::{Limits, Rate};
use self::store::Store;
pub use self::store::{Found, StoredEntry, StoredStream};
pub use crate::faults::Fault;
use crate::faults::Faults;
use crate::tempo::lock;
use crate::tempo::serve::Server;
pub use crate::tempo::{Access, Arrival};

/// Says whether an entry is refused; the rest of its request is stored.
pub type Refuses = fn(&StoredEntry) -> bool;

/// How a server is set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether a request must name its tenant (`auth_enabled`).
    pub auth: bool,
    /// What is checked of entries.
    pub limits: Limits,
    /// Entries that are refused for a reason of their own.
    pub refuses: Option<Refuses>,
    /// How much each tenant may send.
    pub rate: Option<Rate>,
    /// The present, in nanoseconds since the Unix epoch; that of the machine where it is not said.
    pub now: Option<u64>,
}

/// A server on a free port of the loopback. It ends when it is dropped.
#[derive(Debug)]
pub struct Loki {
    server: Server,
    state: Arc<State>,
}

/// What connections share.
#[derive(Debug)]
struct State {
    options: Options,
    access: Mutex<Access>,
    faults: Mutex<Faults>,
    /// Value of the label `app` of streams whose ingestion is blocked.
    blocked: Mutex<Option<String>>,
    store: Mutex<Store>,
    arrivals: Mutex<Vec<Arrival>>,
}

impl State {
    fn note(&self, headers: HeaderMap, outcome: &'static str) {
        lock(&self.arrivals).push(Arrival { at: Instant::now(), headers, outcome });
    }
}

impl Loki {
    /// Starts a server.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let state = Arc::new(State {
            options,
            access: Mutex::default(),
            faults: Mutex::default(),
            blocked: Mutex::default(),
            store: Mutex::default(),
            arrivals: Mutex::default(),
        });
        let server = Server::start(http::router(&state), None).await?;
        Ok(Self { server, state })
    }

    /// Where it listens, as `sinks.loki.url`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Lets in whom that says, from now on.
    pub fn admit(&self, access: Access) {
        *lock(&self.state.access) = access;
    }

    /// Blocks the ingestion of streams with that label `app`, as a policy does, from now on.
    pub fn block(&self, app: Option<&str>) {
        *lock(&self.state.blocked) = app.map(str::to_owned);
    }

    /// The next so many requests meet a fault.
    pub fn script(&self, requests: usize, fault: Fault) {
        lock(&self.state.faults).script(requests, fault);
    }

    /// Every request meets a fault, until told otherwise.
    pub fn always(&self, fault: Option<Fault>) {
        lock(&self.state.faults).always(fault);
    }

    /// About one in so many requests meets one of the faults, by that seed, until told otherwise.
    pub fn sometimes(&self, seed: u64, one_in: u32, faults: &[Fault]) {
        lock(&self.state.faults).sometimes(seed, one_in, faults);
    }

    /// Ends all connections at once, or takes note that a client is gone.
    pub fn cut(&self) {
        self.server.cut();
        lock(&self.state.store).cut();
    }

    /// Loses all that it holds.
    pub fn forget(&self) {
        *lock(&self.state.store) = Store::default();
    }

    /// Requests so far.
    pub fn arrivals(&self) -> Vec<Arrival> {
        lock(&self.state.arrivals).clone()
    }

    /// How many requests had that outcome.
    pub fn count(&self, outcome: &str) -> usize {
        lock(&self.state.arrivals).iter().filter(|arrival| arrival.outcome == outcome).count()
    }

    /// All streams of a tenant, `fake` without authentication as Loki calls it, by their labels.
    pub fn streams(&self, tenant: &str) -> Vec<StoredStream> {
        lock(&self.state.store).streams(tenant)
    }

    /// Entries of all tenants by what they are known by, and what was ignored.
    pub fn found(&self) -> Found {
        lock(&self.state.store).found.clone()
    }

    /// How many of these entries have not been stored; far cheaper than [`Self::found`].
    pub fn missing(&self, expected: &HashSet<String>) -> usize {
        let store = lock(&self.state.store);
        expected.iter().filter(|id| !store.found.entries.contains_key(*id)).count()
    }

    /// Tenants that have sent anything.
    pub fn tenants(&self) -> Vec<String> {
        lock(&self.state.store).tenants()
    }

    /// Entries that it holds.
    pub fn stored(&self) -> u64 {
        lock(&self.state.store).stored()
    }

    /// Entries that were refused, by Loki's word for why, however often they came.
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.state.store).refused.clone()
    }

    /// Entries that were ignored because they were there already.
    pub fn deduplicated(&self) -> u64 {
        lock(&self.state.store).found.deduplicated
    }
}

#[cfg(test)]
mod tests;
