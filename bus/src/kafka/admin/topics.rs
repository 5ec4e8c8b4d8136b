//! Topics as they are, compared with topics as they are configured, and the former made the latter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AlterConfig, ConfigSource, NewPartitions, ResourceSpecifier};
use rdkafka::error::{IsError as _, RDKafkaErrorCode as Code};

use super::Admin;
use crate::error::BusError;
use crate::kafka::client::blocking;
use crate::kafka::error::is_unknown_topic;
use crate::record::TopicSpec;

/// Pause between two looks at whether the brokers know of a change.
const RETRY: Duration = Duration::from_millis(50);

/// A topic, and how it differs from what is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// What is configured.
    pub spec: TopicSpec,
    /// The differences; empty where there are none.
    pub changes: Vec<TopicChange>,
}

/// One difference between a topic and its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicChange {
    /// There is no such topic.
    Create {
        /// Its partitions.
        partitions: u32,
        /// Its replicas; `None` is what the brokers are configured for.
        replication: Option<u16>,
        /// Its settings, by Kafka's names.
        settings: Vec<(String, String)>,
    },
    /// It has fewer partitions. More can be added, after which records of a key go to another than before.
    AddPartitions {
        /// How many there are.
        present: u32,
        /// How many there are to be.
        wanted: u32,
    },
    /// It has more partitions. Kafka cannot remove any.
    ExcessPartitions {
        /// How many there are.
        present: u32,
        /// How many there are to be.
        wanted: u32,
    },
    /// It has another number of replicas. Moving replicas is left to Kafka's own tool.
    Replication {
        /// How many there are.
        present: u16,
        /// How many there are to be.
        wanted: u16,
    },
    /// A setting has another value.
    Setting {
        /// Kafka's name of it.
        key: String,
        /// The value in force; `None` where the broker does not say.
        present: Option<String>,
        /// The value to be.
        wanted: String,
    },
}

impl TopicChange {
    /// Whether [`crate::kafka::KafkaBus::apply_topics`] makes this change.
    pub fn is_possible(&self) -> bool {
        !matches!(self, Self::ExcessPartitions { .. } | Self::Replication { .. })
    }
}

/// A topic as the brokers describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    partitions: u32,
    /// Of the partition that has the fewest.
    replication: u16,
    settings: BTreeMap<String, Setting>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    value: Option<String>,
    /// Whether it was set for this topic, rather than being a default.
    is_own: bool,
}

/// How a topic differs from its configuration.
fn differences(
    spec: &TopicSpec,
    replication: Option<u16>,
    settings: Vec<(&'static str, String)>,
    found: Option<&Found>,
) -> Vec<TopicChange> {
    let Some(found) = found else {
        let settings = settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        return vec![TopicChange::Create { partitions: spec.partitions, replication, settings }];
    };
    let (present, wanted) = (found.partitions, spec.partitions);
    let mut changes = Vec::new();
    if present < wanted {
        changes.push(TopicChange::AddPartitions { present, wanted });
    } else if present > wanted {
        changes.push(TopicChange::ExcessPartitions { present, wanted });
    }
    if let Some(wanted) = replication.filter(|wanted| *wanted != found.replication) {
        changes.push(TopicChange::Replication { present: found.replication, wanted });
    }
    changes.extend(settings.into_iter().filter_map(|(key, wanted)| {
        let present = found.settings.get(key).and_then(|setting| setting.value.clone());
        (present.as_ref() != Some(&wanted)).then(|| TopicChange::Setting { key: key.to_owned(), present, wanted })
    }));
    changes
}

/// All settings that the topic has to have of its own: Kafka forgets those that an alteration does not name.
fn altered(found: &Found, changes: &[TopicChange]) -> BTreeMap<String, String> {
    let own = found.settings.iter().filter(|(_, setting)| setting.is_own);
    let mut all: BTreeMap<_, _> = own.filter_map(|(key, s)| Some((key.clone(), s.value.clone()?))).collect();
    all.extend(changes.iter().filter_map(|change| match change {
        TopicChange::Setting { key, wanted, .. } => Some((key.clone(), wanted.clone())),
        _ => None,
    }));
    all
}

impl Admin {
    /// Compares topics with their configuration; changes nothing.
    pub(in crate::kafka) async fn plan(&self, specs: &[TopicSpec]) -> Result<Vec<TopicPlan>, BusError> {
        let mut plans = Vec::with_capacity(specs.len());
        for spec in specs {
            let found = self.find(&spec.name).await?;
            let replication = self.shared.config.replication;
            let changes = differences(spec, replication, self.settings(spec), found.as_ref());
            plans.push(TopicPlan { spec: spec.clone(), changes });
        }
        Ok(plans)
    }

    /// Makes the possible changes, and waits until the brokers know of them.
    pub(in crate::kafka) async fn apply(&self, plans: &[TopicPlan]) -> Result<(), BusError> {
        let is_new = |plan: &&TopicPlan| plan.changes.iter().any(|c| matches!(c, TopicChange::Create { .. }));
        let new: Vec<_> = plans.iter().filter(is_new).map(|plan| plan.spec.clone()).collect();
        self.create(&new).await?;
        for plan in plans {
            for change in &plan.changes {
                if let TopicChange::AddPartitions { wanted, .. } = change {
                    self.add_partitions(&plan.spec.name, *wanted).await?;
                }
            }
            if plan.changes.iter().any(|change| matches!(change, TopicChange::Setting { .. })) {
                self.alter(&plan.spec.name, &plan.changes).await?;
            }
        }
        let specs: Vec<_> = plans.iter().map(|plan| plan.spec.clone()).collect();
        let deadline = tokio::time::Instant::now() + self.shared.config.timeout;
        loop {
            let left = self.plan(&specs).await?;
            if !left.iter().flat_map(|plan| &plan.changes).any(TopicChange::is_possible) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(BusError::TimedOut { what: "changes of topics", after: self.shared.config.timeout });
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// A topic as it is; `None` where there is none.
    async fn find(&self, topic: &str) -> Result<Option<Found>, BusError> {
        let (client, shared, name) = (Arc::clone(&self.client), Arc::clone(&self.shared), topic.to_owned());
        let found = blocking(move || {
            shared.authenticate(client.inner())?;
            let metadata = client
                .inner()
                .fetch_metadata(Some(&name), shared.config.timeout)
                .map_err(|error| shared.unanswered("metadata of a topic", &error))?;
            let answer = metadata.topics().iter().find(|topic| topic.name() == name);
            let code = answer.and_then(|topic| topic.error()).filter(|code| code.is_error()).map(Code::from);
            match (answer, code) {
                (Some(_), Some(code)) if !is_unknown_topic(code) && code != Code::LeaderNotAvailable => {
                    Err(shared.operation("metadata of a topic").error(code, &format!("topic {name}: {code}")))
                }
                (Some(topic), None | Some(Code::LeaderNotAvailable)) => {
                    let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min();
                    Ok(Some(Found {
                        partitions: u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX),
                        replication: u16::try_from(replicas.unwrap_or(0)).unwrap_or(u16::MAX),
                        settings: BTreeMap::new(),
                    }))
                }
                _ => Ok(None),
            }
        })
        .await??;
        let Some(found) = found else { return Ok(None) };
        Ok(Some(Found { settings: self.settings_in_force(topic).await?, ..found }))
    }

    async fn settings_in_force(&self, topic: &str) -> Result<BTreeMap<String, Setting>, BusError> {
        const WHAT: &str = "settings of a topic";
        let answer = self.client.describe_configs(&[ResourceSpecifier::Topic(topic)], &self.options()).await;
        let resources = answer.map_err(|error| self.shared.unanswered(WHAT, &error))?;
        let failed = |code: Code| self.shared.operation(WHAT).error(code, &format!("topic {topic}: {code}"));
        let mut settings = BTreeMap::new();
        for resource in resources {
            for entry in resource.map_err(failed)?.entries {
                let is_own = entry.source == ConfigSource::DynamicTopic;
                settings.insert(entry.name, Setting { value: entry.value, is_own });
            }
        }
        Ok(settings)
    }

    async fn add_partitions(&self, topic: &str, wanted: u32) -> Result<(), BusError> {
        const WHAT: &str = "addition of partitions";
        let new = NewPartitions::new(topic, wanted as usize);
        let options = self.options().operation_timeout(Some(self.shared.config.timeout));
        let answer = self.client.create_partitions(&[new], &options).await;
        let results = answer.map_err(|error| self.shared.unanswered(WHAT, &error))?;
        results.into_iter().try_for_each(|result| match result {
            Ok(topic) => {
                tracing::info!(topic, partitions = wanted, "partitions added");
                Ok(())
            }
            Err((topic, code)) => Err(self.shared.operation(WHAT).error(code, &format!("topic {topic}: {code}"))),
        })
    }

    /// Sets what differs. What the topic has of its own besides is read again first, and kept.
    async fn alter(&self, topic: &str, changes: &[TopicChange]) -> Result<(), BusError> {
        const WHAT: &str = "alteration of a topic";
        let settings = self.settings_in_force(topic).await?;
        let all = altered(&Found { settings, ..Found::default() }, changes);
        let empty = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let alter = all.iter().fold(empty, |alter, (key, value)| alter.set(key, value));
        let answer = self.client.alter_configs(&[alter], &self.options()).await;
        let results = answer.map_err(|error| self.shared.unanswered(WHAT, &error))?;
        results.into_iter().try_for_each(|result| match result {
            Ok(_) => {
                tracing::info!(topic, "topic altered");
                Ok(())
            }
            Err((_, code)) => Err(self.shared.operation(WHAT).error(code, &format!("topic {topic}: {code}"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Cleanup;

    fn spec(partitions: u32) -> TopicSpec {
        TopicSpec { name: "t".into(), partitions, cleanup: Cleanup::Compact }
    }

    fn found(partitions: u32, replication: u16, settings: &[(&str, &str, bool)]) -> Found {
        let setting = |(key, value, is_own): &(&str, &str, bool)| {
            ((*key).to_owned(), Setting { value: Some((*value).to_owned()), is_own: *is_own })
        };
        Found { partitions, replication, settings: settings.iter().map(setting).collect() }
    }

    fn wanted() -> Vec<(&'static str, String)> {
        vec![("cleanup.policy", "compact".to_owned())]
    }

    #[test]
    fn a_missing_topic_is_created_as_a_whole() {
        let settings = vec![("cleanup.policy".to_owned(), "compact".to_owned())];
        let create = TopicChange::Create { partitions: 3, replication: Some(2), settings };
        assert_eq!(differences(&spec(3), Some(2), wanted(), None), [create]);
    }

    #[test]
    fn a_topic_as_configured_has_no_differences_whoever_set_it() {
        let same = found(3, 2, &[("cleanup.policy", "compact", false), ("flush.ms", "5", true)]);
        assert_eq!(differences(&spec(3), Some(2), wanted(), Some(&same)), []);
        assert_eq!(differences(&spec(3), None, wanted(), Some(&same)), [], "replicas are the brokers' choice");
    }

    #[test]
    fn partitions_are_added_and_never_removed_and_replicas_are_left_alone() {
        let other = found(3, 1, &[("cleanup.policy", "delete", false)]);
        let more = differences(&spec(4), Some(2), wanted(), Some(&other));
        let setting = TopicChange::Setting {
            key: "cleanup.policy".to_owned(),
            present: Some("delete".to_owned()),
            wanted: "compact".to_owned(),
        };
        let replication = TopicChange::Replication { present: 1, wanted: 2 };
        assert_eq!(more, [TopicChange::AddPartitions { present: 3, wanted: 4 }, replication, setting]);
        assert_eq!(more.iter().map(TopicChange::is_possible).collect::<Vec<_>>(), [true, false, true]);
        let fewer = differences(&spec(2), None, Vec::new(), Some(&other));
        assert_eq!(fewer, [TopicChange::ExcessPartitions { present: 3, wanted: 2 }]);
        assert!(!fewer[0].is_possible());
    }

    #[test]
    fn what_an_operator_set_stays_and_defaults_are_not_pinned() {
        let found = found(1, 1, &[("flush.ms", "5", true), ("cleanup.policy", "delete", true), ("x", "1", false)]);
        let changes = differences(&spec(1), None, wanted(), Some(&found));
        let expected = [("cleanup.policy", "compact"), ("flush.ms", "5")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(altered(&found, &changes), BTreeMap::from(expected));
    }
}
