//! Series as `accumulate` writes them: calls and latency of many label sets, interval after interval.

use std::sync::Arc;

use afflux_bus::{Bus, Headers, PartitionId, Record};
use afflux_schemas::otlp::metrics::{Draft, Kind, Labels, Point, Temporality, Value, request};
use afflux_schemas::topics::Topics;
use anyhow::Result;
use bytes::Bytes;

use super::common;

/// Label sets.
const SETS: u64 = 5_000;
/// Samples of a label set in one interval: of calls, and of a histogram's 15 buckets, sum and count.
const SAMPLES: u64 = 1 + 15 + 2;
/// Records of a transaction of `accumulate` go together.
const AT_ONCE: usize = 1_000;

/// Writes so many samples, about; answers how many.
pub(crate) async fn fill(bus: &dyn Bus, topics: &Topics, samples: u64) -> Result<u64> {
    let producer = bus.producer().await?;
    let (topic, mut written, mut interval): (Arc<str>, _, _) = (topics.series().into(), 0, 0);
    let bounds: Vec<f64> = (0..14).map(|n| 0.002 * f64::from(1 << n)).collect();
    while written < samples {
        interval += 1;
        let mut records = Vec::new();
        for set in 0..SETS {
            for (metric, value) in values(set, interval, &bounds) {
                let to = PartitionId::new(Arc::clone(&topic), u32::try_from(set)? % common::PARTITIONS);
                let key = Some(Bytes::from(format!("{metric}/{set}")));
                let (value, timestamp_ms) = (Some(value), super::START_NANOS.cast_signed() / 1_000_000);
                records.push(Record { to, key, value, timestamp_ms, headers: Headers::new() });
            }
            if records.len() >= AT_ONCE {
                producer.send(std::mem::take(&mut records)).await?;
            }
        }
        producer.send(records).await?;
        written += SETS * SAMPLES;
    }
    Ok(written)
}

fn values(set: u64, interval: u64, bounds: &[f64]) -> [(&'static str, Bytes); 2] {
    let (service, name) = (format!("service-{}", set % 50), format!("GET /things/{set}"));
    let labels = Labels::new([
        ("service", service.as_str()),
        ("span_name", name.as_str()),
        ("span_kind", "SPAN_KIND_SERVER"),
        ("status_code", "STATUS_CODE_UNSET"),
    ]);
    let count = interval * 100 + set;
    let counts: Vec<u64> = (0..15).map(|bucket| count / (bucket + 1)).collect();
    let value = |metric, kind, value| {
        let mut draft = Draft::new(metric, "", kind);
        let time_unix_nano = super::START_NANOS + interval * 15_000_000_000;
        draft.add(
            &labels,
            &Point {
                start_time_unix_nano: super::START_NANOS,
                time_unix_nano,
                value: Some(value),
                exemplars: &[],
                ended_bounds: &[],
            },
        );
        (metric, Bytes::from(request(&[], "afflux", &[draft])))
    };
    let sum = count as f64 * 0.01;
    [
        value("traces_spanmetrics_calls_total", Kind::Sum(Temporality::Cumulative), Value::Count(count)),
        value(
            "traces_spanmetrics_latency",
            Kind::Histogram(Temporality::Cumulative),
            Value::Histogram { sum, bounds, counts: &counts },
        ),
    ]
}
