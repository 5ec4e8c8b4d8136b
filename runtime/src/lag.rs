//! How far the consumer groups of a process are behind, as a gauge.

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{Bus, BusError};

use crate::component::Subscription;
use crate::metrics::{Metrics, PartitionLabels};

/// Time between two readings, unless said otherwise.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// Reads the lag of every subscription, with the name of the component that holds it, again and again until dropped.
///
/// A reading that fails leaves the gauges as they were; the first failure of a row is logged as a warning.
pub async fn report_lag(
    bus: Arc<dyn Bus>,
    metrics: Arc<Metrics>,
    subscriptions: Vec<(&'static str, Subscription)>,
    interval: Duration,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        match read_all(&*bus, &metrics, &subscriptions).await {
            Ok(()) => failing = false,
            Err(error) if failing => tracing::debug!(%error, "lag unknown"),
            Err(error) => {
                failing = true;
                tracing::warn!(%error, "lag unknown");
            }
        }
    }
}

async fn read_all(
    bus: &dyn Bus,
    metrics: &Metrics,
    subscriptions: &[(&'static str, Subscription)],
) -> Result<(), BusError> {
    for (component, subscription) in subscriptions {
        for lag in bus.lag(&subscription.group, &subscription.topics).await? {
            let records = i64::try_from(lag.records()).unwrap_or(i64::MAX);
            let labels = PartitionLabels::new(component, &lag.partition);
            metrics.lag_records.get_or_create(&labels).set(records);
        }
    }
    Ok(())
}
