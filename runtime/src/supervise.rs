//! The life of a process: start every component, watch them, and drain in the direction of the data.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use afflux_bus::Bus;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::admin::{HealthTable, State};
use crate::component::{Component, ComponentError, Context, Role};
use crate::lag;
use crate::metrics::Metrics;

/// What the components of a process share.
#[derive(Clone)]
pub struct Process {
    /// The bus, which [`supervise`] closes at the end.
    pub bus: Arc<dyn Bus>,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
    /// States of the components.
    pub health: HealthTable,
    /// How long a drain may take, all roles and the bus together.
    pub shutdown_timeout: Duration,
}

/// Why a process ends with exit code 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuperviseError {
    /// A component gave up.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// A component panicked: a defect of the program.
    #[error("{component} panicked: {message}; this is a defect, please report it")]
    Panicked {
        /// Its name.
        component: &'static str,
        /// The panic's message.
        message: String,
    },
    /// The drain took too long and was cut off. Nothing acknowledged is lost: what is unfinished stays on the bus.
    #[error("{unfinished} not drained after {after:?}; raise `shutdown_timeout`, or see above what held it up")]
    DrainTimeout {
        /// Names of the components, or `bus`.
        unfinished: String,
        /// The limit.
        after: Duration,
    },
}

/// Runs the components until `stop` is cancelled, one of them fails, or all have finished.
///
/// Then drains: producers first, then processors, then sinks, so that what is in flight flows through; then the bus
/// is closed. Each component is told to stop only when those before it have returned. All of it takes
/// [`Process::shutdown_timeout`] at most. The answer is the first failure, a panic being one.
pub async fn supervise(
    process: Process,
    pipeline: Vec<(Role, Box<dyn Component>)>,
    stop: CancellationToken,
) -> Result<(), SuperviseError> {
    let subscriptions: Vec<_> = pipeline
        .iter()
        .flat_map(|(_, component)| component.subscriptions().into_iter().map(|s| (component.name(), s)))
        .collect();
    let mut running = Running::start(&process, pipeline);
    let reporter =
        lag::report_lag(Arc::clone(&process.bus), Arc::clone(&process.metrics), subscriptions, lag::DEFAULT_INTERVAL);
    tokio::select! {
        () = running.until_first_failure_or_end() => {}
        () = stop.cancelled() => tracing::info!("draining"),
        () = reporter => {}
    }
    running.drain(&process).await
}

/// Components whose tasks are alive, and the first failure so far.
struct Running {
    tasks: JoinSet<Result<(), ComponentError>>,
    alive: HashMap<Id, (Role, &'static str, AbortHandle)>,
    stops: HashMap<Role, CancellationToken>,
    health: HealthTable,
    failure: Option<SuperviseError>,
}

impl Running {
    fn start(process: &Process, pipeline: Vec<(Role, Box<dyn Component>)>) -> Self {
        let stops: HashMap<_, _> = Role::ALL.into_iter().map(|role| (role, CancellationToken::new())).collect();
        let (mut tasks, mut alive) = (JoinSet::new(), HashMap::new());
        for (role, component) in pipeline {
            let name = component.name();
            let context = Context {
                bus: Arc::clone(&process.bus),
                metrics: Arc::clone(&process.metrics),
                health: process.health.component(name),
                shutdown: stops[&role].clone(),
            };
            let handle = tasks.spawn(component.run(context));
            alive.insert(handle.id(), (role, name, handle));
        }
        Self { tasks, alive, stops, health: process.health.clone(), failure: None }
    }

    async fn until_first_failure_or_end(&mut self) {
        while self.failure.is_none() && self.join_next().await {}
    }

    /// Waits for one component to end; `false` when none is left. Cancel safe.
    async fn join_next(&mut self) -> bool {
        let Some(ended) = self.tasks.join_next_with_id().await else { return false };
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some((role, name, _)) = self.alive.remove(&id) else { return true };
        let failure = match ended {
            Ok((_, Ok(()))) => {
                let asked = self.stops[&role].is_cancelled();
                self.health.set(name, if asked { State::Stopped } else { State::Finished });
                tracing::debug!(component = name, asked, "ended");
                return true;
            }
            Ok((_, Err(error))) => SuperviseError::Component(error),
            Err(error) => SuperviseError::Panicked { component: name, message: panic_message(error) },
        };
        self.health.set(name, State::Failing(failure.to_string()));
        tracing::error!(component = name, error = %failure, "component failed");
        self.failure.get_or_insert(failure);
        true
    }

    async fn drain(mut self, process: &Process) -> Result<(), SuperviseError> {
        let after = process.shutdown_timeout;
        let deadline = Instant::now() + after;
        for role in Role::ALL {
            self.stops[&role].cancel();
            while self.alive.values().any(|(r, _, _)| *r == role) {
                if timeout_at(deadline, self.join_next()).await.is_err() {
                    return Err(self.cut_off(after));
                }
            }
        }
        if timeout_at(deadline, process.bus.close()).await.is_err() {
            let unfinished = "bus".to_owned();
            self.failure.get_or_insert(SuperviseError::DrainTimeout { unfinished, after });
        }
        self.failure.map_or(Ok(()), Err)
    }

    /// Ends what is still alive, without waiting for it.
    fn cut_off(mut self, after: Duration) -> SuperviseError {
        let mut names: Vec<_> = self.alive.values().map(|(_, name, _)| *name).collect();
        names.sort_unstable();
        self.tasks.abort_all();
        let unfinished = names.join(", ");
        tracing::error!(unfinished, ?after, "drain cut off");
        self.failure.take().unwrap_or(SuperviseError::DrainTimeout { unfinished, after })
    }
}

fn panic_message(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "cancelled".into() };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests;
