use super::*;

mod bounds;
mod rates;

/// Half of all randomness.
const HALF: u64 = 1 << 55;

/// A run with those policies, in which spans wait for one second.
fn run(policies: &str) -> Run {
    Run::new(&config(&format!("tail: {{decision_wait: 1s, policies: [{policies}]}}")))
}

/// Whether the policies keep a trace of one span.
fn keeps(policies: &str, given: Given) -> bool {
    !run(policies).all(&[(10, &[given])]).names().is_empty()
}

fn lasting(nanos: u64) -> Given {
    with(span(1, "a"), |span| span.end_time_unix_nano = span.start_time_unix_nano + nanos)
}

fn having(value: Value) -> Given {
    with(span(1, "a"), |span| span.attributes = vec![text("other", "x"), attribute("k", value)])
}

#[test]
fn each_policy_keeps_what_it_says() {
    let plain = || span(1, "a");
    for (policies, given, expected) in [
        ("{error: {}}", plain(), false),
        ("{error: {}}", failed(plain()), true),
        ("{error: {}}", with(failed(plain()), |span| span.status.as_mut().unwrap().code = 1), false),
        ("{latency: {threshold: 2ms}}", lasting(2_000_000), true),
        ("{latency: {threshold: 2ms}}", lasting(1_999_999), false),
        ("{latency: {threshold: 2ms}}", with(plain(), |span| span.end_time_unix_nano = 0), false),
        ("{service: {names: [cart, shop]}}", plain(), true),
        ("{service: {names: [cart]}}", plain(), false),
        ("{probability: {ratio: 1}}", plain(), true),
        ("{probability: {ratio: 0}}", span(u64::MAX, "a"), false),
        ("{probability: {ratio: 0.5}}", span(HALF, "a"), true),
        ("{probability: {ratio: 0.5}}", span(HALF - 1, "a"), false),
        ("{rate: {traces_per_second: 1}}", plain(), true),
        ("{attribute: {key: resource.service.name, values: [shop]}}", plain(), true),
        ("{attribute: {key: span.service.name, values: [shop]}}", plain(), false),
        ("{attribute: {key: name, values: [b, a]}}", plain(), true),
        ("{attribute: {key: name, values: [aa]}}", plain(), false),
        ("{attribute: {key: name, match_type: regex, values: ['^b', '^.$']}}", plain(), true),
        ("{attribute: {key: kind, values: [SPAN_KIND_SERVER]}}", with(plain(), |span| span.kind = 2), true),
        ("{attribute: {key: kind, values: [SPAN_KIND_SERVER]}}", with(plain(), |span| span.kind = 3), false),
        ("{attribute: {key: span.k, values: [5]}}", having(Value::IntValue(5)), true),
        ("{attribute: {key: span.k, values: [5]}}", having(Value::IntValue(6)), false),
        ("{attribute: {key: span.k, values: [true]}}", having(Value::BoolValue(true)), true),
        ("{attribute: {key: span.k, min: 5}}", having(Value::IntValue(5)), true),
        ("{attribute: {key: span.k, min: 5}}", having(Value::IntValue(4)), false),
        ("{attribute: {key: span.k, max: 5}}", having(Value::IntValue(5)), true),
        ("{attribute: {key: span.k, max: 5}}", having(Value::DoubleValue(5.1)), false),
        ("{attribute: {key: span.k, min: 1, max: 2}}", having(Value::DoubleValue(1.5)), true),
        ("{attribute: {key: span.k, min: 1, max: 2}}", having(Value::StringValue("1.5".into())), false),
        ("{attribute: {key: span.k, min: 1, max: 2}}", having(Value::DoubleValue(f64::NAN)), false),
        ("{attribute: {key: span.missing, min: 1}}", plain(), false),
        ("{attribute: {key: resource.k, min: 1}}", having(Value::IntValue(5)), false),
    ] {
        assert_eq!(keeps(policies, given.clone()), expected, "{policies} {given:?}");
    }
}

#[test]
fn a_number_of_the_resource_counts_for_all_of_its_spans() {
    let mut data = TracesData::decode(&request(&[span(1, "a")])[..]).unwrap();
    let resource = data.resource_spans[0].resource.as_mut().unwrap();
    resource.attributes.push(attribute("k", Value::IntValue(5)));
    for (range, expected) in [("min: 5", 1), ("min: 6", 0)] {
        let mut run = run(&format!("{{attribute: {{key: resource.k, {range}}}}}"));
        run.pass(envelope(0, 10, data.encode_to_vec().into()));
        assert_eq!(run.all(&[]).names().len(), expected, "{range}");
    }
}

#[test]
fn policies_are_combined_over_all_spans_of_a_trace() {
    let (yes, no) = ("{service: {names: [cart]}}", "{service: {names: [bank]}}");
    let error = "{error: {}}";
    for (policies, expected) in [
        (format!("{no}, {yes}"), true),
        (format!("{no}, {no}"), false),
        // Of two different spans.
        (format!("{{and: [{yes}, {error}]}}"), true),
        (format!("{{and: [{yes}, {no}]}}"), false),
        (format!("{{or: [{no}, {yes}]}}"), true),
        (format!("{{or: [{no}]}}"), false),
        (format!("{{not: {yes}}}"), false),
        (format!("{{not: {no}}}"), true),
        (format!("{{and: [{error}, {{not: {no}}}]}}"), true),
        (format!("{{and: [{error}, {{not: {{or: [{no}, {yes}]}}}}]}}"), false),
        (format!("{{or: [{{and: [{no}, {error}]}}, {{and: [{yes}, {error}]}}]}}"), true),
    ] {
        let trace: [Given; 2] = [of("cart", span(1, "a")), failed(span(1, "b"))];
        let names = run(&policies).all(&[(10, &trace[..1]), (20, &trace[1..])]).names();
        assert_eq!(names, if expected { vec!["a", "b"] } else { vec![] }, "{policies}");
    }
}

#[test]
fn all_spans_of_a_trace_that_is_shorter_than_the_wait_are_decided_alike() {
    let of_trace = |trace, name: &str| span(trace, name);
    let run = run("{error: {}}").all(&[
        (10, &[of_trace(1, "a1"), of_trace(2, "b1")]),
        (400, &[of_trace(2, "b2"), of_trace(1, "a2")]),
        (1009, &[failed(of_trace(1, "a3")), of_trace(2, "b3")]),
    ]);
    let mut run = run;
    assert_eq!(run.names(), ["a1", "a2", "a3"]);
    let Tally { items, dropped, outcomes } = run.tally();
    assert_eq!((items, dropped), (6, counts(&[("sampled_out", 3)])));
    assert_eq!(outcomes, counts(&[("kept_by_error", 3)]));
}

#[test]
fn of_a_longer_trace_what_came_less_than_the_wait_before_and_after_is_kept() {
    let times = [0, 500, 501, 1000, 1500, 2000, 2499, 2500, 3000];
    let name = |time: &i64| span(1, &time.to_string());
    let spans: Vec<_> = times.iter().map(|time| if *time == 1500 { failed(name(time)) } else { name(time) }).collect();
    let records: Vec<_> = times.iter().zip(&spans).map(|(time, span)| (*time, std::slice::from_ref(span))).collect();
    assert_eq!(run("{error: {}}").all(&records).names(), ["501", "1000", "1500", "2000", "2499"]);
}

#[test]
fn a_late_record_counts_when_it_came() {
    let names = |time| {
        let records: [(i64, &[Given]); 3] =
            [(10_000, &[span(1, "a")]), (time, &[failed(span(1, "late"))]), (10_999, &[span(1, "c")])];
        run("{error: {}}").all(&records).names()
    };
    assert_eq!(names(10_000), ["a", "late", "c"]);
    assert_eq!(names(-1_000_000), ["a", "late", "c"]);
}

#[test]
fn spans_leave_when_stream_time_is_the_wait_past_their_record() {
    let mut run = run("{probability: {ratio: 1}}");
    run.pass(envelope(0, 10, request(&[span(1, "a")])));
    run.pass(envelope(1, 11, request(&[span(2, "b")])));
    run.pass(envelope(2, 1009, request(&[span(3, "c")])));
    assert!(run.names().is_empty());
    run.pass(envelope(3, 1010, request(&[span(4, "d")])));
    assert_eq!(run.names(), ["a"]);
    run.pass(envelope(4, 5000, request(&[span(5, "e")])));
    assert_eq!(run.names(), ["b", "c", "d"]);
    run.pass(envelope(5, 4000, request(&[span(6, "late")])));
    run.pass(envelope(6, 5999, request(&[])));
    assert!(run.names().is_empty());
    run.pass(envelope(7, 6000, request(&[])));
    assert_eq!(run.names(), ["e", "late"]);
}

#[test]
fn what_is_kept_goes_where_its_record_went() {
    let route = |offset| Route { offset, attempts: offset as u32, partition: 7 + offset as u32 };
    let mut headers = Headers::new();
    headers.set("tenant", "t");
    let first = Envelope { route: route(1), ..envelope(1, 10, request(&[failed(span(1, "a")), span(2, "b")])) };
    let second = Envelope {
        route: route(2),
        cluster: "other".into(),
        headers,
        ..envelope(2, 9, request(&[span(3, "c"), failed(span(4, "d"))]))
    };
    let mut run = run("{error: {}}");
    run.pass(first.clone());
    run.pass(second.clone());
    let out = run.all(&[]).step.out;
    let left = |envelope: &Envelope, kept| Envelope { value: request(&[kept]), items: 1, ..envelope.clone() };
    assert_eq!(out, [left(&first, failed(span(1, "a"))), left(&second, failed(span(4, "d")))]);
}

#[test]
fn what_is_kept_whole_keeps_its_bytes() {
    let value = request(&[failed(span(1, "a")), span(1, "b")]);
    let mut run = run("{error: {}}");
    run.pass(envelope(1, 10, value.clone()));
    assert_eq!(run.all(&[]).step.out[0].value.as_ptr(), value.as_ptr());
}

#[test]
fn only_what_a_share_alone_kept_says_so() {
    let cart = "{and: [{service: {names: [cart]}}, {probability: {ratio: 0.5}}]}";
    let (low, high) = (HALF / 2, HALF + HALF / 2);
    for (policies, given, expected) in [
        ("{probability: {ratio: 0.5}}".into(), span(high, "a"), Some("ot=th:8")),
        ("{probability: {ratio: 0.5}}".into(), span(low, "a"), None),
        ("{error: {}}, {probability: {ratio: 0.5}}".into(), failed(span(high, "a")), Some("")),
        ("{probability: {ratio: 0.5}}, {error: {}}".into(), failed(span(low, "a")), Some("")),
        ("{probability: {ratio: 0.25}}, {probability: {ratio: 0.5}}".into(), span(high, "a"), Some("ot=th:8")),
        ("{probability: {ratio: 1}}".into(), span(low, "a"), Some("")),
        (cart.to_owned(), span(high, "a"), None),
        (cart.to_owned(), of("cart", span(high, "a")), Some("ot=th:8")),
        (cart.to_owned(), of("cart", span(low, "a")), None),
        (format!("{cart}, {{probability: {{ratio: 0.25}}}}"), of("cart", span(high, "a")), Some("ot=th:8")),
        (format!("{cart}, {{probability: {{ratio: 0.25}}}}"), span(high, "a"), Some("ot=th:c")),
        ("{or: [{error: {}}, {probability: {ratio: 0.5}}]}".into(), failed(span(low, "a")), Some("")),
        ("{or: [{error: {}}, {probability: {ratio: 0.5}}]}".into(), span(high, "a"), Some("ot=th:8")),
    ] {
        let out = run(&policies).all(&[(10, std::slice::from_ref(&given))]).step.out;
        let states: Vec<_> = out.iter().flat_map(|out| spans(&out.value)).map(|span| span.trace_state).collect();
        assert_eq!(states, expected.into_iter().collect::<Vec<_>>(), "{policies} {given:?}");
    }
}

#[test]
fn what_was_sampled_before_stays_so() {
    let before = |state: &str| with(failed(span(HALF + HALF / 2, "a")), |span| span.trace_state = state.into());
    for (policies, state, expected) in [
        ("{error: {}}", "a=1,ot=th:4", "a=1,ot=th:4"),
        ("{probability: {ratio: 0.5}}", "a=1,ot=th:4", "ot=th:8,a=1"),
        ("{probability: {ratio: 0.5}}", "a=1,ot=th:c", "a=1,ot=th:c"),
    ] {
        let out = run(policies).all(&[(10, &[before(state)])]).step.out;
        assert_eq!(spans(&out[0].value)[0].trace_state, expected, "{policies} {state}");
    }
}

#[test]
fn spans_are_counted_by_what_kept_them_the_first_of_the_best() {
    for (policies, word) in [
        ("{error: {}}, {latency: {threshold: 0s}}", "kept_by_error"),
        ("{probability: {ratio: 0.9}}, {latency: {threshold: 0s}}, {error: {}}", "kept_by_latency"),
        ("{probability: {ratio: 0.9}}, {service: {names: [x]}}", "kept_by_probability"),
        ("{rate: {traces_per_second: 1}}", "kept_by_rate"),
        ("{attribute: {key: name, values: [a]}}", "kept_by_attribute"),
        ("{service: {names: [shop]}}", "kept_by_service"),
        ("{and: [{error: {}}]}", "kept_by_and"),
        ("{or: [{error: {}}]}", "kept_by_or"),
        ("{not: {service: {names: [x]}}}", "kept_by_not"),
    ] {
        let spans = [failed(span(u64::MAX, "a")), span(u64::MAX, "b")];
        let tally = run(policies).all(&[(10, &spans)]).tally();
        assert_eq!(tally.outcomes, counts(&[(word, 2)]), "{policies}");
        assert!(tally.dropped.is_empty(), "{policies}");
    }
}

#[test]
fn spans_without_a_trace_id_are_kept_and_leave_in_their_order() {
    let without = |name| with(span(1, name), |span| span.trace_id = vec![0; 16]);
    let mut run = run("{error: {}}");
    run.pass(envelope(0, 10, request(&[without("x"), without("y")])));
    run.pass(envelope(1, 10, request(&[failed(span(1, "a")), without("z"), span(2, "b")])));
    assert!(run.names().is_empty());
    let mut run = run.all(&[]);
    assert_eq!(run.names(), ["x y", "a z"]);
    let tally = run.tally();
    assert_eq!(tally.outcomes, counts(&[("kept_by_error", 1), ("kept_without_trace_id", 3)]));
    assert_eq!(tally.dropped, counts(&[("sampled_out", 1)]));
}

#[test]
fn all_parts_of_a_record_count_before_any_is_decided_upon() {
    let mut run = run("{error: {}}, {rate: {traces_per_second: 1}}");
    let parts = [request(&[]), request(&[span(1, "a"), span(2, "b")]), request(&[span(3, "c"), failed(span(1, "d"))])];
    run.pass_at(parts.iter().map(|part| envelope(0, 10, part.clone())).collect(), false);
    assert_eq!(run.all(&[]).names(), ["", "a", "c d"]);
}
