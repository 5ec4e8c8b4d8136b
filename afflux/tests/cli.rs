//! The binary as its user meets it: exit codes, texts, start and stop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn afflux(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afflux"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = afflux(args).output().expect("the binary starts");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound"))
}

/// An instance on free ports; killed when dropped.
struct Instance {
    child: Child,
    admin: SocketAddr,
}

impl Instance {
    fn start(args: &[&str], admin: SocketAddr) -> Self {
        let [grpc, http] = free_ports();
        let child = afflux(args)
            .env("AFFLUX__ADMIN__LISTEN", admin.to_string())
            .env("AFFLUX__PRODUCERS__OTLP__GRPC__LISTEN", grpc.to_string())
            .env("AFFLUX__PRODUCERS__OTLP__HTTP__LISTEN", http.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        Self { child, admin }
    }

    fn up(data_dir: &Path) -> Self {
        let [admin] = free_ports();
        let mut instance = Self::start(&["up", "--data-dir", &data_dir.display().to_string()], admin);
        instance.until_ready();
        instance
    }

    fn until_ready(&mut self) {
        let start = Instant::now();
        while !get(self.admin, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            if let Some(status) = self.child.try_wait().expect("wait") {
                panic!("ended with {status}: {}", self.said().1);
            }
            assert!(start.elapsed() < PATIENCE, "not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signal");
    }

    fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "still running");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn said(&mut self) -> (String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
        self.child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
        (out, err)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn the_default_configuration_is_valid_and_its_schema_is_json() {
    let (code, text, _) = run(&["config", "default"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("# Cluster of records that name none.\ncluster: default\n"), "{text}");
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("afflux.yaml");
    std::fs::write(&file, &text).expect("written");
    let (code, text, errors) = run(&["config", "check", &file.display().to_string()]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(text.contains("ok; runs") && text.contains("on the local bus"), "{text}");
    let (code, text, _) = run(&["config", "schema"]);
    assert_eq!(code, Some(0));
    let schema: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(schema["properties"]["bus"].is_object(), "{schema}");
}

/// A regular expression without its end.
const FILTER: &str = "processors: {span_metrics: {filter_policies: [{include: {match_type: regex, attributes: \
                      [{key: name, value: 'GET (/a'}]}}]}}";

#[test]
fn wrong_usage_and_wrong_configuration_end_with_2() {
    let dir = tempfile::tempdir().expect("dir");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let missing = dir.path().join("none.yaml").display().to_string();
    let off = "{producers: {otlp: false}, processors: false, sinks: {parquet: false}}";
    let cases: &[(&[&str], &str)] = &[
        (&["sideways"], "unrecognized subcommand 'sideways'"),
        (&["run", "-c", &missing], "cannot read configuration"),
        (&["config", "check", &file("a.yaml", "bsu: {}")], "a.yaml:1:1: unknown key `bsu`; did you mean `bus`?"),
        (&["run", "-c", &file("b.yaml", "topics: {partitions: x}")], "`topics.partitions` is `x`, expected"),
        (&["run", "-c", &file("c.yaml", ""), "--only", "snkis"], "unknown component `snkis`; known: producers,"),
        (&["run", "-c", &file("d.yaml", "log: {level: loud}")], "`log.level` is `loud`: not a level"),
        (&["run", "-c", &file("e.yaml", off)], "nothing to run"),
        (&["run", "-c", &file("f.yaml", "topics: {partitions: 0}")], "`topics.partitions` is 0; write at least 1"),
        (
            &["config", "check", &file("h.yaml", "processors: {span_metrics: {intrinsic_dimensions: {servce: true}}}")],
            "unknown key `processors.span_metrics.intrinsic_dimensions.servce`; did you mean",
        ),
        (
            &["config", "check", &file("i.yaml", FILTER)],
            "`processors.span_metrics.filter_policies.0.include.attributes.0.value` is `GET (/a`, which is no regular \
             expression at character 5",
        ),
        (
            &["config", "check", &file("j.yaml", "processors: {span_metrics: {dimensions: [http.method, span.name]}}")],
            "`processors.span_metrics.dimensions.1` names `span.name`, whose label `span_name` is there already",
        ),
        (
            &["config", "check", &file("k.yaml", "processors: {chain: {spans: [span_metric]}}")],
            "`processors.chain.spans.0` is `span_metric`",
        ),
        (&["topics", "-c", &file("g.yaml", "bus: {kind: kafka, kafka: {brokers: ''}}")], "brokers"),
    ];
    for (args, expected) in cases {
        let (code, _, errors) = run(args);
        assert_eq!(code, Some(2), "{args:?}: {errors}");
        assert!(errors.contains(expected), "{args:?}: {errors}");
    }
}

#[test]
fn a_running_instance_answers_and_a_signal_ends_it_with_0() {
    let dir = tempfile::tempdir().expect("dir");
    let mut instance = Instance::up(dir.path());
    let admin = instance.admin.to_string();

    for what in [&["health", "--admin", &admin][..], &["health", "--live", "--admin", &admin]] {
        let (code, said, errors) = run(what);
        assert_eq!(code, Some(0), "{said}{errors}");
    }
    // As in a container, which knows no more than its variables.
    let everywhere = format!("0.0.0.0:{}", instance.admin.port());
    let output = afflux(&["health"]).env("AFFLUX__ADMIN__LISTEN", everywhere).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (code, table, errors) = run(&["status", "--admin", &admin]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(table.contains(", ready\n") && table.contains("processors"), "{table}");
    assert!(!table.contains('\x1b'), "no escapes in a pipe: {table:?}");
    assert!(table.contains("DROPPED/S") && table.contains(" span_metrics  "), "{table}");
    let (code, json, _) = run(&["status", "--admin", &admin, "--json"]);
    assert_eq!(code, Some(0));
    let status: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(status["components"]["processors"]["state"], "ready");
    assert_eq!(status["config"]["bus"]["local"]["dir"], dir.path().join("bus").display().to_string());
    let (code, table, errors) = run(&["status", "--cardinality", "--admin", &admin]);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(table, format!("series of span metrics at {admin}\nnone: no span was counted lately\n"));
    let (code, json, _) = run(&["status", "--cardinality", "--admin", &admin, "--json"]);
    assert_eq!((code, &*json), (Some(0), "{\"dry_run\":false,\"tenants\":[]}\n"));
    let metrics = get(instance.admin, "/metrics").expect("metrics");
    assert!(metrics.contains("# EOF"), "{metrics}");

    instance.signal(Signal::TERM);
    assert_eq!(instance.end().code(), Some(0));
    let (out, _) = instance.said();
    assert!(out.starts_with("afflux ") && out.contains("/bus"), "{out}");
    // The directory is free again.
    drop(Instance::up(dir.path()));
}

#[test]
fn cardinality_of_an_instance_without_span_metrics_says_what_is_missing() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("afflux.yaml");
    std::fs::write(&file, "processors: {chain: {spans: []}}").expect("written");
    let [admin] = free_ports();
    let paths = [&dir.path().join("data"), &file].map(|path| path.display().to_string());
    let mut instance = Instance::start(&["up", "--data-dir", &paths[0], "-c", &paths[1]], admin);
    instance.until_ready();
    let (code, _, errors) = run(&["status", "--cardinality", "--admin", &admin.to_string()]);
    assert_eq!(code, Some(1));
    let expected = format!("no span metrics at {admin}: `span_metrics` is not in `processors.chain.spans`");
    assert!(errors.contains(&expected), "{errors}");
}

#[test]
fn a_second_signal_ends_at_once_with_1() {
    let dir = tempfile::tempdir().expect("dir");
    let mut instance = Instance::up(dir.path());
    // A drain waits for silence on the bus, twice 300 ms; the process stands still until both signals are pending.
    instance.signal(Signal::STOP);
    instance.signal(Signal::TERM);
    instance.signal(Signal::INT);
    instance.signal(Signal::CONT);
    assert_eq!(instance.end().code(), Some(1));
    let (_, errors) = instance.said();
    assert!(errors.contains("stopped without draining"), "{errors}");
}

#[test]
fn a_second_process_on_the_same_data_directory_names_the_owner() {
    let dir = tempfile::tempdir().expect("dir");
    let first = Instance::up(dir.path());
    let [admin] = free_ports();
    let mut second = Instance::start(&["up", "--data-dir", &dir.path().display().to_string()], admin);
    assert_eq!(second.end().code(), Some(1));
    let (_, errors) = second.said();
    let expected = format!("in use by process {}", first.child.id());
    assert!(errors.contains(&expected), "{errors}");
}

#[test]
fn an_admin_port_in_use_names_address_and_key() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let dir = tempfile::tempdir().expect("dir");
    let mut instance = Instance::start(&["up", "--data-dir", &dir.path().display().to_string()], address);
    assert_eq!(instance.end().code(), Some(1));
    let (_, errors) = instance.said();
    assert!(errors.contains(&format!("`admin.listen`: cannot listen on {address}")), "{errors}");
}

#[test]
fn status_of_nothing_says_how_to_name_the_instance() {
    let [nobody] = free_ports();
    let (code, _, errors) = run(&["status", "--admin", &nobody.to_string()]);
    assert_eq!(code, Some(1));
    assert!(errors.contains(&format!("no instance answers at http://{nobody}/status")), "{errors}");
}

#[test]
fn an_instance_that_is_away_or_not_ready_is_not_healthy() {
    let [admin] = free_ports();
    let (code, _, errors) = run(&["health", "--admin", &admin.to_string()]);
    assert!(code == Some(1) && errors.contains("no instance answers"), "{errors}");
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("afflux.yaml");
    // Nobody listens there.
    std::fs::write(&file, "bus: {kind: kafka, kafka: {brokers: '127.0.0.1:1'}}").expect("written");
    let _instance = Instance::start(&["run", "-c", &file.display().to_string(), "--only", "sinks"], admin);
    let started = Instant::now();
    let unready = || {
        let (code, _, errors) = run(&["health", "--admin", &admin.to_string()]);
        code == Some(1) && errors.contains("answers 503")
    };
    while !unready() {
        assert!(started.elapsed() < PATIENCE, "it is never known as not ready");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(run(&["health", "--live", "--admin", &admin.to_string()]).0, Some(0));
}

#[test]
fn every_command_has_its_manual_page_and_is_completed() {
    let dir = tempfile::tempdir().expect("dir");
    let (code, _, errors) = run(&["man", &dir.path().display().to_string()]);
    assert_eq!(code, Some(0), "{errors}");
    let (_, help, _) = run(&["--help"]);
    let commands = help.split_once("Commands:\n").expect("commands").1.split_once("\n\n").expect("options").0;
    let names =
        commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    let (code, script, _) = run(&["completions", "bash"]);
    assert_eq!(code, Some(0));
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        let page = std::fs::read_to_string(dir.path().join(format!("afflux-{name}.1"))).expect(name);
        assert!(page.contains(".SH SYNOPSIS") && script.contains(name), "{name}");
    }
}

#[test]
fn dead_letters_are_never_selected_by_accident_and_an_instance_that_is_away_is_named() {
    let away = ["--admin", "127.0.0.1:1"];
    let dead_letters = |args: &[&str]| run(&[&["dead-letters"], args, &away].concat());
    let (code, _, said) = dead_letters(&["replay", "--yes"]);
    assert!(code == Some(2) && said.contains("--everything"), "{said}");
    let (code, _, said) = dead_letters(&["drop", "0:1"]);
    assert!(code == Some(2) && said.contains("--yes"), "{said}");
    let (code, _, said) = dead_letters(&["list", "--since", "yesterday"]);
    assert!(code == Some(2) && said.contains("2h"), "{said}");
    let (code, _, said) = dead_letters(&["show", "42"]);
    assert!(code == Some(2) && said.contains("PARTITION:OFFSET"), "{said}");
    let (code, _, said) = dead_letters(&["list"]);
    assert!(code == Some(1) && said.contains("127.0.0.1:1/dead-letters"), "{said}");
}

#[test]
fn dead_letters_of_an_instance_without_any_are_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let instance = Instance::up(dir.path());
    let admin = instance.admin.to_string();
    let (code, lines, said) = run(&["dead-letters", "list", "--admin", &admin]);
    assert_eq!((code, &*lines), (Some(0), ""), "{said}");
    let (code, _, said) = run(&["dead-letters", "show", "0:0", "--admin", &admin]);
    assert!(code == Some(1) && said.contains("there is no dead letter 0:0"), "{said}");
    // Pages of other origins can send no JSON unasked.
    let post = |kind: &str| {
        let mut stream = TcpStream::connect(instance.admin).expect("a connection");
        let head = format!("POST /dead-letters/drop HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n");
        write!(stream, "{head}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(post("text/plain").starts_with("HTTP/1.1 415"));
    assert!(post("application/json").contains("\"summary\""));
}
