use super::*;

fn error(yaml: &str) -> String {
    let loaded = load::<SampleConfig>("test", yaml, []).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    Sample::new(&loaded).err().unwrap_or_else(|| panic!("{yaml}")).to_string()
}

#[test]
fn every_policy_reads_as_written_and_writes_as_read() {
    let yaml = "
probability: {ratio: 1, services: {}}
tail:
  decision_wait: 5s
  max_bytes: 1MiB
  policies:
    - error: {}
    - latency: {threshold: 500ms}
    - attribute: {key: resource.region, values: [eu, 1, true]}
    - attribute: {key: span.code, match_type: regex, values: ['5..']}
    - attribute: {key: span.code, min: 500}
    - and: [{service: {names: [cart]}}, {probability: {ratio: 0.1}}]
    - or:
        - not: {service: {names: [cart]}}
        - and: [{error: {}}, {or: [{rate: {traces_per_second: 5}}]}]
    - rate: {traces_per_second: 100}
  keep_rare: {fewer_than: 5, by: span}
";
    let read = config(yaml);
    let tail = read.tail.as_ref().unwrap();
    assert_eq!(tail.policies.len(), 8);
    assert_eq!(tail.keep_rare, Some(RareConfig { fewer_than: 5, by: RareBy::Span }));
    assert_eq!(Sample::new(&read).unwrap().horizon(), Duration::from_secs(6));
    let written: SampleConfig = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
    assert_eq!(written, read);
}

#[test]
fn it_looks_as_far_back_as_ahead_and_a_second_more_for_rates() {
    for (policies, seconds) in [("{error: {}}", 10), ("{and: [{rate: {traces_per_second: 1}}]}", 11)] {
        let sample = Sample::new(&config(&format!("tail: {{policies: [{policies}]}}"))).unwrap();
        assert_eq!(sample.horizon(), Duration::from_secs(seconds), "{policies}");
        let ahead = Ahead { wait: Duration::from_secs(10), max_bytes: 64 << 20 };
        assert_eq!(sample.ahead(), Some(ahead), "{policies}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_key() {
    let at = "processors.sample.tail.policies";
    let policies = |policies: &str| error(&format!("tail: {{policies: [{policies}]}}"));
    let ratio = "use 0 to keep nothing, or a ratio from 0.000001 to 1";
    for ratios in ["1.5", "-0.1", "0.0000001"] {
        let found = error(&format!("probability: {{ratio: {ratios}}}"));
        assert!(found.starts_with("`processors.sample.probability.ratio` is ") && found.ends_with(ratio), "{found}");
    }
    for (found, expected) in [
        (
            error("probability: {services: {cart: 2}}"),
            format!("`processors.sample.probability.services.cart` is 2; {ratio}"),
        ),
        (
            policies("{error: {}}, {and: [{probability: {ratio: 7}}]}"),
            format!("`{at}.1.and.0.probability.ratio` is 7; {ratio}"),
        ),
        (
            error("{probability: {ratio: 0.5}, tail: {policies: [{error: {}}]}}"),
            "`processors.sample.probability` does nothing beside `processors.sample.tail`; remove it, or write it as a \
             policy into `processors.sample.tail.policies`"
                .into(),
        ),
        (
            error("tail: {max_bytes: 1MiB}"),
            "`processors.sample.tail` has neither policies nor keep_rare, and would keep nothing; give it one".into(),
        ),
        (
            error("tail: {decision_wait: 999ms, policies: [{error: {}}]}"),
            "`processors.sample.tail.decision_wait` is 999ms; it must be 1s at least".into(),
        ),
        (
            error("tail: {max_bytes: 0, policies: [{error: {}}]}"),
            "`processors.sample.tail.max_bytes` is 0, with which no span waits; let it be 1MiB or more".into(),
        ),
        (
            error("tail: {keep_rare: {fewer_than: 1}}"),
            "`processors.sample.tail.keep_rare.fewer_than` is 1, which keeps nothing; let it be 2 or more".into(),
        ),
        (
            policies("{or: [{error: {}}, {rate: {traces_per_second: 0}}]}"),
            format!("`{at}.0.or.1.rate.traces_per_second` is 0, which keeps nothing; let it be 1 or more"),
        ),
        (policies("{and: []}"), format!("`{at}.0.and` is empty; name what is meant, or remove the policy")),
        (policies("{or: []}"), format!("`{at}.0.or` is empty; name what is meant, or remove the policy")),
        (
            policies("{service: {names: []}}"),
            format!("`{at}.0.service.names` is empty; name what is meant, or remove the policy"),
        ),
        (
            policies("{not: {or: [{error: {}}, {rate: {traces_per_second: 1}}]}}"),
            format!("`{at}.0.not` says `rate`, which cannot be turned round; name what to leave out by other policies"),
        ),
        (
            policies("{not: {not: {probability: {ratio: 1}}}}"),
            format!(
                "`{at}.0.not` says `probability`, which cannot be turned round; name what to leave out by other policies"
            ),
        ),
        (
            policies("{attribute: {key: span.a}}"),
            format!("`{at}.0.attribute` needs either `values`, or `min` or `max`; say one of them"),
        ),
        (
            policies("{attribute: {key: span.a, values: [1], max: 2}}"),
            format!("`{at}.0.attribute` needs either `values`, or `min` or `max`; say one of them"),
        ),
        (
            policies("{attribute: {key: span.a, min: 3, max: 2}}"),
            format!(
                "`{at}.0.attribute.min` is 3 and `{at}.0.attribute.max` is 2, between which no number lies; let `min` be \
                 the less"
            ),
        ),
        (
            policies("{attribute: {key: name, min: 3}}"),
            format!("`{at}.0.attribute.key` is `name`; use kind, status, name, resource.KEY or span.KEY"),
        ),
        (
            policies("{not: {attribute: {key: a, values: [b]}}}"),
            format!("`{at}.0.not.attribute.key` is `a`; use kind, status, name, resource.KEY or span.KEY"),
        ),
        (
            policies("{attribute: {key: span.a, match_type: regex, values: [ok, 'ab(c']}}"),
            format!(
                "`{at}.0.attribute.values.1` is `ab(c`, which is no regular expression at character 3: unclosed group"
            ),
        ),
    ] {
        assert_eq!(found, expected);
    }
    let kind = policies("{attribute: {key: kind, values: [server]}}");
    assert!(kind.starts_with(&format!("`{at}.0.attribute.values.0` is `server`, which no span has; use")), "{kind}");
    let many = vec!["{error: {}}"; 65].join(",");
    assert_eq!(policies(&many), "`processors.sample.tail.policies` has 65 conditions; let there be 64 at most");
    assert!(Sample::new(&config(&format!("tail: {{policies: [{}]}}", &many[12..]))).is_ok());
}

#[test]
fn unknown_keys_are_refused_at_any_depth() {
    for yaml in [
        "ratio: 1",
        "probability: {rate: 1}",
        "tail: {wait: 1s}",
        "tail: {keep_rare: {less_than: 1}}",
        "tail: {policies: [{errors: {}}]}",
        "tail: {policies: [{error: {x: 1}}]}",
        "tail: {policies: [{error: {}, latency: {threshold: 1s}}]}",
        "tail: {policies: [{and: [{or: [{latency: {threshold: 1s, x: 1}}]}]}]}",
        "tail: {policies: [{not: {errors: {}}}]}",
        "tail: {policies: [{not: {rate: {traces_per_second: -1}}}]}",
        "tail: {policies: [error]}",
    ] {
        assert!(load::<SampleConfig>("test", yaml, []).is_err(), "{yaml}");
    }
}

#[test]
fn the_default_is_written_with_every_key_and_the_schema_names_every_policy() {
    let written = afflux_runtime::config::commented_default::<SampleConfig>().unwrap();
    assert_eq!(config(&written), SampleConfig::default(), "{written}");
    let schema = afflux_runtime::config::schema::<SampleConfig>().to_string();
    for policy in ["error", "latency", "probability", "rate", "attribute", "service", "and", "or", "not"] {
        assert!(schema.contains(&format!("\"required\":[\"{policy}\"]")), "{policy}: {schema}");
    }
}

#[test]
fn the_longest_wait_overflows_nothing() {
    let yaml = "tail: {decision_wait: 500000000years, policies: [{error: {}}, {rate: {traces_per_second: 1}}]}";
    let mut run = Run::new(&config(yaml));
    for (offset, time) in [(0, i64::MIN / 2), (1, 0), (2, i64::MAX)] {
        run.pass(envelope(offset, time, request(&[span(1, "a")])));
    }
    assert_eq!(run.names(), ["a", "a"], "clamped to a fourth of all time");
}
