//! What series have come to.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::Received;
use afflux_schemas::otlp::metrics::{Exemplar, Kind, Point, Series, Value, read};
use afflux_schemas::otlp::validate::Malformed;
use afflux_schemas::topics::HEADER_TENANT;
use bytes::Bytes;

use super::config::ScrapeConfig;
use super::text::escaped;
use crate::prometheus::labels::LabelSettings;
use crate::prometheus::names::Family;

/// All series by the keys of their records, and by their metrics.
#[derive(Debug)]
pub(super) struct Table {
    labels: LabelSettings,
    zero_for: Duration,
    metrics: Vec<Metric>,
    places: HashMap<Bytes, Place>,
    /// Bounds of histograms, which most of them share.
    bounds: Vec<Arc<[f64]>>,
    /// Whether what comes is new: the topic has been read to its end.
    following: bool,
    native: bool,
}

/// Where a series is: its metric, and its place among the metric's.
type Place = (usize, usize);

/// The series of a metric.
#[derive(Debug)]
pub(super) struct Metric {
    /// As it is called on the bus.
    known: (Box<str>, Box<str>, Kind),
    pub(super) family: Family,
    /// Series keep their places, so that a text can be written while they change.
    pub(super) series: Vec<Option<Shown>>,
    free: Vec<usize>,
}

/// A series as it is shown.
#[derive(Debug)]
pub(super) struct Shown {
    /// `name="value",…`
    pub(super) labels: Box<str>,
    pub(super) reading: Reading,
    pub(super) exemplars: Box<[Exemplar]>,
    /// Until when it shows zero.
    pub(super) zero_until: Option<Instant>,
}

/// What a series has come to.
#[derive(Debug)]
pub(super) enum Reading {
    Count(u64),
    Number(f64),
    /// Sum, bounds, and the count of each bucket.
    Histogram(f64, Arc<[f64]>, Box<[u64]>),
}

impl Table {
    pub(super) fn new(config: &ScrapeConfig) -> Self {
        Self {
            labels: config.labels(),
            zero_for: config.zero_for.0,
            metrics: Vec::new(),
            places: HashMap::new(),
            bounds: Vec::new(),
            following: false,
            native: false,
        }
    }

    /// From now on, series that come are new.
    pub(super) fn follow(&mut self) {
        self.following = true;
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn metric(&self, at: usize) -> Option<&Metric> {
        self.metrics.get(at)
    }

    /// Takes in a record of the series topic.
    pub(super) fn apply(&mut self, record: &Received) -> Result<(), Malformed> {
        let Some(key) = &record.key else { return Ok(()) };
        let Some(value) = &record.value else {
            self.remove(key);
            return Ok(());
        };
        let tenant = record.headers.get(HEADER_TENANT).and_then(|tenant| std::str::from_utf8(tenant).ok());
        read(value, |series, point| self.point(key, tenant.unwrap_or_default(), series, point))
    }

    fn point(&mut self, key: &Bytes, tenant: &str, series: &Series<'_>, point: &Point<'_>) {
        let Some(value) = &point.value else { return self.remove(key) };
        let Some(reading) = self.reading(value) else { return };
        let exemplars = point.exemplars.into();
        if let Some(&(metric, at)) = self.places.get(key) {
            if let Some(shown) = &mut self.metrics[metric].series[at] {
                (shown.reading, shown.exemplars) = (reading, exemplars);
            }
            return;
        }
        let counts = self.following && series.kind != Kind::Gauge && !self.zero_for.is_zero();
        let zero_until = counts.then(|| Instant::now() + self.zero_for);
        let labels = self.label_text(tenant, series).into();
        let place = self.place(series, Shown { labels, reading, exemplars, zero_until });
        // The key is a part of what was fetched, which would be kept as a whole.
        self.places.insert(Bytes::copy_from_slice(key), place);
    }

    fn reading(&mut self, value: &Value<'_>) -> Option<Reading> {
        Some(match *value {
            Value::Count(count) => Reading::Count(count),
            Value::Number(number) => Reading::Number(number),
            Value::Histogram { sum, bounds, counts } => Reading::Histogram(sum, self.shared(bounds), counts.into()),
            Value::Exponential { .. } => {
                if !std::mem::replace(&mut self.native, true) {
                    tracing::warn!("native histograms cannot be scraped as text and are left out of /metrics/derived");
                }
                return None;
            }
        })
    }

    fn shared(&mut self, bounds: &[f64]) -> Arc<[f64]> {
        if let Some(known) = self.bounds.iter().find(|known| ***known == *bounds) {
            return Arc::clone(known);
        }
        let bounds: Arc<[f64]> = bounds.into();
        self.bounds.push(Arc::clone(&bounds));
        bounds
    }

    fn label_text(&self, tenant: &str, series: &Series<'_>) -> String {
        let mut text = String::new();
        for (name, value) in self.labels.pairs(series.resource, series.labels, tenant) {
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{name}=\"{}\"", escaped(&value));
        }
        text
    }

    fn place(&mut self, series: &Series<'_>, shown: Shown) -> Place {
        let same = |metric: &Metric| {
            let (name, unit, kind) = &metric.known;
            **name == *series.metric && **unit == *series.unit && *kind == series.kind
        };
        let metric = self.metrics.iter().position(same).unwrap_or_else(|| {
            let known = (series.metric.into(), series.unit.into(), series.kind);
            let family = Family::new(series.metric, series.unit, series.kind);
            self.metrics.push(Metric { known, family, series: Vec::new(), free: Vec::new() });
            self.metrics.len() - 1
        });
        let of_metric = &mut self.metrics[metric];
        let at = of_metric.free.pop().unwrap_or_else(|| {
            of_metric.series.push(None);
            of_metric.series.len() - 1
        });
        of_metric.series[at] = Some(shown);
        (metric, at)
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some((metric, at)) = self.places.remove(key) {
            let metric = &mut self.metrics[metric];
            metric.series[at] = None;
            metric.free.push(at);
        }
    }
}
