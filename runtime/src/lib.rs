//! What every stage needs and none should write twice: its lifecycle, byte budgets, telemetry, the admin
//! port and the loading of configuration.

pub mod admin;
pub mod backoff;
pub mod budget;
pub mod component;
pub mod config;
pub mod dead_letter;
pub mod delivery;
pub mod followed;
pub mod kubernetes_events;
pub mod lag;
pub mod logging;
mod metered;
pub mod metrics;
pub mod signals;
pub mod supervise;
pub mod waits;

pub use backoff::Backoff;
pub use budget::{Budget, Permit};
pub use component::{Component, ComponentError, Context, Role, Subscription};
pub use metered::metered;
pub use metrics::{Metrics, Signal};
pub use supervise::{Process, SuperviseError, supervise};
