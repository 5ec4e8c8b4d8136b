//! One line about what flows.

use afflux_runtime::admin::{ComponentStatus, Status};

use crate::output::{count, period};

/// What came in and went out between two looks, what is stored in all, and what waits.
pub(super) fn line(before: &Status, now: &Status) -> String {
    let seconds = (now.uptime_seconds - before.uptime_seconds).max(f64::EPSILON);
    let rate = |metric: &str, signal: &str| {
        let grown = sum(now, "", |c| total(c, metric, signal)) - sum(before, "", |c| total(c, metric, signal));
        count(grown / seconds)
    };
    let stored = |signal: &str| count(sum(now, "sinks.", |c| total(c, "settled_items", signal)));
    let waiting = sum(now, "", |c| c.lag.iter().map(|lag| lag.records as f64).sum());
    let mut line = format!(
        "{:>8}  received {} spans/s, {} logs/s | stored {} spans, {} logs | {} records on the way",
        period(now.uptime_seconds),
        rate("accepted_items", "spans"),
        rate("accepted_items", "logs"),
        stored("spans"),
        stored("logs"),
        count(waiting),
    );
    for (name, component) in &now.components {
        if component.state != "ready" {
            let detail = component.detail.as_deref().map(|d| format!(" ({d})")).unwrap_or_default();
            line += &format!(" | {name} {}{detail}", component.state);
        }
    }
    line + "\n"
}

fn sum(status: &Status, prefix: &str, of: impl Fn(&ComponentStatus) -> f64) -> f64 {
    status.components.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, component)| of(component)).sum()
}

fn total(component: &ComponentStatus, metric: &str, signal: &str) -> f64 {
    component.totals.get(metric).and_then(|by| by.get(signal)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_line_tells_rates_since_the_last_one_totals_and_trouble() {
        let status = |uptime: f64, accepted: u64| -> Status {
            let component = |state: &str, metric: &str, items: u64| {
                json!({"state": state, "detail": null, "rates": {}, "gauges": {}, "lag": [],
                       "totals": {metric: {"spans": items}}})
            };
            let mut sink = component("failing", "settled_items", 40);
            sink["detail"] = "store is away".into();
            sink["lag"] = json!([{"topic": "t", "partition": 0, "records": 5}]);
            let components = json!({
                "producers.otlp": component("ready", "accepted_items", accepted),
                "processors": component("ready", "settled_items", 70),
                "sinks.parquet": sink,
            });
            serde_json::from_value(json!({
                "version": "1", "pid": 1, "uptime_seconds": uptime, "ready": false, "config": {},
                "components": components,
            }))
            .expect("a status")
        };
        let line = line(&status(60.0, 1000), &status(63.0, 7000));
        let expected = "   1m 3s  received 2,000 spans/s, 0 logs/s | stored 40 spans, 0 logs | 5 records on the way \
                        | sinks.parquet failing (store is away)\n";
        assert_eq!(line, expected);
    }
}
