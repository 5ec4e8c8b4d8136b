use super::*;

fn rules(yaml: &str) -> Vec<Rule> {
    serde_json::from_str(yaml).unwrap()
}

fn event() -> Observation {
    let object = super::super::event::Reference {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        ..Default::default()
    };
    Observation {
        namespace: "shop-prod".into(),
        object,
        reason: "BackOff".into(),
        message: "Back-off restarting".into(),
        kind: "Warning".into(),
        component: "kubelet".into(),
        host: "node-3".into(),
        count: 5,
        ..Observation::default()
    }
}

fn passes(drop: &str, matches: &str) -> bool {
    let object = Metadata {
        labels: [("app".to_owned(), "cart".to_owned())].into(),
        annotations: [("team".to_owned(), "blue".to_owned())].into(),
    };
    Filter::new(&rules(drop), &rules(matches)).unwrap().passes(&event(), &object)
}

#[test]
fn without_rules_everything_passes_and_each_field_can_drop() {
    assert!(passes("[]", "[]"));
    for (fits, other) in [
        (r#"{"namespace": "prod"}"#, r#"{"namespace": "^prod"}"#),
        (r#"{"kind": "^Deploy"}"#, r#"{"kind": "Pod"}"#),
        (r#"{"reason": "Back"}"#, r#"{"reason": "^Off"}"#),
        (r#"{"message": "restart(ing|ed)"}"#, r#"{"message": "pulled"}"#),
        (r#"{"type": "Warn"}"#, r#"{"type": "Normal"}"#),
        (r#"{"component": "kube"}"#, r#"{"component": "scheduler"}"#),
        (r#"{"host": "node-\\d"}"#, r#"{"host": "node-4"}"#),
        (r#"{"api_version": "apps/"}"#, r#"{"api_version": "^v1$"}"#),
        (r#"{"min_count": 5}"#, r#"{"min_count": 6}"#),
        (r#"{"labels": {"app": "c.*t"}}"#, r#"{"labels": {"app": "cart", "tier": ""}}"#),
        (r#"{"annotations": {"team": "b"}}"#, r#"{"annotations": {"team": "red"}}"#),
        (r#"{"reason": "Back", "type": "Warning"}"#, r#"{"reason": "Back", "type": "Normal"}"#),
    ] {
        assert!(!passes(&format!("[{fits}]"), "[]"), "{fits} drops");
        assert!(passes(&format!("[{other}]"), "[]"), "{other} does not drop");
        assert!(passes("[]", &format!("[{other}, {fits}]")), "one rule of several is enough: {fits}");
        assert!(!passes("[]", &format!("[{other}]")), "{other} does not match");
        assert!(!passes(&format!("[{fits}]"), &format!("[{fits}]")), "drop goes first: {fits}");
    }
}

#[test]
fn labels_are_looked_up_only_for_rules_that_have_some() {
    let needs = |text: &str| Filter::new(&rules(text), &[]).unwrap().needs_metadata();
    assert!(!needs(r#"[{"reason": "x"}]"#));
    assert!(needs(r#"[{"reason": "x"}, {"labels": {"a": "b"}}]"#));
}

#[test]
fn wrong_rules_are_named() {
    let error = |drop: &str, matches: &str| Filter::new(&rules(drop), &rules(matches)).unwrap_err().to_string();
    let text = error("[]", r#"[{"reason": "x"}, {"labels": {"app": "("}}]"#);
    assert!(text.starts_with("`producers.kubernetes.events.match.1.labels.app` is no regular expression"), "{text}");
    assert!(error("[{}]", "[]").starts_with("`producers.kubernetes.events.drop.0` is empty"));
}
