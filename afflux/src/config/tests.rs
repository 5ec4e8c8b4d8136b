use super::*;

fn read(text: &str, env: &[(&str, &str)]) -> anyhow::Result<Config> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Ok(Loader::new("afflux.yaml", text).env(env).same_as("sinks.parquet.default_cluster", "cluster").load()?)
}

/// The keys that scripts rely on.
#[test]
fn the_keys_of_the_command_line_contract_are_known() {
    let text = "bus: {kind: kafka, kafka: {brokers: 'a:9092, b:9092', options: {linger.ms: 5}}}\n\
                producers: {otlp: {grpc: {listen: '127.0.0.1:1'}, http: {listen: '127.0.0.1:2'}}}\n\
                sinks: {parquet: {url: s3://lake/x, flush: {bytes: 1MiB, age: 5s}}}\n\
                admin: {listen: '127.0.0.1:3'}\ntopics: {prefix: eu, partitions: 2, replication: 3}\n\
                cluster: here\nshutdown_timeout: 10s\nlog: {level: debug, format: json}\n";
    let config = read(text, &[]).expect("valid");
    assert_eq!(config.bus.kafka.brokers.joined(), "a:9092,b:9092");
    assert_eq!(config.bus.kafka.options["linger.ms"], "5");
    let parquet = config.sinks.parquet.on().expect("on");
    assert_eq!(
        (parquet.url.as_str(), parquet.flush.bytes.0, parquet.flush.age.0.as_secs()),
        ("s3://lake/x", 1 << 20, 5)
    );
    assert_eq!(parquet.default_cluster, "here");
    let env = [("AFFLUX__BUS__KAFKA__BROKERS", "c:9092,d:9092"), ("AFFLUX__SINKS__PARQUET__FLUSH__BYTES", "64KiB")];
    let config = read(text, &env).expect("valid");
    assert_eq!(config.bus.kafka.brokers.joined(), "c:9092,d:9092");
    assert_eq!(config.sinks.parquet.on().expect("on").flush.bytes.0, 65_536);
}

#[test]
fn listeners_are_on_loopback_unless_configured() {
    let config = Config::default();
    let otlp = config.producers.otlp.on().expect("on");
    for listen in [otlp.grpc.listen, otlp.http.listen, Some(config.admin.listen)] {
        assert!(listen.expect("on").ip().is_loopback());
    }
}

#[test]
fn a_misspelt_key_is_refused_with_the_nearest_one() {
    let error = read("producers: {otlp: {gprc: {listen: '127.0.0.1:1'}}}", &[]).expect_err("unknown");
    let expected = "afflux.yaml:1:20: unknown key `producers.otlp.gprc`; did you mean `producers.otlp.grpc`?";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn secrets_do_not_show() {
    let config = read("bus: {kafka: {options: {sasl.password: hunter2}}}", &[]).expect("valid");
    let shown = afflux_runtime::config::redacted(serde_json::to_value(config).expect("JSON")).to_string();
    assert!(!shown.contains("hunter2") && shown.contains("sasl.password"), "{shown}");
}

#[test]
fn topics_of_others_are_listed_and_a_wrong_entry_is_refused_with_its_key() {
    let text = |entry: &str| format!("processors: {{ingest: [{{topic: otlp_spans, signal: spans}}, {{{entry}}}]}}");
    let built = |entry: &str| {
        let config = read(&text(entry), &[])?;
        crate::components::build(&config, &crate::components::Selection::everything()).map(drop)
    };
    built("topic: z, signal: spans, encoding: zipkin_json, cluster: edge").expect("valid");
    for (entry, expected) in [
        ("topic: z, signal: spans, encoding: zipkin", "`processors.ingest.1.encoding`"),
        ("topic: z, signal: metrics", "`processors.ingest.1.signal`"),
        ("topic: z, signl: spans", "unknown key `processors.ingest.signl`; did you mean `processors.ingest.signal`?"),
        ("topic: z, signal: logs, encoding: jaeger_proto", "`processors.ingest.1.encoding` is jaeger_proto, which has"),
        ("topic: otlp_spans, signal: logs", "`processors.ingest.1.topic` is `otlp_spans`, which stands in the list"),
    ] {
        let error = format!("{:#}", built(entry).expect_err(entry));
        assert!(error.contains(expected), "{entry}: {error}");
    }
}

#[test]
fn files_are_read_where_there_are_paths_and_a_wrong_setting_is_refused_with_its_key() {
    let built = |files: &str| {
        let config = read(&format!("producers: {{files: {files}}}"), &[])?;
        let selection = crate::components::Selection::parse(&["producers.files".into()]).expect("known");
        crate::components::build(&config, &selection).map(|built| built.len())
    };
    for (files, components) in [("{}", 0), ("false", 0), ("{paths: []}", 0), ("{paths: [/var/log/pods/*/*/*.log]}", 1)]
    {
        assert_eq!(built(files).expect("valid"), components, "{files}");
    }
    let env = [("AFFLUX__PRODUCERS__FILES__PATHS", "/var/log/a.log,/var/log/b.log")];
    assert_eq!(read("", &env).expect("valid").producers.files.on().expect("on").paths.len(), 2);
    for (files, expected) in [
        ("{pahts: [/a]}", "did you mean `producers.files.paths`?"),
        ("{paths: ['/a/[']}", "`/a/[`, which is no pattern"),
        ("{paths: [/a], multiline: {start: '('}}", "`producers.files.multiline.start` is no regular expression"),
    ] {
        let error = format!("{:#}", built(files).expect_err(files));
        assert!(error.contains(expected), "{files}: {error}");
    }
}

#[test]
fn sources_are_listed_and_a_wrong_one_is_refused_with_its_key() {
    let built = |entry: &str| {
        let text = format!("bus: {{kafka: {{sources: [{{name: east, brokers: 'a:9092, b:9092'}}, {{{entry}}}]}}}}");
        let config = read(&text, &[])?;
        let selection = crate::components::Selection::parse(&["producers.kafka".into()]).expect("known");
        crate::components::build(&config, &selection).map(|built| (built.len(), config))
    };
    let west = "name: west, brokers: [c:9092], group: g, prefix: eu, timeout: 5s, client_id: i, in_flight: 1MiB, \
                options: {sasl.password: hunter2}, tls: {ca: /ca.pem}";
    let (components, config) = built(west).expect("valid");
    assert_eq!((components, config.bus.kafka.sources[0].brokers.joined().as_str()), (1, "a:9092,b:9092"));
    let shown = afflux_runtime::config::redacted(serde_json::to_value(config).expect("JSON")).to_string();
    assert!(!shown.contains("hunter2"), "{shown}");
    for (entry, expected) in [
        ("name: east, brokers: c", "`bus.kafka.sources.1.name` is `east`, which another source has"),
        ("name: 'a/b', brokers: c", "`bus.kafka.sources.1.name` is `a/b`, which is no name of a cluster"),
        ("name: west, brokers: ''", "`bus.kafka.sources.1.brokers` is empty"),
        ("name: west, brokers: c, tls: {key: /k.pem}", "`bus.kafka.sources.1.tls.certificate` is not set"),
        ("name: west, brokers: c, sasl: {mechanism: PLAIN}", "`bus.kafka.sources.1.sasl.username` is not set"),
        ("name: west", "brokers"),
        ("name: west, brokers: c, grop: g", "did you mean `bus.kafka.sources.group`?"),
        ("name: west, brokers: c, group: ''", "`bus.kafka.sources.1.group` is empty"),
        ("name: west, brokers: c, options: {group.id: x}", "`bus.kafka.sources.1.options.group.id`"),
    ] {
        let error = format!("{:#}", built(entry).expect_err(entry));
        assert!(error.contains(expected), "{entry}: {error}");
    }
}

#[test]
fn kafkas_tls_and_sasl_are_sections_and_their_secrets_do_not_show() {
    let of =
        |text: &str, env: &[(&str, &str)]| read(text, env).map(|config| config.bus.kafka.settings(None).connection);
    let plain = of("", &[]).expect("valid");
    assert_eq!((plain.tls, plain.sasl), (None, None));
    let system = of("bus: {kafka: {tls: true}}", &[]).expect("valid").tls.expect("on");
    assert_eq!((system.ca, system.verify_hostname), (None, true));

    let text = "bus:\n  kind: kafka\n  kafka:\n    tls: {ca: /ca.pem, certificate: /c.pem, key: /k.pem, key_password: hunter2}\n    \
                sasl: {mechanism: SCRAM-SHA-512, username: afflux}\n";
    let config = read(text, &[("AFFLUX__BUS__KAFKA__SASL__PASSWORD", "12345678")]).expect("valid");
    let connection = config.bus.kafka.settings(None).connection;
    connection.validate().expect("whole");
    let sasl = connection.sasl.clone().expect("on");
    assert_eq!(sasl.password.expect("from the environment").expose(), "12345678");
    assert_eq!(connection.tls.as_ref().and_then(|tls| tls.key.clone()), Some("/k.pem".into()));
    let json = serde_json::to_value(&config).expect("JSON");
    for shown in [afflux_runtime::config::redacted(json).to_string(), format!("{config:?} {connection:?}")] {
        assert!(shown.contains("/k.pem"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("12345678"), "{shown}");
    }

    let wrong = of("bus: {kafka: {sasl: {mechanism: SCRAM}}}", &[]).expect_err("no such mechanism").to_string();
    assert!(wrong.contains("`bus.kafka.sasl") && wrong.contains("SCRAM-SHA-256"), "{wrong}");
    let wrong = of("bus: {kafka: {sasl: {pasword: hunter2}}}", &[]).expect_err("misspelt").to_string();
    assert!(wrong.contains("did you mean `bus.kafka.sasl.password`?") && !wrong.contains("hunter2"), "{wrong}");
    let half = of("bus: {kafka: {tls: {certificate: /c.pem}}}", &[]).expect("valid");
    let half = half.validate().expect_err("half").to_string();
    assert!(half.contains("`bus.kafka.tls.key` is not set"), "{half}");
}
