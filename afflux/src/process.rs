//! `afflux run`, and the start and end that it shares with `afflux up`.

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{Bus, BusError, ErrorClass};
use afflux_runtime::admin::{AdminServer, Health, HealthTable, Monitor, State};
use afflux_runtime::config::redacted;
use afflux_runtime::dead_letter::DeadLetters;
use afflux_runtime::delivery::Replays;
use afflux_runtime::kubernetes_events::Events;
use afflux_runtime::{Backoff, Component, Metrics, Process, Role, logging, signals, supervise};
use tokio_util::sync::CancellationToken;

use crate::buses;
use crate::cli::RunArgs;
use crate::components::{self, Selection};
use crate::config::{self, Config};
use crate::output::Misuse;

/// Delays between attempts to reach a bus.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Row of the bus among the components of `/readyz` and `/status`.
const BUS: &str = "bus";

pub(crate) async fn run(args: RunArgs) -> anyhow::Result<()> {
    let selection = Selection::parse(&args.only)?;
    let config = config::load(&args.config)?;
    start_logging(&config)?;
    launch(&config, &selection, async |_| {}).await
}

pub(crate) fn start_logging(config: &Config) -> Result<(), logging::LogError> {
    logging::init(&config.log, std::env::var(logging::LEVEL_VARIABLE).ok().as_deref())
}

/// The selected components, everything checked that can be without I/O.
pub(crate) fn checked(config: &Config, selection: &Selection) -> anyhow::Result<Vec<(Role, Box<dyn Component>)>> {
    buses::validate(config)?;
    let pipeline = components::build(config, selection)?;
    if pipeline.is_empty() {
        return Err(Misuse("nothing to run: every selected component is switched off".into()).into());
    }
    Ok(pipeline)
}

/// Runs the selected components until a signal, a failure or their end; `beside` is dropped then.
pub(crate) async fn launch(
    config: &Config,
    selection: &Selection,
    beside: impl AsyncFnOnce(Arc<Monitor>),
) -> anyhow::Result<()> {
    let pipeline = checked(config, selection)?;
    let stop = signals::stop_on_signals()?;
    let (metrics, health) = (Arc::new(Metrics::new()), HealthTable::default());
    let bus_health = health.component(BUS);
    for (_, component) in &pipeline {
        health.component(component.name());
    }
    let shown = redacted(serde_json::to_value(config)?);
    let monitor = Arc::new(Monitor::new(env!("CARGO_PKG_VERSION"), shown, health.clone(), Arc::clone(&metrics)));
    let server = AdminServer::bind(config.admin.listen).await?;
    tracing::info!(address = %server.address(), "admin port open");
    let admin = server.serve(Arc::clone(&monitor));
    let desk = Arc::clone(&monitor);
    let work = async {
        let Some(bus) = connect(config, &bus_health, &stop).await? else { return Ok(()) };
        bus_health.set(State::Ready);
        desk.set_dead_letters(DeadLetters::new(Arc::clone(&bus), &config.topic_names()));
        let own = config.clone();
        desk.set_replays(Replays::new(Arc::clone(&bus), move |sink| components::replay(&own, sink)));
        desk.set_events(Events::new(Arc::clone(&bus), &config.topic_names()));
        let shutdown_timeout = config.shutdown_timeout.0;
        Ok(supervise(Process { bus, metrics, health, shutdown_timeout }, pipeline, stop.clone()).await?)
    };
    let aside = async { tokio::join!(admin, beside(monitor)) };
    tokio::select! {
        done = work => done,
        _ = aside => unreachable!("the admin port is served until dropped"),
    }
}

/// Opens the bus and creates the topics; waits for a bus that is down. `None` when asked to stop meanwhile.
async fn connect(config: &Config, health: &Health, stop: &CancellationToken) -> Result<Option<Arc<dyn Bus>>, BusError> {
    let Some(bus) = patiently(health, stop, async || buses::open(config).await).await? else { return Ok(None) };
    if config.bus.create_topics {
        let specs = components::topics(config);
        if patiently(health, stop, async || bus.create_topics(&specs).await).await?.is_none() {
            bus.close().await;
            return Ok(None);
        }
    }
    Ok(Some(bus))
}

/// Repeats what fails for now, until it succeeds, fails for good, or `stop`.
async fn patiently<T>(
    health: &Health,
    stop: &CancellationToken,
    attempt: impl AsyncFn() -> Result<T, BusError>,
) -> Result<Option<T>, BusError> {
    let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
    loop {
        let result = tokio::select! {
            result = attempt() => result,
            () = stop.cancelled() => return Ok(None),
        };
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let ErrorClass::Transient(given) = error.class() else { return Err(error) };
        tracing::warn!(%error, "bus not available; trying again");
        health.set(State::Starting(error.to_string()));
        tokio::select! {
            () = backoff.wait(given) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}
