//! Edited bytes against decoded, edited and encoded messages.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// The same edits on decoded attributes.
fn model(config: &AttributesConfig, place: Place, attributes: &mut Vec<KeyValue>) {
    let has = |attributes: &[KeyValue], key: &str| attributes.iter().any(|attribute| attribute.key == key);
    for rule in config.set.iter().filter(|rule| rule.on.contains(&place)) {
        let new = attribute(&rule.key, text(&rule.value));
        match has(attributes, &rule.key) {
            false => attributes.push(new),
            true if rule.overwrite => {
                attributes.iter_mut().filter(|a| a.key == rule.key).for_each(|attribute| *attribute = new.clone());
            }
            true => {}
        }
    }
    for rule in config.rename.iter().filter(|rule| rule.on.contains(&place)) {
        if !has(attributes, &rule.to) {
            attributes.iter_mut().filter(|a| a.key == rule.from).for_each(|attribute| attribute.key = rule.to.clone());
        }
    }
    for rule in config.delete.iter().filter(|rule| rule.on.contains(&place)) {
        attributes.retain(|attribute| match rule.key.strip_suffix('*') {
            Some(beginning) => !attribute.key.starts_with(beginning),
            None => attribute.key != rule.key,
        });
    }
    if !config.redact.patterns.is_empty() {
        attributes.iter_mut().filter_map(|attribute| attribute.value.as_mut()).for_each(redact);
    }
}

fn redact(value: &mut AnyValue) {
    match value.value.as_mut() {
        Some(Value::StringValue(text)) => *text = text.replace("x@y.zz", "[redacted:email]"),
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(redact),
        Some(Value::KvlistValue(list)) => list.values.iter_mut().filter_map(|kv| kv.value.as_mut()).for_each(redact),
        _ => {}
    }
}

const KEYS: [&str; 5] = ["a", "b", "ab", "abc", "c"];

fn values() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        3 => select(&["", "plain", "to x@y.zz", "x@y.zz x@y.zz"][..]).prop_map(|value| Some(Value::StringValue(value.into()))),
        1 => any::<i64>().prop_map(|value| Some(Value::IntValue(value))),
        1 => Just(None),
    ];
    leaf.prop_map(|value| AnyValue { value }).prop_recursive(3, 8, 3, |inner| {
        let list = vec((select(&KEYS[..]), inner.clone()), 0..3);
        prop_oneof![
            vec(inner, 0..3).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            list.prop_map(|list| {
                let values = list.into_iter().map(|(key, value)| attribute(key, value)).collect();
                Value::KvlistValue(KeyValueList { values })
            }),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec((select(&KEYS[..]), values()).prop_map(|(key, value)| attribute(key, value)), 0..5)
}

fn configs() -> impl Strategy<Value = AttributesConfig> {
    let on = || prop::sample::subsequence(EVERYWHERE.to_vec(), 1..=3);
    let key = || select(&KEYS[..]);
    let sets = (key(), select(&["v", "x@y.zz"][..]), any::<bool>(), on());
    let sets = vec(sets.prop_map(|(key, value, overwrite, on)| set(key, value, overwrite, &on)), 0..3);
    let renames = vec((key(), key(), on()).prop_map(|(from, to, on)| rename(from, to, &on)), 0..3);
    let deletes = (select(&["a", "ab*", "c", "*"][..]), on());
    let deletes = vec(deletes.prop_map(|(key, on)| delete(key, &on)), 0..2);
    (sets, renames, deletes, any::<bool>()).prop_map(|(set, rename, delete, redact)| AttributesConfig {
        set,
        rename,
        delete,
        redact: if redact { patterns(&["email"]) } else { RedactConfig::default() },
    })
}

proptest! {
    #[test]
    fn spans_are_edited_as_by_decoding_them(
        config in configs(),
        (resource, span, event) in (attributes(), attributes(), attributes()),
    ) {
        let request = traces(resource, span, event);
        let mut expected = request.clone();
        let block = &mut expected.resource_spans[0];
        model(&config, Place::Resource, &mut block.resource.as_mut().unwrap().attributes);
        let span = &mut block.scope_spans[0].spans[0];
        model(&config, Place::Items, &mut span.attributes);
        model(&config, Place::Events, &mut span.events[0].attributes);
        let mut editor = Editor::new(&config).unwrap();
        let bytes = Bytes::from(request.encode_to_vec());
        let edited = editor.edit(Signal::Spans, &bytes);
        prop_assert_eq!(ExportTraceServiceRequest::decode(edited.clone()).unwrap(), expected.clone());
        // What stays the same is not copied.
        prop_assert_eq!(edited.as_ptr() == bytes.as_ptr(), edited == bytes);
    }

    #[test]
    fn log_records_are_edited_as_by_decoding_them(
        config in configs(),
        (resource, record, body) in (attributes(), attributes(), prop::option::of(values())),
    ) {
        let request = logs(resource, record, body);
        let mut expected = request.clone();
        let block = &mut expected.resource_logs[0];
        model(&config, Place::Resource, &mut block.resource.as_mut().unwrap().attributes);
        let record = &mut block.scope_logs[0].log_records[0];
        model(&config, Place::Items, &mut record.attributes);
        if !config.redact.patterns.is_empty() {
            record.body.iter_mut().for_each(redact);
        }
        let mut editor = Editor::new(&config).unwrap();
        prop_assert_eq!(edited_logs(&mut editor, &request), expected);
    }

    #[test]
    fn damaged_bytes_do_no_harm(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = logs(texts(&[("a", "x@y.zz")]), texts(&[("b", "v")]), Some(nested("x@y.zz"))).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 4);
        let config = AttributesConfig { rename: vec![rename("a", "c", &EVERYWHERE)], redact: patterns(&["email"]), ..AttributesConfig::default() };
        let mut editor = Editor::new(&config).unwrap();
        let bytes = Bytes::from(bytes);
        let [one, other] = [Signal::Logs, Signal::Spans].map(|signal| editor.edit(signal, &bytes));
        prop_assert!(one.len() <= bytes.len() + 80 && other.len() <= bytes.len() + 80);
    }
}
