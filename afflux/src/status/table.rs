//! The table of `afflux status`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use afflux_runtime::Role;
use afflux_runtime::admin::{ComponentStatus, Status};

use super::chain;
use crate::output::{aligned, bytes, count, period};

const HEADS: [&str; 7] = ["COMPONENT", "STATE", "SIGNAL", "ITEMS/S", "BYTES/S", "ITEMS", "LAG"];
/// Columns of numbers, which stand to the right.
const NUMBERS: std::ops::Range<usize> = 3..7;
/// Counters of what went through a component, whichever it has.
const ITEMS: [&str; 2] = ["accepted_items", "settled_items"];
const BYTES: [&str; 2] = ["accepted_bytes", "settled_bytes"];
/// Counters that are worth a line of their own once they are not zero.
const TROUBLES: [(&str, &str); 5] = [
    ("refused_requests", "refused requests"),
    ("dropped_items", "dropped items"),
    ("dead_letters", "dead letters"),
    ("expired_records", "records that retention took unread"),
    ("retries", "retries"),
];

/// One row per component and signal, then one per step of their chains, then one line per trouble. Rates are between the two statuses.
pub(super) fn render(before: &Status, now: &Status, address: &str) -> String {
    // An instance that was restarted between the two starts from zero.
    let seconds = now.uptime_seconds - before.uptime_seconds;
    let seconds = if seconds > 0.0 && before.pid == now.pid { seconds } else { now.uptime_seconds };
    let empty = ComponentStatus::default();
    let mut names: Vec<&String> = now.components.keys().collect();
    names.sort_by_key(|name| (Role::ALL.iter().position(|role| name.starts_with(role.as_str())), *name));
    let mut rows = vec![HEADS.map(str::to_owned)];
    let mut steps = vec![chain::HEADS.map(str::to_owned)];
    let mut notes = String::new();
    for name in names {
        let component = &now.components[name];
        let same = before.components.get(name).filter(|_| before.pid == now.pid).unwrap_or(&empty);
        rows.extend(rows_of(name, same, component, seconds));
        steps.extend(chain::rows_of(name, same, component, seconds));
        note_troubles(&mut notes, name, component);
    }
    let ready = if now.ready { "ready" } else { "not ready" };
    let head = format!("afflux {} at {address}, up {}, {ready}\n\n", now.version, period(now.uptime_seconds));
    let notes = if notes.is_empty() { notes } else { format!("\n{notes}") };
    let steps = if steps.len() == 1 { String::new() } else { format!("\n{}", aligned(&steps, chain::NUMBERS)) };
    head + &aligned(&rows, NUMBERS) + &steps + &notes
}

fn rows_of(name: &str, before: &ComponentStatus, now: &ComponentStatus, seconds: f64) -> Vec<[String; 7]> {
    let counted = now.totals.iter().filter(|(metric, _)| ITEMS.contains(&metric.as_str()));
    let mut signals: BTreeSet<&str> = counted.flat_map(|(_, by)| by.keys()).map(String::as_str).collect();
    signals.extend(now.lag.iter().filter_map(|lag| signal_of(&lag.topic)));
    let lag_of = |signal: Option<&str>| {
        let of: Vec<_> = now.lag.iter().filter(|lag| signal.is_none() || signal_of(&lag.topic) == signal).collect();
        if of.is_empty() {
            return String::new();
        }
        let records = count(of.iter().map(|lag| lag.records as f64).sum());
        // The oldest of all partitions.
        match of.iter().filter_map(|lag| lag.seconds).max_by(f64::total_cmp) {
            Some(seconds) if seconds >= 1.0 => format!("{records} ({})", period(seconds)),
            _ => records,
        }
    };
    if signals.is_empty() {
        let blank = String::new;
        return vec![[name.into(), now.state.clone(), blank(), blank(), blank(), blank(), lag_of(None)]];
    }
    let row = |(position, signal): (usize, &str)| {
        let rate = |metrics| (total(now, metrics, signal) - total(before, metrics, signal)) / seconds;
        let first = |text: &str| if position == 0 { text.to_owned() } else { String::new() };
        let items = count(total(now, ITEMS, signal));
        let lag = lag_of(Some(signal));
        [first(name), first(&now.state), signal.into(), count(rate(ITEMS)), bytes(rate(BYTES)), items, lag]
    };
    signals.into_iter().enumerate().map(row).collect()
}

/// `spans` of `afflux.ingest.spans`.
fn signal_of(topic: &str) -> Option<&str> {
    topic.rsplit('.').next()
}

fn total(component: &ComponentStatus, metrics: [&str; 2], signal: &str) -> f64 {
    metrics.iter().filter_map(|metric| component.totals.get(*metric)?.get(signal)).sum()
}

fn note_troubles(notes: &mut String, name: &str, component: &ComponentStatus) {
    // Writing to a String cannot fail.
    if let Some(detail) = &component.detail {
        let _ = writeln!(notes, "{name} {}: {detail}", component.state);
    }
    for (metric, label) in TROUBLES {
        let Some(by) = component.totals.get(metric) else { continue };
        for (reason, n) in by.iter().filter(|(_, n)| **n > 0.0) {
            let _ = writeln!(notes, "{name}: {} {label} ({reason})", count(*n));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(pid: u32, uptime: f64, scale: u64) -> Status {
        let component = |state: &str, totals: Value, lag: Value| json!({"state": state, "detail": null, "totals": totals, "rates": {}, "gauges": {}, "lag": lag});
        let lag = |topic: &str, records: u64| json!({"topic": topic, "partition": 0, "records": records, "seconds": records / 100});
        let mut sink =
            component("failing", json!({"settled_items": {"spans": 5}}), json!([lag("afflux.spans", 12_000)]));
        sink["detail"] = "store is away".into();
        let received = json!({
            "accepted_items": {"spans": 100 * scale, "logs": 10 * scale},
            "accepted_bytes": {"spans": 40_000 * scale, "logs": 900 * scale},
            "refused_requests": {"too_large": 3, "bus_full": 0},
        });
        serde_json::from_value(json!({
            "version": "1.2.3", "pid": pid, "uptime_seconds": uptime, "ready": false, "config": {},
            "components": {
                "bus": component("ready", json!({}), json!([])),
                "sinks.parquet": sink,
                "producers.otlp": component("ready", received, json!([])),
                "processors": component("starting", json!({}), json!([lag("a.ingest.logs", 0), lag("a.ingest.spans", 7)])),
            },
        }))
        .expect("a status")
    }

    #[test]
    fn rates_are_between_the_samples_and_rows_follow_the_data() {
        let text = render(&status(1, 60.0, 10), &status(1, 62.0, 30), "127.0.0.1:9464");
        let expected = "\
afflux 1.2.3 at 127.0.0.1:9464, up 1m 2s, not ready

COMPONENT       STATE     SIGNAL  ITEMS/S  BYTES/S  ITEMS     LAG
bus             ready
producers.otlp  ready     logs        100   9.0 kB    300
                          spans     1,000  400.0 kB  3,000
processors      starting  logs          0      0 B      0       0
                          spans         0      0 B      0       7
sinks.parquet   failing   spans         0      0 B      5  12,000 (2m 0s)

producers.otlp: 3 refused requests (too_large)
sinks.parquet failing: store is away
";
        let squeezed =
            |text: &str| text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        assert_eq!(squeezed(&text), squeezed(expected), "{text}");
        let ends: Vec<usize> =
            text.lines().filter(|l| l.contains(" spans ")).map(|l| l.find("spans").unwrap_or(0)).collect();
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "columns are not aligned:\n{text}");
    }

    #[test]
    fn a_restart_between_the_samples_gives_no_negative_rate() {
        let text = render(&status(1, 500.0, 1000), &status(2, 2.0, 1), "x");
        let spans = text.lines().find(|line| line.contains("spans")).expect("a row");
        assert_eq!(spans.split_whitespace().collect::<Vec<_>>(), ["spans", "50", "20.0", "kB", "100"], "{text}");
    }

    /// A stage with three steps for spans, one of them never reached, and one for logs.
    fn with_steps(pid: u32, uptime: f64, scale: u64) -> Status {
        let mut status = status(pid, uptime, scale);
        let totals = json!({
            "settled_items": {"spans": 20 * scale, "logs": scale},
            "step_items": {"spans/sample": 20 * scale, "spans/sample_more": 1, "logs/count": scale, "logs/sample": 9},
            "step_dropped_items": {"spans/sample/sampled_out": 6 * scale, "spans/sample/late": 2 * scale, "logs/sample/late": 1},
            "step_outcomes": {"spans/sample/kept_slow": 12, "spans/sample/kept_error": 0, "spans/sample_more/joined": 3},
        });
        let chain = json!({"spans": ["sample_more", "sample", "attributes"], "logs": ["count"]});
        let component =
            json!({"state": "ready", "chain": chain, "totals": totals, "rates": {}, "gauges": {}, "lag": []});
        let component = serde_json::from_value(component).expect("a component");
        status.components = [("processors".to_owned(), component)].into();
        status
    }

    #[test]
    fn steps_stand_in_the_order_of_the_chain_with_what_they_dropped_and_did() {
        let text = render(&with_steps(1, 60.0, 100), &with_steps(1, 62.0, 200), "x");
        let expected = "\
COMPONENT   SIGNAL  STEP         ITEMS/S  ITEMS  DROPPED/S  DROPPED                      OUTCOMES
processors  logs    count             50    200          0
            spans   sample_more        0      1          0                               joined 3
                    sample         1,000  4,000        400  late 400, sampled_out 1,200  kept_slow 12
                    attributes         0      0          0
";
        let table = text.split_once("\n\n").and_then(|(_, rest)| rest.split_once("\n\n")).expect("a second table").1;
        assert_eq!(table, expected, "{text}");
        let restarted = render(&with_steps(1, 500.0, 1000), &with_steps(2, 2.0, 1), "x");
        let sample = restarted.lines().find(|line| line.contains(" sample ")).expect("a row");
        let cells: Vec<_> = sample.split_whitespace().take(4).collect();
        assert_eq!(cells, ["sample", "10", "20", "4"], "since its start: {restarted}");
    }
}
