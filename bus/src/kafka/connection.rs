//! How to reach a Kafka cluster: what every client of it has in common.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::security::{KafkaSasl, KafkaTls, Wrong};
use crate::error::BusError;

/// How to reach a Kafka cluster, and how both sides prove who they are.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConnection {
    /// Where this stands in the configuration, such as `bus.kafka`: errors name keys below it.
    pub section: String,
    /// Addresses to start from, `host:port`, separated by commas.
    pub brokers: String,
    /// The name under which brokers log this client and apply quotas.
    pub client_id: String,
    /// How long one operation waits for a broker before it is an error.
    pub timeout: Duration,
    /// Encryption; `None` is without, unless `options` say otherwise.
    pub tls: Option<KafkaTls>,
    /// Authentication; `None` is without, unless `options` say otherwise.
    pub sasl: Option<KafkaSasl>,
    /// Further librdkafka settings, passed through. Those that this bus or the two sections decide are refused.
    pub options: BTreeMap<String, String>,
}

impl KafkaConnection {
    /// How long an operation waits for a broker, unless configured.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

    /// A cluster without encryption and authentication, everything else by default.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            section: "bus.kafka".to_owned(),
            brokers: brokers.into(),
            client_id: "afflux".to_owned(),
            timeout: Self::DEFAULT_TIMEOUT,
            tls: None,
            sasl: None,
            options: BTreeMap::new(),
        }
    }

    /// Refuses what cannot work, without I/O.
    pub fn validate(&self) -> Result<(), BusError> {
        if self.brokers.trim().is_empty() {
            return Err(self.wrong("brokers", "is empty; name at least one as host:port"));
        }
        if self.timeout.is_zero() {
            return Err(self.wrong("timeout", "must be above zero"));
        }
        self.tls.as_ref().map_or(Ok(()), KafkaTls::validate).map_err(|wrong| self.wrong_in("tls", wrong))?;
        self.sasl.as_ref().map_or(Ok(()), KafkaSasl::validate).map_err(|wrong| self.wrong_in("sasl", wrong))?;
        self.options.keys().try_for_each(|key| self.validate_option(key))
    }

    fn validate_option(&self, key: &str) -> Result<(), BusError> {
        let name = format!("options.{key}");
        let decided = |section| {
            let reason = format!("is decided by `{}.{section}`; remove one of them", self.section);
            Err(self.wrong(&name, &reason))
        };
        if self.tls.is_some() && KafkaTls::OWNED.contains(&key) {
            return decided("tls");
        }
        if self.sasl.is_none() {
            return Ok(());
        }
        if KafkaSasl::OWNED.contains(&key) || KafkaSasl::OWNED_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
            return decided("sasl");
        }
        if self.tls.is_none() && key.starts_with("ssl.") {
            // Else the password would go over the network in the clear, against what the option says.
            return Err(self.wrong(&name, &format!("has no effect without TLS; set `{}.tls: true`", self.section)));
        }
        Ok(())
    }

    /// Reads the files with passwords, and sees to it that all others can be read.
    pub(super) fn read_files(&mut self) -> Result<(), BusError> {
        let tls = self.tls.as_mut().map_or(Ok(()), KafkaTls::read_files);
        tls.map_err(|wrong| self.wrong_in("tls", wrong))?;
        let sasl = self.sasl.as_mut().map_or(Ok(()), KafkaSasl::read_files);
        sasl.map_err(|wrong| self.wrong_in("sasl", wrong))
    }

    /// Settings of every client, before what the kind of client adds and before [`Self::with_options`].
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("allow.auto.create.topics", "false")
            .set("socket.timeout.ms", millis(self.timeout))
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.max.ms", "1000");
        if self.encrypts() && !self.options.contains_key("ssl.ca.pem") {
            // The OpenSSL within looks for the system's authorities where it would be installed itself.
            config.set("ssl.ca.location", "probe");
        }
        if let Some(tls) = &self.tls {
            tls.apply(&mut config);
        }
        if let Some(sasl) = &self.sasl {
            sasl.apply(&mut config);
        }
        if self.tls.is_some() || self.sasl.is_some() {
            let protocol = match (self.tls.is_some(), self.authenticates()) {
                (true, true) => "sasl_ssl",
                (true, false) => "ssl",
                (false, _) => "sasl_plaintext",
            };
            config.set("security.protocol", protocol);
        }
        config
    }

    pub(super) fn with_options(&self, mut config: ClientConfig) -> ClientConfig {
        for (key, value) in &self.options {
            config.set(key, value);
        }
        if self.options.contains_key("debug") {
            // Else librdkafka keeps what it was asked for to itself.
            config.set_log_level(RDKafkaLogLevel::Debug);
        }
        config
    }

    /// Whether clients speak TLS, by either way of saying so.
    pub(super) fn encrypts(&self) -> bool {
        self.tls.is_some() || self.protocol_option().ends_with("ssl")
    }

    /// Whether clients say who they are by SASL, by either way of saying so.
    pub(super) fn authenticates(&self) -> bool {
        let mechanism = || ["sasl.mechanism", "sasl.mechanisms"].iter().any(|key| self.options.contains_key(*key));
        let by_option = if self.tls.is_some() { mechanism() } else { self.protocol_option().starts_with("sasl") };
        self.sasl.is_some() || by_option
    }

    fn protocol_option(&self) -> String {
        self.options.get("security.protocol").map_or_else(String::new, |protocol| protocol.to_lowercase())
    }

    /// The error of a key below this section.
    pub(super) fn wrong(&self, key: &str, reason: &str) -> BusError {
        BusError::Config(format!("`{}.{key}` {reason}", self.section))
    }

    fn wrong_in(&self, section: &str, (key, reason): Wrong) -> BusError {
        self.wrong(&format!("{section}.{key}"), &reason)
    }
}

/// Option values may be secrets, so only their names are shown.
impl fmt::Debug for KafkaConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConnection")
            .field("section", &self.section)
            .field("brokers", &self.brokers)
            .field("client_id", &self.client_id)
            .field("timeout", &self.timeout)
            .field("tls", &self.tls)
            .field("sasl", &self.sasl)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .finish()
    }
}

pub(super) fn millis(duration: Duration) -> String {
    duration.as_millis().clamp(1, i32::MAX as u128).to_string()
}

#[cfg(test)]
mod tests;
