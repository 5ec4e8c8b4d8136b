//! Records that cannot be stored: kept, with where they came from and why, before they count as settled (D7).

use afflux_bus::{BusError, Received, Record};
use afflux_runtime::dead_letter::{dead_letter, shorten};
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
    let mut letter: Option<Record> = None;
    loop {
        let attempt = match &letter {
            Some(letter) => shared.producer.send(vec![letter.clone()]).await,
            None => match shared.producer.partitions(&shared.dead_letters).await {
                Ok(partitions) => {
                    let topic = shared.dead_letters.as_str().into();
                    letter = Some(dead_letter(record, topic, partitions.max(1), NAME, reason, error));
                    continue;
                }
                Err(error) => Err(error),
            },
        };
        match attempt {
            Ok(()) => {
                trouble.over();
                shared.metrics.dead_letters.get_or_create(&ReasonLabels { component: NAME, reason }).inc();
                return Ok(());
            }
            Err(BusError::TooLarge { .. }) if letter.as_mut().is_some_and(shorten) => {}
            Err(error) => trouble.wait("dead_letter", &error, error.class()).await,
        }
    }
}
