//! The table of every component: name, role, constructor.
//!
//! A new component is one line in [`COMPONENTS`] and one section in the configuration.

use afflux_bus::TopicSpec;
use afflux_processors::accumulate::Accumulate;
use afflux_processors::{ProcessorStage, default_transactional_id};
use afflux_producers::generate::Generate;
use afflux_producers::generate::send::{Protocol, Target};
use afflux_producers::kafka::KafkaSources;
use afflux_producers::otlp::OtlpReceiver;
use afflux_runtime::{Component, Role};
use afflux_sinks::parquet::ParquetSink;

use crate::cli::reachable;
use crate::config::{self, Config};
use crate::output::Misuse;

/// What a constructor answers: `None` where the configuration switches the component off.
type Built = anyhow::Result<Option<Box<dyn Component>>>;

/// A component that this program knows.
pub(crate) struct Entry {
    /// As in `/status`, the metrics and `--only`.
    pub(crate) name: &'static str,
    /// Which side of the bus it is on.
    pub(crate) role: Role,
    /// Builds it, without I/O.
    build: fn(&Config) -> Built,
}

/// Every component.
pub(crate) const COMPONENTS: &[Entry] = &[
    Entry { name: "producers.otlp", role: Role::Producers, build: otlp },
    Entry { name: "producers.generate", role: Role::Producers, build: generate },
    Entry { name: "producers.kafka", role: Role::Producers, build: kafka },
    Entry { name: "processors", role: Role::Processors, build: processors },
    Entry { name: "processors.accumulate", role: Role::Processors, build: accumulate },
    Entry { name: "sinks.parquet", role: Role::Sinks, build: parquet },
];

fn otlp(config: &Config) -> Built {
    let Some(otlp) = config.producers.otlp.on() else { return Ok(None) };
    let receiver = OtlpReceiver::new(otlp.clone(), config.topic_names(), None)?;
    Ok(Some(Box::new(receiver.cluster_of_unnamed(config.own_cluster()))))
}

/// Sends to the receiver of the same process.
fn generate(config: &Config) -> Built {
    let Some(shop) = config.producers.generate.on() else { return Ok(None) };
    let otlp = config.producers.otlp.on();
    let listen = otlp.and_then(|otlp| otlp.grpc.listen).ok_or_else(|| {
        Misuse("`producers.generate` sends to `producers.otlp.grpc`, which is switched off; switch it on".into())
    })?;
    let target = Target::new(Protocol::Grpc, &format!("http://{}", reachable(listen)))?;
    Ok(Some(Box::new(Generate::new(shop.clone(), target)?)))
}

/// Only where there are sources; whichever the bus is that they are copied to.
fn kafka(config: &Config) -> Built {
    let sources = config::sources(config)?;
    if sources.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(KafkaSources::new(sources, config.topic_names())?)))
}

fn processors(config: &Config) -> Built {
    let Some(stage) = config.processors.on() else { return Ok(None) };
    stage.validate(&config.topic_names())?;
    afflux_processors::steps::chains(stage)?;
    let mut stage = stage.clone();
    // Two processes on one host have different admin ports.
    let own = || format!("{}-{}", default_transactional_id(&stage.group), config.admin.listen.port());
    stage.transactional_id = Some(stage.transactional_id.clone().unwrap_or_else(own));
    Ok(Some(Box::new(ProcessorStage::new(stage, config.topic_names(), config.cluster()))))
}

fn accumulate(config: &Config) -> Built {
    let Some(accumulate) = config.processors.on().and_then(|processors| processors.accumulate.on()) else {
        return Ok(None);
    };
    let mut accumulate = accumulate.clone();
    let own = || format!("{}-{}", default_transactional_id(&accumulate.group), config.admin.listen.port());
    accumulate.transactional_id = Some(accumulate.transactional_id.clone().unwrap_or_else(own));
    Ok(Some(Box::new(Accumulate::new(accumulate, config.topic_names())?)))
}

fn parquet(config: &Config) -> Built {
    let Some(parquet) = config.sinks.parquet.on() else { return Ok(None) };
    Ok(Some(Box::new(ParquetSink::new(parquet.clone(), config.topic_names())?)))
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
    names.extend(
        COMPONENTS.iter().map(|entry| entry.name).filter(|name| !Role::ALL.iter().any(|r| r.as_str() == *name)),
    );
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
    let kept = afflux_bus::Cleanup::Delete {
        max_age: retention.age.map(|age| age.0),
        max_bytes: retention.bytes.map(|bytes| bytes.0),
    };
    let topic = |name: String, cleanup| TopicSpec { name: name.into(), partitions: config.topics.partitions, cleanup };
    let deleted =
        [names.ingest_spans(), names.ingest_logs(), names.spans(), names.logs(), names.metrics(), names.dead_letters()];
    let deleted = deleted.map(|name| topic(name, kept));
    let compacted = [names.objects(), names.series()].map(|name| topic(name, afflux_bus::Cleanup::Compact));
    deleted.into_iter().chain(compacted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(config: &Config, only: &[&str]) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        let selection = Selection::parse(&only).expect("known");
        build(config, &selection).expect("valid").iter().map(|(_, component)| component.name()).collect()
    }

    #[test]
    fn the_table_names_components_as_they_name_themselves() {
        let mut config = Config::default();
        config.producers.generate = afflux_runtime::config::Section::default();
        config.bus.kafka.sources =
            vec![serde_json::from_str(r#"{"name": "east", "brokers": "a:9092"}"#).expect("valid")];
        let table: Vec<_> = COMPONENTS.iter().map(|entry| entry.name).collect();
        assert_eq!(names(&config, &[]), table);
    }

    #[test]
    fn roles_and_names_select() {
        let config = Config::default();
        assert_eq!(names(&config, &["producers", "sinks"]), ["producers.otlp", "sinks.parquet"]);
        assert_eq!(names(&config, &["sinks.parquet"]), ["sinks.parquet"]);
        assert_eq!(names(&config, &["processors"]), ["processors", "processors.accumulate"]);
    }

    #[test]
    fn an_unknown_name_prints_the_known_ones() {
        let error = Selection::parse(&["sinks".into(), "sinks.parket".into()]).expect_err("unknown").to_string();
        let known = "producers, processors, sinks, producers.otlp, producers.generate, producers.kafka, processors.accumulate, sinks.parquet";
        assert_eq!(error, format!("unknown component `sinks.parket`; known: {known}"));
    }
}
