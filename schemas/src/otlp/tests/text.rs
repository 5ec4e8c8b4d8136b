//! Values as text.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use proptest::prelude::*;
use prost::Message;

use crate::otlp::common::ValueView;

fn of(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn entry(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(of(value)), key_strindex: 0 }
}

/// The value as plain text and as JSON.
fn texts(value: AnyValue) -> (String, String) {
    let bytes = value.encode_to_vec();
    let view = ValueView::new(&bytes);
    let (mut text, mut json) = (String::new(), String::new());
    view.write_text(&mut text);
    view.write_json(&mut json);
    (text, json)
}

#[test]
fn plain_values_stand_bare_and_only_json_quotes_them() {
    for (value, text, json) in [
        (Value::StringValue("a \"b\"\n\u{1}é\\".into()), "a \"b\"\n\u{1}é\\", r#""a \"b\"\n\u0001é\\""#),
        (Value::StringValue(String::new()), "", r#""""#),
        (Value::BoolValue(true), "true", "true"),
        (Value::BoolValue(false), "false", "false"),
        (Value::IntValue(i64::MIN), "-9223372036854775808", "-9223372036854775808"),
        (Value::DoubleValue(1.0), "1.0", "1.0"),
        (Value::DoubleValue(0.1), "0.1", "0.1"),
        (Value::DoubleValue(1e300), "1e300", "1e300"),
        (Value::DoubleValue(-0.0), "-0.0", "-0.0"),
        (Value::DoubleValue(f64::NAN), "NaN", r#""NaN""#),
        (Value::DoubleValue(f64::INFINITY), "Infinity", r#""Infinity""#),
        (Value::DoubleValue(f64::NEG_INFINITY), "-Infinity", r#""-Infinity""#),
        (Value::BytesValue(vec![]), "", r#""""#),
        (Value::BytesValue(b"f".into()), "Zg==", r#""Zg==""#),
        (Value::BytesValue(b"fo".into()), "Zm8=", r#""Zm8=""#),
        (Value::BytesValue(b"foobar".into()), "Zm9vYmFy", r#""Zm9vYmFy""#),
        (Value::BytesValue(vec![0xfb, 0xff, 0xbf]), "+/+/", r#""+/+/""#),
    ] {
        assert_eq!(texts(of(value)), (text.into(), json.into()));
    }
    assert_eq!(texts(AnyValue::default()), (String::new(), "null".into()));
}

#[test]
fn arrays_and_lists_are_json_even_as_text() {
    let list = Value::KvlistValue(KeyValueList {
        values: vec![
            entry("k\"", Value::StringValue("v".into())),
            entry("n", Value::ArrayValue(ArrayValue { values: vec![of(Value::IntValue(1)), AnyValue::default()] })),
            KeyValue { key: "none".into(), ..KeyValue::default() },
            entry("empty", Value::KvlistValue(KeyValueList::default())),
        ],
    });
    let expected = r#"{"k\"":"v","n":[1,null],"none":null,"empty":{}}"#;
    assert_eq!(texts(of(list)), (expected.into(), expected.into()));
}

#[test]
fn every_control_character_is_escaped_in_json() {
    for byte in 0..=0x7f_u8 {
        let text = char::from(byte).to_string();
        let (plain, json) = texts(of(Value::StringValue(text.clone())));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        assert_eq!(plain, text);
    }
}

proptest! {
    #[test]
    fn any_text_survives_as_json(text in any::<String>()) {
        let (plain, json) = texts(of(Value::StringValue(text.clone())));
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text.clone());
        prop_assert_eq!(plain, text);
    }

    #[test]
    fn any_double_survives_as_text(bits in any::<u64>()) {
        let number = f64::from_bits(bits);
        let (plain, _) = texts(of(Value::DoubleValue(number)));
        let read: f64 = plain.parse().unwrap();
        prop_assert!(read.to_bits() == bits || read.is_nan() && number.is_nan());
    }
}
