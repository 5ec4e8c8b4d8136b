//! The table of the steps that telemetry passes through, in `afflux status`.

use afflux_runtime::admin::ComponentStatus;

use crate::output::count;

pub(super) const HEADS: [&str; 8] =
    ["COMPONENT", "SIGNAL", "STEP", "ITEMS/S", "ITEMS", "DROPPED/S", "DROPPED", "OUTCOMES"];
/// Columns of numbers, which stand to the right.
pub(super) const NUMBERS: std::ops::Range<usize> = 3..6;

const ITEMS: &str = "step_items";
const DROPPED: &str = "step_dropped_items";
const OUTCOMES: &str = "step_outcomes";

/// One row per step, in the order in which items pass through them. Rates are over the seconds between the two.
pub(super) fn rows_of(name: &str, before: &ComponentStatus, now: &ComponentStatus, seconds: f64) -> Vec<[String; 8]> {
    let mut rows = Vec::new();
    for (signal, steps) in &now.chain {
        for (position, step) in steps.iter().enumerate() {
            let key = format!("{signal}/{step}");
            let rate = |of: &dyn Fn(&ComponentStatus) -> f64| count((of(now) - of(before)) / seconds);
            let items = |status: &ComponentStatus| status.totals.get(ITEMS).and_then(|by| by.get(&key)).copied();
            let items = |status: &ComponentStatus| items(status).unwrap_or_default();
            let dropped = |status: &ComponentStatus| reasons(status, DROPPED, &key).map(|(_, n)| n).sum::<f64>();
            rows.push([
                if rows.is_empty() { name.to_owned() } else { String::new() },
                if position == 0 { signal.clone() } else { String::new() },
                step.clone(),
                rate(&items),
                count(items(now)),
                rate(&dropped),
                listed(now, DROPPED, &key),
                listed(now, OUTCOMES, &key),
            ]);
        }
    }
    rows
}

/// Reasons of a step, and how many items each of them had.
fn reasons<'a>(status: &'a ComponentStatus, metric: &str, key: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    let of_step = move |(split, n): (&'a String, &f64)| Some((split.strip_prefix(key)?.strip_prefix('/')?, *n));
    status.totals.get(metric).into_iter().flatten().filter_map(of_step)
}

fn listed(status: &ComponentStatus, metric: &str, key: &str) -> String {
    let some = reasons(status, metric, key).filter(|(_, n)| *n > 0.0);
    some.map(|(reason, n)| format!("{reason} {}", count(n))).collect::<Vec<_>>().join(", ")
}
