//! The table of categories.

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// A process ran out of memory.
    Oom,
    /// A container ends again and again.
    CrashLoop,
    /// An image cannot be had.
    ImagePull,
    /// A pod had to leave its node.
    Evicted,
    /// Where a pod is to run.
    Scheduling,
    /// Volumes and the claims for them.
    Volume,
    /// A node's state.
    Node,
    /// Probes of containers.
    Probe,
    /// Networks, addresses, load balancers.
    Network,
    /// The number of pods or nodes.
    Scaling,
    /// Something else that did not work.
    Failed,
    /// Anything else.
    Other,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It says what goes on.
    Info,
    /// It may pass by itself.
    Warn,
    /// Something does not run.
    Error,
}

impl Severity {
    /// OTLP's number.
    pub const fn number(self) -> u64 {
        match self {
            Self::Info => 9,
            Self::Warn => 13,
            Self::Error => 17,
        }
    }
}

/// Reasons that say it all.
const REASONS: &[(Category, &[&str])] = &[
    (Category::Oom, &["OOMKilling", "OOMKilled", "SystemOOM"]),
    (Category::CrashLoop, &["CrashLoopBackOff"]),
    (
        Category::ImagePull,
        &[
            "ErrImagePull",
            "ErrImageNeverPull",
            "ImagePullBackOff",
            "InspectFailed",
            "InvalidImageName",
            "RegistryUnavailable",
            "FailedToRetrieveImagePullSecret",
            "Pulling",
            "Pulled",
        ],
    ),
    (
        Category::Evicted,
        &["Evicted", "EvictionThresholdMet", "Preempted", "Preempting", "TaintManagerEviction", "EvictedByVPA"],
    ),
    (
        Category::Scheduling,
        &["FailedScheduling", "Scheduled", "Unschedulable", "FailedBinding", "WaitingForGates", "SchedulingGated"],
    ),
    (
        Category::Volume,
        &[
            "FailedMount",
            "FailedUnMount",
            "FailedAttachVolume",
            "FailedDetachVolume",
            "FailedMapVolume",
            "FailedUnmapDevice",
            "FailedMountOnFilesystemMismatch",
            "AlreadyMountedVolume",
            "SuccessfulAttachVolume",
            "SuccessfulDetachVolume",
            "SuccessfulMountVolume",
            "SuccessfulUnMountVolume",
            "ExternalProvisioning",
            "ExternalExpanding",
            "Provisioning",
            "ProvisioningFailed",
            "ProvisioningSucceeded",
            "WaitForFirstConsumer",
            "WaitForPodScheduled",
            "ClaimLost",
            "ClaimMisbound",
            "VolumeFailedDelete",
            "VolumeFailedRecycle",
            "VolumeResizeFailed",
            "VolumeResizeSuccessful",
            "FileSystemResizeFailed",
            "FileSystemResizeRequired",
            "FileSystemResizeSuccessful",
            "Resizing",
            "VolumeConditionAbnormal",
        ],
    ),
    (
        Category::Node,
        &[
            "NodeNotReady",
            "NodeReady",
            "NodeHasDiskPressure",
            "NodeHasNoDiskPressure",
            "NodeHasInsufficientMemory",
            "NodeHasSufficientMemory",
            "NodeHasInsufficientPID",
            "NodeHasSufficientPID",
            "NodeUnderMemoryPressure",
            "NodeNotSchedulable",
            "NodeSchedulable",
            "NodeAllocatableEnforced",
            "FailedNodeAllocatableEnforcement",
            "RegisteredNode",
            "RemovingNode",
            "DeletingNode",
            "DeletingAllPods",
            "TerminatingEvictedPod",
            "Rebooted",
            "Shutdown",
            "Starting",
            "InvalidDiskCapacity",
            "FreeDiskSpaceFailed",
            "ImageGCFailed",
            "ContainerGCFailed",
            "KubeletSetupFailed",
            "MissingClusterDNS",
            "CIDRAssignmentFailed",
            "CIDRNotAvailable",
            "KernelDeadlock",
            "ReadonlyFilesystem",
            "Cordon",
            "Drain",
        ],
    ),
    (Category::Probe, &["Unhealthy", "ProbeWarning", "ProbeError"]),
    (
        Category::Network,
        &[
            "NetworkNotReady",
            "NetworkUnavailable",
            "NetworkFailed",
            "DNSConfigForming",
            "FailedToUpdateEndpoint",
            "FailedToUpdateEndpointSlices",
            "FailedToCreateEndpoint",
            "HostPortConflict",
            "IPAddressNotAllocated",
            "ClusterIPNotAllocated",
            "PortNotAllocated",
            "EnsuringLoadBalancer",
            "EnsuredLoadBalancer",
            "UpdatedLoadBalancer",
            "DeletingLoadBalancer",
            "DeletedLoadBalancer",
            "SyncLoadBalancerFailed",
            "CreatingLoadBalancerFailed",
            "UpdateLoadBalancerFailed",
            "DeletingLoadBalancerFailed",
            "UnAvailableLoadBalancer",
        ],
    ),
    (
        Category::Scaling,
        &[
            "ScalingReplicaSet",
            "SuccessfulRescale",
            "FailedRescale",
            "FailedGetScale",
            "FailedUpdateScale",
            "FailedComputeMetricsReplicas",
            "FailedGetResourceMetric",
            "FailedGetContainerResourceMetric",
            "FailedGetPodsMetric",
            "FailedGetObjectMetric",
            "FailedGetExternalMetric",
            "InvalidMetricSourceType",
            "InvalidSelector",
            "AmbiguousSelector",
            "TriggeredScaleUp",
            "NotTriggerScaleUp",
            "FailedToScaleUpGroup",
            "ScaledUpGroup",
            "ScaleDown",
            "ScaleDownFailed",
            "ScaleDownEmpty",
            "KEDAScalerFailed",
            "ScaledObjectCheckFailed",
        ],
    ),
    (
        Category::Failed,
        &["BackoffLimitExceeded", "DeadlineExceeded", "ContainerDied", "PodFailurePolicy", "TooManyMissedTimes"],
    ),
];

/// Parts of messages, in lower case, for reasons that are used for many things, the first that is there.
const MESSAGES: &[(Category, &[&str])] = &[
    (Category::Oom, &["oomkilled", "oom-kill", "out of memory"]),
    (
        Category::ImagePull,
        &["pulling image", "pull image", "errimagepull", "imagepullbackoff", "image can't be pulled"],
    ),
    (Category::CrashLoop, &["restarting failed container", "crashloopbackoff"]),
    (Category::Network, &["failed to set up sandbox container", "networkplugin", "network plugin", "cni "]),
    (Category::Volume, &["unable to attach or mount volumes", "mountvolume", "attachvolume"]),
];

/// What such reasons are.
const UNSPECIFIC: &[&str] =
    &["BackOff", "Failed", "FailedSync", "FailedCreatePodSandBox", "FailedCreate", "Killing", "Error"];

/// Reasons of events that are no warnings for Kubernetes and yet none to be overlooked.
const NOTABLE: &[&str] = &["NodeNotReady", "TaintManagerEviction", "Preempted", "Preempting", "Evicted"];

impl Category {
    /// Every category, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::Oom,
        Self::CrashLoop,
        Self::ImagePull,
        Self::Evicted,
        Self::Scheduling,
        Self::Volume,
        Self::Node,
        Self::Probe,
        Self::Network,
        Self::Scaling,
        Self::Failed,
        Self::Other,
    ];

    /// As it stands in `k8s.event.category`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Oom => "oom",
            Self::CrashLoop => "crash_loop",
            Self::ImagePull => "image_pull",
            Self::Evicted => "evicted",
            Self::Scheduling => "scheduling",
            Self::Volume => "volume",
            Self::Node => "node",
            Self::Probe => "probe",
            Self::Network => "network",
            Self::Scaling => "scaling",
            Self::Failed => "failed",
            Self::Other => "other",
        }
    }

    /// That of a reason and a message.
    pub fn of(reason: &str, message: &str) -> Self {
        if let Some((category, _)) = REASONS.iter().find(|(_, reasons)| reasons.contains(&reason)) {
            return *category;
        }
        if UNSPECIFIC.contains(&reason) || reason.is_empty() {
            let message = message.to_ascii_lowercase();
            let said = |(_, parts): &&(Self, &[&str])| parts.iter().any(|part| message.contains(part));
            if let Some((category, _)) = MESSAGES.iter().find(said) {
                return *category;
            }
        }
        match reason {
            // Of a container, which is most often one that crashes.
            "BackOff" => Self::CrashLoop,
            _ if reason.starts_with("Failed") || reason.ends_with("Failed") || reason.ends_with("Error") => {
                Self::Failed
            }
            _ => Self::Other,
        }
    }

    /// How bad an event of that category is.
    pub fn severity(self, reason: &str, is_warning: bool) -> Severity {
        match (is_warning, self) {
            (_, Self::Oom) => Severity::Error,
            (true, Self::CrashLoop | Self::ImagePull | Self::Evicted | Self::Node | Self::Failed) => Severity::Error,
            (true, _) => Severity::Warn,
            (false, _) if NOTABLE.contains(&reason) => Severity::Warn,
            (false, _) => Severity::Info,
        }
    }

    /// Its reasons, as the documentation lists them.
    #[cfg(test)]
    pub(super) fn reasons(self) -> impl Iterator<Item = &'static str> {
        REASONS.iter().filter(move |(category, _)| *category == self).flat_map(|(_, reasons)| reasons.iter().copied())
    }
}
