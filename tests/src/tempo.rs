//! A scripted Tempo: OTLP over gRPC and HTTP on one port, with the rules and limits of the real one, and faults on demand.
//!
//! What is refused, in which words and with which codes follows Tempo's distributor and the OTLP receiver in it; a gateway
//! that checks credentials stands before it, as Tempo itself knows none.

pub mod certificates;
mod edges;
mod rules;
pub(crate) mod serve;
mod store;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;

use self::certificates::Certificates;
use self::rules::Bucket;
use self::serve::Server;
pub use self::store::Found;
use self::store::Store;
pub use crate::faults::Fault;
use crate::faults::Faults;
use crate::oauth::Issued;

/// Says whether a span is refused, and with it the request.
pub type Refuses = fn(&Span) -> bool;

/// Limits and rules.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of a request over gRPC, after decompression.
    pub max_message_bytes: usize,
    /// Bytes that a tenant may send per second, and at once. `None`: any.
    pub rate: Option<(usize, usize)>,
    /// What an answer to too high a rate asks to wait; whole seconds over HTTP. `None`: nothing is said.
    pub retry_after: Option<Duration>,
    /// Whether a tenant must be named.
    pub multitenant: bool,
    /// Bytes of attributes' names and texts beyond which they are cut off.
    pub max_attribute_bytes: usize,
    /// Spans that are refused for a reason of their own.
    pub refuses: Option<Refuses>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // As measured at the real one: Go's own default, whatever the limit between its parts.
            max_message_bytes: 4 << 20,
            rate: None,
            retry_after: Some(Duration::from_secs(5)),
            multitenant: false,
            max_attribute_bytes: 2048,
            refuses: None,
        }
    }
}

/// Who is let in.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Everybody.
    #[default]
    Anybody,
    /// Who sends just this `Authorization`; others are told that they are unknown.
    Authorization(String),
    /// Who has a token that is valid now.
    Issued(Arc<Issued>),
    /// Nobody: who they are is known, and they may not.
    Nobody,
}

/// One request, as it was seen.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// What became of it: `stored`, or a word for the fault or the rule.
    pub outcome: &'static str,
}

/// A running server, stopped when dropped.
#[derive(Debug)]
pub struct Tempo {
    server: Server,
    state: Arc<State>,
}

/// What connections share.
#[derive(Debug)]
pub(crate) struct State {
    settings: Settings,
    access: Mutex<Access>,
    faults: Mutex<Faults>,
    /// How many spans each answer says were rejected.
    rejects: Mutex<Option<i64>>,
    store: Mutex<Store>,
    buckets: Mutex<std::collections::HashMap<String, Bucket>>,
    arrivals: Mutex<Vec<Arrival>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tempo {
    /// Listens on a free port of the loopback.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        Self::start_with(settings, None).await
    }

    /// The same with TLS; `client` says whether clients must have a certificate.
    pub async fn start_tls(settings: Settings, certificates: &Certificates, client: bool) -> anyhow::Result<Self> {
        Self::start_with(settings, Some(certificates.server(client)?)).await
    }

    async fn start_with(settings: Settings, tls: Option<serve::Tls>) -> anyhow::Result<Self> {
        let state = Arc::new(State {
            settings,
            access: Mutex::default(),
            faults: Mutex::default(),
            rejects: Mutex::default(),
            store: Mutex::default(),
            buckets: Mutex::default(),
            arrivals: Mutex::default(),
        });
        let server = Server::start(edges::router(&state), tls).await?;
        Ok(Self { server, state })
    }

    /// Where it listens, for both protocols.
    pub fn endpoint(&self) -> String {
        self.server.url()
    }

    /// Lets in whom that says, from now on.
    pub fn admit(&self, access: Access) {
        *lock(&self.state.access) = access;
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

    /// Says of every request that it stores that so many spans are rejected, until told otherwise.
    pub fn reject(&self, spans: Option<i64>) {
        *lock(&self.state.rejects) = spans;
    }

    /// Ends all connections at once.
    pub fn cut(&self) {
        self.server.cut();
    }

    /// Requests so far.
    pub fn arrivals(&self) -> Vec<Arrival> {
        lock(&self.state.arrivals).clone()
    }

    /// How many requests had that outcome.
    pub fn count(&self, outcome: &str) -> usize {
        lock(&self.state.arrivals).iter().filter(|arrival| arrival.outcome == outcome).count()
    }

    /// What a reader is given, with duplicates removed as the real one removes them.
    pub fn found(&self) -> Found {
        lock(&self.state.store).found()
    }

    /// How many of these spans have not been stored; far cheaper than [`Self::found`].
    pub fn missing(&self, expected: &HashSet<String>) -> usize {
        lock(&self.state.store).missing(expected)
    }

    /// Tenants that have stored something.
    pub fn tenants(&self) -> BTreeSet<String> {
        lock(&self.state.store).tenants()
    }
}

#[cfg(test)]
mod tests;
