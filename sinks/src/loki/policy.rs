//! Which attributes become labels: the configuration as it is looked things up in.

use std::collections::HashMap;

use super::config::{LabelConfig, LabelPreset, LabelsConfig};

/// Labels at most, so that their sets fit into a word.
pub(super) const MOST_RULES: usize = 64;

/// Where a label's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Attributes alone.
    Attributes,
    /// What the record's header says; attributes for want of that.
    Cluster,
    /// `k8s-events` for Kubernetes events; attributes, or for want of them the way that a line was taken.
    Source,
    /// The severity.
    Level,
    /// Attributes, or for want of them namespace and application.
    Job,
}

/// A label.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Attributes, of which the first that is there counts.
    from: Vec<String>,
}

/// An attribute as the source of a label: the rule's number, and how many attributes come before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) rule: u8,
    pub(super) rank: u8,
}

/// The labels, the most important first.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) rules: Vec<Rule>,
    sources: HashMap<Box<[u8]>, Vec<Source>>,
    /// Rules whose value may be an attribute.
    pub(super) from_attributes: u64,
    /// Positions of what `job` is made of.
    pub(super) namespace: Option<usize>,
    pub(super) app: Option<usize>,
    /// Whether the level is a label.
    pub(super) has_level: bool,
    /// Whether `service_name` is, which Loki adds otherwise.
    pub(super) has_service_name: bool,
}

const APP: &[&str] = &[
    "k8s.pod.label.app.kubernetes.io/name",
    "k8s.pod.labels.app.kubernetes.io/name",
    "app.kubernetes.io/name",
    "k8s.pod.label.app",
    "k8s.pod.labels.app",
    "service.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
    "k8s.replicaset.name",
    "k8s.container.name",
];

const DEFAULT: &[(&str, Kind, &[&str])] = &[
    ("cluster", Kind::Cluster, &["k8s.cluster.name"]),
    ("namespace", Kind::Attributes, &["k8s.namespace.name", "service.namespace"]),
    ("app", Kind::Attributes, APP),
    ("container", Kind::Attributes, &["k8s.container.name", "container.name"]),
    ("source", Kind::Source, &["source"]),
    ("level", Kind::Level, &[]),
];

const PROMTAIL: &[(&str, Kind, &[&str])] = &[
    ("pod", Kind::Attributes, &["k8s.pod.name"]),
    ("node_name", Kind::Attributes, &["k8s.node.name"]),
    ("job", Kind::Job, &["job"]),
];

impl Policy {
    /// Of a configuration that has been validated, or is about to be.
    pub(super) fn new(config: &LabelsConfig) -> Self {
        let more: &[_] = match config.preset {
            LabelPreset::Default => &[],
            LabelPreset::Promtail => PROMTAIL,
        };
        let preset = DEFAULT.iter().chain(more);
        let mut rules: Vec<Rule> = preset.map(|&(name, kind, from)| Rule::new(name, kind, from)).collect();
        config.extra.iter().for_each(|label| add(&mut rules, label));
        rules.retain(|rule| rule.kind != Kind::Attributes || !rule.from.is_empty());
        rules.truncate(MOST_RULES);
        Self::of(rules)
    }

    fn of(rules: Vec<Rule>) -> Self {
        let mut sources = HashMap::<Box<[u8]>, Vec<Source>>::new();
        let mut from_attributes = 0;
        for (i, rule) in rules.iter().enumerate() {
            for (rank, key) in rule.from.iter().enumerate() {
                from_attributes |= 1 << i;
                let source = Source { rule: i as u8, rank: u8::try_from(rank).unwrap_or(u8::MAX) };
                sources.entry(key.as_bytes().into()).or_default().push(source);
            }
        }
        let position = |name: &str| rules.iter().position(|rule| rule.name == name);
        Self {
            from_attributes,
            namespace: position("namespace"),
            app: position("app"),
            has_level: rules.iter().any(|rule| rule.kind == Kind::Level),
            has_service_name: position("service_name").is_some(),
            sources,
            rules,
        }
    }

    /// Whether there is no label at all.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The labels that an attribute may be the value of.
    pub(super) fn sources(&self, key: &[u8]) -> &[Source] {
        self.sources.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether there is a label of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.name == name)
    }
}

impl Rule {
    fn new(name: &str, kind: Kind, from: &[&str]) -> Self {
        Self { name: name.into(), kind, from: from.iter().map(|&key| key.into()).collect() }
    }
}

/// Adds a label, or changes the one of that name.
fn add(rules: &mut Vec<Rule>, label: &LabelConfig) {
    let changed = Rule { name: label.name.clone(), kind: Kind::Attributes, from: label.from.clone() };
    match rules.iter_mut().find(|rule| rule.name == label.name) {
        // Events are told from the rest by it, whatever else it is made of.
        Some(rule) if rule.kind == Kind::Source && !label.from.is_empty() => rule.from.clone_from(&label.from),
        Some(rule) => *rule = changed,
        None => rules.push(changed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(policy: &Policy) -> String {
        policy.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn extra(name: &str, from: &[&str]) -> LabelConfig {
        LabelConfig { name: name.into(), from: from.iter().map(|&from| from.into()).collect() }
    }

    #[test]
    fn presets_are_added_to_changed_and_taken_from() {
        let default = Policy::new(&LabelsConfig::default());
        assert_eq!(names(&default), "cluster namespace app container source level");
        let promtail = LabelsConfig { preset: LabelPreset::Promtail, ..LabelsConfig::default() };
        assert_eq!(names(&Policy::new(&promtail)), "cluster namespace app container source level pod node_name job");
        let changed = LabelsConfig {
            extra: vec![extra("container", &[]), extra("team", &["team"]), extra("app", &["service.name"])],
            ..LabelsConfig::default()
        };
        let changed = Policy::new(&changed);
        assert_eq!(names(&changed), "cluster namespace app source level team");
        assert_eq!(changed.sources(b"service.name"), [Source { rule: 2, rank: 0 }]);
        assert_eq!(changed.sources(b"k8s.deployment.name"), []);
        assert_eq!((changed.namespace, changed.app), (Some(1), Some(2)));
    }

    #[test]
    fn an_attribute_may_be_the_source_of_several_labels() {
        let policy = Policy::new(&LabelsConfig::default());
        assert_eq!(policy.sources(b"k8s.container.name"), [Source { rule: 2, rank: 12 }, Source { rule: 3, rank: 0 }]);
    }
}
