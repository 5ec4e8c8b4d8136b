//! Records that cannot be stored: kept, with where they came from and why, before they count as settled (D7).

use afflux_bus::{BusError, PartitionId, Received, Record};

use super::writer::{Interrupt, Line, Shared, Trouble};

/// Topic that the record was read from.
pub const HEADER_TOPIC: &str = "afflux-dead-letter-topic";
/// Its partition, in decimal digits.
pub const HEADER_PARTITION: &str = "afflux-dead-letter-partition";
/// Its offset, in decimal digits.
pub const HEADER_OFFSET: &str = "afflux-dead-letter-offset";
/// Why it could not be stored.
pub const HEADER_REASON: &str = "afflux-dead-letter-reason";

/// Publishes a record as it was read, for as long as it takes. A replay publishes it again.
///
/// One that is too large with the additional headers is published without its value, which the reason says.
pub(crate) async fn publish(shared: &Shared, line: &Line, record: &Received, reason: &str) -> Result<(), Interrupt> {
    let mut trouble = Trouble::new(line);
    let mut letter = Letter { record, reason: reason.to_owned(), with_value: true };
    loop {
        match send(shared, &letter).await {
            Ok(()) => {
                trouble.over();
                return Ok(());
            }
            Err(BusError::TooLarge { .. }) if letter.with_value => {
                let size = record.value.as_ref().map_or(0, bytes::Bytes::len);
                letter.reason = format!("{reason} (value of {size} bytes left out)");
                letter.with_value = false;
            }
            Err(error) => trouble.wait("dead_letter", &error, error.class()).await,
        }
    }
}

struct Letter<'a> {
    record: &'a Received,
    reason: String,
    with_value: bool,
}

async fn send(shared: &Shared, letter: &Letter<'_>) -> Result<(), BusError> {
    let Letter { record, reason, with_value } = letter;
    let from = &record.from;
    let partitions = shared.producer.partitions(&shared.dead_letters).await?;
    let partition = crc32c::crc32c(from.topic.as_bytes()) % partitions.max(1);
    let mut headers = record.headers.clone();
    headers.set(HEADER_TOPIC, from.topic.as_bytes().to_vec());
    headers.set(HEADER_PARTITION, from.partition.to_string());
    headers.set(HEADER_OFFSET, record.offset.to_string());
    headers.set(HEADER_REASON, reason.clone());
    let value = record.value.clone().filter(|_| *with_value).unwrap_or_default();
    let to = PartitionId::new(shared.dead_letters.as_str(), partition);
    let key = Some(from.topic.as_bytes().to_vec().into());
    let record = Record { to, key, value: Some(value), timestamp_ms: record.timestamp_ms, headers };
    shared.producer.send(vec![record]).await
}
