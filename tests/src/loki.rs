//! A server that speaks Loki's push protocol and keeps to its documented rules, with faults on demand.
//!
//! It checks what Loki checks (labels, limits, times, order within a stream), stores what is valid of a request and
//! refuses the rest with Loki's status and words, ignores what Loki would know as sent before, and tells what it holds.
//! Queries are not its business.

mod http;
mod otlp;
mod push;
mod rules;
mod selector;
mod store;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

pub use self::rules::{Limits, Rate};
use self::store::Store;
pub use self::store::{StoredEntry, StoredStream};

/// How a server is set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether a request must name its tenant (`auth_enabled`).
    pub auth: bool,
    /// The bearer token that requests must carry.
    pub token: Option<String>,
    /// What is checked of entries.
    pub limits: Limits,
    /// How much each tenant may send.
    pub rate: Option<Rate>,
    /// The present, in nanoseconds since the Unix epoch; that of the machine where it is not said.
    pub now: Option<u64>,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An answer of that status in place of the work, with that `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// The connection ends before anything is stored.
    ResetBefore,
    /// All that is valid is stored, and the connection ends in place of the answer.
    LoseAnswer,
    /// The answer takes longer.
    Delay(Duration),
}

/// A server on a free port of the loopback. It ends when it is dropped.
#[derive(Debug)]
pub struct Loki {
    address: SocketAddr,
    state: Arc<State>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    inner: Mutex<Inner>,
    options: Options,
}

#[derive(Debug, Default)]
struct Inner {
    store: Store,
    token: Option<String>,
    faults: VecDeque<Fault>,
    /// What goes wrong until a time.
    until: Option<(Instant, Fault)>,
    requests: u64,
    statuses: BTreeMap<u16, u64>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What goes wrong with the next request.
    fn fault(&mut self) -> Option<Fault> {
        if let Some((until, fault)) = &self.until {
            if Instant::now() < *until {
                return Some(fault.clone());
            }
            self.until = None;
        }
        self.faults.pop_front()
    }
}

impl Loki {
    /// Starts a server.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let inner = Mutex::new(Inner { token: options.token.clone(), ..Inner::default() });
        let state = Arc::new(State { inner, options });
        let accepting = tokio::spawn(http::accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, accepting })
    }

    /// Where it listens, as `sinks.loki.url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests go wrong, one after another.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().faults.extend(faults);
    }

    /// Every request goes wrong for a time.
    pub fn fail_for(&self, time: Duration, fault: Fault) {
        self.state.lock().until = Some((Instant::now() + time, fault));
    }

    /// Nothing goes wrong any more.
    pub fn recover(&self) {
        let mut inner = self.state.lock();
        inner.faults.clear();
        inner.until = None;
    }

    /// From now on another token is needed.
    pub fn expect_token(&self, token: Option<&str>) {
        self.state.lock().token = token.map(str::to_owned);
    }

    /// All streams of a tenant, `fake` without authentication as Loki calls it, by their labels.
    pub fn streams(&self, tenant: &str) -> Vec<StoredStream> {
        self.state.lock().store.streams(tenant)
    }

    /// Tenants that have sent anything.
    pub fn tenants(&self) -> Vec<String> {
        self.state.lock().store.tenants()
    }

    /// Entries that it holds.
    pub fn stored(&self) -> u64 {
        self.state.lock().store.stored()
    }

    /// Entries that were refused, by Loki's word for why, however often they came.
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.state.lock().store.refused.clone()
    }

    /// Entries that were ignored because they were there already.
    pub fn deduplicated(&self) -> u64 {
        self.state.lock().store.deduplicated
    }

    /// Requests that have come, and the answers by status.
    pub fn requests(&self) -> (u64, BTreeMap<u16, u64>) {
        let inner = self.state.lock();
        (inner.requests, inner.statuses.clone())
    }
}

impl Drop for Loki {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[cfg(test)]
mod tests;
