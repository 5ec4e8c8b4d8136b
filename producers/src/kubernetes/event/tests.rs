use serde_json::{Value, json};

use super::*;

fn fixture(name: &str) -> Value {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kubernetes/fixtures");
    serde_json::from_str(&std::fs::read_to_string(format!("{dir}/{name}.json")).unwrap()).unwrap()
}

fn read(name: &str) -> Observation {
    Observation::read(fixture(name)).unwrap()
}

#[test]
fn both_groups_show_the_same_event() {
    for event in ["backoff", "scheduling"] {
        assert_eq!(read(&format!("{event}.core-v1")), read(&format!("{event}.events-v1")), "{event}");
    }
}

#[test]
fn the_body_is_the_event_as_core_v1_shows_it_without_managed_fields() {
    for event in ["backoff", "scheduling", "node"] {
        let mut expected = fixture(&format!("{event}.core-v1"));
        assert!(expected["metadata"].as_object_mut().unwrap().remove("managedFields").is_some());
        // Lists leave these out.
        expected["kind"] = "Event".into();
        expected["apiVersion"] = "v1".into();
        assert_eq!(
            serde_json::from_str::<Value>(&read(&format!("{event}.core-v1")).body).unwrap(),
            expected,
            "{event}"
        );
    }
}

#[test]
fn an_event_of_an_old_recorder_counts_in_count_and_ends_at_its_last_timestamp() {
    let event = read("backoff.core-v1");
    let host = "ip-10-0-3-17.eu-central-1.compute.internal";
    // 2026-11-03T09:14:52Z
    assert_eq!((event.count, event.time), (104, 1_793_697_292_000_000_000));
    assert_eq!((event.kind.as_str(), event.reason.as_str()), ("Warning", "BackOff"));
    assert_eq!((event.component.as_str(), event.host.as_str(), event.node.as_str()), ("kubelet", host, host));
    assert_eq!(event.uid, "0f6a1c8e-5b1d-4f0e-9a64-6d0f7b9d2a11");
    assert_eq!((event.resource_version.as_str(), event.namespace.as_str()), ("48213377", "shop"));
    assert_eq!(event.object.field_path, "spec.containers{checkout}");
    assert_eq!(event.object.identity(), "c2b1a7f4-3d5e-4c8a-8f0b-1e2d3c4b5a69");
}

#[test]
fn an_event_of_a_new_recorder_counts_in_its_series_and_ends_where_that_was_last_observed() {
    let event = read("scheduling.core-v1");
    // 2026-11-03T09:14:58.654321Z
    assert_eq!((event.count, event.time), (3, 1_793_697_298_654_321_000));
    assert_eq!((event.component.as_str(), event.node.as_str()), ("default-scheduler", ""));
    assert_eq!(event.action, "Scheduling");
}

#[test]
fn times_are_tried_in_order_and_counts_are_the_greatest() {
    let base = json!({"metadata": {"uid": "u", "resourceVersion": "1", "creationTimestamp": "1970-01-01T00:00:01Z"}});
    let of = |fields: Value| {
        let mut event = base.clone();
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let event = Observation::read(event).unwrap();
        (event.time / 1_000_000_000, event.count)
    };
    assert_eq!(of(json!({})), (1, 1));
    assert_eq!(of(json!({"firstTimestamp": "1970-01-01T00:00:02Z", "count": 0})), (2, 1));
    assert_eq!(of(json!({"firstTimestamp": "1970-01-01T00:00:02Z", "eventTime": "1970-01-01T00:00:03.5Z"})), (3, 1));
    let three = json!({"eventTime": "1970-01-01T00:00:03Z", "lastTimestamp": "1970-01-01T00:00:04Z", "count": 7});
    assert_eq!(of(three), (4, 7));
    let series = json!({"lastTimestamp": "1970-01-01T00:00:04Z", "count": 2,
        "series": {"count": 9, "lastObservedTime": "1970-01-01T00:00:05Z"}});
    assert_eq!(of(series), (5, 9));
    assert_eq!(of(json!({"lastTimestamp": "soon", "eventTime": null})), (1, 1));
}

#[test]
fn what_is_no_event_is_refused() {
    for wrong in [json!(1), json!({}), json!({"metadata": {"uid": "u"}}), json!({"metadata": {"resourceVersion": "1"}})]
    {
        assert!(Observation::read(wrong.clone()).is_err(), "{wrong}");
    }
}
