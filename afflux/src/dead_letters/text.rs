//! Dead letters as a terminal shows them.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use afflux_runtime::dead_letter::{Letter, Shown, Summary};
use afflux_schemas::otlp::validate;

use crate::output::{aligned, bytes, printable};

const HEADS: [&str; 8] = ["ID", "REFUSED", "STATE", "COMPONENT", "REASON", "ATTEMPTS", "SOURCE", "ERROR"];
/// Bytes of a value that are shown.
const DUMP: usize = 256;
/// Characters of an error in a table.
const ERROR: usize = 60;

/// One row per dead letter, then counts by component and reason.
pub(super) fn table(letters: &[Letter], summary: &Summary) -> String {
    if summary.selected == 0 {
        return "no dead letters\n".to_owned();
    }
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(letters.iter().map(row));
    let mut text = aligned(&rows, 5..6) + "\n";
    for (reason, count) in &summary.reasons {
        let _ = writeln!(text, "{count:>8}  {reason}");
    }
    if summary.selected > letters.len() as u64 {
        let _ = writeln!(text, "{} of {} are shown; see --limit", letters.len(), summary.selected);
    }
    text
}

fn row(letter: &Letter) -> [String; 8] {
    let error: String = printable(&letter.error).chars().take(ERROR).collect();
    [
        letter.id.to_string(),
        letter.time_ms.map_or_else(|| "-".to_owned(), time),
        letter.state.as_str().to_owned(),
        printable(&letter.component),
        printable(&letter.reason),
        letter.attempts.to_string(),
        format!("{}/{} {}", printable(&letter.topic), letter.partition, letter.offset),
        error,
    ]
}

/// Everything that a dead letter holds.
pub(super) fn shown(shown: &Shown) -> String {
    let Shown { letter, key, headers, value } = shown;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("id", letter.id.to_string());
    line("state", letter.state.as_str().to_owned());
    line("refused", letter.time_ms.map_or_else(|| "-".to_owned(), time));
    line("component", printable(&letter.component));
    line("reason", printable(&letter.reason));
    line("error", printable(&letter.error));
    line("attempts", letter.attempts.to_string());
    line("source", format!("{}/{} at {}", printable(&letter.topic), letter.partition, letter.offset));
    line("time", time(letter.timestamp_ms));
    let raw = |hex: &String| Shown::bytes(hex).unwrap_or_default();
    if let Some(key) = key {
        line("key", readable(&raw(key)));
    }
    text.push_str("headers\n");
    for (name, value) in headers {
        let _ = writeln!(text, "  {}: {}", printable(name), readable(&raw(value)));
    }
    match value {
        _ if letter.left_out => {
            let _ = writeln!(text, "value      {}, too large to be kept", bytes(letter.bytes as f64));
        }
        None => text.push_str("value      none: a tombstone\n"),
        Some(value) => text.push_str(&value_text(letter, &raw(value))),
    }
    text
}

fn value_text(letter: &Letter, value: &[u8]) -> String {
    let mut text = format!("value      {} bytes\n", value.len());
    let verdict = match letter.topic.rsplit('.').next() {
        Some("spans") => Some(validate::traces(value)),
        Some("logs" | "events") => Some(validate::logs(value)),
        _ => None,
    };
    match verdict {
        Some(Ok(check)) => {
            let _ = writeln!(text, "decodes    as an OTLP request of {} items", check.items);
        }
        Some(Err(error)) => {
            let _ = writeln!(text, "decodes    not as an OTLP request: {error}");
        }
        None => {}
    }
    for (at, row) in value[..value.len().min(DUMP)].chunks(16).enumerate() {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = |byte: &u8| if (b' '..=b'~').contains(byte) { *byte as char } else { '.' };
        let _ =
            writeln!(text, "  {:06x}  {:<47}  {}", at * 16, hex.join(" "), row.iter().map(shown).collect::<String>());
    }
    if value.len() > DUMP {
        let _ = writeln!(text, "  … {} more bytes; see --raw", value.len() - DUMP);
    }
    text
}

/// Text as it is, other bytes in hexadecimal digits.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.iter().fold("0x".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
    }
}

/// What strangers wrote, without what a terminal would obey.
/// A time in milliseconds since the Unix epoch.
fn time(ms: i64) -> String {
    let at = u64::try_from(ms).ok().and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    // The last that the format knows is the year 9999.
    let known = at.filter(|_| ms < 253_402_300_800_000);
    known.map_or_else(|| ms.to_string(), |at| humantime::format_rfc3339_seconds(at).to_string())
}

#[cfg(test)]
mod tests {
    use afflux_runtime::dead_letter::State;

    use super::*;

    fn letter() -> Letter {
        Letter {
            id: "1:42".parse().expect("an id"),
            state: State::Open,
            time_ms: Some(1_700_000_000_000),
            component: "processors".into(),
            reason: "malformed".into(),
            error: "not an OTLP\x1b[2J request".into(),
            attempts: 2,
            topic: "afflux.ingest.spans".into(),
            partition: 3,
            offset: 7,
            cluster: None,
            timestamp_ms: i64::MAX,
            bytes: 3,
            left_out: false,
        }
    }

    #[test]
    fn a_table_has_a_row_per_letter_and_counts_at_its_end() {
        let reasons = [("processors malformed".to_owned(), 5)].into();
        let summary = Summary { selected: 5, done: 1, reasons, ..Summary::default() };
        let text = table(&[letter()], &summary);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("1:42  2023-11-14T22:13:20Z  open"), "{text}");
        assert!(lines[1].contains("afflux.ingest.spans/3 7"), "{text}");
        assert!(text.ends_with("       5  processors malformed\n1 of 5 are shown; see --limit\n"), "{text}");
        assert!(!text.contains('\x1b'));
        assert_eq!(table(&[], &Summary::default()), "no dead letters\n");
    }

    #[test]
    fn a_letter_shows_where_its_value_stops_being_a_request() {
        let headers = vec![("foreign".to_owned(), "ff".to_owned()), ("named".to_owned(), "61".to_owned())];
        let text = shown(&Shown { letter: letter(), key: None, headers, value: Some("0a7f61".into()) });
        assert!(text.contains("  foreign: 0xff\n  named: a\n"), "{text}");
        assert!(text.contains("decodes    not as an OTLP request: "), "{text}");
        assert!(text.contains("  000000  0a 7f 61"), "{text}");
        assert!(text.contains("error      not an OTLP\u{fffd}[2J request"), "{text}");
        let text = shown(&Shown { letter: letter(), key: None, headers: Vec::new(), value: None });
        assert!(text.ends_with("value      none: a tombstone\n"), "{text}");
    }
}
