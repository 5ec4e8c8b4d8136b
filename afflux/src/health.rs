//! `afflux health`: whether an instance is ready, told by the exit code, where there is nothing else that speaks HTTP.

use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::admin;
use crate::cli::{HealthArgs, admin_url, reachable};
use crate::output::print;

/// Health checks have a limit of their own, which is no shorter as a rule.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn health(args: HealthArgs) -> anyhow::Result<()> {
    let admin = args.admin.unwrap_or_else(of_environment);
    let url = format!("{}/{}", admin_url(&admin), if args.live { "livez" } else { "readyz" });
    let request = admin::client()?.get(&url).timeout(TIMEOUT);
    let answer = request.send().await.with_context(|| format!("no instance answers at {url}; see --admin"))?;
    let status = answer.status();
    let words = answer.text().await.unwrap_or_default();
    if !status.is_success() {
        bail!("{url} answers {status}: {}", words.trim());
    }
    Ok(print(&format!("{}\n", words.trim()))?)
}

/// Where an instance that was started with the same variables listens.
fn of_environment() -> String {
    let listen = std::env::var("AFFLUX__ADMIN__LISTEN").ok().and_then(|listen| listen.parse().ok());
    listen.map_or_else(|| admin::DEFAULT.to_owned(), |listen| reachable(listen).to_string())
}
