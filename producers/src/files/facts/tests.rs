use proptest::prelude::*;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn severity(line: &str) -> Option<(u8, &str)> {
    let severity = Facts::of(line.as_bytes()).severity?;
    Some((severity.number, std::str::from_utf8(severity.text).unwrap()))
}

#[test]
fn severities_stand_under_keys_of_json_and_logfmt() {
    for (line, expected) in [
        (r#"{"level":"info","msg":"x"}"#, Some((9, "info"))),
        (r#"{"msg":"level","Severity":"WARNING"}"#, Some((13, "WARNING"))),
        (r#"{"level":30,"time":1,"msg":"pino"}"#, Some((9, "30"))),
        (r#"{"nested":{"level":"error"},"log.level":"debug"}"#, Some((5, "debug"))),
        (r#"{"level":"loud"}"#, None),
        (r#"{"msg":"error"}"#, None),
        ("time=2024-01-01T00:00:00Z level=warn msg=\"a=b\"", Some((13, "warn"))),
        ("lvl=eror msg=x", Some((17, "eror"))),
        ("ts=1 severity=\"CRITICAL\"", Some((18, "CRITICAL"))),
        ("mylevel=info x=1", None),
        ("level=", None),
    ] {
        assert_eq!(severity(line), expected, "{line}");
    }
}

#[test]
fn severities_stand_in_front_as_loggers_write_them() {
    for (line, expected) in [
        ("I0102 15:04:05.000000       1 main.go:1] text", Some((9, "I"))),
        ("E1231 15:04:05.000000       1 main.go:1] text", Some((17, "E"))),
        ("2024-01-01 12:00:00.000  INFO 12345 --- [main] c.e.App : started", Some((9, "INFO"))),
        ("12:00:00.123 [main] WARN  com.example.Foo - text", Some((13, "WARN"))),
        ("2024-01-01 12:00:00,000 - root - ERROR - text", Some((17, "ERROR"))),
        ("WARNING:root:text", Some((13, "WARNING"))),
        ("2024/01/01 12:00:00 [error] 123#0: *1 open() failed", Some((17, "error"))),
        ("[2024-01-01T00:00:00Z DEBUG my::module] text", Some((5, "DEBUG"))),
        ("error: no such file", Some((17, "error"))),
        ("1:M 01 Jan 2024 00:00:00.000 * Ready to accept connections", None),
        ("2024-01-01 00:00:00.000 UTC [1] FATAL:  role does not exist", Some((21, "FATAL"))),
        ("panic: runtime error: index out of range", Some((21, "panic"))),
        ("info on the matter", None),
        ("All is well, no ERROR here", None),
        ("I01 is no klog", None),
        ("", None),
    ] {
        assert_eq!(severity(line), expected, "{line}");
    }
}

#[test]
fn ids_stand_under_a_key_in_whatever_format() {
    for line in [
        format!(r#"{{"msg":"x","trace_id":"{TRACE}","span_id":"{SPAN}"}}"#),
        format!(r#"{{"traceId": "{TRACE}", "spanId": "{SPAN}"}}"#),
        format!(r#"{{"trace.id":"{}","span.id":"{SPAN}"}}"#, TRACE.to_uppercase()),
        format!("level=info traceID={TRACE} spanID={SPAN}"),
        format!("no trace here, but [trace-id: {TRACE}] [span-id: {SPAN}]"),
        format!(r#"{{"message":"{{\"trace_id\":\"{TRACE}\",\"span_id\":\"{SPAN}\"}}"}}"#),
        format!("traceparent=00-{TRACE}-{SPAN}-01 sent"),
    ] {
        let facts = Facts::of(line.as_bytes());
        assert_eq!(facts.trace_id, afflux_schemas::hex::decode(TRACE), "{line}");
        assert_eq!(facts.span_id, afflux_schemas::hex::decode(SPAN), "{line}");
    }
    for line in [
        format!("trace_id={}", "0".repeat(32)),
        format!("trace_id={TRACE}0"),
        format!("trace_id={}", &TRACE[1..]),
        format!("backtrace_id={TRACE}"),
        format!("span_id={SPAN}"),
        format!("traces {TRACE}"),
    ] {
        let facts = Facts::of(line.as_bytes());
        assert_eq!((facts.trace_id, facts.span_id), (None, None), "{line}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), head in "(trace|\\{\"level|level=|span_id=|I0102|\\[|)") {
        let line = [head.as_bytes(), &bytes].concat();
        Facts::of(&line);
    }

    #[test]
    fn any_id_is_found_in_json(trace in any::<[u8; 16]>(), before in "[a-z ]{0,20}") {
        prop_assume!(trace != [0; 16]);
        let json = serde_json::json!({"msg": before, "trace_id": afflux_schemas::hex::trace_id(&trace).as_str()});
        prop_assert_eq!(Facts::of(json.to_string().as_bytes()).trace_id, Some(trace));
    }
}
