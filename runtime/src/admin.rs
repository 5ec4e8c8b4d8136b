//! The admin port: `/metrics`, `/livez`, `/readyz`, `/status`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a component says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not yet able to work; the text says what it waits for.
    Starting(String),
    /// Working.
    Ready,
    /// Alive but not able to do its work; the text says why.
    Failing(String),
    /// Finished draining.
    Stopped,
}

/// States of every component of the process.
#[derive(Clone, Debug, Default)]
pub struct HealthTable {
    states: Arc<Mutex<BTreeMap<&'static str, State>>>,
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
        self.table.states.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name, state);
    }
}
