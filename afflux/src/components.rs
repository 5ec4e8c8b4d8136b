//! The table of every component: name, role, constructor.
//!
//! A new component is one line in [`COMPONENTS`] and one section in the configuration.

use afflux_bus::TopicSpec;
use afflux_processors::accumulate::Accumulate;
use afflux_processors::{ProcessorStage, default_transactional_id};
use afflux_producers::files::{self, Files};
use afflux_producers::generate::Generate;
use afflux_producers::generate::send::{Protocol, Target};
use afflux_producers::kafka::KafkaSources;
use afflux_producers::kubernetes::{self, KubernetesSource};
use afflux_producers::otlp::OtlpReceiver;
use afflux_runtime::delivery::{Backend, Delivery, Replay};
use afflux_runtime::{Component, Role};
use afflux_sinks::loki::{self, Loki};
use afflux_sinks::parquet::ParquetSink;
use afflux_sinks::prometheus::scrape::{self, Scrape};
use afflux_sinks::prometheus::{self, PrometheusSink};
use afflux_sinks::tempo::{self, Tempo};

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
    /// Builds it to be fed again, where that is possible.
    replay: Option<fn(&Config) -> Replayable>,
}

/// What a constructor of replays answers.
type Replayable = anyhow::Result<Option<Box<dyn Replay>>>;

/// Every component.
pub(crate) const COMPONENTS: &[Entry] = &[
    Entry { name: "producers.otlp", role: Role::Producers, build: otlp, replay: None },
    Entry { name: "producers.generate", role: Role::Producers, build: generate, replay: None },
    Entry { name: "producers.kafka", role: Role::Producers, build: kafka, replay: None },
    Entry { name: kubernetes::NAME, role: Role::Producers, build: kubernetes, replay: None },
    Entry { name: files::NAME, role: Role::Producers, build: files, replay: None },
    Entry { name: "processors", role: Role::Processors, build: processors, replay: None },
    Entry { name: "processors.accumulate", role: Role::Processors, build: accumulate, replay: None },
    Entry { name: "sinks.parquet", role: Role::Sinks, build: parquet, replay: None },
    Entry {
        name: loki::NAME,
        role: Role::Sinks,
        build: |config| component(loki(config)),
        replay: Some(|config| again(loki(config))),
    },
    Entry {
        name: tempo::NAME,
        role: Role::Sinks,
        build: |config| component(tempo(config)),
        replay: Some(|config| again(tempo(config))),
    },
    Entry {
        name: prometheus::NAME,
        role: Role::Sinks,
        build: |config| component(prometheus(config)),
        replay: Some(|config| again(prometheus(config))),
    },
    Entry { name: scrape::NAME, role: Role::Sinks, build: scraped, replay: None },
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

/// A cluster without a name of its own has that of the process.
fn kubernetes(config: &Config) -> Built {
    let Some(kubernetes) = config.producers.kubernetes.on() else { return Ok(None) };
    let mut kubernetes = kubernetes.clone();
    if kubernetes.cluster.is_empty() {
        kubernetes.cluster.clone_from(&config.cluster);
    }
    Ok(Some(Box::new(KubernetesSource::new(kubernetes, config.topic_names())?)))
}

/// Only where there are paths.
fn files(config: &Config) -> Built {
    let Some(files) = config.producers.files.on().filter(|files| files.is_on()) else { return Ok(None) };
    Ok(Some(Box::new(Files::new(files.clone(), config.topic_names())?.cluster(config.own_cluster()))))
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

fn loki(config: &Config) -> anyhow::Result<Option<Delivery<Loki>>> {
    let Some(loki) = config.sinks.loki.on() else { return Ok(None) };
    Ok(loki::sink(loki, &config.topic_names())?)
}

fn prometheus(config: &Config) -> anyhow::Result<Option<Delivery<PrometheusSink>>> {
    let Some(prometheus) = config.sinks.prometheus.on() else { return Ok(None) };
    Ok(prometheus::sink(prometheus, &config.topic_names())?)
}

fn tempo(config: &Config) -> anyhow::Result<Option<Delivery<Tempo>>> {
    let Some(tempo) = config.sinks.tempo.on() else { return Ok(None) };
    Ok(tempo::sink(tempo, &config.topic_names())?)
}

fn scraped(config: &Config) -> Built {
    let Some(scrape) = config.sinks.scrape.on() else { return Ok(None) };
    Ok(Some(Box::new(Scrape::new(scrape, &config.topic_names())?)))
}

fn component<B: Backend>(sink: anyhow::Result<Option<Delivery<B>>>) -> Built {
    Ok(sink?.map(|sink| Box::new(sink) as _))
}

fn again<B: Backend>(sink: anyhow::Result<Option<Delivery<B>>>) -> Replayable {
    Ok(sink?.map(|sink| Box::new(sink) as _))
}

/// The sink of that name (`tempo`, or `sinks.tempo`), to be fed again.
///
/// # Errors
/// There is none, or it is switched off.
pub(crate) fn replay(config: &Config, sink: &str) -> Result<Box<dyn Replay>, String> {
    let full = if sink.starts_with("sinks.") { sink.to_owned() } else { format!("sinks.{sink}") };
    let entry = COMPONENTS.iter().find(|entry| entry.name == full);
    let Some((name, replay)) = entry.and_then(|entry| Some((entry.name, entry.replay?))) else {
        let known = COMPONENTS.iter().filter(|entry| entry.replay.is_some());
        let known: Vec<_> = known.map(|entry| entry.name.trim_start_matches("sinks.")).collect();
        return Err(format!("no sink `{sink}` can be fed again; known: {}", known.join(", ")));
    };
    let built = replay(config).map_err(|error| format!("{name}: {error:#}"))?;
    built.ok_or_else(|| format!("`{name}` is switched off; configure it first"))
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
    let deleted = [
        names.ingest_spans(),
        names.ingest_logs(),
        names.ingest_events(),
        names.spans(),
        names.logs(),
        names.events(),
        names.metrics(),
        names.dead_letters(),
    ];
    let deleted = deleted.map(|name| topic(name, kept));
    let compacted = [names.objects(), names.checkpoints(), names.series()];
    let compacted = compacted.map(|name| topic(name, afflux_bus::Cleanup::Compact));
    deleted.into_iter().chain(compacted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SinksConfig;

    fn names(config: &Config, only: &[&str]) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        let selection = Selection::parse(&only).expect("known");
        build(config, &selection).expect("valid").iter().map(|(_, component)| component.name()).collect()
    }

    #[test]
    fn the_table_names_components_as_they_name_themselves() {
        let mut config = Config::default();
        config.producers.generate = afflux_runtime::config::Section::default();
        config.producers.kubernetes = afflux_runtime::config::Section::default();
        let SinksConfig { loki, tempo, prometheus, scrape, .. } = &mut config.sinks;
        *loki = serde_json::from_str(r#"{"url": "http://a:3100"}"#).expect("valid");
        *prometheus = serde_json::from_str(r#"{"url": "http://a:9090"}"#).expect("valid");
        *tempo = serde_json::from_str(r#"{"endpoint": "http://a:4317"}"#).expect("valid");
        *scrape = afflux_runtime::config::Section::default();
        config.producers.files = serde_json::from_str(r#"{"paths": ["/var/log/*.log"]}"#).expect("valid");
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
        let known = "producers, processors, sinks, producers.otlp, producers.generate, producers.kafka, producers.kubernetes, producers.files, processors.accumulate, sinks.parquet, sinks.loki, sinks.tempo, sinks.prometheus, sinks.scrape";
        assert_eq!(error, format!("unknown component `sinks.parket`; known: {known}"));
    }
}
