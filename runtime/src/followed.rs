//! Tables out of compacted topics: read to their ends, then followed.

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{Bus, BusError, ErrorClass, Reader, ReaderConfig, ReaderEvent, Received};

use crate::backoff::Backoff;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// A table that others look things up in while it is filled.
pub trait Table: Clone + Send + Sync + 'static {
    /// What is in it.
    type Content: Send;
    /// What it holds, in the plural, for the log.
    const WHAT: &'static str;

    /// The same with nothing in it.
    fn fresh(&self) -> Self::Content;

    /// Takes in a record. What it makes no sense of is logged and passed over.
    fn apply(content: &mut Self::Content, record: &Received);

    /// Puts this, which holds the topic to its end, in the place of what there was.
    fn replace(&self, content: Self::Content);

    /// Takes in what is written from then on.
    fn update(&self, records: &[Received]);
}

/// A compacted topic that is followed. Dropping it ends that.
#[derive(Debug)]
pub struct Followed {
    task: tokio::task::JoinHandle<()>,
}

impl Followed {
    /// Fills the table with all that was on the topic when it is called, before it answers, and follows the topic.
    ///
    /// # Errors
    /// Of the bus; nothing is followed then.
    pub async fn load<T: Table>(bus: Arc<dyn Bus>, topic: Arc<str>, table: T) -> Result<Self, BusError> {
        let reader = read_all(&*bus, &topic, &table).await?;
        Ok(Self { task: tokio::spawn(follow(bus, topic, table, reader)) })
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads the topic to its end into content of its own, which then takes the place of what there was.
async fn read_all<T: Table>(bus: &dyn Bus, topic: &Arc<str>, table: &T) -> Result<Box<dyn Reader>, BusError> {
    let mut reader = bus.reader(ReaderConfig::new([topic.clone()])).await?;
    let (mut content, mut backoff) = (table.fresh(), Backoff::new(FIRST_RETRY, LAST_RETRY));
    loop {
        match reader.next().await {
            Ok(ReaderEvent::Records(records)) => records.iter().for_each(|record| T::apply(&mut content, record)),
            Ok(ReaderEvent::CaughtUp(_)) => {}
            Ok(ReaderEvent::Complete) => break,
            Err(error) => {
                let ErrorClass::Transient(after) = error.class() else { return Err(error) };
                tracing::warn!(%error, "{} cannot be read; retrying", T::WHAT);
                tokio::time::sleep(backoff.next(after)).await;
            }
        }
    }
    table.replace(content);
    Ok(reader)
}

/// Takes in what comes. After an error that is none of the moment, as where the topic was made anew, everything is read
/// from the beginning; until then what was known stays.
async fn follow<T: Table>(bus: Arc<dyn Bus>, topic: Arc<str>, table: T, mut reader: Box<dyn Reader>) {
    let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
    loop {
        let error = match reader.next().await {
            Ok(ReaderEvent::Records(records)) => {
                table.update(&records);
                backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
                continue;
            }
            Ok(_) => continue,
            Err(error) => error,
        };
        tracing::warn!(%error, "{} cannot be read; retrying", T::WHAT);
        let again = match error.class() {
            ErrorClass::Transient(after) => {
                tokio::time::sleep(backoff.next(after)).await;
                continue;
            }
            _ => {
                tokio::time::sleep(backoff.next(None)).await;
                read_all(&*bus, &topic, &table).await
            }
        };
        match again {
            Ok(anew) => reader = anew,
            Err(error) => {
                tracing::error!(%error, "{} cannot be read from the beginning; what is known grows old", T::WHAT);
            }
        }
    }
}
