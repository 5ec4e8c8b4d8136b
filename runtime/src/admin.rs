//! The admin port: `/metrics`, `/livez`, `/readyz`, `/status`, `/dead-letters`, and `/NAME` of every report that a component
//! publishes with [`Health::publish`], such as `/cardinality`; and `/metrics/NAME` of what is shown with [`Health::expose`].

mod dead_letters;
mod events;
mod exposition;
mod health;
mod replay;
mod server;
mod status;

pub use exposition::{Exposition, TextFormat, TextParts};
pub use health::{Health, HealthTable, State};
pub use server::{AdminError, AdminServer};
pub use status::{ComponentStatus, Lag, Monitor, Status};

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Port of the admin listener unless configured.
pub const DEFAULT_PORT: u16 = 9464;

/// `admin`: where the process tells how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Address and port of /metrics, /metrics/derived, /livez, /readyz, /status, /cardinality and /dead-letters. Whoever reaches it may
    /// replay and drop dead letters.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, DEFAULT_PORT).into() }
    }
}
