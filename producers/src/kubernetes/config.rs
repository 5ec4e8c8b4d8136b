//! Configuration of the Kubernetes source.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use afflux_runtime::config::{ByteSize, Period};
use afflux_schemas::objects::Kind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::InvalidKubernetes;
use super::filter::Filter;

/// How long a watch lasts, unless configured: servers and what stands before them end longer ones by themselves.
pub const DEFAULT_WATCH_TIMEOUT: Duration = Duration::from_secs(290);
/// Objects of one page of a list, unless configured.
pub const DEFAULT_PAGE: usize = 500;
/// Bytes of events that one list holds, unless configured.
pub const DEFAULT_LIST_BYTES: ByteSize = ByteSize::mib(64);
/// Name of the lease, unless configured.
pub const DEFAULT_LEASE: &str = "afflux-kubernetes";

/// `producers.kubernetes`: events and objects of the cluster that the process runs in, or of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesConfig {
    /// How the API server is reached. Empty: `KUBECONFIG`, else `~/.kube/config`, else the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig. Empty: its current one.
    pub context: Option<String>,
    /// Name of the cluster, on every record. Empty: the process's `cluster`.
    pub cluster: String,
    /// Kubernetes events, each observation once.
    pub events: EventsConfig,
    /// Pods, nodes, namespaces and workloads, which `processors.enrich` joins with.
    pub objects: ObjectsConfig,
    /// Lets one of several replicas work, and another take over from it.
    pub leader_election: LeaderElectionConfig,
}

/// `producers.kubernetes.events`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Whether events are read.
    pub enabled: bool,
    /// The API group by which they are read; what is published is the same.
    pub api: EventsApi,
    /// Events that any of these rules fits are dropped.
    pub drop: Vec<Rule>,
    /// Where there are any, only events that one of these rules fits are published.
    #[serde(rename = "match")]
    pub matches: Vec<Rule>,
    /// How long one watch lasts at most.
    pub watch_timeout: Period,
    /// Events of one page of a list.
    pub page: usize,
    /// Bytes of events that are held while the cluster is listed. Where there are more, it is listed again.
    pub list_bytes: ByteSize,
}

/// The API group by which events are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EventsApi {
    /// The core group.
    #[default]
    #[serde(rename = "v1")]
    Core,
    /// The group of their own.
    #[serde(rename = "events.k8s.io/v1")]
    Events,
}

/// Which events are meant: those that fit in everything that is given. Texts are regular expressions that may match
/// anywhere in the field, as in kubernetes-event-exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Labels of the object that the event is about: each of them is there, and its value fits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of that object, likewise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What the event says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// API group and version of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Kind of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Namespace of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Reason of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `Normal` or `Warning`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind_of_event: Option<String>,
    /// What has reported it, such as `kubelet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The node that has reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How often it has happened at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_count: Option<i64>,
}

/// `producers.kubernetes.objects`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectsConfig {
    /// Whether objects are read.
    pub enabled: bool,
    /// Labels that are kept. A name may end in `*`, which stands for any ending.
    pub labels: Vec<String>,
    /// Annotations that are kept, likewise.
    pub annotations: Vec<String>,
    /// Kinds that are not read, such as `job`.
    #[schemars(with = "Vec<String>")]
    pub without: Vec<Kind>,
}

/// `producers.kubernetes.leader_election`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeaderElectionConfig {
    /// Whether a replica waits for the lease before it works.
    pub enabled: bool,
    /// Namespace of the lease. Empty: that of the pod, or of the context.
    pub namespace: Option<String>,
    /// Name of the lease.
    pub name: String,
    /// How long others wait for a leader that is not heard of.
    pub lease_duration: Period,
    /// How long a leader that cannot renew the lease goes on.
    pub renew_deadline: Period,
    /// Time between two attempts.
    pub retry_period: Period,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            api: EventsApi::default(),
            drop: Vec::new(),
            matches: Vec::new(),
            watch_timeout: Period(DEFAULT_WATCH_TIMEOUT),
            page: DEFAULT_PAGE,
            list_bytes: DEFAULT_LIST_BYTES,
        }
    }
}

impl Default for ObjectsConfig {
    fn default() -> Self {
        let labels = ["app", "app.kubernetes.io/*", "topology.kubernetes.io/*", "kubernetes.io/metadata.name"];
        let labels = labels.map(str::to_owned).to_vec();
        Self { enabled: true, labels, annotations: Vec::new(), without: Vec::new() }
    }
}

impl Default for LeaderElectionConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            namespace: None,
            name: DEFAULT_LEASE.into(),
            lease_duration: Period(Duration::from_secs(15)),
            renew_deadline: Period(Duration::from_secs(10)),
            retry_period: Period(Duration::from_secs(2)),
        }
    }
}

impl KubernetesConfig {
    /// Checks what types cannot, and makes the filter.
    pub(super) fn validate(&self) -> Result<Filter, InvalidKubernetes> {
        let LeaderElectionConfig { lease_duration, renew_deadline, retry_period, name, .. } = &self.leader_election;
        if name.is_empty() {
            return Err(InvalidKubernetes::Empty { key: "leader_election.name" });
        }
        if self.cluster.is_empty() {
            return Err(InvalidKubernetes::Empty { key: "cluster" });
        }
        if !(Duration::ZERO < retry_period.0 && retry_period.0 < renew_deadline.0 && renew_deadline < lease_duration) {
            return Err(InvalidKubernetes::Election);
        }
        if lease_duration.0 < Duration::from_secs(1) {
            return Err(InvalidKubernetes::Zero { key: "leader_election.lease_duration" });
        }
        if self.events.page == 0 {
            return Err(InvalidKubernetes::Zero { key: "events.page" });
        }
        if self.events.watch_timeout.0 < Duration::from_secs(1) {
            return Err(InvalidKubernetes::Zero { key: "events.watch_timeout" });
        }
        for (key, names) in [("labels", &self.objects.labels), ("annotations", &self.objects.annotations)] {
            if let Some(name) = names.iter().find(|name| name.is_empty() || name.trim_end_matches('*').contains('*')) {
                return Err(InvalidKubernetes::Name { key, name: name.clone() });
            }
        }
        if !self.events.enabled && !self.objects.enabled {
            return Err(InvalidKubernetes::Nothing);
        }
        Filter::new(&self.events.drop, &self.events.matches)
    }
}

#[cfg(test)]
mod tests;
