//! The table of every component: name, role, constructor.
//!
//! A new component is one line in [`COMPONENTS`] and one section in the configuration.

use std::sync::Arc;

use afflux_bus::TopicSpec;
use afflux_processors::ProcessorStage;
use afflux_runtime::{Component, Role};
use crate::config::Config;
use crate::output::Misuse;

/// A component that this program knows.
pub(crate) struct Entry {
    /// As in `/status`, the metrics and `--only`.
    pub(crate) name: &'static str,
    /// Which side of the bus it is on.
    pub(crate) role: Role,
    /// Builds it, without I/O; `None` where the configuration switches it off.
    build: fn(&Config) -> anyhow::Result<Option<Box<dyn Component>>>,
}

/// Every component.
pub(crate) const COMPONENTS: &[Entry] = &[
    Entry { name: "processors", role: Role::Processors, build: processors },
];

fn processors(config: &Config) -> anyhow::Result<Option<Box<dyn Component>>> {
    let Some(stage) = config.processors.on() else { return Ok(None) };
    Ok(Some(Box::new(ProcessorStage::new(stage.clone(), config.topic_names(), config.cluster()))))
}

/// Which components run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection(Vec<String>);

impl Selection {
    /// Whatever is configured.
    pub(crate) fn everything() -> Self {
        Self(Vec::new())
    }

    /// Roles and names of components; none at all is everything.
    pub(crate) fn parse(names: &[String]) -> Result<Self, Misuse> {
        let names: Vec<String> = names.iter().map(|name| name.trim().to_owned()).collect();
        match names.iter().find(|name| !known().contains(&name.as_str())) {
            Some(unknown) => Err(Misuse(format!("unknown component `{unknown}`; known: {}", known().join(", ")))),
            None => Ok(Self(names)),
        }
    }

    fn includes(&self, entry: &Entry) -> bool {
        self.0.is_empty() || self.0.iter().any(|name| name == entry.name || name == entry.role.as_str())
    }
}

/// Roles, then names of components that are not named like their role.
fn known() -> Vec<&'static str> {
    let mut names: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
    names.extend(COMPONENTS.iter().map(|entry| entry.name).filter(|name| !Role::ALL.iter().any(|r| r.as_str() == *name)));
    names
}

/// Builds the selected components, in the direction of the data.
pub(crate) fn build(config: &Config, selection: &Selection) -> anyhow::Result<Vec<(Role, Box<dyn Component>)>> {
    let mut pipeline = Vec::new();
    for entry in COMPONENTS.iter().filter(|entry| selection.includes(entry)) {
        let built = (entry.build)(config).map_err(|error| Misuse(format!("{}: {error:#}", entry.name)))?;
        pipeline.extend(built.map(|component| (entry.role, component)));
    }
    Ok(pipeline)
}

/// The topics that these components write and read.
pub(crate) fn topics(config: &Config) -> Vec<TopicSpec> {
    let names = config.topic_names();
    let retention = &config.topics.retention;
    let topic = |name: String| TopicSpec {
        name: Arc::from(name),
        partitions: config.topics.partitions,
        cleanup: afflux_bus::Cleanup::Delete {
            max_age: retention.age.map(|age| age.0),
            max_bytes: retention.bytes.map(|bytes| bytes.0),
        },
    };
    [names.ingest_spans(), names.ingest_logs(), names.spans(), names.logs(), names.dead_letters()].map(topic).into()
}

