//! `afflux events`: Kubernetes events of many clusters as `kubectl get events` shows those of one.

mod lake;
mod table;

use std::sync::Arc;

use afflux_bus::Bus;
use afflux_runtime::dead_letter::now_ms;
use afflux_runtime::kubernetes_events::{EventFilter, Events, KubernetesEvent, Seen};
use anyhow::bail;
use serde::Deserialize;

use self::table::Table;
use crate::admin::{DEFAULT, answered, client, each_line};
use crate::buses;
use crate::cli::{EventsArgs, admin_url, reachable};
use crate::config::{self, BusKind, Config};
use crate::output::print;
use crate::process::start_logging;

/// Shows events; over the admin port where another process owns the bus.
pub(crate) async fn events(args: EventsArgs) -> anyhow::Result<()> {
    let EventsArgs { cluster, namespace, pod, warnings, since, follow, json, lake, place } = args;
    let filter = EventFilter { cluster, namespace, pod, warnings, since_ms: since };
    let mut shown = Shown::new(&filter, json, follow);
    if let Some(url) = &lake {
        lake::events(url, &filter).await?.into_iter().try_for_each(|event| shown.take(event))?;
        return Ok(shown.complete()?);
    }
    let Some(file) = &place.config else {
        return over_admin(place.admin.as_deref().unwrap_or(DEFAULT), &filter, shown).await;
    };
    let config = config::load(file)?;
    if config.bus.kind == BusKind::Local {
        return over_admin(&reachable(config.admin.listen).to_string(), &filter, shown).await;
    }
    start_logging(&config)?;
    buses::validate(&config)?;
    let bus = buses::open(&config).await?;
    let result = here(&config, &bus, filter, shown).await;
    bus.close().await;
    result
}

async fn here(config: &Config, bus: &Arc<dyn Bus>, filter: EventFilter, mut shown: Shown) -> anyhow::Result<()> {
    let mut watch = Events::new(Arc::clone(bus), &config.topic_names()).watch(filter).await?;
    loop {
        match watch.next().await? {
            Seen::Events(events) => events.into_iter().try_for_each(|event| shown.take(event))?,
            Seen::Complete => {
                shown.complete()?;
                if !shown.follow {
                    return Ok(());
                }
            }
        }
    }
}

/// A line of the admin port's answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Failed { error: String },
    Complete { complete: bool },
    Event(Box<KubernetesEvent>),
}

async fn over_admin(address: &str, filter: &EventFilter, mut shown: Shown) -> anyhow::Result<()> {
    let url = format!("{}/events", admin_url(address));
    let mut request = client()?.get(&url);
    request = request.query(&[("since_ms", filter.since_ms)]);
    request = request.query(&[("warnings", filter.warnings), ("follow", shown.follow)]);
    let names = [("cluster", &filter.cluster), ("namespace", &filter.namespace), ("pod", &filter.pod)];
    request = request.query(&names.iter().filter_map(|(key, name)| Some((key, name.as_ref()?))).collect::<Vec<_>>());
    let (answer, mut done) = (answered(request, &url).await?, false);
    each_line(answer, &url, |line| {
        match serde_json::from_slice(line)? {
            Line::Failed { error } => bail!(error),
            Line::Complete { complete } => {
                done = complete;
                shown.complete()?;
            }
            Line::Event(event) => shown.take(*event)?,
        }
        Ok(())
    })
    .await?;
    if !done || shown.follow {
        bail!("the answer of {url} broke off");
    }
    Ok(())
}

/// What has been shown, and how.
struct Shown {
    json: bool,
    follow: bool,
    complete: bool,
    table: Table,
}

impl Shown {
    fn new(filter: &EventFilter, json: bool, follow: bool) -> Self {
        let table = Table::new(filter.cluster.is_none(), filter.namespace.is_none());
        Self { json, follow, complete: false, table }
    }

    /// One more observation. Until all that there are have come, a table needs to know them all.
    fn take(&mut self, event: KubernetesEvent) -> std::io::Result<()> {
        if self.json {
            let mut line = serde_json::to_string(&event)?;
            line.push('\n');
            return print(&line);
        }
        self.table.take(event);
        if self.complete { print(&self.table.rows(now_ms())) } else { Ok(()) }
    }

    fn complete(&mut self) -> std::io::Result<()> {
        if self.json || std::mem::replace(&mut self.complete, true) {
            return Ok(());
        }
        if self.table.is_empty() && !self.follow {
            return print("No events found.\n");
        }
        print(&self.table.rows(now_ms()))
    }
}
