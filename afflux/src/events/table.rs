//! The table: a line for each event, with its latest observation.

use std::collections::HashMap;

use afflux_runtime::kubernetes_events::KubernetesEvent;

use crate::output::printable;

/// Least widths of the columns, so that lines that come later stand below.
const WIDTHS: [usize; 6] = [7, 9, 9, 7, 12, 24];
const HEADINGS: [&str; 7] = ["CLUSTER", "NAMESPACE", "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];

/// Events that are to be shown.
#[derive(Debug)]
pub(super) struct Table {
    with_cluster: bool,
    with_namespace: bool,
    waiting: Vec<KubernetesEvent>,
    /// Where an event waits, by cluster and uid.
    by_uid: HashMap<(String, String), usize>,
    widths: Option<[usize; 6]>,
}

impl Table {
    pub(super) fn new(with_cluster: bool, with_namespace: bool) -> Self {
        Self { with_cluster, with_namespace, waiting: Vec::new(), by_uid: HashMap::new(), widths: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// One more observation, which takes the place of an earlier one of the same event.
    pub(super) fn take(&mut self, event: KubernetesEvent) {
        let key = (event.cluster.clone(), event.uid.clone());
        match self.by_uid.get(&key).filter(|_| !event.uid.is_empty()) {
            Some(&at) if self.waiting[at].count <= event.count => self.waiting[at] = event,
            Some(_) => {}
            None => {
                self.by_uid.insert(key, self.waiting.len());
                self.waiting.push(event);
            }
        }
    }

    /// The lines of those that wait, the latest at the end; headings before the first.
    pub(super) fn rows(&mut self, now_ms: i64) -> String {
        self.by_uid.clear();
        let mut events = std::mem::take(&mut self.waiting);
        events.sort_by_key(|event| event.time_ms);
        let mut rows: Vec<[String; 7]> = events.iter().map(|event| cells(event, now_ms)).collect();
        let widths = *self.widths.get_or_insert_with(|| {
            rows.insert(0, HEADINGS.map(str::to_owned));
            let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0).max(WIDTHS[at]);
            std::array::from_fn(width)
        });
        let hidden = [!self.with_cluster, !self.with_namespace];
        let mut text = String::new();
        for row in rows {
            let line: String = row
                .iter()
                .enumerate()
                .filter(|(at, _)| !hidden.get(*at).copied().unwrap_or(false))
                .map(|(at, cell)| format!("{cell:<width$}   ", width = widths.get(at).copied().unwrap_or(0)))
                .collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn cells(event: &KubernetesEvent, now_ms: i64) -> [String; 7] {
    let seen = age(now_ms - event.time_ms);
    let start = humantime::parse_rfc3339(&event.start).ok();
    let start = start.and_then(|start| start.duration_since(std::time::UNIX_EPOCH).ok());
    let over = start.map(|start| age(now_ms - i64::try_from(start.as_millis()).unwrap_or(now_ms)));
    let seen = match (event.count, over) {
        (0 | 1, _) => seen,
        (count, Some(over)) => format!("{seen} (x{count} over {over})"),
        (count, None) => format!("{seen} (x{count})"),
    };
    let object = if event.kind.is_empty() && event.object.is_empty() {
        "-".to_owned()
    } else {
        format!("{}/{}", event.kind.to_lowercase(), event.object)
    };
    let texts = [&event.cluster, &event.namespace, &seen, &event.event_type, &event.reason, &object];
    let [cluster, namespace, seen, kind, reason, object] = texts.map(|text| printable(text));
    [cluster, namespace, seen, kind, reason, object, printable(event.message.trim())]
}

/// How long ago, as `kubectl` writes it: the larger a time, the fewer of its parts.
fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |first: i64, unit: &str, second: i64, other: &str| match second {
        0 => format!("{first}{unit}"),
        second => format!("{first}{unit}{second}{other}"),
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_760_000_000_000;

    fn event(uid: &str, count: u64, ago_s: i64) -> KubernetesEvent {
        KubernetesEvent {
            time_ms: NOW_MS - ago_s * 1000,
            start: "2025-10-09T07:53:20Z".into(),
            cluster: "eu".into(),
            namespace: "shop".into(),
            kind: "Pod".into(),
            object: "cart-1".into(),
            event_type: "Warning".into(),
            reason: "BackOff".into(),
            count,
            uid: uid.into(),
            message: "Back-off restarting\u{1b}[2J failed container\n".into(),
            ..KubernetesEvent::default()
        }
    }

    #[test]
    fn an_event_has_one_line_with_its_latest_observation_and_the_latest_comes_last() {
        let mut table = Table::new(true, true);
        for event in [event("b", 1, 5), event("a", 3, 90), event("a", 12, 60), event("a", 11, 70)] {
            table.take(event);
        }
        let expected = "\
CLUSTER   NAMESPACE   LAST SEEN            TYPE      REASON         OBJECT                     MESSAGE
eu        shop        60s (x12 over 60m)   Warning   BackOff        pod/cart-1                 Back-off restarting\u{fffd}[2J failed container
eu        shop        5s                   Warning   BackOff        pod/cart-1                 Back-off restarting\u{fffd}[2J failed container
";
        let shown = table.rows(NOW_MS);
        assert_eq!(shown, expected, "{shown}");
        table.take(event("c", 2, 0));
        let more =
            "eu        shop        0s (x2 over 60m)     Warning   BackOff        pod/cart-1                 Back-off";
        assert!(table.rows(NOW_MS).starts_with(more));
    }

    #[test]
    fn columns_that_were_asked_for_and_gaps_are_left_out() {
        let mut table = Table::new(false, false);
        table.take(KubernetesEvent { message: "may be missing".into(), ..KubernetesEvent::default() });
        table.take(KubernetesEvent { message: "may be missing, too".into(), ..KubernetesEvent::default() });
        let rows = table.rows(1000);
        assert!(rows.starts_with("LAST SEEN   TYPE"), "{rows}");
        assert_eq!(rows.lines().filter(|line| line.contains("   -   ")).count(), 2, "each gap has its line: {rows}");
    }

    #[test]
    fn ages_are_those_of_kubectl() {
        let of = |seconds: i64| age(seconds * 1000);
        let all = [0, 119, 120, 150, 600, 10_799, 10_800, 12_000, 28_800, 172_799, 172_800, 200_000, 691_200, -5];
        let expected = "0s 119s 2m 2m30s 10m 179m 3h 3h20m 8h 47h 2d 2d7h 8d 0s";
        assert_eq!(all.map(of).join(" "), expected);
    }
}
