//! From the records of a batch to requests. Pure.

use std::sync::Arc;

use afflux_runtime::delivery::Refused;
use afflux_schemas::otlp::metrics::{Point, Value, read};
use bytes::Bytes;
use http::HeaderValue;

use super::config::PrometheusConfig;
use super::expand::Builder;
use super::labels::LabelSettings;
use super::request::WriteRequest;
use super::version::Version;
use crate::buffers;

/// How series are written.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) labels: LabelSettings,
    pub(super) trace_id_label: String,
    /// Samples at which a request is full.
    pub(super) max_samples: u64,
}

impl Settings {
    pub(super) fn of(config: &PrometheusConfig) -> Self {
        let labels = config.labels();
        let trace_id_label = config.trace_id_label.clone();
        Self { labels, trace_id_label, max_samples: config.max_samples_per_send }
    }
}

/// Whose records they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'o> {
    /// The tenant that the server is told.
    pub(super) header: Option<&'o HeaderValue>,
    /// The tenant that the records name.
    pub(super) tenant: Option<&'o Arc<str>>,
}

/// What records come to.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Zeros first, then values.
    pub(super) requests: Vec<WriteRequest>,
    pub(super) refused: Vec<Refused>,
}

/// Makes the requests of records, given with their positions. A request is closed behind the record that fills it.
pub(super) fn encode<'r, V: Version>(
    settings: &Settings,
    owner: Owner<'_>,
    records: impl Iterator<Item = (usize, &'r Bytes)>,
) -> Made {
    let tenant = owner.tenant.map(|tenant| &**tenant).unwrap_or_default();
    let mut open = [Builder::<V>::new(), Builder::<V>::new()];
    let mut done = [Vec::new(), Vec::new()];
    let mut refused = Vec::new();
    for (at, value) in records {
        let marks = [open[0].mark(), open[1].mark()];
        if let Err((reason, error)) = record(settings, tenant, value, &mut open) {
            open.iter_mut().zip(marks).for_each(|(builder, mark)| builder.back_to(mark));
            refused.push(Refused { record: at, value: None, items: 1, reason, error });
            continue;
        }
        for (part, builder) in open.iter_mut().enumerate() {
            builder.keep(marks[part], value);
            if builder.counts().all() >= settings.max_samples {
                let full = std::mem::replace(builder, Builder::new());
                done[part].push(close(owner, part == 0, full));
            }
        }
    }
    for (part, builder) in open.into_iter().enumerate().filter(|(_, builder)| builder.counts().all() > 0) {
        done[part].push(close(owner, part == 0, builder));
    }
    Made { requests: done.into_iter().flatten().collect(), refused }
}

/// Adds a record's zeros to the first, and what else it holds to the second. After an error, some of it may be there.
fn record<V: Version>(
    settings: &Settings,
    tenant: &str,
    value: &Bytes,
    [zeros, values]: &mut [Builder<V>; 2],
) -> Result<(), (&'static str, String)> {
    let (mut points, mut unfit) = (0, None);
    let whole = read(value, |series, point| {
        points += 1;
        let to = if is_zero(point) { &mut *zeros } else { &mut *values };
        unfit = to.point(settings, tenant, series, point).err().or(unfit);
    });
    match (whole, unfit) {
        (Err(malformed), _) => Err(("malformed", format!("not an OTLP metrics request: {malformed}"))),
        (_, Some(unfit)) => Err((unfit.reason(), unfit.to_string())),
        (Ok(()), None) if points == 0 => Err(("unsupported", "no points that Prometheus has a sample for".into())),
        (Ok(()), None) => Ok(()),
    }
}

/// Whether a point is the zero that a series begins with: nothing is counted, and it is as old as the series.
fn is_zero(point: &Point<'_>) -> bool {
    let empty = match point.value {
        Some(Value::Count(count)) => count == 0,
        Some(Value::Histogram { counts, .. }) => counts.iter().all(|count| *count == 0),
        Some(Value::Exponential { zero_count, counts, .. }) => {
            zero_count == 0 && counts.iter().all(|count| *count == 0)
        }
        Some(Value::Number(_)) | None => false,
    };
    empty && point.start_time_unix_nano == point.time_unix_nano
}

fn close<V: Version>(owner: Owner<'_>, zeros: bool, builder: Builder<V>) -> WriteRequest {
    let counts = builder.counts();
    let (message, records) = builder.finish();
    let body = buffers::snappy(message);
    let (tenant, owner) = (owner.header.cloned(), owner.tenant.cloned());
    WriteRequest { protocol: V::PROTOCOL, body, counts, zeros, tenant, owner, records }
}
