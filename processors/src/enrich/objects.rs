//! Filling the table from the objects topic.

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{Bus, BusError, ErrorClass, Reader, ReaderConfig, ReaderEvent, Received};
use afflux_runtime::Backoff;

use super::{Enricher, Shared};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// The objects topic, read to its end and then followed. Dropping it ends that.
pub(crate) struct Objects {
    task: tokio::task::JoinHandle<()>,
}

impl Objects {
    /// Fills the table with all that was on the topic when it is called, before it answers.
    ///
    /// # Errors
    /// Of the bus; nothing is followed then.
    pub(crate) async fn load(bus: Arc<dyn Bus>, topic: Arc<str>, shared: Shared) -> Result<Self, BusError> {
        let reader = read_all(&*bus, &topic, &shared).await?;
        tracing::info!(pods = shared.read().table().pods(), "objects loaded");
        Ok(Self { task: tokio::spawn(follow(bus, topic, shared, reader)) })
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads the topic to its end into a table of its own, which then takes the place of the one that there was.
async fn read_all(bus: &dyn Bus, topic: &Arc<str>, shared: &Shared) -> Result<Box<dyn Reader>, BusError> {
    let mut reader = bus.reader(ReaderConfig::new([topic.clone()])).await?;
    let (mut enricher, mut backoff) = (shared.fresh(), Backoff::new(FIRST_RETRY, LAST_RETRY));
    loop {
        match reader.next().await {
            Ok(ReaderEvent::Records(records)) => apply(&mut enricher, &records),
            Ok(ReaderEvent::CaughtUp(_)) => {}
            Ok(ReaderEvent::Complete) => break,
            Err(error) => {
                let ErrorClass::Transient(after) = error.class() else { return Err(error) };
                tracing::warn!(%error, "objects cannot be read; retrying");
                tokio::time::sleep(backoff.next(after)).await;
            }
        }
    }
    shared.replace(enricher);
    Ok(reader)
}

/// Takes in what comes. After an error that is none of the moment, as where the topic was made anew, everything is read
/// from the beginning; until then what was known stays.
async fn follow(bus: Arc<dyn Bus>, topic: Arc<str>, shared: Shared, mut reader: Box<dyn Reader>) {
    let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
    loop {
        let error = match reader.next().await {
            Ok(ReaderEvent::Records(records)) => {
                apply(&mut shared.write(), &records);
                backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
                continue;
            }
            Ok(_) => continue,
            Err(error) => error,
        };
        tracing::warn!(%error, "objects cannot be read; retrying");
        let again = match error.class() {
            ErrorClass::Transient(after) => {
                tokio::time::sleep(backoff.next(after)).await;
                continue;
            }
            _ => {
                tokio::time::sleep(backoff.next(None)).await;
                read_all(&*bus, &topic, &shared).await
            }
        };
        match again {
            Ok(anew) => reader = anew,
            Err(error) => tracing::error!(%error, "objects cannot be read from the beginning; what is known grows old"),
        }
    }
}

fn apply(enricher: &mut Enricher, records: &[Received]) {
    for record in records {
        let Some(key) = &record.key else { continue };
        if let Err(error) = enricher.apply(key, record.value.as_deref()) {
            tracing::warn!(partition = %record.from, offset = record.offset, %error, "no object; passed over");
        }
    }
}
