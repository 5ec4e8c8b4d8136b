//! `afflux status`: rates and lag of a running instance.

use std::time::Duration;

use std::io::IsTerminal;

use afflux_runtime::admin::Status;
use anyhow::{Context as _, bail};

use crate::cli::{StatusArgs, admin_url};
use crate::output::print;

mod table;

/// Time between the two samples that a rate is made of, and between two views of `--watch`.
const BETWEEN: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Clears the terminal and puts the cursor at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(crate) async fn status(args: StatusArgs) -> anyhow::Result<()> {
    // A proxy cannot know a loopback address.
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
    let url = format!("{}/status", admin_url(&args.admin));
    let terminal = std::io::stdout().is_terminal();
    let mut before = if args.json { None } else { Some(fetch(&client, &url).await?) };
    loop {
        if before.is_some() {
            tokio::time::sleep(BETWEEN).await;
        }
        let now = fetch(&client, &url).await?;
        let clear = if args.watch && terminal { CLEAR } else { "" };
        let text = match &before {
            None => serde_json::to_string(&now)? + "\n",
            Some(before) => table::render(before, &now, &args.admin),
        };
        print(&format!("{clear}{text}"))?;
        if !args.watch {
            return Ok(());
        }
        match before {
            None => tokio::time::sleep(BETWEEN).await,
            Some(_) => before = Some(now),
        }
    }
}

async fn fetch(client: &reqwest::Client, url: &str) -> anyhow::Result<Status> {
    let away = || format!("no instance answers at {url}; is it running, and is this its `admin.listen`? See --admin");
    let answer = client.get(url).send().await.with_context(away)?;
    if !answer.status().is_success() {
        bail!("{url} answers {}; is this the admin port of an instance? See --admin", answer.status());
    }
    answer.json().await.with_context(|| format!("{url} answers something else; is this an instance's admin port?"))
}
