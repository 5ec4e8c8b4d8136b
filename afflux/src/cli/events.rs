//! The arguments of `afflux events`.

use clap::Args;

use super::dead_letters::{Place, time_ms};

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Of that cluster.
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// In that namespace.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// About that pod.
    #[arg(long, value_name = "NAME")]
    pub(crate) pod: Option<String>,
    /// Warnings only.
    #[arg(long)]
    pub(crate) warnings: bool,
    /// Of then or later: so long ago, such as 2h, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time_ms)]
    pub(crate) since: i64,
    /// Goes on with those that come.
    #[arg(short, long, conflicts_with = "lake")]
    pub(crate) follow: bool,
    /// Prints every observation as a JSON line, instead of a line for each event.
    #[arg(long)]
    pub(crate) json: bool,
    /// Directory or s3:// URL of a lake to ask instead of the bus, which keeps events for a while only.
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "admin"])]
    pub(crate) lake: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}
