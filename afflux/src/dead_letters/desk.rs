//! The way to the dead letters: the bus itself, or the admin port of the process that owns it.

use std::sync::Arc;

use afflux_bus::Bus;
use afflux_runtime::dead_letter::{Act, DeadLetters, Entry, LetterId, Selection, Shown};
use anyhow::Context as _;
use tokio::sync::mpsc;

use crate::cli::dead_letters::Place;
use crate::cli::{admin_url, reachable};
use crate::config::{self, BusKind};
use crate::process::start_logging;
use crate::{admin, buses};

/// Where the dead letters are.
pub(super) enum Desk {
    /// On a bus that this process has opened.
    Bus(Arc<dyn Bus>, DeadLetters),
    /// Behind an admin port.
    Admin(reqwest::Client, String),
}

/// What a desk says, one after the other.
pub(super) enum Entries {
    Bus(mpsc::Receiver<Entry>),
    Admin(reqwest::Response, Vec<u8>),
}

impl Desk {
    pub(super) async fn open(place: &Place) -> anyhow::Result<Self> {
        let Some(file) = &place.config else { return Self::admin(place.admin.as_deref().unwrap_or(admin::DEFAULT)) };
        let config = config::load(file)?;
        if config.bus.kind == BusKind::Local {
            return Self::admin(&reachable(config.admin.listen).to_string());
        }
        start_logging(&config)?;
        buses::validate(&config)?;
        let bus = buses::open(&config).await?;
        let desk = DeadLetters::new(Arc::clone(&bus), &config.topic_names());
        Ok(Self::Bus(bus, desk))
    }

    fn admin(address: &str) -> anyhow::Result<Self> {
        Ok(Self::Admin(admin::client()?, format!("{}/dead-letters", admin_url(address))))
    }

    /// Lists where there is nothing to do.
    pub(super) async fn start(&self, act: Option<Act>, selection: Selection) -> anyhow::Result<Entries> {
        let (client, url) = match self {
            Self::Bus(_, desk) => return Ok(Entries::Bus(desk.start(act, selection))),
            Self::Admin(client, url) => (client, url),
        };
        let path = match act {
            None => "list",
            Some(Act::Replay) => "replay",
            Some(Act::Drop) => "drop",
        };
        let body = serde_json::to_vec(&selection)?;
        let request = client.post(format!("{url}/{path}")).header("content-type", "application/json").body(body);
        Ok(Entries::Admin(admin::answered(request, url).await?, Vec::new()))
    }

    pub(super) async fn show(&self, id: LetterId) -> anyhow::Result<Option<Shown>> {
        let (client, url) = match self {
            Self::Bus(_, desk) => return Ok(desk.show(id).await?),
            Self::Admin(client, url) => (client, url),
        };
        let answer = client.get(format!("{url}/{id}")).send().await.with_context(|| admin::away(url))?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = admin::checked(answer, url).await?;
        Ok(Some(answer.json().await.with_context(|| format!("{url} answers something else"))?))
    }

    pub(super) async fn close(&self) {
        if let Self::Bus(bus, _) = self {
            bus.close().await;
        }
    }
}

impl Entries {
    /// `None` where the answer ends.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Entry>> {
        let (answer, rest) = match self {
            Self::Bus(entries) => return Ok(entries.recv().await),
            Self::Admin(answer, rest) => (answer, rest),
        };
        loop {
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            match answer.chunk().await? {
                Some(more) => rest.extend_from_slice(&more),
                None => return Ok(None),
            }
        }
    }
}
