//! `afflux replay`: one sink fed again.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

use afflux_bus::Bus;
use afflux_runtime::delivery::{Progress, Span};
use anyhow::bail;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::cli::{ReplayArgs, reachable};
use crate::components;
use crate::config::{self, BusKind, Config};
use crate::output::{Misuse, print};
use crate::process::start_logging;
use crate::{admin, buses};

/// Feeds a sink again; over the admin port where another process owns the bus.
pub(crate) async fn replay(args: ReplayArgs) -> anyhow::Result<()> {
    let of = Span { from_ms: args.from, until_ms: args.until };
    if of.until_ms.is_some_and(|until_ms| until_ms <= of.from_ms) {
        return Err(Misuse("`--until` is not behind `--from`; there is nothing between them".into()).into());
    }
    let Some(file) = &args.place.config else {
        return over_admin(args.place.admin.as_deref().unwrap_or(admin::DEFAULT), &args.sink, of).await;
    };
    let config = config::load(file)?;
    if config.bus.kind == BusKind::Local {
        return over_admin(&reachable(config.admin.listen).to_string(), &args.sink, of).await;
    }
    start_logging(&config)?;
    buses::validate(&config)?;
    let bus = buses::open(&config).await?;
    let result = here(&config, &bus, &args.sink, of).await;
    bus.close().await;
    result
}

async fn here(config: &Config, bus: &Arc<dyn Bus>, sink: &str, of: Span) -> anyhow::Result<()> {
    let replay = components::replay(config, sink).map_err(Misuse)?;
    let (told, mut progress) = mpsc::channel(1);
    let replaying = replay.replay(Arc::clone(bus), of, told);
    let telling = async {
        let mut teller = Teller::default();
        while let Some(progress) = progress.recv().await {
            teller.tell(&progress)?;
        }
        anyhow::Ok(())
    };
    let (replayed, told) = tokio::join!(replaying, telling);
    replayed?;
    told
}

/// A line of the admin port's answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Failed { error: String },
    Progress(Progress),
}

async fn over_admin(address: &str, sink: &str, of: Span) -> anyhow::Result<()> {
    let url = format!("{}/replay", crate::cli::admin_url(address));
    let asked = json!({"sink": sink, "from_ms": of.from_ms, "until_ms": of.until_ms});
    let answer = admin::answered(admin::client()?.post(&url).json(&asked), &url).await?;
    let (mut teller, mut done) = (Teller::default(), false);
    admin::each_line(answer, &url, |line| {
        match serde_json::from_slice(line)? {
            Line::Failed { error } => bail!(error),
            Line::Progress(progress) => {
                done = progress.done;
                teller.tell(&progress)?;
            }
        }
        Ok(())
    })
    .await?;
    if !done {
        bail!("the answer broke off; run it again, what has arrived does no harm a second time");
    }
    Ok(())
}

/// Says how far it is: on a terminal as it goes on, and its end always.
#[derive(Default)]
struct Teller {
    problem: Option<String>,
}

impl Teller {
    fn tell(&mut self, progress: &Progress) -> std::io::Result<()> {
        let Progress { records, items, dead_letters, passed_over, done, .. } = progress;
        let mut said = std::io::stderr();
        let terminal = said.is_terminal();
        if self.problem != progress.problem {
            self.problem.clone_from(&progress.problem);
            if let Some(problem) = &progress.problem {
                // Nothing is left to tell where standard error is closed.
                let _ = writeln!(said, "{}waiting: {problem}", if terminal { "\r" } else { "" });
            }
        }
        let newest = progress.newest_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default();
        let newest = std::time::UNIX_EPOCH + std::time::Duration::from_millis(newest);
        let newest = humantime::format_rfc3339_seconds(newest);
        if *done {
            let _ = if terminal { write!(said, "\r\x1b[K") } else { Ok(()) };
            let not_taken = match passed_over {
                0 => String::new(),
                count => format!(", {count} not taken, as stored already, out of order, or rejected"),
            };
            return print(&format!(
                "{records} records with {items} items delivered again, {dead_letters} dead letters{not_taken}\n"
            ));
        }
        let _ = if terminal { write!(said, "\r\x1b[K{items} items, at {newest}") } else { Ok(()) };
        said.flush()
    }
}
