//! `afflux topics plan|apply` against a real Kafka.

use std::path::{Path, PathBuf};
use std::process::Output;

use afflux_tests::afflux::run;
use afflux_tests::kafka::KafkaServer;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ConfigSource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

struct Site {
    dir: tempfile::TempDir,
    brokers: String,
    prefix: &'static str,
}

impl Site {
    fn configured(&self, topics: &str) -> anyhow::Result<PathBuf> {
        let file = self.dir.path().join("afflux.yaml");
        let (brokers, prefix) = (&self.brokers, self.prefix);
        let yaml = format!(
            "bus: {{kind: kafka, kafka: {{brokers: '{brokers}'}}}}\ntopics: {{prefix: {prefix}, {topics}}}\nlog: {{level: error}}\n"
        );
        std::fs::write(&file, yaml)?;
        Ok(file)
    }

    fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", &self.brokers).create()?)
    }

    /// The settings that a topic has of its own.
    async fn own(&self, topic: &str) -> anyhow::Result<Vec<(String, String)>> {
        let topic = format!("{}.{topic}", self.prefix);
        let admin = self.admin()?;
        let answer = admin.describe_configs(&[ResourceSpecifier::Topic(&topic)], &AdminOptions::new()).await?;
        let mut own = Vec::new();
        for resource in answer {
            let entries = resource.map_err(|code| anyhow::anyhow!("{code}"))?.entries;
            let of_topic = entries.into_iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
            own.extend(of_topic.map(|entry| (entry.name, entry.value.unwrap_or_default())));
        }
        own.sort();
        Ok(own)
    }
}

/// Runs `afflux topics`; what it printed, and whether it ended with that code.
fn topics(command: &str, file: &Path, code: i32) -> String {
    let path = file.display().to_string();
    let arguments = if command.is_empty() { vec!["topics", "-c", &path] } else { vec!["topics", command, "-c", &path] };
    let Output { status, stdout, stderr } = run(&arguments).expect("it runs");
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.code(), Some(code), "{arguments:?}: {said}");
    said
}

fn says(said: &str, lines: &[&str]) {
    for line in lines {
        assert!(said.contains(line), "`{line}` is not in:\n{said}");
    }
}

async fn site(prefix: &'static str) -> anyhow::Result<Option<Site>> {
    let Some(kafka) = tokio::task::spawn_blocking(KafkaServer::shared).await? else { return Ok(None) };
    Ok(Some(Site { dir: tempfile::tempdir()?, brokers: kafka.brokers(), prefix }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_become_what_the_configuration_says_and_a_second_plan_is_empty() -> anyhow::Result<()> {
    let Some(site) = site("plan-apply").await? else { return Ok(()) };
    let file = site.configured("partitions: 2, retention: {age: 1h, bytes: 64MiB}")?;
    let missing = [
        "plan-apply.spans: missing",
        "+ partitions: 2",
        "+ retention.ms: 3600000",
        "+ cleanup.policy: delete",
        "plan-apply.series: missing",
        "+ cleanup.policy: compact",
    ];
    says(&topics("plan", &file, 1), &missing);
    says(&topics("plan", &file, 1), &["11 of 11 topics are not as configured; `afflux topics apply` makes them so"]);
    says(&topics("apply", &file, 0), &missing);
    let unchanged = topics("plan", &file, 0);
    says(&unchanged, &["plan-apply.spans: as configured"]);
    assert!(!unchanged.contains("  "), "{unchanged}");
    topics("apply", &file, 0);

    // What an operator sets stays, through whatever is changed beside it.
    let name = "plan-apply.spans";
    let before = site.own("spans").await?;
    let all = before.iter().fold(AlterConfig::new(ResourceSpecifier::Topic(name)), |a, (key, value)| a.set(key, value));
    let altered = site.admin()?.alter_configs(&[all.set("flush.ms", "12345")], &AdminOptions::new()).await?;
    altered[0].as_ref().map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
    let file = site.configured("partitions: 3, retention: {age: 2h, bytes: 1GiB}")?;
    let said = topics("apply", &file, 0);
    says(&said, &["plan-apply.spans: differs", "~ partitions: 2 -> 3", "~ retention.ms: 3600000 -> 7200000"]);
    says(&said, &["~ retention.bytes: 67108864 -> 1073741824", "~ segment.bytes: ", "keys go to other partitions"]);
    topics("plan", &file, 0);
    topics("--check", &file, 0);
    let own = site.own("spans").await?;
    let value = |key: &str| own.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(value("flush.ms"), Some("12345"), "{own:?}");
    assert_eq!(value("retention.ms"), Some("7200000"), "{own:?}");
    assert_eq!(own.len(), before.len() + 1, "nothing else: {own:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_never_removed_and_replicas_never_moved() -> anyhow::Result<()> {
    let Some(site) = site("plan-refused").await? else { return Ok(()) };
    topics("", &site.configured("partitions: 3")?, 0);
    let file = site.configured("partitions: 2, replication: 2, retention: {age: 1h}")?;
    let refused =
        ["! partitions: 3, configured are 2; Kafka cannot", "! replication: 1, configured are 2; afflux moves"];
    says(&topics("plan", &file, 1), &refused);
    says(&topics("plan", &file, 1), &["kafka-topics.sh --delete", "kafka-reassign-partitions.sh", "with + and ~"]);
    // The rest is done.
    let said = topics("apply", &file, 1);
    says(&said, &["~ retention.ms: 259200000 -> 3600000", "11 of 11 topics are still not as configured"]);
    let said = topics("plan", &file, 1);
    says(&said, &refused);
    assert!(!said.contains('~'), "{said}");
    says(&topics("--check", &file, 1), &["plan-refused.spans: 3 partitions, configured are 2"]);
    Ok(())
}

#[test]
fn a_local_bus_has_nothing_to_plan() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("afflux.yaml");
    std::fs::write(&file, "bus: {kind: local}\n").expect("a file");
    says(&topics("plan", &file, 2), &["`bus.kind` is local"]);
    says(&topics("apply", &file, 2), &["`bus.kind` is local"]);
}
