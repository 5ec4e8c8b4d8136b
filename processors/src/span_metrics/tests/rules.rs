//! The rules of Tempo's metrics generator, and where the Collector's connector differs.

use super::*;

#[test]
fn kinds_codes_and_missing_services_have_their_labels() {
    let status = |code| Some(Status { code, message: "late".into() });
    let mut spans: Vec<Span> = (0..7).map(|kind| Span { kind, ..span("a", 1) }).collect();
    spans.extend([1, 2, 9].map(|code| Span { status: status(code), ..span("a", 1) }));
    let told = run(calls(), vec![of(&[], spans)]);
    let series = |kind: &str, code: &str| {
        format!("{CALLS}{{span_name=a,span_kind=SPAN_KIND_{kind},status_code=STATUS_CODE_{code}}} @15")
    };
    let mut expected: BTreeMap<_, _> =
        ["INTERNAL", "CLIENT", "PRODUCER", "CONSUMER"].map(|kind| (series(kind, "UNSET"), "1".to_owned())).into();
    expected.insert(series("CONSUMER", "UNSET"), "2".into());
    expected.insert(series("UNSPECIFIED", "UNSET"), "1".into());
    expected.insert(series("SERVER", "UNSET"), "1".into());
    expected.insert(series("SERVER", "OK"), "1".into());
    expected.insert(series("SERVER", "ERROR"), "2".into());
    assert_eq!(told, expected, "numbers beyond the last count as the last");
}

#[test]
fn durations_lie_at_or_below_their_bound_and_negative_ones_are_zero() {
    let exact = |nanos: u64| Span { start_time_unix_nano: END - nanos, ..span("a", 0) };
    let backwards = Span { start_time_unix_nano: END + SECOND, ..span("a", 0) };
    let spans = vec![
        exact(0),
        backwards,
        exact(2_000_000),
        exact(2_000_001),
        exact(4_000_000),
        exact(16_384_000_000),
        exact(16_384_000_001),
    ];
    let config = SpanMetricsConfig { calls: false, size: false, ..SpanMetricsConfig::default() };
    let told = run(config, vec![cart(spans)]);
    let value = told.into_values().next().unwrap();
    assert!(value.starts_with("[3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1] 32.776"), "{value}");
}

#[test]
fn late_and_early_spans_are_counted_where_they_belong_unless_there_is_a_slack() {
    let at =
        |seconds: i64| Span { end_time_unix_nano: END.saturating_add_signed(seconds * SECOND as i64), ..span("a", 1) };
    let spans = || vec![at(-1), at(-31), at(-3600), at(14), at(15), at(31)];
    let labels = "{service=cart,span_name=a,span_kind=SPAN_KIND_SERVER,status_code=STATUS_CODE_UNSET}";
    let told = run(calls(), vec![cart(spans())]);
    let times: Vec<_> = [0, -30, -3600 + 15, 15, 30, 45].map(|time| format!("{CALLS}{labels} @{time}")).into();
    assert_eq!(told, times.into_iter().map(|series| (series, "1".to_owned())).collect());

    let slack = SpanMetricsConfig { slack: Some(Period(Duration::from_secs(30))), ..calls() };
    assert_eq!(run(slack, vec![cart(spans())]).len(), 3, "those within 30 s");
}

#[test]
fn dimensions_come_from_the_resource_before_the_span_and_empty_ones_have_no_label() {
    let config = SpanMetricsConfig {
        dimensions: ["k8s.namespace.name", "http.status_code", "missing", "0day", "flag"].map(String::from).into(),
        ..calls()
    };
    let mut one = span("a", 1);
    one.attributes = vec![
        text("k8s.namespace.name", "of the span"),
        attribute("http.status_code", Any::IntValue(503)),
        attribute("http.status_code", Any::IntValue(200)),
        text("0day", "x"),
        attribute("flag", Any::BoolValue(true)),
    ];
    let resource = [text("service.name", "cart"), text("k8s.namespace.name", "shop")];
    let labels = "service=cart,span_name=a,span_kind=SPAN_KIND_SERVER,status_code=STATUS_CODE_UNSET";
    let with = format!("{CALLS}{{{labels},k8s_namespace_name=shop,http_status_code=503,_0day=x,flag=true}} @15");
    let without = format!("{CALLS}{{{labels},k8s_namespace_name=shop}} @15");
    let told = run(config, vec![of(&resource, vec![one, span("a", 1)])]);
    assert_told(&told, &[(&with, "1"), (&without, "1")]);
}

#[test]
fn intrinsic_labels_can_be_left_out_and_the_status_message_added() {
    let intrinsic_dimensions =
        IntrinsicDimensions { span_kind: false, status_code: false, status_message: true, ..Default::default() };
    let failed = Span { status: Some(Status { code: 2, message: "no stock".into() }), ..span("a", 1) };
    let told = run(
        SpanMetricsConfig { intrinsic_dimensions, ..calls() },
        vec![cart(vec![failed, span("a", 1), Span { kind: 3, ..span("a", 1) }])],
    );
    let message = format!("{CALLS}{{service=cart,span_name=a,status_message=no stock}} @15");
    assert_told(&told, &[(&message, "1"), (&format!("{CALLS}{{service=cart,span_name=a}} @15"), "2")]);
}

#[test]
fn mappings_join_what_there_is() {
    let mapping = |name: &str, sources: &[&str], join: &str| DimensionMapping {
        name: name.into(),
        source_labels: sources.iter().map(|source| (*source).to_owned()).collect(),
        join: join.into(),
    };
    let config = SpanMetricsConfig {
        dimension_mappings: vec![
            mapping("route", &["http.method", "http.route", "none"], " "),
            mapping("__service", &["service.name"], "/"),
        ],
        intrinsic_dimensions: IntrinsicDimensions { span_kind: false, status_code: false, ..Default::default() },
        ..calls()
    };
    let mut both = span("a", 1);
    both.attributes = vec![text("http.route", "/users"), text("http.method", "GET")];
    let told = run(config, vec![cart(vec![both, span("a", 1)])]);
    let with = format!("{CALLS}{{service=cart,span_name=a,route=GET /users,__service=cart}} @15");
    let without = format!("{CALLS}{{service=cart,span_name=a,__service=cart}} @15");
    assert_told(&told, &[(&with, "1"), (&without, "1")]);
}

#[test]
fn sampled_spans_count_as_those_they_stand_for() {
    let mut by_ratio = span("ratio", 4);
    by_ratio.attributes = vec![attribute("ratio", Any::DoubleValue(0.25))];
    // Half of all: the threshold is half of the range.
    let by_state = Span { trace_state: "other=1,ot=th:8;rv:ffffffffffffff".into(), ..span("state", 4) };
    let config = SpanMetricsConfig { span_multiplier_key: Some("ratio".into()), ..SpanMetricsConfig::default() };
    let bytes = by_ratio.encoded_len() * 4;
    let told = run(config, vec![cart(vec![by_ratio, by_state.clone()])]);
    let value = |metric: &str, name: &str| {
        let start = format!("traces_spanmetrics_{metric}{{service=cart,span_name={name},");
        told.iter().find(|(series, _)| series.starts_with(&start)).map(|(_, value)| value.clone()).unwrap()
    };
    assert_eq!((value("calls_total", "ratio"), value("calls_total", "state")), ("4".into(), "2".into()));
    assert_eq!(value("size_total", "ratio"), bytes.to_string());
    assert!(value("latency", "ratio").starts_with("[0, 4, 0") && value("latency", "ratio").ends_with(" 0.016"));

    let unweighted = run(SpanMetricsConfig { weight_by_trace_state: false, ..calls() }, vec![cart(vec![by_state])]);
    assert_eq!(unweighted.into_values().collect::<Vec<_>>(), ["1"]);
}

#[test]
fn target_info_tells_resources_that_have_something_to_join_by_and_to_tell() {
    let resource = |attributes: &[(&str, &str)]| -> Vec<KeyValue> {
        attributes.iter().map(|(key, value)| text(key, value)).collect()
    };
    let identity = [("service.name", "cart"), ("service.namespace", "shop"), ("service.instance.id", "i-1")];
    let told_of = resource(&[&identity[..], &[("host.name", "h"), ("0x", "no"), ("left.out", "no")]].concat());
    let blocks = vec![
        of(&told_of, vec![span("a", 1)]),
        of(&resource(&identity), vec![span("a", 1)]),
        of(&resource(&[("host.name", "h")]), vec![span("a", 1)]),
    ];
    let config = SpanMetricsConfig {
        target_info: true,
        target_info_excluded_dimensions: vec!["left.out".into()],
        intrinsic_dimensions: IntrinsicDimensions {
            span_name: false,
            span_kind: false,
            status_code: false,
            ..Default::default()
        },
        ..calls()
    };
    let info = "traces_target_info{job=shop/cart,instance=i-1,host_name=h} @15";
    let counted = format!("{CALLS}{{service=cart,job=shop/cart,instance=i-1}} @15");
    let nameless = format!("{CALLS}{{}} @15");
    let expected = [(info, "1"), (&counted, "2"), (&nameless, "1")];
    assert_told(&run(config.clone(), blocks.clone()), &expected);

    let told = run(SpanMetricsConfig { instance_label: false, ..config }, blocks);
    assert!(told.contains_key("traces_target_info{job=shop/cart,host_name=h} @15"), "{told:?}");
}

#[test]
fn native_histograms_stand_alone_or_beside_classic_ones() {
    let config =
        |histograms| SpanMetricsConfig { calls: false, size: false, histograms, ..SpanMetricsConfig::default() };
    let spans = || vec![cart(vec![span("a", 0), span("a", 5), span("a", 7)])];
    let native = run(config(Histograms::Native), spans()).into_values().collect::<Vec<_>>();
    assert_eq!(native, ["1+2 0.012"]);
    let mut chain = Chain::new(vec![Box::new(SpanMetrics::new(config(Histograms::Both)).unwrap())]);
    process(&mut chain, envelope(spans()), false);
    let mut kinds = Vec::new();
    for record in close(&mut chain) {
        read(record.value.as_deref().unwrap(), |series, _| kinds.push(format!("{:?}", series.kind))).unwrap();
    }
    kinds.sort();
    assert_eq!(kinds, ["Exponential(Delta)", "Histogram(Delta)"]);
}

#[test]
fn the_connector_has_other_names_units_and_bounds_and_wants_a_service() {
    let config = SpanMetricsConfig {
        naming: Naming::Connector,
        dimensions: vec!["http.method".into()],
        ..SpanMetricsConfig::default()
    };
    let mut one = span("a", 7);
    one.attributes = vec![text("http.method", "GET")];
    let bytes = one.encoded_len().to_string();
    let told = run(config, vec![cart(vec![one]), of(&[], vec![span("a", 7)])]);
    let labels =
        "{service.name=cart,span.name=a,span.kind=SPAN_KIND_SERVER,status.code=STATUS_CODE_UNSET,http.method=GET}";
    let histogram = "[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] 7.000";
    let expected = [
        (format!("traces.span.metrics.calls{labels} @15"), "1"),
        (format!("traces.span.metrics.duration{labels} @15"), histogram),
        (format!("traces.span.metrics.size{labels} @15"), &bytes),
    ];
    assert_told(&told, &expected.each_ref().map(|(series, value)| (series.as_str(), *value)));
}
