//! Events as recorders write them.

use serde_json::{Value, json};

/// Events at the path of events.k8s.io/v1 are those of core/v1 under other names.
pub(crate) const OTHER_GROUP: &str = "/apis/events.k8s.io/v1/events";

const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// The event number `n` as the kubelet's recorder writes it when it happens for the time `count`.
pub fn event(n: usize, count: i64) -> Value {
    let (name, namespace) = (format!("web-{n:05}.18a1f3c2d4e5b6a7"), format!("shop-{}", n % 7));
    let now = now();
    json!({
        "metadata": {
            "name": name, "namespace": namespace, "uid": uid(n), "creationTimestamp": now,
            "managedFields": [{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "time": now,
                "fieldsType": "FieldsV1", "fieldsV1": {"f:count": {}, "f:involvedObject": {}, "f:lastTimestamp": {},
                "f:message": {}, "f:reason": {}, "f:source": {"f:component": {}, "f:host": {}}, "f:type": {}}}],
        },
        "involvedObject": {"kind": "Pod", "namespace": namespace, "name": format!("web-{n:05}"),
            "uid": format!("aaaaaaaa-0000-4000-8000-{n:012}"), "apiVersion": "v1", "resourceVersion": "17",
            "fieldPath": "spec.containers{web}"},
        "reason": if n.is_multiple_of(3) { "BackOff" } else { "Pulled" },
        "message": format!("Back-off restarting failed container web in pod web-{n:05}_{namespace}"),
        "source": {"component": "kubelet", "host": format!("node-{}", n % 11)},
        "firstTimestamp": now, "lastTimestamp": now, "count": count,
        "type": if n.is_multiple_of(3) { "Warning" } else { "Normal" },
        "eventTime": null, "reportingComponent": "kubelet", "reportingInstance": format!("node-{}", n % 11),
    })
}

/// Uid of the event number `n`.
pub fn uid(n: usize) -> String {
    format!("bbbbbbbb-0000-4000-8000-{n:012}")
}

/// The event as events.k8s.io/v1 shows it.
pub(crate) fn in_other_group(event: &Value) -> Value {
    let Value::Object(event) = event else { return Value::Null };
    Value::Object(event.iter().map(|(name, value)| (renamed(name).to_owned(), value.clone())).collect())
}

/// What the other group calls a field.
fn renamed(name: &str) -> &str {
    RENAMED.iter().find(|(ours, _)| *ours == name).map_or(name, |(_, theirs)| theirs)
}

/// Now, to the second, in RFC 3339.
fn now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}
