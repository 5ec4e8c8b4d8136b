//! The bus on a real Apache Kafka passes the suite.

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::conformance::Subject;
use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{Bus, BusError};
use afflux_tests::kafka::KafkaServer;
use async_trait::async_trait;

/// Small, so that topics limited by size have segments of a megabyte.
const MAX_RECORD_BYTES: usize = 512 * 1024;

struct Kafka {
    brokers: String,
}

async fn kafka() -> Option<Kafka> {
    let server = tokio::task::spawn_blocking(KafkaServer::shared).await.expect("a broker");
    server.map(|server| Kafka { brokers: server.brokers() })
}

fn config(brokers: &str) -> KafkaConfig {
    KafkaConfig { max_record_bytes: MAX_RECORD_BYTES, ..KafkaConfig::new(brokers) }
}

#[async_trait]
impl Subject for Kafka {
    async fn open(&self) -> Arc<dyn Bus> {
        KafkaBus::connect(config(&self.brokers)).await.expect("a connection")
    }

    async fn reopen(&self, bus: Arc<dyn Bus>) -> Arc<dyn Bus> {
        bus.close().await;
        self.open().await
    }

    async fn open_unreachable(&self) -> Option<Result<Arc<dyn Bus>, BusError>> {
        let config = KafkaConfig { timeout: Duration::from_secs(2), ..config("127.0.0.1:1") };
        Some(KafkaBus::connect(config).await.map(|bus| bus as Arc<dyn Bus>))
    }

    fn max_record_bytes(&self) -> usize {
        MAX_RECORD_BYTES
    }

    fn compacts_soon(&self) -> bool {
        false
    }

    /// The broker looks every half second.
    async fn tidy(&self, _: &dyn Bus) {}
}

afflux_bus::conformance_suite!(kafka);
