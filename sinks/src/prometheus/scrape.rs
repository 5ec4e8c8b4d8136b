//! Derived series for those who scrape: `/metrics/derived` on the admin port.
//!
//! Every instance that runs this reads the whole series topic, without a consumer group, and shows what each series has
//! come to: values without times, as any scraped process shows them. A series is gone from the text when it has ended.
//! A new one shows zero at first, for as long as it takes to be scraped once, so that rates see its first counts.

mod config;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use afflux_bus::Received;
use afflux_runtime::admin::{Exposition, State, TextFormat, TextParts};
use afflux_runtime::followed::{self, Followed};
use afflux_runtime::{Backoff, Component, ComponentError, Context};
use afflux_schemas::topics::Topics;
use async_trait::async_trait;

pub use self::config::ScrapeConfig;
use self::table::Table;
use self::text::Text;
use super::error::PrometheusError;

/// Name of the component.
pub const NAME: &str = "sinks.scrape";
/// Behind `/metrics/`.
const PATH: &str = "derived";

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Shows what derived series have come to.
#[derive(Debug)]
pub struct Scrape {
    topic: Arc<str>,
    shared: Shared,
}

/// What is known of all series; nothing until the topic has been read to its end.
#[derive(Clone, Debug)]
struct Shared {
    config: Arc<ScrapeConfig>,
    table: Arc<RwLock<Option<Arc<RwLock<Table>>>>>,
}

impl Scrape {
    /// Of the series topic.
    ///
    /// # Errors
    /// [`PrometheusError`] names the key at fault.
    pub fn new(config: &ScrapeConfig, topics: &Topics) -> Result<Self, PrometheusError> {
        config.validate()?;
        let shared = Shared { config: Arc::new(config.clone()), table: Arc::default() };
        Ok(Self { topic: topics.series().into(), shared })
    }
}

#[async_trait]
impl Component for Scrape {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn run(self: Box<Self>, context: Context) -> Result<(), ComponentError> {
        let Context { bus, health, shutdown, .. } = context;
        health.set(State::Starting("reading the series".into()));
        health.expose(PATH, Arc::new(self.shared.clone()));
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        let load = async {
            loop {
                let (bus, topic) = (Arc::clone(&bus), Arc::clone(&self.topic));
                match Followed::load(bus, topic, self.shared.clone()).await {
                    Ok(followed) => return followed,
                    Err(error) => {
                        tracing::warn!(%error, "series cannot be read; retrying");
                        health.set(State::Failing(error.to_string()));
                        tokio::time::sleep(backoff.next(None)).await;
                    }
                }
            }
        };
        tokio::select! {
            _followed = async {
                let followed = load.await;
                health.set(State::Ready);
                std::future::pending::<()>().await;
                followed
            } => {}
            () = shutdown.cancelled() => {}
        }
        health.set(State::Stopped);
        Ok(())
    }
}

impl Shared {
    fn table(&self) -> Option<Arc<RwLock<Table>>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl followed::Table for Shared {
    type Content = Table;
    const WHAT: &'static str = "series";

    fn fresh(&self) -> Table {
        Table::new(&self.config)
    }

    fn apply(table: &mut Table, record: &Received) {
        if let Err(error) = table.apply(record) {
            tracing::warn!(partition = %record.from, offset = record.offset, %error, "no series; passed over");
        }
    }

    fn replace(&self, mut table: Table) {
        tracing::info!(series = table.len(), "series loaded");
        table.follow();
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(RwLock::new(table)));
    }

    fn update(&self, records: &[Received]) {
        let Some(table) = self.table() else { return };
        let mut table = table.write().unwrap_or_else(PoisonError::into_inner);
        records.iter().for_each(|record| Self::apply(&mut table, record));
    }
}

impl Exposition for Shared {
    fn text(&self, format: TextFormat) -> Result<TextParts, &'static str> {
        let table = self.table().ok_or("the series are still being read")?;
        Ok(Box::new(Text::new(table, format, &self.config.trace_id_label)))
    }
}
