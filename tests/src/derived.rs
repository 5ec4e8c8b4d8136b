//! What the metrics topic and the series topic hold, added up.

use std::collections::BTreeMap;
use std::sync::Arc;

use afflux_bus::{Bus, ReaderConfig, ReaderEvent, Received};
use afflux_schemas::otlp::metrics::{Labels, Value, read};
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_TENANT};
use anyhow::{Context as _, ensure};

/// Sums by series.
pub type Sums = BTreeMap<String, Sum>;

/// What has been counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sum {
    /// Of a sum one number; of a histogram one for each bucket.
    pub counts: Vec<u64>,
    /// Of a histogram, the sum of its values.
    pub sum: f64,
}

impl Sum {
    fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Count(count) => Self { counts: vec![*count], sum: 0.0 },
            Value::Number(number) => Self { counts: Vec::new(), sum: *number },
            Value::Histogram { sum, counts, .. } => Self { counts: counts.to_vec(), sum: *sum },
            Value::Exponential { sum, counts, zero_count, .. } => {
                Self { counts: vec![*zero_count, counts.iter().sum()], sum: *sum }
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.sum += other.sum;
    }
}

/// Everything on a topic that was committed when it is called, in order within each partition.
pub async fn all(bus: &dyn Bus, topic: &str) -> anyhow::Result<Vec<Received>> {
    let mut reader = bus.reader(ReaderConfig::new([Arc::from(topic)])).await?;
    let mut records = Vec::new();
    loop {
        match reader.next().await? {
            ReaderEvent::Records(more) => records.extend(more),
            ReaderEvent::CaughtUp(_) => {}
            ReaderEvent::Complete => break,
        }
    }
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    for record in &records {
        let next = next.entry(record.from.partition).or_default();
        ensure!(record.offset >= *next, "{} at {} comes again or late, behind {next}", record.from, record.offset);
        *next = record.offset + 1;
    }
    Ok(records)
}

/// `CLUSTER/TENANT/{label=value,…}`.
fn owner_and_labels(record: &Received, labels: &Labels) -> String {
    let header = |name| record.headers.get(name).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default();
    let labels: Vec<String> = labels.pairs().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{}/{}/{{{}}}", header(HEADER_CLUSTER), header(HEADER_TENANT), labels.join(","))
}

/// The deltas of one metric, added up by series and, as ` @SECONDS`, time.
pub async fn deltas(bus: &dyn Bus, topic: &str, metric: &str) -> anyhow::Result<Sums> {
    let mut sums = Sums::new();
    for record in all(bus, topic).await? {
        let value = record.value.as_deref().context("a record without a value")?;
        read(value, |series, point| {
            if let (true, Some(value)) = (series.metric == metric, &point.value) {
                let key = owner_and_labels(&record, series.labels);
                let time = point.time_unix_nano / 1_000_000_000;
                sums.entry(format!("{key} @{time}")).or_default().add(&Sum::of(value));
            }
        })?;
    }
    Ok(sums)
}

/// Sums without the times of their keys.
pub fn over_time(sums: &Sums) -> Sums {
    let mut all = Sums::new();
    for (key, sum) in sums {
        let series = key.rsplit_once(" @").map_or(key.as_str(), |(series, _)| series);
        all.entry(series.to_owned()).or_default().add(sum);
    }
    all
}

/// What the series of one metric have come to.
///
/// # Errors
/// Where samples of a series do not rise in time, or fall in value; or a series does not begin with zero.
pub async fn series(bus: &dyn Bus, topic: &str, metric: &str) -> anyhow::Result<Sums> {
    let mut last: BTreeMap<(u32, String), (u64, Sum)> = BTreeMap::new();
    for record in all(bus, topic).await? {
        let Some(value) = record.value.as_deref() else { continue };
        let mut wrong = None;
        read(value, |series, point| {
            let (true, Some(value)) = (series.metric == metric, &point.value) else { return };
            let key = (record.from.partition, owner_and_labels(&record, series.labels));
            let sum = Sum::of(value);
            let falls = |before: &Sum| before.counts.iter().zip(&sum.counts).any(|(before, now)| now < before);
            match last.get(&key) {
                None if sum.counts.iter().any(|count| *count > 0) => {
                    wrong = Some(format!("{key:?} begins with {sum:?}"))
                }
                Some((time, before)) if *time >= point.time_unix_nano || falls(before) => {
                    wrong = Some(format!("{key:?}: {before:?} at {time}, then {sum:?} at {}", point.time_unix_nano));
                }
                _ => {}
            }
            last.insert(key, (point.time_unix_nano, sum));
        })?;
        ensure!(wrong.is_none(), "{} at {}: {wrong:?}", record.from, record.offset);
    }
    let mut sums = Sums::new();
    for ((_, key), (_, sum)) in last {
        ensure!(sums.insert(key.clone(), sum).is_none(), "{key} is in two partitions");
    }
    Ok(sums)
}
