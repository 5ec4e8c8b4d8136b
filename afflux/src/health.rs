//! `afflux health`: whether an instance is ready, told by the exit code, where there is nothing else that speaks HTTP.

use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::admin;
use crate::cli::{HealthArgs, admin_url};
use crate::output::print;

/// Health checks have a limit of their own, which is no shorter as a rule.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn health(args: HealthArgs) -> anyhow::Result<()> {
    let url = format!("{}/{}", admin_url(&args.admin), if args.live { "livez" } else { "readyz" });
    let request = admin::client()?.get(&url).timeout(TIMEOUT);
    let answer = request.send().await.with_context(|| admin::away(&url))?;
    let status = answer.status();
    let words = answer.text().await.unwrap_or_default();
    if !status.is_success() {
        bail!("{url} answers {status}: {}", words.trim());
    }
    Ok(print(&format!("{}\n", words.trim()))?)
}
