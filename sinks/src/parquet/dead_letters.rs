//! Records that cannot be stored: kept, with where they came from and why, before they count as settled (D7).

use afflux_bus::{BusError, Received};
use afflux_runtime::dead_letter::{Refusal, dead_letter, now_ms, shorten};
use afflux_runtime::metrics::ReasonLabels;

use super::NAME;
use super::writer::{Interrupt, Line, Shared, Trouble};

/// Publishes a record as it was read, for as long as it takes. A replay publishes it again.
///
/// One that is too large with the additional headers is published without its value.
pub(crate) async fn publish(
    shared: &Shared,
    line: &Line,
    record: &Received,
    reason: &'static str,
    error: &str,
) -> Result<(), Interrupt> {
    let mut trouble = Trouble::new(line);
    let mut short = false;
    loop {
        match send(shared, record, (reason, error), short).await {
            Ok(()) => {
                trouble.over();
                shared.metrics.dead_letters.get_or_create(&ReasonLabels { component: NAME, reason }).inc();
                return Ok(());
            }
            Err(BusError::TooLarge { .. }) if !short => short = true,
            Err(error) => trouble.wait("dead_letter", &error, error.class()).await,
        }
    }
}

/// One attempt. The topic may have been made anew since the last one, with another number of partitions.
async fn send(
    shared: &Shared,
    record: &Received,
    (reason, error): (&'static str, &str),
    short: bool,
) -> Result<(), BusError> {
    let partitions = shared.producer.partitions(&shared.dead_letters).await?;
    let topic = shared.dead_letters.as_str().into();
    let refusal = Refusal { component: NAME, reason, error, time_ms: now_ms() };
    let mut letter = dead_letter(record, topic, partitions.max(1), refusal);
    if short {
        shorten(&mut letter);
    }
    shared.producer.send(vec![letter]).await
}
