//! The series of one partition, and when they are written: the pure part.
//!
//! The clock is the time of the deltas' records, so that the samples of an hour that is read late lie where they belong.
//! Every `interval` of it, each series that has changed gets one sample, at the interval's end. What was read since is
//! written together with the position that it was read to, so that state and position never part. Where no more comes,
//! the interval ends by the wall clock.

use std::sync::Arc;

use afflux_schemas::otlp::metrics::{Exemplar, Kind, Point, Series, Temporality, read};
use afflux_schemas::otlp::validate::Malformed;
use bytes::Bytes;
use hashbrown::HashMap;

use super::config::AccumulateConfig;
use super::series::{Identity, Reading, Total, record_value};

/// A record of the series' topic: its key, and its value or none, which ends the series.
pub(super) type Write = (Bytes, Option<Bytes>);

/// Periods in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Periods {
    interval: i64,
    refresh: i64,
    idle: i64,
}

impl Periods {
    pub(super) fn of(config: &AccumulateConfig) -> Self {
        let ms = |period: afflux_runtime::config::Period| i64::try_from(period.0.as_millis()).unwrap_or(i64::MAX / 4);
        Self { interval: ms(config.interval), refresh: ms(config.refresh), idle: ms(config.idle) }
    }
}

#[derive(Debug)]
struct Entry {
    start_ms: i64,
    /// Time of the last sample; `None` before the first.
    sampled_ms: Option<i64>,
    /// Stream time of the last delta.
    changed_ms: i64,
    /// Whether there is something to write.
    changed: bool,
    total: Total,
    exemplars: Vec<Exemplar>,
}

/// The series of one partition.
#[derive(Debug)]
pub(super) struct State {
    periods: Periods,
    /// Greatest time of the deltas' records, milliseconds since the Unix epoch.
    stream_time_ms: Option<i64>,
    /// Time of the last samples.
    sampled_ms: i64,
    /// When series that do not change were looked at last.
    swept_ms: i64,
    series: HashMap<Bytes, Entry>,
    /// Keys of the series that have changed since the last samples.
    changed: Vec<Bytes>,
    /// Bounds of histograms, each list once: there are few.
    bounds: Vec<Arc<[f64]>>,
    key: Vec<u8>,
    /// Deltas that did not add up with what there was.
    pub(super) resets: u64,
}

impl State {
    pub(super) fn new(periods: Periods) -> Self {
        Self {
            periods,
            stream_time_ms: None,
            sampled_ms: i64::MIN / 2,
            swept_ms: i64::MIN / 2,
            series: HashMap::new(),
            changed: Vec::new(),
            bounds: Vec::new(),
            key: Vec::new(),
            resets: 0,
        }
    }

    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Takes in a record of the series' topic, as it was written before. Later ones of a key take the place of earlier.
    ///
    /// # Errors
    /// [`Malformed`] where somebody else has written it.
    pub(super) fn restore(&mut self, key: &Bytes, value: Option<&Bytes>) -> Result<(), Malformed> {
        let Some(value) = value else {
            self.series.remove(key);
            return Ok(());
        };
        let (bounds, mut last) = (&mut self.bounds, None);
        read(value, |_, point| {
            let time_ms = millis(point.time_unix_nano);
            let total = point.value.as_ref().map(|value| Total::of(value, |list| shared(bounds, list)));
            last = Some((millis(point.start_time_unix_nano), time_ms, total));
        })?;
        let Some((start_ms, time_ms, total)) = last else { return Ok(()) };
        self.sampled_ms = self.sampled_ms.max(time_ms);
        let Some(total) = total else {
            self.series.remove(key);
            return Ok(());
        };
        let (sampled_ms, exemplars) = (Some(time_ms), Vec::new());
        let entry = Entry { start_ms, sampled_ms, changed_ms: time_ms, changed: false, total, exemplars };
        // A copy: the key may be a part of all that was read with it.
        self.series.insert(Bytes::copy_from_slice(key), entry);
        Ok(())
    }

    /// When the next samples are due, by the stream's clock; `None` before the first record.
    fn due(&self) -> Option<i64> {
        let interval = self.periods.interval;
        let end = self.stream_time_ms?.div_euclid(interval).saturating_add(1).saturating_mul(interval);
        Some(end.max(self.sampled_ms.saturating_add(interval)))
    }

    /// Whether a record of that time ends the interval, so that [`State::sample`] comes before it; or the wall clock does,
    /// where no more records come.
    pub(super) fn ends(&self, timestamp_ms: i64) -> bool {
        self.due().is_some_and(|due| timestamp_ms >= due)
    }

    /// Adds the deltas of a record. What is cumulative already, and points without a value, are passed over; gauges take
    /// the place of what there was.
    ///
    /// # Errors
    /// [`Malformed`]: nothing has been added.
    pub(super) fn deltas(
        &mut self,
        (cluster, tenant): (&str, &str),
        value: &[u8],
        timestamp_ms: i64,
    ) -> Result<(), Malformed> {
        let now_ms = self.stream_time_ms.map_or(timestamp_ms, |time| time.max(timestamp_ms));
        self.stream_time_ms = Some(now_ms);
        // A record that is refused may be sent again: none of it or all of it counts.
        read(value, |_, _| {})?;
        read(value, |series, point| self.delta((cluster, tenant), series, point, now_ms))
    }

    fn delta(&mut self, (cluster, tenant): (&str, &str), series: &Series<'_>, point: &Point<'_>, now_ms: i64) {
        let (Some(value), Some(kind)) = (&point.value, accumulated(series.kind)) else { return };
        let labels = series.labels.as_bytes();
        let identity = Identity { cluster, tenant, metric: series.metric, unit: series.unit, kind, labels };
        identity.write(&mut self.key);
        if let Some(entry) = self.series.get_mut(&self.key[..]) {
            if !entry.total.add(value) {
                // Its bounds are new: it begins again, as a series that was never sampled.
                self.resets += 1;
                entry.total = Total::of(value, |list| shared(&mut self.bounds, list));
                entry.sampled_ms = None;
            }
            if !entry.changed {
                let Some((key, _)) = self.series.get_key_value(&self.key[..]) else { return };
                self.changed.push(key.clone());
            }
        } else {
            let key = Bytes::copy_from_slice(&self.key);
            let total = Total::of(value, |list| shared(&mut self.bounds, list));
            let (sampled_ms, exemplars) = (None, Vec::new());
            let entry = Entry { start_ms: 0, sampled_ms, changed_ms: now_ms, changed: true, total, exemplars };
            self.changed.push(key.clone());
            self.series.insert(key, entry);
        }
        if let Some(entry) = self.series.get_mut(&self.key[..]) {
            (entry.changed, entry.changed_ms) = (true, now_ms);
            keep_exemplars(&mut entry.exemplars, point.exemplars, &entry.total);
        }
    }

    /// Ends the interval: one record for each series that has changed, and for those whose time has come.
    pub(super) fn sample(&mut self) -> Vec<Write> {
        let Some(time_ms) = self.due() else { return Vec::new() };
        self.sampled_ms = time_ms;
        let interval = self.periods.interval;
        let mut writes = Vec::with_capacity(self.changed.len());
        for key in self.changed.drain(..) {
            let Some(entry) = self.series.get_mut(&key) else { continue };
            writes.push((key.clone(), Some(entry.write(&key, time_ms, interval))));
        }
        self.sweep(time_ms, &mut writes);
        writes
    }

    /// Ends every series, of which none has changed since the last samples: by the wall clock, where nothing has come for
    /// long. What comes then begins again.
    pub(super) fn end_all(&mut self, now_ms: i64) -> Vec<Write> {
        let interval = self.periods.interval;
        let time_ms = (now_ms.div_euclid(interval) * interval).max(self.sampled_ms.saturating_add(interval));
        self.sampled_ms = time_ms;
        let mut writes = Vec::new();
        self.series.drain().for_each(|(key, entry)| entry.end(key, time_ms, &mut writes));
        writes
    }

    /// Ends series that have not changed for long, and repeats the values of those that Prometheus would forget.
    fn sweep(&mut self, time_ms: i64, writes: &mut Vec<Write>) {
        let Periods { refresh, idle, interval } = self.periods;
        if time_ms - self.swept_ms < refresh.min(idle) / 2 {
            return;
        }
        self.swept_ms = time_ms;
        let idle = |_: &Bytes, entry: &mut Entry| time_ms - entry.changed_ms > idle;
        self.series.extract_if(idle).for_each(|(key, entry)| entry.end(key, time_ms, writes));
        self.series.iter_mut().for_each(|(key, entry)| {
            if entry.sampled_ms.is_some_and(|sampled| time_ms - sampled >= refresh) {
                writes.push((key.clone(), Some(entry.write(key, time_ms, interval))));
            }
        });
    }
}

impl Entry {
    /// A sample without value, and a tombstone behind it.
    fn end(self, key: Bytes, time_ms: i64, writes: &mut Vec<Write>) {
        if let Some(identity) = Identity::read(&key) {
            // A series that comes again begins at this time at the earliest.
            let end = [(time_ms - 1, Reading::End(&self.total), &[][..])];
            writes.push((key.clone(), Some(record_value(&identity, self.start_ms, &end).into())));
        }
        writes.push((key, None));
    }

    /// The value of its record with a sample at that time; before the first one stands a zero, so that whoever asks for
    /// an increase sees it.
    fn write(&mut self, key: &[u8], time_ms: i64, interval: i64) -> Bytes {
        let zero = self.total.zero().filter(|_| self.sampled_ms.is_none());
        if self.sampled_ms.is_none() {
            // Behind the last sample of a series that begins again.
            self.start_ms = time_ms - interval + 1;
        }
        self.sampled_ms = Some(time_ms);
        self.changed = false;
        let exemplars = std::mem::take(&mut self.exemplars);
        let zero = zero.as_ref().map(|zero| (self.start_ms, Reading::Total(zero), &[][..]));
        let samples: Vec<_> =
            zero.into_iter().chain([(time_ms, Reading::Total(&self.total), &exemplars[..])]).collect();
        let Some(identity) = Identity::read(key) else { return Bytes::new() };
        record_value(&identity, self.start_ms, &samples).into()
    }
}

/// What deltas of that kind add up to; `None` where they are none.
fn accumulated(kind: Kind) -> Option<Kind> {
    Some(match kind {
        Kind::Gauge => Kind::Gauge,
        Kind::Sum(Temporality::Delta) => Kind::Sum(Temporality::Cumulative),
        Kind::Histogram(Temporality::Delta) => Kind::Histogram(Temporality::Cumulative),
        Kind::Exponential(Temporality::Delta) => Kind::Exponential(Temporality::Cumulative),
        Kind::Sum(_) | Kind::Histogram(_) | Kind::Exponential(_) => return None,
    })
}

/// Keeps one exemplar for each bucket, the latest.
fn keep_exemplars(kept: &mut Vec<Exemplar>, offered: &[Exemplar], total: &Total) {
    for exemplar in offered {
        let bucket = |value: f64| match total {
            Total::Histogram { bounds, .. } => bounds.partition_point(|bound| *bound < value),
            // Whole powers of two.
            _ => usize::try_from(value.log2().clamp(-100.0, 100.0) as i64 + 100).unwrap_or_default(),
        };
        match kept.iter_mut().find(|known| bucket(known.value) == bucket(exemplar.value)) {
            Some(known) => *known = *exemplar,
            None => kept.push(*exemplar),
        }
    }
}

fn shared(known: &mut Vec<Arc<[f64]>>, bounds: &[f64]) -> Arc<[f64]> {
    if let Some(same) = known.iter().find(|same| ***same == *bounds) {
        return Arc::clone(same);
    }
    let new: Arc<[f64]> = bounds.into();
    known.push(Arc::clone(&new));
    new
}

fn millis(nanos: u64) -> i64 {
    i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX)
}
