//! Reads log files: those of pods on this node, and any others.
//!
//! A thread reads files in turn, takes the wrapping of container runtimes off their lines, joins what belongs together and
//! writes OTLP requests straight from what it read. A task publishes them, and only what the bus has acknowledged moves
//! the positions on disk (D3). What is in between is bounded, and beyond that reading waits (D8).
//!
//! ```text
//! watch ─▶ engine ─▶ publish ─▶ bus
//!          │   ▲─────── acks ──────┘
//!          ├ catalog: discover, positions; identity tells files apart
//!          └ stream ─▶ segment ─▶ format ─▶ join ─▶ facts, encode
//! ```
//!
//! Every line carries the fingerprint of its file and its offset in it, by which a second copy is known.

mod board;
mod catalog;
pub mod config;
mod discover;
mod encode;
mod engine;
pub mod error;
mod facts;
mod format;
mod identity;
mod join;
mod json;
mod origin;
mod output;
mod positions;
mod publish;
mod rate;
mod segment;
mod stream;
mod timestamp;
mod unpack;
mod watch;

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use afflux_bus::{BusError, ErrorClass};
use afflux_runtime::dead_letter;
use afflux_runtime::{Backoff, Component, ComponentError, Context};
use afflux_schemas::topics::Topics;
use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use board::Board;
use catalog::Catalog;
pub use config::FilesConfig;
use config::{FilesStart, FilesWatch};
use engine::{Engine, Settings, Wake};
pub use error::FilesError;
use origin::Common;
use positions::{Loaded, Positions};
use publish::{FIRST_RETRY, LAST_RETRY, Publisher, To};
use watch::Watcher;

/// The component's name.
pub const NAME: &str = "producers.files";

/// Reports of changes that may wait for the thread. Beyond them the system gathers, and tells if it was too much.
const UNTAKEN: usize = 4;
/// Bytes of a record besides its lines: its resource, headers and what surrounds them.
const RECORD_OVERHEAD: usize = 16 * 1024;

/// The component that reads files.
///
/// While it runs, whatever is wrong with a file is told and tried again, and whatever the bus does not take is not read
/// on. On shutdown it reads no more, waits for the bus to acknowledge what was read, and writes the positions.
#[derive(Debug)]
pub struct Files {
    config: FilesConfig,
    topics: Topics,
    cluster: Option<String>,
}

impl Files {
    /// Reads the files of that configuration.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn new(config: FilesConfig, topics: Topics) -> Result<Self, FilesError> {
        config.validate()?;
        Ok(Self { config, topics, cluster: None })
    }

    /// Names the cluster of what is read.
    #[must_use]
    pub fn cluster(mut self, cluster: Option<String>) -> Self {
        self.cluster = cluster;
        self
    }

    async fn read(self, context: &Context) -> Result<(), FilesError> {
        let board = Arc::new(Board::new(context));
        let positions = self.positions()?;
        let Some((to, partitions)) = self.destination(context, &board).await? else { return Ok(()) };
        let settings = self.settings(to.producer.max_record_bytes())?;
        let common = Common {
            attributes: self.config.attributes.clone(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            cluster: self.cluster.clone().unwrap_or_default(),
            partitions,
        };
        let from_end = self.config.start_at == FilesStart::End;
        let catalog = Catalog::new(positions, common, from_end, self.config.rates().file);
        let watcher = self.watcher();
        let (wakes, waking) = std::sync::mpsc::channel();
        let (out, chunks) = unbounded_channel();
        let engine = Engine::new(settings, catalog, watcher.clone(), Arc::clone(&board), waking, out);
        let mut tasks = JoinSet::new();
        if let Some(watcher) = watcher {
            tasks.spawn(tell(watcher, wakes.clone()));
        }
        let (stop, asked) = (wakes.clone(), context.shutdown.clone());
        tasks.spawn(async move {
            asked.cancelled().await;
            let _ = stop.send(Wake::Stop);
        });
        let publisher = Publisher { to, board, shutdown: context.shutdown.clone(), wakes };
        let reading = tokio::task::spawn_blocking(|| engine.run());
        let published = publisher.run(chunks).await;
        if let Err(error) = reading.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
        Ok(published?)
    }

    fn positions(&self) -> Result<Positions, FilesError> {
        let path = &self.config.positions;
        let load = || {
            if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                fs::create_dir_all(dir)?;
            }
            Positions::load(path, dead_letter::now_ms().unsigned_abs())
        };
        let fail = |source: io::Error| FilesError::Positions { path: path.clone(), source };
        let (positions, loaded) = load().map_err(fail)?;
        if let Loaded::Damaged(aside) = loaded {
            let aside = aside.display();
            tracing::error!(%aside, "positions are damaged and were put aside; files are read from their beginning");
        }
        Ok(positions)
    }

    fn settings(&self, max_record_bytes: usize) -> Result<Settings, FilesError> {
        let FilesConfig { limits, positions_interval, poll_interval, scan_interval, .. } = &self.config;
        let mut rules = self.config.rules()?;
        // What is no UTF-8 may take three times its bytes.
        let request_bytes = limits.record_bytes.as_usize().min(max_record_bytes.saturating_sub(RECORD_OVERHEAD)).max(1);
        rules.most = rules.most.min(request_bytes).max(1);
        Ok(Settings {
            patterns: self.config.patterns()?,
            rules,
            request_bytes,
            rates: self.config.rates(),
            in_flight_bytes: limits.in_flight_bytes.as_usize(),
            positions_interval: positions_interval.0,
            poll_interval: poll_interval.0,
            scan_interval: scan_interval.0,
        })
    }

    fn watcher(&self) -> Option<Arc<Watcher>> {
        if self.config.watch == FilesWatch::Poll {
            return None;
        }
        match Watcher::new() {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "the system tells of no changes; files are polled");
                None
            }
        }
    }

    /// The topics of the bus; waits for one that is away.
    async fn destination(&self, context: &Context, board: &Board) -> Result<Option<(To, u32)>, BusError> {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let error = match self.try_destination(context).await {
                Ok(to) => {
                    board.bus(None);
                    return Ok(Some(to));
                }
                Err(error) => error,
            };
            let ErrorClass::Transient(after) = error.class() else { return Err(error) };
            board.bus(Some(error.to_string()));
            tokio::select! {
                () = backoff.wait(after) => {}
                () = context.shutdown.cancelled() => return Ok(None),
            }
        }
    }

    async fn try_destination(&self, context: &Context) -> Result<(To, u32), BusError> {
        let producer = context.bus.producer().await?;
        let (logs, dead_letters) = (self.topics.ingest_logs(), self.topics.dead_letters());
        let partitions = producer.partitions(&logs).await?;
        let dead_letters = (dead_letters.as_str().into(), producer.partitions(&dead_letters).await?);
        Ok((To { producer, logs: logs.into(), dead_letters, cluster: self.cluster.clone() }, partitions))
    }
}

/// Passes on what the system tells of changes.
async fn tell(watcher: Arc<Watcher>, wakes: Sender<Wake>) {
    let untaken = Arc::new(Semaphore::new(UNTAKEN));
    loop {
        let Ok(permit) = Arc::clone(&untaken).acquire_owned().await else { return };
        match watcher.next().await {
            Ok(changes) => {
                if wakes.send(Wake::Changed(changes, permit)).is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "changes are told no more; files are polled");
                return;
            }
        }
    }
}

/// A process of many pods needs more open files than it gets by default: as many as it may have.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, ?current, "the limit of open files cannot be raised");
    }
}

#[async_trait]
impl Component for Files {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn run(self: Box<Self>, context: Context) -> Result<(), ComponentError> {
        raise_open_files();
        self.read(&context).await.map_err(|error| ComponentError::new(NAME, error))
    }
}

#[cfg(test)]
mod tests;
