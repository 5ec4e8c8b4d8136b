//! Processors as processes, each behind a proxy of its own, on one broker.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{Bus, PartitionLag, Producer};
use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::proxy::Proxy;
use anyhow::ensure;
use tempfile::TempDir;

/// How long a member may be silent before its partitions go to others.
pub(crate) const SESSION: Duration = Duration::from_secs(4);
/// How long a member waits for an answer; shorter than a session, so that it is still a member after that.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
/// Members at most.
const SLOTS: usize = 3;
const PARTITIONS: u32 = 6;
const GROUP: &str = "exactly-once";
/// The group that adds deltas up.
const SERIES_GROUP: &str = "exactly-once-series";
/// How long the group may take to work off what is left, sessions and transactions that have to time out included.
const CATCH_UP: Duration = Duration::from_secs(90);

/// A broker and a proxy for each member.
pub(crate) struct Site {
    pub(crate) kafka: KafkaServer,
    pub(crate) proxies: Vec<Proxy>,
}

impl Site {
    /// `None` where there is no Kafka.
    pub(crate) async fn open() -> anyhow::Result<Option<Self>> {
        let mut proxies = Vec::new();
        for _ in 0..SLOTS {
            proxies.push(Proxy::bind().await?);
        }
        let kafka = tokio::task::block_in_place(|| KafkaServer::start_behind(&proxies))?;
        Ok(kafka.map(|kafka| Self { kafka, proxies }))
    }
}

/// A running member.
pub(crate) struct Member {
    /// Which proxy it is behind, and which identity it has.
    pub(crate) slot: usize,
    pub(crate) process: Afflux,
}

/// The members of one group on topics of its own.
pub(crate) struct Stage<'s> {
    pub(crate) site: &'s Site,
    pub(crate) members: Vec<Member>,
    prefix: String,
    dir: TempDir,
    bus: Arc<KafkaBus>,
}

impl<'s> Stage<'s> {
    /// Starts so many members and waits until they are ready.
    pub(crate) async fn start(site: &'s Site, prefix: &str, members: usize) -> anyhow::Result<Self> {
        let bus = KafkaBus::connect(KafkaConfig::new(site.kafka.brokers())).await?;
        let dir = tempfile::tempdir()?;
        let mut stage = Self { site, members: Vec::new(), prefix: prefix.to_owned(), dir, bus };
        for slot in 0..members {
            stage.spawn(slot)?;
        }
        let started = Instant::now();
        for Member { process, .. } in &stage.members {
            while !process.is_ready().await {
                ensure!(started.elapsed() < CATCH_UP, "not ready:\n{}", process.log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(stage)
    }

    /// Starts a member, without waiting for it.
    pub(crate) fn spawn(&mut self, slot: usize) -> anyhow::Result<()> {
        let proxy = self.site.proxies[slot].port();
        let yaml = format!(
            "bus:\n  kind: kafka\n  kafka:\n    brokers: 127.0.0.1:{proxy}\n    timeout: {}s\n    \
             transaction_timeout: 8s\n    options: {{session.timeout.ms: '{}', heartbeat.interval.ms: '300'}}\n\
             topics: {{prefix: {prefix}, partitions: {PARTITIONS}}}\n\
             processors:\n  group: {GROUP}-{prefix}\n  transactional_id: {prefix}-{slot}\n  \
             accumulate: {{group: {SERIES_GROUP}-{prefix}, transactional_id: {prefix}-series-{slot}, interval: 1s}}",
            TIMEOUT.as_secs(),
            SESSION.as_millis(),
            prefix = self.prefix,
        );
        let process = Afflux::spawn(self.dir.path(), &Options::run("processors").config(&yaml))?;
        self.members.push(Member { slot, process });
        Ok(())
    }

    /// A slot that no member has.
    pub(crate) fn free_slot(&self) -> Option<usize> {
        (0..SLOTS).find(|slot| self.members.iter().all(|member| member.slot != *slot))
    }

    /// A producer that is not behind a proxy.
    pub(crate) async fn producer(&self) -> anyhow::Result<Arc<dyn Producer>> {
        Ok(self.bus.producer().await?)
    }

    /// What the members read.
    pub(crate) fn ingest(&self) -> String {
        format!("{}.ingest.spans", self.prefix)
    }

    /// What they write.
    pub(crate) fn output(&self) -> String {
        format!("{}.spans", self.prefix)
    }

    /// Deltas of metrics, and what they add up to.
    pub(crate) fn derived(&self) -> [String; 2] {
        ["metrics", "series"].map(|name| format!("{}.{name}", self.prefix))
    }

    /// Waits until both groups have committed everything.
    pub(crate) async fn caught_up(&mut self) -> anyhow::Result<()> {
        let [metrics, _] = self.derived();
        self.spans_caught_up().await?;
        self.group_caught_up(SERIES_GROUP, metrics).await
    }

    /// Waits until the group that reads spans has committed everything.
    pub(crate) async fn spans_caught_up(&mut self) -> anyhow::Result<()> {
        self.group_caught_up(GROUP, self.ingest()).await
    }

    async fn group_caught_up(&mut self, group: &str, topic: String) -> anyhow::Result<()> {
        let (group, topics) = (format!("{group}-{}", self.prefix), [Arc::from(topic)]);
        let started = Instant::now();
        loop {
            for Member { process, .. } in &mut self.members {
                ensure!(process.is_running()?, "a member has ended by itself:\n{}", process.log());
            }
            // A broker that has just started may have no answer yet.
            let lag = self.bus.lag(&group, &topics).await;
            let left = lag.map(|lag| lag.iter().map(PartitionLag::records).sum::<u64>());
            if matches!(left, Ok(0)) {
                return Ok(());
            }
            ensure!(started.elapsed() < CATCH_UP, "{left:?} records are left after {CATCH_UP:?}:\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends all members in peace.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        for member in self.members.drain(..) {
            member.process.stop().await?;
        }
        self.bus.close().await;
        Ok(())
    }

    /// How many transactions were not committed, as the logs of all members tell.
    pub(crate) fn refusals(&self) -> usize {
        self.logs().matches("transaction not committed").count()
    }

    /// The logs of all members that there have been.
    pub(crate) fn logs(&self) -> String {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let files = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten().map(|entry| entry.path());
        let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.map(|path| format!("--- {}\n{}", path.display(), read(&path))).collect()
    }
}
