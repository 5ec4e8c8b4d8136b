//! Metrics requests (`ExportMetricsServiceRequest`): what derived metrics are written as and read back from.
//!
//! The model covers what this program derives: sums and histograms with integer counts, exponential histograms without
//! negative values, and gauges. [`read()`] passes over whatever else a request holds.

mod labels;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use labels::Labels;
pub use read::{Series, read};
pub use write::{Draft, request};

/// What the points of a metric are, and what a point adds up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The present value.
    Gauge,
    /// A sum that only rises.
    Sum(Temporality),
    /// Counts between explicit bounds.
    Histogram(Temporality),
    /// Counts between powers of a base.
    Exponential(Temporality),
}

/// What a point counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Temporality {
    /// What happened between its start and its time.
    Delta,
    /// What happened since its start, which is the same for the points that follow.
    Cumulative,
}

impl Temporality {
    const fn number(self) -> u64 {
        match self {
            Self::Delta => 1,
            Self::Cumulative => 2,
        }
    }
}

/// A data point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point<'a> {
    /// Nanoseconds since the Unix epoch; 0 where unknown.
    pub start_time_unix_nano: u64,
    /// Nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// `None`: there is no value, the series has ended (`DataPointFlags`: no recorded value).
    pub value: Option<Value<'a>>,
    /// Examples of what was counted.
    pub exemplars: &'a [Exemplar],
    /// Bounds of a histogram without value, so that whoever ends its series knows them all; else empty.
    pub ended_bounds: &'a [f64],
}

/// The value of a data point.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Of a sum.
    Count(u64),
    /// Of a gauge.
    Number(f64),
    /// Of a histogram.
    Histogram {
        /// Sum of what was counted.
        sum: f64,
        /// Rising.
        bounds: &'a [f64],
        /// One more than bounds.
        counts: &'a [u64],
    },
    /// Of an exponential histogram.
    Exponential {
        /// Sum of what was counted.
        sum: f64,
        /// The base is 2^(2^-scale).
        scale: i32,
        /// What is zero.
        zero_count: u64,
        /// Index of the first bucket; bucket `i` is (base^i, base^(i+1)].
        offset: i32,
        /// Counts from there on.
        counts: &'a [u64],
    },
}

/// An example of what a point counts: a span.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Exemplar {
    /// Nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// What was counted.
    pub value: f64,
    /// Of the span.
    pub trace_id: [u8; 16],
    /// Of the span.
    pub span_id: [u8; 8],
}
