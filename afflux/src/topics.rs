//! `afflux topics`: creates the topics that do not exist, or checks them; `plan` and `apply` compare everything.

mod plan;

use afflux_bus::{BusError, Producer, TopicSpec};
use anyhow::{Context as _, bail};

use crate::cli::{TopicsArgs, TopicsCommand};
use crate::output::print;
use crate::process::start_logging;
use crate::{buses, components, config};

pub(crate) async fn topics(args: TopicsArgs) -> anyhow::Result<()> {
    match args.command {
        Some(TopicsCommand::Plan(file)) => return plan::plan(&file.config).await,
        Some(TopicsCommand::Apply(file)) => return plan::apply(&file.config).await,
        None => {}
    }
    let config = config::load(&args.config.context("--config is required")?)?;
    start_logging(&config)?;
    buses::validate(&config)?;
    let bus = buses::open(&config).await?;
    let specs = components::topics(&config);
    if !args.check {
        bus.create_topics(&specs).await?;
    }
    let producer = bus.producer().await?;
    let mut wrong = 0;
    for spec in &specs {
        let (line, right) = verdict(spec, producer.as_ref()).await?;
        print(&line)?;
        wrong += usize::from(!right);
    }
    drop(producer);
    bus.close().await;
    if wrong > 0 {
        bail!("{wrong} of {} topics are not as configured; see `afflux topics plan`", specs.len());
    }
    Ok(())
}

/// A line about one topic, and whether it is as configured.
async fn verdict(spec: &TopicSpec, producer: &dyn Producer) -> Result<(String, bool), BusError> {
    match producer.partitions(&spec.name).await {
        Ok(partitions) if partitions == spec.partitions => {
            Ok((format!("{}: {partitions} partitions\n", spec.name), true))
        }
        Ok(partitions) => {
            let line = format!("{}: {partitions} partitions, configured are {}\n", spec.name, spec.partitions);
            Ok((line, false))
        }
        Err(BusError::UnknownTopic { .. }) => Ok((format!("{}: missing\n", spec.name), false)),
        Err(error) => Err(error),
    }
}
