//! What is wrong with a broker's certificate: who signed it, or whose name it has. OpenSSL says the same of both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::producer::Producer as _;

use super::client::{Answer, Shared};
use super::producer::native;
use crate::error::BusError;

/// How long the second look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a certificate is refused, found out by asking once more without minding the name. Whoever asks does not say who
/// it is: the host may be anyone.
pub(super) fn refusal(shared: &Shared, refused: BusError) -> BusError {
    let mut config = shared.config.clone();
    let Some(tls) = config.connection.tls.as_mut().filter(|tls| tls.verify_hostname) else { return refused };
    tls.verify_hostname = false;
    config.connection.sasl = None;
    config.connection.options.retain(|key, _| !key.starts_with("sasl."));
    let second = Arc::new(Shared::new(config));
    let Ok(client) = native(second.config.producer(), &second) else { return refused };
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        match second.glance(client.client()) {
            Answer::None if Instant::now() < deadline => {}
            answer => break answer,
        }
    };
    let section = &shared.config.section;
    let what = match answer {
        Answer::Untrusted => {
            format!("no known authority has signed the broker's certificate; look at `{section}.tls.ca`")
        }
        Answer::Other => format!(
            "the broker's certificate is not for that host; look at `{section}.brokers`, or at \
             `{section}.tls.verify_hostname`"
        ),
        Answer::None => return refused,
    };
    BusError::Config(format!("no connection to {}: {what} (certificate verify failed)", shared.config.brokers))
}
