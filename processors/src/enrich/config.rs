//! Configuration of enrichment.

use std::time::Duration;

use afflux_runtime::config::{ByteSize, Period};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::Names;

/// `processors.enrich`: spans and log records get what Kubernetes knows of their pod. Only attributes that the sender
/// does not give are added, to the resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EnrichConfig {
    /// Resource attributes by which a pod is found, tried in this order: `k8s.pod.uid`; `k8s.pod.ip`, `ip`,
    /// `net.host.ip` and `host.ip`, an address of the pod; `k8s.pod.name`, together with `k8s.namespace.name`.
    pub join_by: Vec<JoinKey>,
    /// Labels of the pod that are added as `k8s.pod.label.KEY`. A name may end in `*`, which stands for any ending.
    pub pod_labels: Vec<String>,
    /// Annotations of the pod that are added as `k8s.pod.annotation.KEY`, among those that the producer of objects keeps.
    pub pod_annotations: Vec<String>,
    /// Labels of the pod's namespace that are added as `k8s.namespace.label.KEY`.
    pub namespace_labels: Vec<String>,
    /// Labels of the pod's node that are added as `k8s.node.label.KEY`.
    pub node_labels: Vec<String>,
    /// Whether the name of the pod's Deployment, StatefulSet, DaemonSet, CronJob, Job or ReplicaSet, the outermost of
    /// them, becomes `service.name` where the sender gives none.
    pub service_name: bool,
    /// How long a record waits for a pod that is not known yet, and with it what is behind it in its partition; by the
    /// times of records, and by the clock where none come. Then it goes on without. 0s: nothing waits.
    pub grace: Period,
    /// Bytes that wait at most; beyond them nothing waits.
    pub max_waiting: ByteSize,
}

/// A resource attribute that names a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JoinKey {
    /// The pod's uid.
    #[serde(rename = "k8s.pod.uid")]
    PodUid,
    /// An address of the pod.
    #[serde(rename = "k8s.pod.ip")]
    PodIp,
    /// An address, as old agents name it.
    #[serde(rename = "ip")]
    Ip,
    /// An address of the host as the process sees it.
    #[serde(rename = "net.host.ip")]
    NetHostIp,
    /// Addresses of the host as the process sees them.
    #[serde(rename = "host.ip")]
    HostIp,
    /// The pod's name, together with `k8s.namespace.name`.
    #[serde(rename = "k8s.pod.name")]
    PodName,
}

impl JoinKey {
    const ALL: [Self; 6] = [Self::PodUid, Self::PodIp, Self::Ip, Self::NetHostIp, Self::HostIp, Self::PodName];
}

impl Default for EnrichConfig {
    fn default() -> Self {
        Self {
            join_by: JoinKey::ALL.to_vec(),
            pod_labels: Vec::new(),
            pod_annotations: Vec::new(),
            namespace_labels: Vec::new(),
            node_labels: Vec::new(),
            service_name: false,
            grace: Period(Duration::from_secs(2)),
            max_waiting: ByteSize::mib(32),
        }
    }
}

/// What is wrong with `processors.enrich`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEnrich {
    /// Nothing to find a pod by.
    #[error(
        "`processors.enrich.join_by` is empty, so that no pod would ever be found; remove the key, or name attributes"
    )]
    NoKeys,
    /// A name of labels that can match none, or not as meant.
    #[error(
        "`processors.enrich.{key}.{at}` is `{name}`, which is no name of a label or annotation: \
         write its name, or the beginning of one and `*`"
    )]
    Name {
        /// The list's key.
        key: &'static str,
        /// Position in the list, from 0.
        at: usize,
        /// What stands there.
        name: String,
    },
}

/// A configuration that has been checked.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) pod_labels: Names,
    pub(super) pod_annotations: Names,
    pub(super) namespace_labels: Names,
    pub(super) node_labels: Names,
    pub(super) service_name: bool,
}

impl Selection {
    pub(super) fn new(config: &EnrichConfig) -> Result<Self, InvalidEnrich> {
        if config.join_by.is_empty() {
            return Err(InvalidEnrich::NoKeys);
        }
        let names = |key, names: &[String]| {
            let selected = Names::new(names.iter().map(|name| &**name));
            selected.map_err(|at| InvalidEnrich::Name { key, at, name: names.get(at).cloned().unwrap_or_default() })
        };
        Ok(Self {
            pod_labels: names("pod_labels", &config.pod_labels)?,
            pod_annotations: names("pod_annotations", &config.pod_annotations)?,
            namespace_labels: names("namespace_labels", &config.namespace_labels)?,
            node_labels: names("node_labels", &config.node_labels)?,
            service_name: config.service_name,
        })
    }
}
