use super::*;

fn error(json: &str) -> String {
    let config: KubernetesConfig = serde_json::from_str(json).unwrap();
    config.validate().err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn what_cannot_work_is_named() {
    assert_eq!(error(r#"{"cluster": "eu"}"#), "");
    for (json, key) in [
        (r#"{}"#, "`producers.kubernetes.cluster` is empty"),
        (r#"{"cluster": "eu", "leader_election": {"name": ""}}"#, "leader_election.name"),
        (r#"{"cluster": "eu", "leader_election": {"renew_deadline": "20s"}}"#, "renew_deadline < lease_duration"),
        (r#"{"cluster": "eu", "events": {"page": 0}}"#, "events.page"),
        (r#"{"cluster": "eu", "events": {"watch_timeout": "10ms"}}"#, "events.watch_timeout"),
        (r#"{"cluster": "eu", "objects": {"labels": ["a*b"]}}"#, "objects.labels` has `a*b`"),
        (r#"{"cluster": "eu", "objects": {"annotations": [""]}}"#, "objects.annotations"),
        (r#"{"cluster": "eu", "events": {"match": [{"reason": "["}]}}"#, "events.match.0.reason"),
        (r#"{"cluster": "eu", "events": {"enabled": false}, "objects": {"enabled": false}}"#, "kubernetes: false"),
    ] {
        let error = error(json);
        assert!(error.contains(key), "{json}: {error}");
    }
}
