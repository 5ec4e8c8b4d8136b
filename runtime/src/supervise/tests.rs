use std::sync::Mutex;

use afflux_bus::{
    BusError, Consumer, ConsumerConfig, PartitionId, PartitionLag, Producer, Reader, ReaderConfig, TopicSpec,
    Transactional,
};
use async_trait::async_trait;

use super::*;
use crate::component::Subscription;

type Journal = Arc<Mutex<Vec<String>>>;

/// A bus that only lags and closes.
struct LaggingBus {
    journal: Journal,
    closing_takes: Duration,
}

#[async_trait]
impl Bus for LaggingBus {
    async fn create_topics(&self, _: &[TopicSpec]) -> Result<(), BusError> {
        Err(BusError::Closed)
    }

    async fn producer(&self) -> Result<Arc<dyn Producer>, BusError> {
        Err(BusError::Closed)
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

    async fn lag(&self, group: &str, topics: &[Arc<str>]) -> Result<Vec<PartitionLag>, BusError> {
        self.journal.lock().unwrap().push(format!("lag of {group}"));
        let lag = |topic: &Arc<str>| PartitionLag {
            partition: PartitionId::new(Arc::clone(topic), 2),
            committed: Some(10),
            start: 0,
            end: 52,
        };
        Ok(topics.iter().map(lag).collect())
    }

    async fn close(&self) {
        tokio::time::sleep(self.closing_takes).await;
        self.journal.lock().unwrap().push("bus closed".into());
    }
}

/// What a part does once it has started.
#[derive(Clone, Copy, PartialEq)]
enum Act {
    /// Waits for shutdown, then drains for that long.
    Drain(Duration),
    Finish,
    Fail,
    Panic,
}

struct Part {
    name: &'static str,
    act: Act,
    journal: Journal,
}

#[async_trait]
impl Component for Part {
    fn name(&self) -> &'static str {
        self.name
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        vec![Subscription { group: format!("group-{}", self.name).into(), topics: vec!["t".into()] }]
    }

    async fn run(self: Box<Self>, context: Context) -> Result<(), ComponentError> {
        context.health.set(State::Ready);
        match self.act {
            Act::Drain(time) => {
                context.shutdown.cancelled().await;
                self.journal.lock().unwrap().push(format!("{} told", self.name));
                tokio::time::sleep(time).await;
                self.journal.lock().unwrap().push(format!("{} drained", self.name));
                Ok(())
            }
            Act::Finish => Ok(()),
            Act::Fail => Err(ComponentError::new(self.name, "disk on fire")),
            Act::Panic => panic!("index out of bounds"),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

struct Setup {
    journal: Journal,
    process: Process,
    stop: CancellationToken,
}

impl Setup {
    fn new() -> Self {
        let journal = Journal::default();
        let bus = Arc::new(LaggingBus { journal: Arc::clone(&journal), closing_takes: Duration::ZERO });
        let process = Process {
            bus,
            metrics: Arc::new(Metrics::new()),
            health: HealthTable::default(),
            shutdown_timeout: 30 * SECOND,
        };
        Self { journal, process, stop: CancellationToken::new() }
    }

    async fn run(&self, parts: &[(Role, &'static str, Act)]) -> Result<(), SuperviseError> {
        let part = |&(role, name, act): &(Role, &'static str, Act)| {
            let component: Box<dyn Component> = Box::new(Part { name, act, journal: Arc::clone(&self.journal) });
            (role, component)
        };
        supervise(self.process.clone(), parts.iter().map(part).collect(), self.stop.clone()).await
    }

    fn journal(&self) -> Vec<String> {
        self.journal.lock().unwrap().iter().filter(|line| !line.starts_with("lag")).cloned().collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_drains_in_the_direction_of_the_data_then_closes_the_bus() {
    let setup = Setup::new();
    let stopper = async {
        tokio::time::sleep(SECOND).await;
        setup.stop.cancel();
    };
    let parts = [
        (Role::Sinks, "sinks.a", Act::Drain(Duration::ZERO)),
        (Role::Processors, "processors", Act::Drain(2 * SECOND)),
        (Role::Producers, "producers.a", Act::Drain(3 * SECOND)),
    ];
    let (result, ()) = tokio::join!(setup.run(&parts), stopper);
    result.unwrap();
    let expected = ["producers.a", "processors", "sinks.a"].map(|n| [format!("{n} told"), format!("{n} drained")]);
    let expected: Vec<String> = expected.into_iter().flatten().chain(["bus closed".into()]).collect();
    assert_eq!(setup.journal(), expected);
    assert!(setup.process.health.snapshot().values().all(|state| *state == State::Stopped));
}

#[tokio::test(start_paused = true)]
async fn one_failure_drains_the_others_and_is_the_answer() {
    let setup = Setup::new();
    let parts = [
        (Role::Producers, "producers.a", Act::Drain(SECOND)),
        (Role::Processors, "processors", Act::Fail),
        (Role::Sinks, "sinks.a", Act::Drain(SECOND)),
    ];
    let error = setup.run(&parts).await.unwrap_err();
    assert_eq!(error.to_string(), "processors: disk on fire");
    let journal = setup.journal();
    assert!(journal.contains(&"producers.a drained".into()) && journal.contains(&"sinks.a drained".into()));
    assert_eq!(journal.last().map(String::as_str), Some("bus closed"));
    assert!(matches!(setup.process.health.snapshot()["processors"], State::Failing(_)));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_not_a_hang() {
    let setup = Setup::new();
    let parts = [(Role::Producers, "producers.a", Act::Panic), (Role::Sinks, "sinks.a", Act::Drain(Duration::ZERO))];
    let error = setup.run(&parts).await.unwrap_err();
    assert!(matches!(error, SuperviseError::Panicked { component: "producers.a", .. }));
    assert!(error.to_string().contains("index out of bounds"), "{error}");
    assert!(setup.journal().contains(&"sinks.a drained".into()));
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_takes_too_long_is_cut_off_and_names_who_held_it_up() {
    let setup = Setup::new();
    setup.stop.cancel();
    let start = Instant::now();
    let parts = [
        (Role::Producers, "producers.a", Act::Drain(20 * SECOND)),
        (Role::Processors, "processors", Act::Drain(20 * SECOND)),
        (Role::Sinks, "sinks.a", Act::Drain(SECOND)),
    ];
    let error = setup.run(&parts).await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 30);
    let SuperviseError::DrainTimeout { unfinished, after } = error else { panic!("{error}") };
    assert_eq!((unfinished.as_str(), after), ("processors, sinks.a", 30 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_does_not_close_in_time_is_named() {
    let mut setup = Setup::new();
    setup.process.bus = Arc::new(LaggingBus { journal: Journal::default(), closing_takes: 60 * SECOND });
    setup.stop.cancel();
    let error = setup.run(&[(Role::Producers, "producers.a", Act::Drain(SECOND))]).await.unwrap_err();
    assert!(matches!(&error, SuperviseError::DrainTimeout { unfinished, .. } if unfinished == "bus"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_components_all_finish_ends_well() {
    let setup = Setup::new();
    setup.run(&[(Role::Producers, "producers.a", Act::Finish)]).await.unwrap();
    assert_eq!(setup.journal(), ["bus closed"]);
    assert_eq!(setup.process.health.snapshot()["producers.a"], State::Finished);
    assert!(setup.process.health.ready(), "what has done its work keeps nobody from working");
}

#[tokio::test(start_paused = true)]
async fn lag_of_every_subscription_is_a_gauge() {
    let setup = Setup::new();
    let stopper = async {
        tokio::time::sleep(11 * SECOND).await;
        setup.stop.cancel();
    };
    let parts = [(Role::Sinks, "sinks.a", Act::Drain(Duration::ZERO))];
    let (result, ()) = tokio::join!(setup.run(&parts), stopper);
    result.unwrap();
    let readings = setup.journal.lock().unwrap().iter().filter(|line| *line == "lag of group-sinks.a").count();
    assert_eq!(readings, 3, "at 0, 5 and 10 seconds");
    let samples = setup.process.metrics.samples();
    let lag = samples.iter().find(|sample| sample.name == "lag_records").expect("gauge");
    assert_eq!((lag.label("component"), lag.label("partition"), lag.value), (Some("sinks.a"), Some("2"), 42.0));
}
