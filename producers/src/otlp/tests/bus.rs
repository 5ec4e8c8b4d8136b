//! A bus in memory that acknowledges, waits or fails as a test says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use afflux_bus::{
    Bus, BusError, Consumer, ConsumerConfig, PartitionLag, Producer, Reader, ReaderConfig, Record, TopicSpec,
    Transactional,
};
use async_trait::async_trait;
use tokio::sync::watch;

/// What the bus does with a send.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// Stores and acknowledges.
    Ack,
    /// Stores calls whose records have so many bytes at most; refuses others whole.
    Limit(usize),
    /// Stores nothing and answers nothing until the mode changes.
    Hang,
    /// Fails.
    Fail(fn() -> BusError),
}

pub(crate) struct FakeBus {
    pub(crate) partitions: u32,
    mode: watch::Sender<Mode>,
    /// Sends that have begun.
    begun: watch::Sender<usize>,
    records: Mutex<Vec<Record>>,
}

impl FakeBus {
    pub(crate) fn new(partitions: u32) -> Arc<Self> {
        Arc::new(Self {
            partitions,
            mode: watch::Sender::new(Mode::Ack),
            begun: watch::Sender::new(0),
            records: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }

    /// Sends that have begun.
    pub(crate) fn sends(&self) -> usize {
        *self.begun.borrow()
    }

    /// Waits until that many sends have begun.
    pub(crate) async fn begun(&self, sends: usize) {
        let mut begun = self.begun.subscribe();
        let reached = begun.wait_for(|n| *n >= sends);
        tokio::time::timeout(Duration::from_secs(10), reached).await.expect("no such send").unwrap();
    }
}

/// The bus and its producer are one.
pub(crate) struct Handle(pub(crate) Arc<FakeBus>);

#[async_trait]
impl Bus for Handle {
    async fn create_topics(&self, _: &[TopicSpec]) -> Result<(), BusError> {
        Ok(())
    }

    async fn producer(&self) -> Result<Arc<dyn Producer>, BusError> {
        Ok(Arc::new(Handle(Arc::clone(&self.0))))
    }

    async fn consumer(&self, _: ConsumerConfig) -> Result<Box<dyn Consumer>, BusError> {
        Err(BusError::Closed)
    }

    async fn reader(&self, _: ReaderConfig) -> Result<Box<dyn Reader>, BusError> {
        Err(BusError::Closed)
    }

    async fn transactional(&self, _: Arc<str>) -> Result<Box<dyn Transactional>, BusError> {
        Err(BusError::Closed)
    }

    async fn lag(&self, _: &str, _: &[Arc<str>]) -> Result<Vec<PartitionLag>, BusError> {
        match *self.0.mode.borrow() {
            Mode::Ack | Mode::Limit(_) => Ok(Vec::new()),
            Mode::Hang => Err(BusError::TimedOut { what: "lag", after: std::time::Duration::ZERO }),
            Mode::Fail(error) => Err(error()),
        }
    }

    async fn close(&self) {}
}

#[async_trait]
impl Producer for Handle {
    fn max_record_bytes(&self) -> usize {
        match *self.0.mode.borrow() {
            Mode::Limit(limit) => limit,
            _ => usize::MAX,
        }
    }

    async fn partitions(&self, _: &str) -> Result<u32, BusError> {
        Ok(self.0.partitions)
    }

    async fn send(&self, records: Vec<Record>) -> Result<(), BusError> {
        self.0.begun.send_modify(|n| *n += 1);
        let mut mode = self.0.mode.subscribe();
        let now = *mode.wait_for(|mode| !matches!(mode, Mode::Hang)).await.map_err(|_| BusError::Closed)?;
        match now {
            Mode::Fail(error) => return Err(error()),
            Mode::Limit(limit) => {
                if let Some(large) = records.iter().find(|record| record.size() > limit) {
                    return Err(BusError::TooLarge { to: large.to.clone(), size: large.size(), limit });
                }
            }
            Mode::Ack | Mode::Hang => {}
        }
        self.0.records.lock().unwrap().extend(records);
        Ok(())
    }
}
