//! `afflux status --cardinality`: the series of span metrics, and what their limits do.

use std::ops::Range;

use afflux_processors::span_metrics::cardinality::{Report, TenantReport};

use crate::output::{aligned, count, printable};

/// Characters of a name in a table.
const NAME: usize = 60;

/// What of each tenant, label and template of names is shown. With a dry run, what the limits would do.
pub(super) fn render(report: &Report, address: &str) -> String {
    let mut text = format!("series of span metrics at {address}\n");
    if report.dry_run {
        text.push_str("dry run: nothing is limited or folded. Except for SERIES, this is what would have been\n");
    }
    if report.tenants.is_empty() {
        return text + "none: no span was counted lately\n";
    }
    let tenants = if report.dry_run { dry_tenants(report) } else { tenants(report) };
    text + &tenants + &labels(report) + &folded(report)
}

fn tenants(report: &Report) -> String {
    let row = |tenant: &TenantReport| {
        let [limit, items, sets, theirs] = common(tenant);
        [name(&tenant.tenant), whole(tenant.series), limit, items, sets, theirs]
    };
    table(["TENANT", "SERIES", "LIMIT", "ITEMS", "OVERFLOWED", "THEIR ITEMS"], report.tenants.iter().map(row), 1..6)
}

fn dry_tenants(report: &Report) -> String {
    let row = |tenant: &TenantReport| {
        let [limit, items, sets, theirs] = common(tenant);
        [name(&tenant.tenant), whole(tenant.series), whole(tenant.limited_series), limit, items, sets, theirs]
    };
    let heads = ["TENANT", "SERIES", "WOULD BE", "LIMIT", "ITEMS", "WOULD OVERFLOW", "THEIR ITEMS"];
    table(heads, report.tenants.iter().map(row), 1..7)
}

/// Limit, items, label sets beyond the limit, and their items.
fn common(tenant: &TenantReport) -> [String; 4] {
    let TenantReport { max_series, items, overflow_sets, overflow_items, .. } = tenant;
    [limit(*max_series), whole(*items), estimate(*overflow_sets), whole(*overflow_items)]
}

fn labels(report: &Report) -> String {
    let heads = if report.dry_run {
        ["TENANT", "LABEL", "WOULD BE", "LIMIT", "WOULD CAP"]
    } else {
        ["TENANT", "LABEL", "VALUES", "LIMIT", "CAPPED"]
    };
    let of_tenant = |tenant: &TenantReport| {
        let rows = tenant.labels.iter().enumerate().map(|(at, label)| {
            let (values, capped) = (whole(label.values), estimate(label.capped_values));
            [first(at, &tenant.tenant), name(&label.label), values, limit(label.max_values), capped]
        });
        rows.collect::<Vec<_>>()
    };
    table(heads, report.tenants.iter().flat_map(of_tenant), 2..5)
}

/// Nothing where no name is folded.
fn folded(report: &Report) -> String {
    let of_tenant = |tenant: &TenantReport| {
        let rows = tenant.folded.iter().enumerate().map(|(at, folded)| {
            [first(at, &tenant.tenant), name(&folded.template), estimate(folded.names), name(&folded.example)]
        });
        rows.collect::<Vec<_>>()
    };
    let rows: Vec<_> = report.tenants.iter().flat_map(of_tenant).collect();
    let heads = ["TENANT", if report.dry_run { "WOULD FOLD TO" } else { "FOLDED TO" }, "NAMES", "EXAMPLE"];
    if rows.is_empty() { String::new() } else { table(heads, rows, 2..3) }
}

fn table<const N: usize>(
    heads: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    numbers: Range<usize>,
) -> String {
    let rows: Vec<_> = std::iter::once(heads.map(str::to_owned)).chain(rows).collect();
    format!("\n{}", aligned(&rows, numbers))
}

/// The tenant's name in its first row.
fn first(at: usize, tenant: &str) -> String {
    if at == 0 { name(tenant) } else { String::new() }
}

fn whole(n: u64) -> String {
    count(n as f64)
}

fn estimate(n: u64) -> String {
    if n == 0 { whole(n) } else { format!("~{}", whole(n)) }
}

fn limit(n: u64) -> String {
    if n == 0 { "none".to_owned() } else { whole(n) }
}

/// Names come with spans: whoever sends these writes no escapes to the terminal, and no line over the whole of it.
fn name(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use afflux_processors::span_metrics::cardinality::{FoldedName, LabelReport};

    use super::*;

    fn tenant(tenant: &str, scale: u64) -> TenantReport {
        let label = |label: &str, values, capped_values| LabelReport {
            label: label.to_owned(),
            values,
            max_values: if capped_values > 0 { values } else { 0 },
            capped_values,
        };
        let folded = FoldedName {
            template: "/users/{id}".to_owned(),
            names: 12 * scale,
            example: format!("/users/7\x1b[2J{}", "x".repeat(100)),
        };
        TenantReport {
            tenant: tenant.to_owned(),
            series: 1000 * scale,
            limited_series: 900,
            max_series: if scale > 1 { 1000 * scale } else { 0 },
            items: 50_000 * scale,
            overflow_sets: 7 * (scale - 1),
            overflow_items: 40 * (scale - 1),
            labels: vec![label("service", 3, 0), label("span_name", 40, 5 * (scale - 1))],
            folded: if scale > 1 { vec![folded] } else { vec![] },
        }
    }

    #[test]
    fn limits_what_is_beyond_them_and_folded_names_stand_by_tenant() {
        let report = Report { dry_run: false, tenants: vec![tenant("acme", 1), tenant("b", 2)] };
        let expected = format!(
            "\
series of span metrics at 127.0.0.1:9464

TENANT  SERIES  LIMIT    ITEMS  OVERFLOWED  THEIR ITEMS
acme     1,000   none   50,000           0            0
b        2,000  2,000  100,000          ~7           40

TENANT  LABEL      VALUES  LIMIT  CAPPED
acme    service         3   none       0
        span_name      40   none       0
b       service         3   none       0
        span_name      40     40      ~5

TENANT  FOLDED TO    NAMES  EXAMPLE
b       /users/{{id}}    ~24  /users/7\u{fffd}[2J{}…
",
            "x".repeat(48)
        );
        assert_eq!(render(&report, "127.0.0.1:9464"), expected);
    }

    #[test]
    fn a_dry_run_says_that_nothing_is_limited_and_what_would_have_been() {
        let report = Report { dry_run: true, tenants: vec![tenant("b", 2)] };
        let expected = format!(
            "\
series of span metrics at x
dry run: nothing is limited or folded. Except for SERIES, this is what would have been

TENANT  SERIES  WOULD BE  LIMIT    ITEMS  WOULD OVERFLOW  THEIR ITEMS
b        2,000       900  2,000  100,000              ~7           40

TENANT  LABEL      WOULD BE  LIMIT  WOULD CAP
b       service           3   none          0
        span_name        40     40         ~5

TENANT  WOULD FOLD TO  NAMES  EXAMPLE
b       /users/{{id}}      ~24  /users/7\u{fffd}[2J{}…
",
            "x".repeat(48)
        );
        assert_eq!(render(&report, "x"), expected);
    }

    #[test]
    fn without_series_it_says_so() {
        let text = render(&Report::default(), "x");
        assert_eq!(text, "series of span metrics at x\nnone: no span was counted lately\n");
    }
}
