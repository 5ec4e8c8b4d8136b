//! From the configuration to a bus.

use std::sync::Arc;

use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::local::{LocalBus, LocalConfig};
use afflux_bus::{Bus, BusError};

use crate::config::{BusKind, Config};
use crate::output::Misuse;

/// Checks what can be checked without I/O.
pub(crate) fn validate(config: &Config) -> Result<(), Misuse> {
    if config.topics.partitions == 0 {
        return Err(Misuse("`topics.partitions` is 0; write at least 1".into()));
    }
    match config.bus.kind {
        BusKind::Local => Ok(()),
        BusKind::Kafka => kafka_config(config).validate().map_err(|error| Misuse(error.to_string())),
    }
}

/// Opens the configured bus, one attempt.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Bus>, BusError> {
    match config.bus.kind {
        BusKind::Local => {
            let local = local_config(config);
            let path = local.dir.clone();
            let opened = tokio::task::spawn_blocking(move || LocalBus::open(local)).await;
            let bus = opened.map_err(|error| BusError::Io { path, source: std::io::Error::other(error) })??;
            Ok(bus)
        }
        BusKind::Kafka => {
            let bus = connect_kafka(config).await?;
            Ok(bus)
        }
    }
}

/// Connects to the configured Kafka cluster, whichever bus is the configured one; one attempt.
pub(crate) async fn connect_kafka(config: &Config) -> Result<Arc<KafkaBus>, BusError> {
    KafkaBus::connect(kafka_config(config)).await
}

fn local_config(config: &Config) -> LocalConfig {
    let local = &config.bus.local;
    LocalConfig {
        segment_bytes: local.segment_bytes.0,
        max_record_bytes: local.max_record_bytes.as_usize(),
        max_bytes: local.max_bytes.map(|bytes| bytes.0),
        in_flight_bytes: local.in_flight.as_usize(),
        ..LocalConfig::new(&local.dir)
    }
}

fn kafka_config(config: &Config) -> KafkaConfig {
    config.bus.kafka.settings(config.topics.replication)
}
