//! What a session does now and then: commits, keeps memory in bounds, and says how it is.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use afflux_bus::{BusError, ErrorClass};

use super::Session;
use crate::admin::State;
use crate::dead_letter;
use crate::delivery::backend::Backend;
use crate::delivery::trouble::Condition;
use crate::metrics::{ComponentLabels, ReasonLabels};

impl<B: Backend> Session<B> {
    /// Commits, tries again what could not be sent, and tells how things are.
    pub(super) async fn tick(&mut self) -> Result<(), BusError> {
        self.commit().await?;
        self.send();
        self.balance()?;
        self.show();
        let newest = self.deliverer.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = dead_letter::now_ms();
        for (kind, newest_ms) in newest.iter() {
            let labels = ComponentLabels { component: self.name(), signal: kind.as_str() };
            let age_ms = now_ms.saturating_sub(newest_ms.load(Ordering::Relaxed)).max(0);
            self.deliverer.metrics.freshness_seconds.get_or_create(&labels).set(age_ms as f64 / 1000.0);
        }
        Ok(())
    }

    /// Has partitions wait that hold their share of the memory (D8); the others go on.
    pub(super) fn balance(&mut self) -> Result<(), BusError> {
        let share = self.deliverer.config.in_flight.as_usize() / self.partitions.len().max(1);
        let mut in_flight: BTreeMap<&'static str, usize> =
            self.inputs.iter().map(|input| (input.kind.as_str(), 0)).collect();
        for (partition, owned) in &mut self.partitions {
            if let Some(input) = self.inputs.iter().find(|input| input.topic == partition.topic) {
                *in_flight.entry(input.kind.as_str()).or_default() += owned.bytes;
            }
            // Whoever waits goes on only with some slack, lest every batch switch it over.
            let pause = owned.bytes >= if owned.paused { share / 2 } else { share };
            if pause != owned.paused {
                let switch = if pause { self.consumer.pause(partition) } else { self.consumer.resume(partition) };
                match switch {
                    Ok(()) => owned.paused = pause,
                    // Taken away meanwhile, as the next poll will say.
                    Err(error) if error.class() != ErrorClass::Fatal => {}
                    Err(error) => return Err(error),
                }
            }
        }
        for (signal, bytes) in in_flight {
            let labels = ComponentLabels { component: self.deliverer.backend.name(), signal };
            let gauge = self.deliverer.metrics.in_flight_bytes.get_or_create_owned(&labels);
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    /// Says how the component is.
    pub(super) fn show(&mut self) {
        let condition = self.deliverer.troubles.condition();
        let blocked = if let Condition::Blocked(reason, _) = condition { Some(reason) } else { None };
        if blocked != self.blocked {
            let gauge = |reason, value| {
                let labels = ReasonLabels { component: self.deliverer.backend.name(), reason };
                self.deliverer.metrics.blocked.get_or_create(&labels).set(value);
            };
            self.blocked.iter().for_each(|reason| gauge(reason, 0));
            blocked.iter().for_each(|reason| gauge(reason, 1));
            self.blocked = blocked;
            if let Condition::Blocked(_, error) = &condition {
                tracing::error!(component = self.name(), error, "the backend refuses everything; nothing is lost");
            }
        }
        match (&condition, self.delayed) {
            (Condition::Delayed(error), false) => {
                tracing::warn!(component = self.name(), error, "deliveries fail; trying again, nothing is lost");
            }
            (Condition::Well, true) => tracing::info!(component = self.name(), "deliveries succeed again"),
            _ => {}
        }
        self.delayed = matches!(condition, Condition::Delayed(_) | Condition::Blocked(..));
        self.context.health.set(match (&self.outage.problem, condition) {
            (Some(problem), _) => State::Failing(problem.clone()),
            (None, Condition::Blocked(_, error)) => State::Failing(error),
            (None, Condition::Delayed(error)) => State::Degraded(error),
            (None, Condition::Well) => State::Ready,
        });
    }
}
