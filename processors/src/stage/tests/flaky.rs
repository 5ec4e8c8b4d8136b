//! A bus that refuses as a test says: what the stage makes of it, and what it says of itself meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use afflux_bus::{Offset, PartitionLag, Producer, Reader, ReaderConfig, Transactional};
use afflux_runtime::admin::Monitor;

use super::sampled::found;
use super::*;
use crate::span_metrics::cardinality::{Report, TenantReport};
use crate::steps;

/// A local bus behind a switch.
struct Flaky {
    inner: Arc<dyn Bus>,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan {
    /// Transactions that are fenced, so that the member starts over.
    fences: Mutex<u32>,
    /// Nothing gets through.
    down: AtomicBool,
    /// Nothing comes.
    silent: AtomicBool,
    /// A partition that takes nothing.
    stuck: Mutex<Option<PartitionId>>,
}

impl Plan {
    fn answer(&self) -> Result<(), BusError> {
        if self.down.load(Ordering::Relaxed) { Err(BusError::Full { reason: "down by a test".into() }) } else { Ok(()) }
    }
}

#[async_trait]
impl Bus for Flaky {
    async fn create_topics(&self, topics: &[TopicSpec]) -> Result<(), BusError> {
        self.inner.create_topics(topics).await
    }

    async fn producer(&self) -> Result<Arc<dyn Producer>, BusError> {
        self.inner.producer().await
    }

    async fn consumer(&self, config: ConsumerConfig) -> Result<Box<dyn Consumer>, BusError> {
        Ok(Box::new(Member { inner: self.inner.consumer(config).await?, plan: Arc::clone(&self.plan) }))
    }

    async fn reader(&self, config: ReaderConfig) -> Result<Box<dyn Reader>, BusError> {
        self.inner.reader(config).await
    }

    async fn transactional(&self, id: Arc<str>) -> Result<Box<dyn Transactional>, BusError> {
        self.inner.transactional(id).await
    }

    async fn lag(&self, group: &str, topics: &[Arc<str>]) -> Result<Vec<PartitionLag>, BusError> {
        self.plan.answer()?;
        self.inner.lag(group, topics).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

struct Member {
    inner: Box<dyn Consumer>,
    plan: Arc<Plan>,
}

#[async_trait]
impl Consumer for Member {
    async fn poll(&mut self) -> Result<Event, BusError> {
        if self.plan.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.inner.poll().await
    }

    async fn commit(&mut self, offsets: &[Offset]) -> Result<(), BusError> {
        self.inner.commit(offsets).await
    }

    async fn transact(&mut self, outputs: Vec<Record>, offsets: &[Offset]) -> Result<(), BusError> {
        self.plan.answer()?;
        let fenced = {
            let mut fences = self.plan.fences.lock().unwrap();
            let fenced = *fences > 0;
            *fences = fences.saturating_sub(1);
            fenced
        };
        let stuck = self.plan.stuck.lock().unwrap().clone();
        let stuck = stuck.filter(|stuck| outputs.iter().any(|output| output.to == *stuck));
        let mut offsets = offsets.to_vec();
        if fenced || stuck.is_some() {
            offsets.iter_mut().for_each(|offset| offset.generation.0 -= 1);
        }
        match self.inner.transact(outputs, &offsets).await {
            Err(_) if stuck.is_some() => {
                Err(BusError::Restarted { reason: "stuck by a test".into(), partition: stuck })
            }
            result => result,
        }
    }

    async fn committed(&mut self, partition: &PartitionId) -> Result<Option<u64>, BusError> {
        self.inner.committed(partition).await
    }

    fn pause(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        self.inner.pause(partition)
    }

    fn resume(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        self.inner.resume(partition)
    }

    async fn close(self: Box<Self>) {
        self.inner.close().await;
    }
}

/// A stage that runs on a flaky bus.
struct Running {
    _dir: tempfile::TempDir,
    bus: Arc<dyn Bus>,
    plan: Arc<Plan>,
    health: HealthTable,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), ComponentError>>,
}

impl Running {
    async fn start(plan: Plan) -> Self {
        Self::start_with(plan, ProcessorsConfig::default()).await
    }

    async fn start_with(plan: Plan, config: ProcessorsConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (bus, plan) = (bus(dir.path()).await, Arc::new(plan));
        let (health, shutdown) = (HealthTable::default(), CancellationToken::new());
        let metrics = Arc::new(Metrics::new());
        let context = Context {
            bus: Arc::new(Flaky { inner: bus.clone(), plan: plan.clone() }),
            metrics: Arc::clone(&metrics),
            health: health.component(NAME),
            shutdown: shutdown.clone(),
        };
        let stage = ProcessorStage::new(config, Topics::default(), "here".into());
        let task = tokio::spawn(Box::new(stage).run(context));
        Self { _dir: dir, bus, plan, health, metrics, shutdown, task }
    }

    async fn until(&self, what: &str, is: impl Fn(&State) -> bool) {
        let waiting = async {
            while !is(&self.health.snapshot()[NAME]) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("never {what}"));
    }

    /// Stops the stage, and gives the sources of what it wrote.
    async fn stop(self) -> Vec<String> {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        read(&self.bus, Topics::default().spans()).await.iter().map(|record| header(record, HEADER_SOURCE)).collect()
    }
}

#[tokio::test]
async fn transactions_that_start_over_again_and_again_are_shown_and_repeat_nothing() {
    let stage = Running::start(Plan { fences: Mutex::new(RESTARTS + 1), ..Plan::default() }).await;
    publish(&stage.bus, 0, request("a")).await;
    stage.until("shown", |state| matches!(state, State::Failing(why) if why.contains("is over"))).await;
    stage.until("over", |state| *state == State::Ready).await;
    assert_eq!(stage.stop().await, ["afflux.ingest.spans/0/0-0"]);
}

#[tokio::test]
async fn restarts_that_leave_nothing_to_do_do_not_leave_the_stage_failing() {
    let stage = Running::start(Plan { fences: Mutex::new(RESTARTS), ..Plan::default() }).await;
    publish(&stage.bus, 0, request("a")).await;
    stage.until("shown", |state| matches!(state, State::Failing(_))).await;
    // Before it reads again, its partitions go to somebody else.
    stage.plan.silent.store(true, Ordering::Relaxed);
    stage.until("over", |state| *state == State::Ready).await;
    stage.stop().await;
}

#[tokio::test]
async fn an_outage_is_shown_until_the_bus_answers_again_and_loses_nothing() {
    let stage = Running::start(Plan::default()).await;
    stage.until("ready", |state| *state == State::Ready).await;
    stage.plan.down.store(true, Ordering::Relaxed);
    publish(&stage.bus, 1, request("a")).await;
    stage.until("shown", |state| matches!(state, State::Failing(why) if why.contains("down by a test"))).await;
    stage.plan.down.store(false, Ordering::Relaxed);
    stage.until("over", |state| *state == State::Ready).await;
    assert_eq!(stage.stop().await, ["afflux.ingest.spans/1/0-0"]);
}

#[tokio::test]
async fn a_partition_that_takes_nothing_is_set_aside_and_the_others_go_on() {
    let stuck = PartitionId::new(Topics::default().spans(), 0);
    let stage = Running::start(Plan { stuck: Mutex::new(Some(stuck)), ..Plan::default() }).await;
    publish(&stage.bus, 0, request("a")).await;
    publish(&stage.bus, 1, request("b")).await;
    let set_aside = |state: &State| matches!(state, State::Failing(why) if why.contains("spans/0 set aside: stuck by"));
    stage.until("shown", set_aside).await;
    publish(&stage.bus, 1, request("c")).await;
    // Through several attempts.
    let group: Arc<str> = ProcessorsConfig::default().group.into();
    let lag = async |partition: usize| {
        stage.bus.lag(&group, &[Topics::default().ingest_spans().into()]).await.unwrap()[partition].records()
    };
    timeout(Duration::from_secs(30), async {
        while lag(1).await > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the other partition goes on");
    assert_eq!(lag(0).await, 1);
    stage.until("still shown", set_aside).await;

    *stage.plan.stuck.lock().unwrap() = None;
    stage.until("over", |state| *state == State::Ready).await;
    assert_eq!(lag(0).await, 0);
    let mut sources = stage.stop().await;
    sources.sort_unstable();
    let one_by_one = ["afflux.ingest.spans/0/0-0", "afflux.ingest.spans/1/0-0", "afflux.ingest.spans/1/1-1"];
    let joined = ["afflux.ingest.spans/0/0-0", "afflux.ingest.spans/1/0-1"];
    assert!(sources == one_by_one || sources == joined, "{sources:?}");
}

#[tokio::test]
async fn a_dead_letter_counts_once_its_transaction_is_committed_however_often_that_is_tried() {
    let stage = Running::start(Plan { fences: Mutex::new(2), ..Plan::default() }).await;
    publish(&stage.bus, 0, Bytes::from_static(b"\x0a\xffnonsense")).await;
    let metrics = Arc::clone(&stage.metrics);
    let waiting = async {
        while !metrics.encode().contains("dead_letters_total") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), waiting).await.unwrap();
    assert!(metrics.encode().contains("dead_letters_total{component=\"processors\",reason=\"malformed\"} 1"));
    let bus = Arc::clone(&stage.bus);
    assert_eq!(read(&bus, Topics::default().dead_letters()).await.len(), 1, "counted, so committed");
    stage.stop().await;
}

#[tokio::test]
async fn the_steps_and_what_they_report_are_shown_at_the_start_and_after_a_commit() {
    let stage = Running::start(Plan::default()).await;
    stage.until("ready", |state| *state == State::Ready).await;
    let report = || -> Report { serde_json::from_value(stage.health.report("cardinality").unwrap()).unwrap() };
    assert_eq!(report(), Report::default(), "nothing has come, nothing is limited");
    publish(&stage.bus, 0, request("a")).await;
    let waiting = async {
        while report().tenants.is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), waiting).await.expect("a report after a commit");
    let TenantReport { tenant, series, items, .. } = &report().tenants[0];
    assert_eq!((&**tenant, *series, *items), ("here", 1, 1));
    let monitor = Monitor::new("1", serde_json::json!({}), stage.health.clone(), Arc::clone(&stage.metrics));
    let chain = monitor.status().components[NAME].chain.clone();
    let configured = steps::chains(&ProcessorsConfig::default()).unwrap();
    assert_eq!(chain["spans"], configured.spans.names());
    assert_eq!(chain["logs"], configured.logs.names());
    stage.stop().await;
}

/// What waits in front of the chain is neither lost nor passed twice when its partition is assigned anew.
#[tokio::test]
async fn what_waits_to_be_decided_upon_passes_once_though_transactions_start_over_and_outputs_are_away() {
    let json = r#"{
        "chain": {"spans": ["sample"], "logs": []},
        "sample": {"tail": {"decision_wait": "1s", "policies": [{"error": {}}]}},
        "commit": {"age": "5ms"}
    }"#;
    let stuck = Mutex::new(Some(PartitionId::new(Topics::default().spans(), 0)));
    let plan = Plan { fences: Mutex::new(2), stuck, ..Plan::default() };
    let stage = Running::start_with(plan, serde_json::from_str(json).unwrap()).await;
    for second in 0..10 {
        for partition in 0..2 {
            let to = PartitionId::new(Topics::default().ingest_spans(), partition);
            let (value, timestamp_ms) = (Some(request(&format!("{partition}-{second}"))), second * 1000);
            let record = Record { to, key: None, value, timestamp_ms, headers: Headers::new() };
            stage.bus.producer().await.unwrap().send(vec![record]).await.unwrap();
        }
        sleep(Duration::from_millis(20)).await;
    }
    let lag = async |partition: usize| {
        let topics = [Topics::default().ingest_spans().into()];
        stage.bus.lag("afflux-processors", &topics).await.unwrap()[partition].records()
    };
    let until = async |partition: usize| {
        let settled = async {
            while lag(partition).await > 1 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), settled).await.expect("all but the last one pass");
    };
    stage.until("shown", |state| matches!(state, State::Failing(why) if why.contains("set aside"))).await;
    until(1).await;
    assert_eq!(lag(0).await, 10);
    *stage.plan.stuck.lock().unwrap() = None;
    until(0).await;
    let expected = (0..2).flat_map(|partition| (0..9).map(move |second| (format!("{partition}-{second}"), 1)));
    assert_eq!(found(&stage.bus).await, expected.collect());
    stage.stop().await;
}
