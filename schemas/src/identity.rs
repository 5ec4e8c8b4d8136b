//! Who a resource is: the attributes that name its service, cluster, namespace, pod and node.

use crate::otlp::common::{ResourceView, ValueView};

/// The identity attributes of a resource. Empty text and other types than text count as absent; of a repeated
/// attribute the first one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity<'a> {
    /// `service.name`.
    pub service: Option<&'a str>,
    /// `service.namespace`.
    pub service_namespace: Option<&'a str>,
    /// `k8s.cluster.name`.
    pub cluster: Option<&'a str>,
    /// `k8s.namespace.name`.
    pub namespace: Option<&'a str>,
    /// `k8s.pod.name`.
    pub pod: Option<&'a str>,
    /// `k8s.node.name`.
    pub node: Option<&'a str>,
}

impl<'a> Identity<'a> {
    /// Picks the identity out of a resource in one pass.
    pub fn of(resource: ResourceView<'a>) -> Self {
        let mut identity = Self::default();
        for attribute in resource.attributes() {
            let slot = match attribute.key_bytes() {
                b"service.name" => &mut identity.service,
                b"service.namespace" => &mut identity.service_namespace,
                b"k8s.cluster.name" => &mut identity.cluster,
                b"k8s.namespace.name" => &mut identity.namespace,
                b"k8s.pod.name" => &mut identity.pod,
                b"k8s.node.name" => &mut identity.node,
                _ => continue,
            };
            if let (None, ValueView::Str(text)) = (&slot, attribute.value())
                && !text.is_empty()
            {
                *slot = Some(text);
            }
        }
        identity
    }
}
