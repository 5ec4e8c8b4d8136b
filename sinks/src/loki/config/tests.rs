use super::*;

fn label(name: &str, from: &[&str]) -> LabelConfig {
    LabelConfig { name: name.into(), from: from.iter().map(|&from| from.into()).collect() }
}

#[test]
fn the_defaults_are_valid_and_the_sink_is_off() {
    let config = LokiConfig::default();
    config.validate().unwrap();
    assert_eq!(config.address(), None);
    assert_eq!(LokiConfig { url: Some(String::new()), ..config }.address(), None);
}

#[test]
fn every_wrong_value_is_named() {
    let wrong = |change: fn(&mut LokiConfig)| {
        let mut config = LokiConfig::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    let taken = ["cluster", "namespace", "app", "container", "source", "level"];
    let nothing = LabelsConfig { extra: taken.map(|name| label(name, &[])).into(), ..LabelsConfig::default() };
    let nothing = LokiConfig { labels: nothing, ..LokiConfig::default() }.validate().unwrap_err().to_string();
    for (error, name) in [
        (wrong(|c| c.url = Some("loki:3100".into())), "sinks.loki.url"),
        (wrong(|c| c.tenant = Some("a|b".into())), "sinks.loki.tenant"),
        (wrong(|c| c.tenant = Some("..".into())), "sinks.loki.tenant"),
        (wrong(|c| c.labels.extra = vec![label("1a", &["x"])]), "sinks.loki.labels.extra[0].name"),
        (wrong(|c| c.labels.extra = vec![label("a.b", &["x"])]), "sinks.loki.labels.extra[0].name"),
        (wrong(|c| c.labels.extra = vec![label("", &["x"])]), "sinks.loki.labels.extra[0].name"),
        (wrong(|c| c.labels.extra = vec![label("__a", &["x"])]), "sinks.loki.labels.extra[0].name"),
        (wrong(|c| c.labels.extra = vec![label(&"a".repeat(1025), &["x"])]), "sinks.loki.labels.extra[0].name"),
        (wrong(|c| c.labels.extra = vec![label("a", &["x"]), label("a", &["y"])]), "sinks.loki.labels.extra[1].name"),
        (wrong(|c| c.labels.extra = vec![label("a", &["x", ""])]), "sinks.loki.labels.extra[0].from"),
        (nothing, "sinks.loki.labels.extra"),
        (wrong(|c| c.limits.max_label_names = 0), "sinks.loki.limits.max_label_names"),
        (wrong(|c| c.limits.max_label_name_length = 0), "sinks.loki.limits.max_label_name_length"),
        (wrong(|c| c.limits.max_label_value_length = 0), "sinks.loki.limits.max_label_value_length"),
        (wrong(|c| c.limits.max_line_size = ByteSize(10)), "sinks.loki.limits.max_line_size"),
        (wrong(|c| c.limits.max_request_size = ByteSize(0)), "sinks.loki.limits.max_request_size"),
        (wrong(|c| c.backfill.bucket = Period(Duration::from_secs(3600))), "sinks.loki.backfill.bucket"),
        (wrong(|c| c.backfill.bucket = Period(Duration::ZERO)), "sinks.loki.backfill.bucket"),
    ] {
        assert!(error.starts_with(name), "{error}");
    }
}

#[test]
fn unknown_keys_are_refused_and_secrets_are_not_shown() {
    assert!(serde_json::from_str::<LokiConfig>(r#"{"label": {}}"#).is_err());
    let text = r#"{"url": "http://l", "headers": {"X-Key": "hunter2"}, "auth": {"bearer": {"token": "hunter2"}},
        "labels": {"preset": "promtail"}, "protocol": "otlp"}"#;
    let config: LokiConfig = serde_json::from_str(text).unwrap();
    assert_eq!((config.protocol, config.labels.preset), (Protocol::Otlp, LabelPreset::Promtail));
    let shown = format!("{config:?}");
    assert!(shown.contains("X-Key") && !shown.contains("hunter2"), "{shown}");
}

/// What a configuration holds of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct File {
    sinks: Sinks,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sinks {
    loki: LokiConfig,
}

#[test]
fn configurations_in_the_documentation_are_valid() {
    let text = include_str!("../../../../docs/loki.md");
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() > 3);
    for block in blocks {
        let file: File = afflux_runtime::config::load("docs/loki.md", block, []).unwrap();
        file.sinks.loki.validate().unwrap();
    }
}
