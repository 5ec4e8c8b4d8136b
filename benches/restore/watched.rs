//! A bus that tells when a reader has come to the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::{
    Bus, BusError, Consumer, ConsumerConfig, PartitionLag, Producer, Reader, ReaderConfig, ReaderEvent, Received,
    TopicSpec, Transactional,
};
use async_trait::async_trait;
use tokio::sync::watch;

/// What a reader has read when it came to the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

/// A bus whose readers are watched.
pub(crate) struct Watched {
    bus: Arc<dyn Bus>,
    pub(crate) complete: watch::Sender<Option<Read>>,
}

impl Watched {
    pub(crate) fn new(bus: Arc<dyn Bus>) -> Arc<Self> {
        Arc::new(Self { bus, complete: watch::Sender::new(None) })
    }
}

#[async_trait]
impl Bus for Watched {
    async fn create_topics(&self, topics: &[TopicSpec]) -> Result<(), BusError> {
        self.bus.create_topics(topics).await
    }

    async fn producer(&self) -> Result<Arc<dyn Producer>, BusError> {
        self.bus.producer().await
    }

    async fn consumer(&self, config: ConsumerConfig) -> Result<Box<dyn Consumer>, BusError> {
        self.bus.consumer(config).await
    }

    async fn reader(&self, config: ReaderConfig) -> Result<Box<dyn Reader>, BusError> {
        let (began, complete) = (Instant::now(), self.complete.clone());
        Ok(Box::new(WatchedReader { reader: self.bus.reader(config).await?, began, records: 0, bytes: 0, complete }))
    }

    async fn transactional(&self, id: Arc<str>) -> Result<Box<dyn Transactional>, BusError> {
        self.bus.transactional(id).await
    }

    async fn lag(&self, group: &str, topics: &[Arc<str>]) -> Result<Vec<PartitionLag>, BusError> {
        self.bus.lag(group, topics).await
    }

    async fn close(&self) {}
}

struct WatchedReader {
    reader: Box<dyn Reader>,
    began: Instant,
    records: u64,
    bytes: u64,
    complete: watch::Sender<Option<Read>>,
}

#[async_trait]
impl Reader for WatchedReader {
    async fn next(&mut self) -> Result<ReaderEvent, BusError> {
        let event = self.reader.next().await?;
        match &event {
            ReaderEvent::Records(records) => {
                self.records += records.len() as u64;
                self.bytes += records.iter().map(Received::size).sum::<usize>() as u64;
            }
            ReaderEvent::CaughtUp(_) => {}
            ReaderEvent::Complete => {
                let took = self.began.elapsed();
                self.complete.send_replace(Some(Read { records: self.records, bytes: self.bytes, took }));
            }
        }
        Ok(event)
    }
}
