//! What each component says of itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::exposition::Exposition;
use crate::metrics::Signal;

/// What a component says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not yet able to work; the text says what it waits for.
    Starting(String),
    /// Working.
    Ready,
    /// Working, but not for everybody; the text says for whom not, and why. Counts as ready: taking the whole process
    /// out of service would help nobody.
    Degraded(String),
    /// Alive but not able to do its work; the text says why.
    Failing(String),
    /// Done with what it had to do, while the process goes on.
    Finished,
    /// Finished draining.
    Stopped,
}

impl State {
    /// As `/status` and `/readyz` say it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Starting(_) => "starting",
            Self::Ready => "ready",
            Self::Degraded(_) => "degraded",
            Self::Failing(_) => "failing",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
        }
    }

    /// Whether it does what it is there for, or has done it.
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready | Self::Degraded(_) | Self::Finished)
    }

    /// Why it is not ready, or not wholly, where the component says so.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Starting(why) | Self::Degraded(why) | Self::Failing(why) => Some(why),
            Self::Ready | Self::Finished | Self::Stopped => None,
        }
    }
}

/// Steps that telemetry passes through within a component, in order, by signal.
pub(super) type Chain = BTreeMap<&'static str, Vec<&'static str>>;

/// States of every component of the process, and what they tell beside.
#[derive(Clone, Debug, Default)]
pub struct HealthTable {
    states: Arc<Mutex<BTreeMap<&'static str, State>>>,
    told: Arc<Mutex<Told>>,
}

/// What components tell beside their states.
#[derive(Default)]
struct Told {
    /// By component.
    chains: BTreeMap<&'static str, Chain>,
    /// By their own names.
    reports: BTreeMap<&'static str, Value>,
    /// By their own names.
    expositions: BTreeMap<&'static str, Arc<dyn Exposition>>,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expositions: Vec<_> = self.expositions.keys().collect();
        let Self { chains, reports, .. } = self;
        write!(f, "Told {{ chains: {chains:?}, reports: {reports:?}, expositions: {expositions:?} }}")
    }
}

impl HealthTable {
    /// The handle with which one component reports.
    pub fn component(&self, name: &'static str) -> Health {
        let health = Health { name, table: self.clone() };
        health.set(State::Starting("not started".into()));
        health
    }

    /// A copy of every state.
    pub fn snapshot(&self) -> BTreeMap<&'static str, State> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there are components and all of them are ready, or have finished.
    pub fn ready(&self) -> bool {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        !states.is_empty() && states.values().all(State::is_ready)
    }

    /// The chain of a component; empty where it has none.
    pub(super) fn chain(&self, component: &str) -> Chain {
        self.told().chains.get(component).cloned().unwrap_or_default()
    }

    /// The last report that was published under a name.
    pub fn report(&self, name: &str) -> Option<Value> {
        self.told().reports.get(name).cloned()
    }

    /// What is shown under `/metrics/NAME`.
    pub(super) fn exposition(&self, name: &str) -> Option<Arc<dyn Exposition>> {
        self.told().expositions.get(name).cloned()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says of a component what it can no longer say itself.
    pub(crate) fn set(&self, name: &'static str, state: State) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).insert(name, state);
    }
}

/// One component's entry in the [`HealthTable`].
#[derive(Clone, Debug)]
pub struct Health {
    name: &'static str,
    table: HealthTable,
}

impl Health {
    /// Reports a state.
    pub fn set(&self, state: State) {
        self.table.set(self.name, state);
    }

    /// Tells which steps a signal passes through within the component, in order. The last call for a signal counts.
    pub fn set_chain(&self, signal: Signal, steps: Vec<&'static str>) {
        self.table.told().chains.entry(self.name).or_default().insert(signal.as_str(), steps);
    }

    /// Publishes a report, which the admin port shows under `/NAME` in place of the one before. Names are the process's:
    /// whichever component publishes last under a name is heard. No secrets may be in it.
    pub fn publish(&self, name: &'static str, report: Value) {
        self.table.told().reports.insert(name, report);
    }
    /// Shows metrics under `/metrics/NAME` of the admin port.
    pub fn expose(&self, name: &'static str, metrics: Arc<dyn Exposition>) {
        self.table.told().expositions.insert(name, metrics);
    }
}
