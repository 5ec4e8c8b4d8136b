use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;

/// Every kind of key that a component's settings have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    /// Which bus carries the data.
    kind: Kind,
    /// Where Kafka is.
    kafka: Kafka,
    /// The receiver.
    receiver: Section<Receiver>,
    /// Bytes in flight: one budget for all that the process has taken but not yet settled, whatever
    /// it is.
    ///
    /// A second paragraph.
    limit: ByteSize,
    /// How long to wait.
    patience: Period,
    /// Name of the cluster.
    cluster: String,
    /// Where statistics are served.
    listen: std::net::SocketAddr,
    /// An optional directory.
    dir: Option<std::path::PathBuf>,
    /// Copies.
    copies: u16,
    /// Share between nothing and all.
    share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Local,
    Kafka,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Kafka {
    /// Addresses.
    brokers: Vec<String>,
    /// Passed to the client as they are.
    options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Receiver {
    /// The gRPC listener.
    grpc: Listener,
    /// Whether to compress.
    compress: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Listener {
    /// Address and port.
    address: Option<String>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self { grpc: Listener::default(), compress: true }
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            kind: Kind::Local,
            kafka: Kafka::default(),
            receiver: Section::default(),
            limit: ByteSize::mib(64),
            patience: Period(std::time::Duration::from_secs(5)),
            cluster: "default".into(),
            listen: ([127, 0, 0, 1], 9464).into(),
            dir: None,
            copies: 3,
            share: 0.5,
        }
    }
}

fn read(text: &str, env: &[(&str, &str)]) -> Result<Sample, ConfigError> {
    load("sample.yaml", text, env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[test]
fn nothing_said_gives_the_defaults() {
    for text in ["", "# only a comment\n", "---\n", "{}", "receiver:\nkafka:\ncluster:\n"] {
        assert_eq!(read(text, &[]).unwrap(), Sample::default(), "{text:?}");
    }
}

#[test]
fn the_file_says_only_what_differs() {
    let text = "kind: kafka\nkafka: {brokers: [a:9092, b:9092], options: {linger.ms: 5, debug: all, x: true}}\n\
                receiver: {grpc: {address: '0.0.0.0:4317'}}\nlimit: 1GiB\npatience: 1h 30m\n";
    let sample = read(text, &[]).unwrap();
    assert_eq!(sample.kind, Kind::Kafka);
    assert_eq!(sample.kafka.brokers, ["a:9092", "b:9092"]);
    assert_eq!(sample.kafka.options["linger.ms"], "5");
    assert_eq!(sample.kafka.options["x"], "true");
    let receiver = sample.receiver.on().unwrap();
    assert_eq!(receiver.grpc.address.as_deref(), Some("0.0.0.0:4317"));
    assert!(receiver.compress);
    assert_eq!((sample.limit.0, sample.patience.0.as_secs()), (1 << 30, 5400));
}

#[test]
fn false_switches_a_section_off() {
    assert_eq!(read("receiver: false", &[]).unwrap().receiver, Section::Off);
    assert_eq!(read("receiver: true", &[]).unwrap().receiver, Section::default());
}

#[test]
fn the_environment_overrides_the_file_in_any_case() {
    let env = [
        ("AFFLUX__KAFKA__BROKERS", "a:1,b:2"),
        ("afflux__receiver__grpc__ADDRESS", "[::]:4317"),
        ("AFFLUX__KIND", "kafka"),
        ("AFFLUX__CLUSTER", "007"),
        ("AFFLUX__KAFKA__OPTIONS", "{sasl.password: 1.10, linger.ms: 5}"),
        ("AFFLUX__LIMIT", "1048576"),
        ("AFFLUX_LOG", "debug"),
        ("PATH", "/bin"),
    ];
    let sample = read("kind: local\nkafka: {brokers: [z:9]}\nreceiver: {compress: false}\n", &env[..4]).unwrap();
    assert_eq!(sample.kafka.brokers, ["a:1", "b:2"]);
    assert_eq!(sample.kind, Kind::Kafka);
    assert_eq!(sample.cluster, "007");
    let receiver = sample.receiver.on().unwrap();
    assert_eq!(receiver.grpc.address.as_deref(), Some("[::]:4317"));
    assert!(!receiver.compress, "the file's other keys stay");
    assert_eq!(read("limit: 1KiB", &env[5..]).unwrap().limit.0, 1_048_576);
    let one = read("", &[("AFFLUX__KAFKA__BROKERS", "[a:1]")]).unwrap();
    assert_eq!(one.kafka.brokers, ["a:1"]);
}

#[test]
fn an_optional_text_from_the_environment_is_taken_as_it_stands() {
    let dir = |value: &str| read("", &[("AFFLUX__DIR", value)]).unwrap().dir;
    for value in ["1e5", "0x10", "true", "#secret", "a: b", "[x]", "~", " 'q"] {
        assert_eq!(dir(value).as_deref(), Some(std::path::Path::new(value)), "{value}");
    }
    assert_eq!(dir(""), None);
    assert_eq!(read("dir: 12", &[]).unwrap().dir.as_deref(), Some(std::path::Path::new("12")));
}

#[test]
fn fallbacks_stand_below_the_file_and_the_environment() {
    let with = |text: &str, env: &[(&str, &str)]| {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Loader::new("sample.yaml", text)
            .env(env)
            .fallback("dir", "/data/x", "--data-dir")
            .fallback("receiver.grpc.address", "a:1", "up")
            .same_as("kafka.options.client", "cluster")
            .load::<Sample>()
    };
    let sample = with("receiver:\n", &[]).unwrap();
    assert_eq!(sample.dir.as_deref(), Some(std::path::Path::new("/data/x")));
    assert_eq!(sample.receiver.on().unwrap().grpc.address.as_deref(), Some("a:1"));
    assert!(sample.kafka.options.is_empty(), "a key follows only what is said");
    let sample = with("dir: /mine\nreceiver: {grpc: {address: b:2}}", &[("AFFLUX__CLUSTER", "c")]).unwrap();
    assert_eq!(sample.dir.as_deref(), Some(std::path::Path::new("/mine")));
    assert_eq!(sample.receiver.on().unwrap().grpc.address.as_deref(), Some("b:2"));
    assert_eq!(sample.kafka.options["client"], "c");
    assert_eq!(with("receiver: false", &[]).unwrap().receiver, Section::Off);
    let on = with("receiver: true", &[]).unwrap();
    assert_eq!(on.receiver.on().unwrap().grpc.address.as_deref(), Some("a:1"), "switched on without a word");
    let error = Loader::new("x", "").fallback("limit", "much", "--limit").load::<Sample>().unwrap_err();
    assert!(error.to_string().starts_with("--limit: `limit` is `much`"), "{error}");
}

#[test]
fn the_commented_default_sets_every_key_and_loads_to_the_default() {
    let text = commented_default::<Sample>().unwrap();
    assert_eq!(read(&text, &[]).unwrap(), Sample::default(), "{text}");
    for line in
        ["# Which bus carries the data.", "# One of: local, kafka.", "kind: local", "# dir:", "  compress: true"]
    {
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }
    let wrapped = "# Bytes in flight: one budget for all that the process has taken but not yet settled, whatever it\n\
                   # is.\n# A second paragraph.\nlimit: 64MiB\n";
    assert!(text.contains(wrapped), "{text}");
    let uncommented = text.replace("# dir:", "dir: /x").replace("# address:", "address: a:1");
    read(&uncommented, &[]).unwrap();
}

/// Every file beside this one: a wrong configuration, and after `---` of the expected error its exact text.
#[test]
fn wrong_configurations_are_refused_with_their_place_path_and_remedy() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/fixtures");
    let (mut seen, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (yaml, expected) = text.split_once("# error: ").expect("a fixture ends in its error");
        let env: Vec<(&str, &str)> =
            yaml.lines().filter_map(|line| line.strip_prefix("# env: ")?.split_once('=')).collect();
        let answer = read(yaml, &env).map_or_else(|error| error.to_string(), |sample| format!("{sample:?}"));
        if answer != expected.trim_end() {
            wrong.push(format!("{}:\n  {answer}\n  {expected}", path.display()));
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 15, "{seen} fixtures");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in "[ -~\\n]{0,200}") {
        let _ = read(&text, &[("AFFLUX__KAFKA__OPTIONS", &text), ("AFFLUX__RECEIVER", &text)]);
    }
}
