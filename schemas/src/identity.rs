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

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message;

    use super::*;

    fn resource(attributes: &[(&str, Value)]) -> Vec<u8> {
        let attribute = |(key, value): &(&str, Value)| KeyValue {
            key: (*key).into(),
            value: Some(AnyValue { value: Some(value.clone()) }),
            ..KeyValue::default()
        };
        Resource { attributes: attributes.iter().map(attribute).collect(), ..Resource::default() }.encode_to_vec()
    }

    #[test]
    fn each_attribute_fills_its_own_field() {
        let text = |text: &str| Value::StringValue(text.into());
        let bytes = resource(&[
            ("k8s.pod.name", text("pod")),
            ("service.name", text("cart")),
            ("host.name", text("host")),
            ("service.namespace", text("shop")),
            ("k8s.node.name", text("node")),
            ("k8s.cluster.name", text("eu")),
            ("k8s.namespace.name", text("prod")),
        ]);
        let expected = Identity {
            service: Some("cart"),
            service_namespace: Some("shop"),
            cluster: Some("eu"),
            namespace: Some("prod"),
            pod: Some("pod"),
            node: Some("node"),
        };
        assert_eq!(Identity::of(ResourceView::new(&bytes)), expected);
        assert_eq!(Identity::of(ResourceView::default()), Identity::default());
    }

    #[test]
    fn the_first_text_that_is_not_empty_counts() {
        let bytes = resource(&[
            ("service.name", Value::IntValue(7)),
            ("service.name", Value::StringValue(String::new())),
            ("service.name", Value::StringValue("first".into())),
            ("service.name", Value::StringValue("second".into())),
            ("k8s.pod.name", Value::BoolValue(true)),
        ]);
        let identity = Identity::of(ResourceView::new(&bytes));
        assert_eq!((identity.service, identity.pod), (Some("first"), None));
    }
}
