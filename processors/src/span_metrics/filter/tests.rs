use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prost::Message;
use serde_json::json;

use super::*;

const PATH: &str = "processors.span_metrics.filter_policies";

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// A server span that failed.
fn span() -> Span {
    Span {
        name: "GET /cart".into(),
        kind: 2,
        status: Some(Status { code: 2, message: "late".into() }),
        attributes: vec![
            text("http.route", "/cart"),
            text("twice", "first"),
            text("twice", "second"),
            text("code.text", "200"),
            text("odd name", "x"),
            attribute("code", Value::IntValue(200)),
            attribute("share", Value::DoubleValue(0.5)),
            attribute("whole", Value::DoubleValue(2.0)),
            attribute("cached", Value::BoolValue(true)),
            attribute("raw", Value::BytesValue(b"x".to_vec())),
            attribute("list", Value::ArrayValue(ArrayValue::default())),
            KeyValue { key: "none".into(), ..KeyValue::default() },
        ],
        ..Span::default()
    }
}

fn policies(value: serde_json::Value) -> Vec<FilterPolicy> {
    serde_json::from_value(value).unwrap()
}

fn keeps(value: serde_json::Value, span: &Span) -> bool {
    let filter = Filter::new(&policies(value), PATH).unwrap();
    let attributes = vec![text("service.name", "shop"), text("region", "eu")];
    let resource = Resource { attributes, ..Resource::default() }.encode_to_vec();
    filter.keeps(ResourceView::new(&resource), &SpanView::new(&span.encode_to_vec()))
}

fn matches(match_type: &str, attributes: &[(&str, serde_json::Value)]) -> serde_json::Value {
    let attributes: Vec<_> = attributes.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    json!({"match_type": match_type, "attributes": attributes})
}

#[test]
fn every_kind_of_attribute_and_value_matches_or_not() {
    for (match_type, key, value, expected) in [
        ("strict", "kind", json!("SPAN_KIND_SERVER"), true),
        ("strict", "kind", json!("SPAN_KIND_CLIENT"), false),
        ("strict", "span:kind", json!("SPAN_KIND_SERVER"), true),
        ("regex", "kind", json!("SPAN_KIND_(SERVER|CONSUMER)"), true),
        ("regex", "kind", json!("SPAN_KIND_(CLIENT|PRODUCER)"), false),
        ("regex", "kind", json!("SERVER"), true),
        ("strict", "status", json!("STATUS_CODE_ERROR"), true),
        ("strict", "status", json!("STATUS_CODE_OK"), false),
        ("regex", "status", json!("STATUS_CODE_(OK|UNSET)"), false),
        ("strict", "name", json!("GET /cart"), true),
        ("strict", "name", json!("GET"), false),
        ("regex", "name", json!("GET .*"), true),
        ("regex", "name", json!("GET"), true),
        ("regex", "name", json!("/cart"), true),
        ("regex", "name", json!("^/cart"), false),
        ("regex", "name", json!("^GET$"), false),
        ("regex", "name", json!("GET|GET /cart"), true),
        ("regex", "name", json!("^(POST|GET /car)$"), false),
        ("regex", "name", json!("(?i)get /CART"), true),
        ("regex", "name", json!(r"(?x) GET \x20 /cart # the cart"), true),
        ("regex", "name", json!("(?m)GET$|^/cart"), false),
        ("strict", "resource.service.name", json!("shop"), true),
        ("strict", "resource.http.route", json!("/cart"), false),
        ("strict", "span.http.route", json!("/cart"), true),
        ("strict", "span.service.name", json!("shop"), false),
        ("strict", "span.\"odd name\"", json!("x"), true),
        ("strict", "span.odd name", json!("x"), true),
        ("strict", "span.twice", json!("first"), true),
        ("strict", "span.twice", json!("second"), false),
        ("strict", "span.code", json!(200), true),
        ("strict", "span.code", json!("200"), true),
        ("strict", "span.code", json!("0200"), false),
        ("strict", "span.code", json!(201), false),
        ("strict", "span.code.text", json!(200), true),
        ("regex", "span.code", json!("2.."), true),
        ("regex", "span.code", json!("2."), true),
        ("regex", "span.code", json!("^2.$"), false),
        ("strict", "span.share", json!(0.5), true),
        ("strict", "span.share", json!("0.50"), false),
        ("regex", "span.share", json!(r"0\.\d"), true),
        ("strict", "span.whole", json!(2), true),
        ("strict", "span.cached", json!(true), true),
        ("strict", "span.cached", json!("true"), true),
        ("strict", "span.cached", json!(false), false),
        ("regex", "span.cached", json!("t.*"), true),
        ("regex", "span.raw", json!(".*"), false),
        ("regex", "span.list", json!(".*"), false),
        ("regex", "span.none", json!(".*"), false),
        ("regex", "span.missing", json!(".*"), false),
        ("strict", "span.missing", json!(""), false),
    ] {
        let one = matches(match_type, &[(key, value.clone())]);
        assert_eq!(keeps(json!([{"include": one}]), &span()), expected, "include {match_type} {key} {value}");
        assert_eq!(keeps(json!([{"exclude": one}]), &span()), !expected, "exclude {match_type} {key} {value}");
        assert_eq!(keeps(json!([{"include_any": one}]), &span()), expected, "include_any {match_type} {key} {value}");
    }
}

#[test]
fn a_match_needs_all_of_its_attributes() {
    let name = ("name", json!("GET /cart"));
    let both = [name.clone(), ("span.code", json!(200)), ("resource.region", json!("eu"))];
    let one_wrong = [name, ("span.code", json!(200)), ("resource.region", json!("us"))];
    for key in ["include", "include_any"] {
        assert!(keeps(json!([{key: matches("strict", &both)}]), &span()), "{key}");
        assert!(!keeps(json!([{key: matches("strict", &one_wrong)}]), &span()), "{key}");
    }
    assert!(!keeps(json!([{"exclude": matches("strict", &both)}]), &span()));
    assert!(keeps(json!([{"exclude": matches("strict", &one_wrong)}]), &span()));
}

#[test]
fn policies_are_combined_as_in_tempo() {
    let yes = || matches("strict", &[("name", json!("GET /cart"))]);
    let no = || matches("strict", &[("name", json!("other"))]);
    for (policies, expected) in [
        (json!([]), true),
        (json!([{"include": yes()}, {"include": yes()}]), true),
        (json!([{"include": yes()}, {"include": no()}]), false),
        (json!([{"include_any": no()}, {"include_any": yes()}]), true),
        (json!([{"include_any": no()}, {"include_any": no()}]), false),
        (json!([{"exclude": no()}, {"exclude": yes()}]), false),
        (json!([{"exclude": no()}, {"exclude": no()}]), true),
        (json!([{"include_any": yes(), "include": no()}]), true),
        (json!([{"include_any": no(), "include": yes()}]), true),
        (json!([{"include_any": no()}, {"include": no()}]), false),
        (json!([{"include": yes(), "exclude": yes()}]), false),
        (json!([{"include_any": yes()}, {"exclude": yes()}]), false),
        (json!([{"include_any": no()}, {"exclude": no()}]), false),
    ] {
        assert_eq!(keeps(policies.clone(), &span()), expected, "{policies}");
    }
}

#[test]
fn numbers_of_kinds_and_statuses_that_do_not_exist_match_nothing() {
    let all = json!([{"include": matches("regex", &[("kind", json!(".*")), ("status", json!(".*"))])}]);
    assert!(keeps(all.clone(), &Span::default()), "unspecified and unset");
    for (kind, code) in [(6, 0), (8, 0), (32, 0), (-1, 0), (i32::MAX, 0), (0, 3), (0, -1), (0, i32::MIN)] {
        let status = Some(Status { code, ..Status::default() });
        assert!(!keeps(all.clone(), &Span { kind, status, ..Span::default() }), "{kind} {code}");
    }
}

#[test]
fn invalid_policies_are_refused_with_their_key() {
    let one = |match_type: &str, key: &str, value: &str| {
        json!([{"exclude": matches("strict", &[("name", json!("x"))])},
               {"include": matches(match_type, &[("name", json!("x")), (key, json!(value))])}])
    };
    let at = "processors.span_metrics.filter_policies.1.include.attributes.1";
    let no_kind = "SPAN_KIND_UNSPECIFIED, SPAN_KIND_INTERNAL, SPAN_KIND_SERVER, SPAN_KIND_CLIENT, SPAN_KIND_PRODUCER, \
                   SPAN_KIND_CONSUMER";
    for (policies, expected) in [
        (json!([{}]), format!("`{PATH}.0` has neither include, include_any nor exclude; give it one, or remove it")),
        (
            json!([{"include_any": matches("strict", &[])}]),
            format!(
                "`{PATH}.0.include_any.attributes` is empty, and would match every span; name an attribute, or remove the match"
            ),
        ),
        (
            one("strict", "duration", "1"),
            format!("`{at}.key` is `duration`; use kind, status, name, resource.KEY or span.KEY"),
        ),
        (one("strict", ".a", "1"), format!("`{at}.key` is `.a`; use kind, status, name, resource.KEY or span.KEY")),
        (
            one("strict", "span.", "1"),
            format!("`{at}.key` is `span.`; use kind, status, name, resource.KEY or span.KEY"),
        ),
        (one("strict", "kind", "server"), format!("`{at}.value` is `server`, which no span has; use {no_kind}")),
        (
            one("strict", "status", "ERROR"),
            format!(
                "`{at}.value` is `ERROR`, which no span has; use STATUS_CODE_UNSET, STATUS_CODE_OK, STATUS_CODE_ERROR"
            ),
        ),
        (
            one("regex", "span.a", "ab(c"),
            format!("`{at}.value` is `ab(c`, which is no regular expression at character 3: unclosed group"),
        ),
        (
            one("regex", "name", "é*)x"),
            format!("`{at}.value` is `é*)x`, which is no regular expression at character 3: unopened group"),
        ),
        (
            one("regex", "kind", "a)(b"),
            format!("`{at}.value` is `a)(b`, which is no regular expression at character 2: unopened group"),
        ),
        (
            one("regex", "name", "*"),
            format!(
                "`{at}.value` is `*`, which is no regular expression at character 1: repetition operator missing expression"
            ),
        ),
    ] {
        let error = Filter::new(&self::policies(policies), PATH).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let large = Filter::new(&policies(one("regex", "name", r"\w{1000}{1000}")), PATH).unwrap_err();
    let InvalidFilter::Pattern { position: None, reason, .. } = large else { panic!("{large}") };
    assert!(reason.contains("size limit"), "{reason}");
}

#[test]
fn unknown_fields_and_values_of_other_types_are_refused() {
    let parse = |value| serde_json::from_value::<FilterPolicy>(value).map_err(|error| error.to_string());
    let attribute = json!({"key": "name", "value": "x"});
    for wrong in [
        json!({"includes": null}),
        json!({"include": {"match_type": "strict", "attributes": [], "x": 1}}),
        json!({"include": {"attributes": [attribute]}}),
        json!({"include": {"match_type": "glob", "attributes": [attribute]}}),
        json!({"include": {"match_type": "strict", "attributes": [{"key": "name"}]}}),
        json!({"include": {"match_type": "strict", "attributes": [{"key": "name", "value": ["x"]}]}}),
        json!({"include": {"match_type": "strict", "attributes": [{"key": "name", "value": null}]}}),
        json!({"include": {"match_type": "strict", "attributes": [{"key": "name", "value": "x", "y": 1}]}}),
    ] {
        assert!(parse(wrong.clone()).is_err(), "{wrong}");
    }
    let good = json!({"exclude": {"match_type": "regex", "attributes": [attribute]}});
    assert_eq!(serde_json::to_value(parse(good.clone()).unwrap()).unwrap(), good);
}

#[test]
fn a_filter_without_policies_keeps_what_it_cannot_read() {
    let filter = Filter::new(&[], PATH).unwrap();
    assert!(filter.is_empty() && filter.keeps(ResourceView::default(), &SpanView::new(&[0xff])));
}
