//! Several clusters on one bus: each row carries its own, whichever way it came.

mod mirrors;
mod origins;
mod producers;
mod regions;

use std::path::Path;
use std::sync::Arc;

use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{Bus as _, Headers, PartitionId, Producer, Record};
use afflux_tests::afflux::query;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message as _;

/// A producer on a broker, with its bus.
async fn producer(brokers: &str) -> anyhow::Result<(Arc<KafkaBus>, Arc<dyn Producer>)> {
    let bus = KafkaBus::connect(KafkaConfig::new(brokers)).await?;
    let producer = bus.producer().await?;
    Ok((bus, producer))
}

/// An export request of one log record, which names no cluster.
fn log(number: u64) -> Vec<u8> {
    let record = LogRecord { time_unix_nano: number + 1, ..LogRecord::default() };
    let scope = ScopeLogs { log_records: vec![record], ..ScopeLogs::default() };
    let resource = ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource] }.encode_to_vec()
}

/// Sends that many log records to a topic, each in a record of its own.
async fn send_logs(producer: &dyn Producer, topic: &str, count: u64) -> anyhow::Result<()> {
    let partitions = u64::from(producer.partitions(topic).await?);
    for number in 0..count {
        let record = Record {
            to: PartitionId::new(topic, u32::try_from(number % partitions)?),
            key: None,
            value: Some(log(number).into()),
            timestamp_ms: afflux_runtime::dead_letter::now_ms(),
            headers: Headers::new(),
        };
        producer.send(vec![record]).await?;
    }
    Ok(())
}

/// Different items of every cluster in the lake, by cluster.
fn stored(lake: &Path, table: &str, id: &str) -> anyhow::Result<Vec<(String, u64)>> {
    let sql = format!("SELECT cluster, count(DISTINCT {id}) AS n FROM {table} GROUP BY cluster ORDER BY cluster");
    let row = |row: serde_json::Value| Some((row["cluster"].as_str()?.to_owned(), row["n"].as_u64()?));
    Ok(query(lake, &sql)?.into_iter().filter_map(row).collect())
}
