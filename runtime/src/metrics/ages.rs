//! A histogram of ages.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds in seconds: fine where freshness is decided upon, and up to a day for what is caught up with.
const BOUNDS: [f64; 22] = [
    0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0,
    28_800.0, 86_400.0,
];

/// How old things were, in seconds.
#[derive(Clone, Debug)]
pub struct Ages(Histogram);

impl Ages {
    /// Counts one.
    pub fn observe(&self, seconds: f64) {
        self.0.observe(seconds);
    }
}

impl Default for Ages {
    fn default() -> Self {
        Self(Histogram::new(BOUNDS))
    }
}

impl TypedMetric for Ages {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Ages {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
