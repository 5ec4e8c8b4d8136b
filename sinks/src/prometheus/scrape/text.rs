//! Series as text: OpenMetrics, or Prometheus' own.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use afflux_runtime::admin::TextFormat;
use afflux_schemas::hex;
use afflux_schemas::otlp::metrics::Exemplar;

use super::table::{Metric, Reading, Shown, Table};
use crate::prometheus::names::bound;

/// Bytes of a part; the table cannot change while one is written.
const PART_BYTES: usize = 64 << 10;

/// The text of a table, written part by part.
pub(super) struct Text {
    table: Arc<RwLock<Table>>,
    format: TextFormat,
    trace_id_label: String,
    /// The next metric, and the next series of it.
    at: (usize, usize),
    /// Whether what stands before the metric's series has been written.
    headed: bool,
    done: bool,
}

impl Text {
    pub(super) fn new(table: Arc<RwLock<Table>>, format: TextFormat, trace_id_label: &str) -> Self {
        Self { table, format, trace_id_label: trace_id_label.to_owned(), at: (0, 0), headed: false, done: false }
    }

    /// Writes what fits of the metric at hand; false where all of it is written.
    fn write(&mut self, metric: &Metric, now: Instant, out: &mut String) -> bool {
        while out.len() < PART_BYTES {
            let Some(place) = metric.series.get(self.at.1) else { return false };
            self.at.1 += 1;
            let Some(shown) = place else { continue };
            if !std::mem::replace(&mut self.headed, true) {
                head(metric, self.format, out);
            }
            Writer { name: &metric.family.name, format: self.format, trace_id_label: &self.trace_id_label, out }
                .series(shown, now);
        }
        true
    }
}

impl Iterator for Text {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if self.done {
            return None;
        }
        let (mut out, table, now) = (String::new(), Arc::clone(&self.table), Instant::now());
        let table = table.read().unwrap_or_else(PoisonError::into_inner);
        while let Some(metric) = table.metric(self.at.0) {
            if self.write(metric, now, &mut out) {
                return Some(out);
            }
            (self.at, self.headed) = ((self.at.0 + 1, 0), false);
        }
        self.done = true;
        if self.format == TextFormat::OpenMetrics {
            out.push_str("# EOF\n");
        }
        Some(out)
    }
}

/// What stands before the series of a metric.
fn head(metric: &Metric, format: TextFormat, out: &mut String) {
    let family = &metric.family;
    let open = format == TextFormat::OpenMetrics;
    // In OpenMetrics, a counter is called without what stands behind its samples' name.
    let name = if open { family.name.strip_suffix("_total").unwrap_or(&family.name) } else { &family.name };
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# TYPE {name} {}", family.type_word());
    if open && !family.unit.is_empty() {
        let _ = writeln!(out, "# UNIT {name} {}", family.unit);
    }
    if !family.help.is_empty() {
        let _ = writeln!(out, "# HELP {name} {}", family.help);
    }
}

/// Writes the lines of one series.
struct Writer<'w> {
    name: &'w str,
    format: TextFormat,
    trace_id_label: &'w str,
    out: &'w mut String,
}

impl Writer<'_> {
    fn series(&mut self, shown: &Shown, now: Instant) {
        let zero = shown.zero_until.is_some_and(|until| now < until);
        let exemplars = if zero { &[][..] } else { &shown.exemplars };
        match &shown.reading {
            Reading::Count(count) => {
                let count = if zero { 0 } else { *count };
                self.line("", shown, None, count, exemplars.iter());
            }
            Reading::Number(value) => self.line("", shown, None, number(*value), [].iter()),
            Reading::Histogram(sum, bounds, counts) => {
                let mut total = 0_u64;
                for (at, count) in counts.iter().enumerate() {
                    total = total.saturating_add(if zero { 0 } else { *count });
                    let own = exemplars.iter().filter(|one| bounds.partition_point(|bound| *bound < one.value) == at);
                    let bound = bounds.get(at).copied().unwrap_or(f64::INFINITY);
                    self.line("_bucket", shown, Some(bound), total, own);
                }
                self.line("_count", shown, None, total, [].iter());
                self.line("_sum", shown, None, number(if zero { 0.0 } else { *sum }), [].iter());
            }
        }
    }

    /// Writes a sample with the newest of its exemplars.
    fn line<'e>(
        &mut self,
        suffix: &str,
        shown: &Shown,
        le: Option<f64>,
        value: impl std::fmt::Display,
        exemplars: impl Iterator<Item = &'e Exemplar>,
    ) {
        let Self { name, format, out, .. } = self;
        let open = *format == TextFormat::OpenMetrics;
        let _ = write!(out, "{name}{suffix}");
        if !shown.labels.is_empty() || le.is_some() {
            let _ = write!(out, "{{{}", shown.labels);
            if let Some(le) = le {
                let comma = if shown.labels.is_empty() { "" } else { "," };
                let _ = write!(out, "{comma}le=\"{}\"", if open { float(bound(le)) } else { bound(le) });
            }
            out.push('}');
        }
        let _ = write!(out, " {value}");
        let newest = exemplars.filter(|exemplar| exemplar.trace_id != [0; 16]).max_by_key(|one| one.time_unix_nano);
        if let Some(exemplar) = newest.filter(|_| open) {
            self.exemplar(exemplar);
        }
        self.out.push('\n');
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        let Exemplar { time_unix_nano, value, trace_id, span_id } = exemplar;
        let (trace, span, label) = (hex::trace_id(trace_id), hex::span_id(span_id), self.trace_id_label);
        let _ = write!(self.out, " # {{{label}=\"{}\",span_id=\"{}\"}} {}", &*trace, &*span, number(*value));
        if *time_unix_nano > 0 {
            let millis = time_unix_nano / 1_000_000;
            let _ = write!(self.out, " {}.{:03}", millis / 1000, millis % 1000);
        }
    }
}

/// A number as both formats write it.
fn number(value: f64) -> Cow<'static, str> {
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        _ => value.to_string().into(),
    }
}

/// A bound as OpenMetrics has it: always a floating point number.
fn float(mut text: String) -> String {
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        text.push_str(".0");
    }
    text
}

/// The value of a label between quotes.
pub(super) fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(value);
    }
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into()
}
