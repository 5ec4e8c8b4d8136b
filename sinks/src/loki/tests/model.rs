//! A naive model: decoded messages, maps, no sharing. What is read back must be what it says.

use std::collections::{BTreeMap, HashSet};

use afflux_runtime::config::ByteSize;
use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};
use proptest::prelude::*;

use super::*;
use crate::loki::config::{LabelConfig, LabelPreset, LabelsConfig};

/// Keys that collide with each other, with labels, and with what entries have by themselves.
const KEYS: &[&str] = &[
    "a.b",
    "a_b",
    "a-b",
    "a_b_2",
    "app",
    "app.kubernetes.io/name",
    "service.name",
    "k8s.deployment.name",
    "k8s.namespace.name",
    "k8s.cluster.name",
    "k8s.container.name",
    "container.name",
    "k8s.pod.name",
    "source",
    "job",
    "level",
    "trace_id",
    "severity_text",
    "scope_name",
    "log.iostream",
    "log.file.path",
    "team",
    "",
    "1x",
    "..",
    "a.",
    "a_",
    "a__b",
    "key",
];
const TEXTS: &[&str] = &["", "x", "y", "eu-1", "größer", "say \"hi\"\n", "k8s-events", "a longer text than others"];

fn value(depth: u32) -> BoxedStrategy<Option<AnyValue>> {
    let text = prop::sample::select(TEXTS).prop_map(text);
    let scalar = prop_oneof![
        8 => text,
        1 => Just(None),
        1 => Just(Some(AnyValue::default())),
        1 => any::<i64>().prop_map(|n| any_value(Value::IntValue(n))),
        1 => any::<bool>().prop_map(|b| any_value(Value::BoolValue(b))),
        1 => (-9..9i32).prop_map(|n| any_value(Value::DoubleValue(f64::from(n) / 4.0))),
        1 => prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| any_value(Value::BytesValue(bytes))),
    ];
    if depth == 0 {
        return scalar.boxed();
    }
    let values = prop::collection::vec(value(depth - 1), 0..3);
    let array = values.clone().prop_map(|values| {
        let values = values.into_iter().map(Option::unwrap_or_default).collect();
        any_value(Value::ArrayValue(ArrayValue { values }))
    });
    let list = values.prop_map(|values| {
        let values = values.into_iter().enumerate().map(|(i, value)| attribute(&format!("k{i}"), value)).collect();
        any_value(Value::KvlistValue(KeyValueList { values }))
    });
    prop_oneof![6 => scalar, 1 => array, 1 => list].boxed()
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let one = (prop::sample::select(KEYS), value(1)).prop_map(|(key, value)| attribute(key, value));
    prop::collection::vec(one, 0..7)
}

fn log_record() -> impl Strategy<Value = LogRecord> {
    let time = prop_oneof![3 => NOW - 9..NOW + 9, 1 => Just(0)];
    let severity = (prop_oneof![-1..26i32, Just(0)], prop::sample::select(&["", "warning", "INFO2", "loud"][..]));
    let ids = prop::sample::select(&[0, 1][..]);
    let rest = (0..3u32, 0..2u32, prop::sample::select(&["", "k8s.event", "other"][..]));
    (time, 0..3u64, severity, value(2), attributes(), ids, rest).prop_map(
        |(time, observed, (number, text), body, attributes, id, (flags, dropped, name))| LogRecord {
            time_unix_nano: time,
            observed_time_unix_nano: if observed == 0 { 0 } else { NOW - observed },
            severity_number: number,
            severity_text: text.into(),
            body,
            attributes,
            flags,
            dropped_attributes_count: dropped,
            trace_id: if id == 1 { vec![0xab; 16] } else { vec![0; 16] },
            span_id: if id == 1 { vec![0xcd; 8] } else { Vec::new() },
            event_name: name.into(),
        },
    )
}

fn resource_logs() -> impl Strategy<Value = ResourceLogs> {
    let scope = (attributes(), prop::sample::select(&["", "lib"][..])).prop_map(|(attributes, name)| {
        Some(InstrumentationScope { attributes, ..scope(name, "").unwrap_or_default() })
    });
    let scope_logs = (scope, prop::collection::vec(log_record(), 0..5)).prop_map(|(scope, log_records)| ScopeLogs {
        scope,
        log_records,
        ..ScopeLogs::default()
    });
    (attributes(), prop::collection::vec(scope_logs, 0..3)).prop_map(|(attributes, scope_logs)| ResourceLogs {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_logs,
        ..ResourceLogs::default()
    })
}

fn config() -> impl Strategy<Value = LokiConfig> {
    let preset = prop::sample::select(&[LabelPreset::Default, LabelPreset::Promtail][..]);
    let extra =
        prop::sample::subsequence(vec!["team:team", "stream:log.iostream", "level:", "app:k8s.pod.name,a.b"], 0..4);
    let limits = (prop::sample::select(&[2, 5, 15][..]), prop::sample::select(&[3, 2048][..]));
    let metadata = (prop::sample::select(&[0, 1, 4, 128][..]), prop::sample::select(&[0, 20, 60, 65536][..]));
    (preset, extra, limits, metadata).prop_map(|(preset, extra, (labels, value), (entries, bytes))| {
        let label = |text: &str| {
            let (name, from) = text.split_once(':').unwrap();
            let from = from.split(',').filter(|from| !from.is_empty()).map(str::to_owned).collect();
            LabelConfig { name: name.into(), from }
        };
        let labels_config = LabelsConfig { preset, extra: extra.into_iter().map(label).collect() };
        let mut config = LokiConfig { labels: labels_config, ..LokiConfig::default() };
        config.limits.max_label_names = labels;
        config.limits.max_label_value_length = value;
        config.limits.max_structured_metadata_entries = entries;
        config.limits.max_structured_metadata_size = ByteSize(bytes);
        config
    })
}

/// A value as text, as the lake holds it.
fn rendered(value: &Option<AnyValue>, json: bool) -> String {
    let Some(value) = value else { return String::new() };
    let bytes = value.encode_to_vec();
    let view = afflux_schemas::otlp::common::ValueView::new(&bytes);
    let mut text = String::new();
    match (&view, json) {
        (afflux_schemas::otlp::common::ValueView::Str(said), _) => text.push_str(said),
        (afflux_schemas::otlp::common::ValueView::Empty, _) => {}
        (_, true) => view.write_json(&mut text),
        (_, false) => view.write_text(&mut text),
    }
    text
}

/// Each key with its first value, unless that is empty.
fn firsts(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let mut seen = HashSet::new();
    let first = attributes.iter().filter(|attribute| seen.insert(attribute.key.clone()));
    first.map(|a| (a.key.clone(), rendered(&a.value, false))).filter(|(_, value)| !value.is_empty()).collect()
}

/// Labels: name, kind (the first letter of what is special about it), attributes.
fn policy(config: &LokiConfig) -> Vec<(String, char, Vec<String>)> {
    let app = "k8s.pod.label.app.kubernetes.io/name,k8s.pod.labels.app.kubernetes.io/name,app.kubernetes.io/name,\
               k8s.pod.label.app,k8s.pod.labels.app,service.name,k8s.deployment.name,k8s.statefulset.name,\
               k8s.daemonset.name,k8s.cronjob.name,k8s.job.name,k8s.replicaset.name,k8s.container.name";
    let mut rules = vec![
        ("cluster", 'c', "k8s.cluster.name"),
        ("namespace", ' ', "k8s.namespace.name,service.namespace"),
        ("app", ' ', app),
        ("container", ' ', "k8s.container.name,container.name"),
        ("source", 's', "source"),
        ("level", 'l', ""),
    ];
    if config.labels.preset == LabelPreset::Promtail {
        rules.extend([("pod", ' ', "k8s.pod.name"), ("node_name", ' ', "k8s.node.name"), ("job", 'j', "job")]);
    }
    let list = |from: &str| from.split(',').filter(|from| !from.is_empty()).map(str::to_owned).collect();
    let mut rules: Vec<_> = rules.into_iter().map(|(name, kind, from)| (name.to_owned(), kind, list(from))).collect();
    for label in &config.labels.extra {
        let new = (label.name.clone(), ' ', label.from.clone());
        match rules.iter_mut().find(|(name, ..)| *name == label.name) {
            Some(rule) => *rule = new,
            None => rules.push(new),
        }
    }
    rules.retain(|(_, kind, from): &(_, _, Vec<String>)| *kind != ' ' || !from.is_empty());
    rules
}

fn level(log: &LogRecord) -> &'static str {
    match (log.severity_number, log.severity_text.as_str()) {
        (n @ 1..=24, _) => ["trace", "debug", "info", "warn", "error", "fatal"][(n as usize - 1) / 4],
        (_, "warning") => "warn",
        (_, "INFO2") => "info",
        _ => "unknown",
    }
}

type Pairs = Vec<(String, String)>;

/// The first of these attributes that there is.
fn find(all: &Pairs, from: &[String]) -> Option<(String, String)> {
    from.iter().find_map(|key| all.iter().find(|(found, _)| found == key)).cloned()
}

/// Values of labels that attributes say, which are taken away.
fn said(config: &LokiConfig, own: &mut Pairs, outer: &mut Pairs) -> BTreeMap<String, String> {
    let (own_all, outer_all) = (own.clone(), outer.clone());
    let mut values = BTreeMap::new();
    for (name, kind, from) in policy(config) {
        let in_resource = find(&outer_all, &from);
        if kind == 'c' {
            values.insert(name, "eu-1".into());
            outer.retain(|pair| !(Some(pair) == in_resource.as_ref() && pair.1 == "eu-1"));
            continue;
        }
        let all = if in_resource.is_some() { &mut *outer } else { &mut *own };
        if let Some(found) = in_resource.or_else(|| find(&own_all, &from)) {
            all.retain(|pair| pair != &found);
            values.insert(name, found.1);
        }
    }
    values
}

/// The labels in order, and what is structured metadata instead.
fn labels(config: &LokiConfig, values: &BTreeMap<String, String>, file: bool, log: &LogRecord) -> (Pairs, Pairs) {
    let (mut labels, mut moved) = (Pairs::new(), Pairs::new());
    for (name, kind, _) in policy(config) {
        let said = values.get(&name).cloned();
        let job = [values.get("namespace"), values.get("app")].into_iter().flatten().cloned().collect::<Vec<_>>();
        let value = match kind {
            'l' => Some(level(log).to_owned()),
            's' if log.event_name == "k8s.event" => {
                moved.extend(said.map(|said| ("source_extracted".into(), said)));
                Some("k8s-events".into())
            }
            's' => said.or(Some(if file { "file" } else { "otlp" }.into())),
            'j' => said.or((!job.is_empty()).then(|| job.join("/"))),
            _ => said,
        };
        labels.extend(value.map(|value| (name, value)));
    }
    let most = config.limits.max_label_names as usize - 1;
    moved.extend(if labels.len() > most { labels.split_off(most) } else { Pairs::new() });
    for (name, value) in &mut labels {
        let most = config.limits.max_label_value_length as usize;
        if value.len() > most {
            moved.push((format!("{name}_extracted"), value.clone()));
            let end = (0..=most).rev().find(|end| value.is_char_boundary(*end)).unwrap();
            value.truncate(end);
        }
    }
    labels.sort();
    (labels, moved)
}

fn selector(labels: &Pairs) -> String {
    let label = |(name, value): &(String, String)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    format!("{{{}}}", labels.iter().map(label).collect::<Vec<_>>().join(", "))
}

/// What a log record says besides its attributes.
fn fields(log: &LogRecord) -> Pairs {
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let id = |id: &[u8]| if id.iter().any(|byte| *byte != 0) { hex(id) } else { String::new() };
    let count = |number: u32| if number > 0 { number.to_string() } else { String::new() };
    let number = log.severity_number;
    let finer = number > 0 && (number > 24 || number % 4 != 1);
    let fields = [
        ("trace_id", id(&log.trace_id)),
        ("span_id", id(&log.span_id)),
        ("severity_text", log.severity_text.clone()),
        ("event_name", log.event_name.clone()),
        ("severity_number", if finer { number.to_string() } else { String::new() }),
        ("flags", count(log.flags)),
        ("dropped_attributes_count", count(log.dropped_attributes_count)),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into()
}

fn name(key: &str) -> String {
    let runs = key.split(|c: char| !c.is_ascii_alphanumeric());
    let mut name = runs.collect::<Vec<_>>().join("_");
    while name.contains("__") {
        name = name.replace("__", "_");
    }
    if name.is_empty() || name == "_" {
        name = "key".into();
    }
    if name.as_bytes()[0].is_ascii_digit() {
        name.insert_str(0, "key_");
    }
    name
}

/// What an entry must be.
fn entry(config: &LokiConfig, resource: &[KeyValue], scope: &InstrumentationScope, log: &LogRecord) -> Read {
    let is_label = |name: &str| policy(config).iter().any(|(rule, ..)| rule == name);
    let (mut own, mut outer) = (firsts(&log.attributes), firsts(resource));
    let file = own.iter().any(|(key, _)| ["log.iostream", "log.file.path", "log.file.name"].contains(&key.as_str()));
    let values = said(config, &mut own, &mut outer);
    let (labels, mut metadata) = labels(config, &values, file, log);
    let mut wanted = fields(log);
    wanted.extend((!is_label("level")).then(|| ("level".into(), level(log).into())));
    wanted.extend(own);
    wanted.push(("scope_name".into(), scope.name.clone()));
    wanted.extend(firsts(&scope.attributes));
    wanted.extend(outer);
    for (key, value) in wanted.into_iter().filter(|(_, value)| !value.is_empty()) {
        let name = name(&key);
        metadata.push((if is_label(&name) { format!("{name}_extracted") } else { name }, value));
    }
    let time = [log.time_unix_nano, log.observed_time_unix_nano, NOW].into_iter().find(|time| *time != 0).unwrap();
    let metadata = limited(config, numbered(metadata));
    Read { labels: selector(&labels), time, line: rendered(&log.body, true), metadata }
}

fn numbered(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut taken = HashSet::new();
    let mut free = |name: String| {
        let numbers = (2..).map(|n| format!("{}_{n}", name.trim_end_matches('_')));
        std::iter::once(name.clone()).chain(numbers).find(|name| taken.insert(name.clone())).unwrap()
    };
    pairs.into_iter().map(|(name, value)| (free(name), value)).collect()
}

fn limited(config: &LokiConfig, pairs: Vec<(String, String)>) -> Vec<String> {
    let (most, bytes) = (config.limits.max_structured_metadata_entries, config.limits.max_structured_metadata_size.0);
    let (most, bytes) = (if most == 0 { u32::MAX } else { most }, if bytes == 0 { u64::MAX } else { bytes });
    let size = |(name, value): &(String, String)| (name.len() + value.len()) as u64;
    let text = |(name, value): &(String, String)| format!("{name}={value}");
    if pairs.len() as u32 <= most && pairs.iter().map(size).sum::<u64>() <= bytes {
        return pairs.iter().map(text).collect();
    }
    let (mut count, mut left) = (most.saturating_sub(1), bytes.saturating_sub(35));
    let mut kept = Vec::new();
    for pair in &pairs {
        if count > 0 && size(pair) <= left {
            (count, left) = (count - 1, left - size(pair));
            kept.push(text(pair));
        }
    }
    let out = pairs.len() - kept.len();
    if out > 0 && most > 0 && bytes >= 35 {
        kept.push(format!("afflux_left_out={out}"));
    }
    kept
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_back_is_what_the_model_says(
        config in config(),
        blocks in prop::collection::vec(prop::collection::vec(resource_logs(), 0..3), 1..4),
    ) {
        let batch = batch(blocks.iter().cloned().map(record).collect());
        let encoded = encoded(&config, &batch);
        let mut expected = Vec::new();
        for block in blocks.iter().flatten() {
            let resource = block.resource.clone().unwrap_or_default();
            for scope in &block.scope_logs {
                let of = scope.scope.clone().unwrap_or_default();
                expected.extend(scope.log_records.iter().map(|log| entry(&config, &resource.attributes, &of, log)));
            }
        }
        expected.sort_by(|a, b| (&a.labels, a.time).cmp(&(&b.labels, b.time)));
        prop_assert_eq!(read(&encoded.requests), expected);
        prop_assert!(encoded.refused.is_empty());
        // The same bytes again, whatever the hash tables' seeds.
        prop_assert_eq!(super::encoded(&config, &batch).requests, encoded.requests);
    }
}
