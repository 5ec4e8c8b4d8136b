//! Why a connection cannot be had, in words that name the key to look at.

use rdkafka::error::RDKafkaErrorCode as Code;

use super::connection::KafkaConnection;
use super::security::SaslMechanism;

/// How OpenSSL and librdkafka put it that a broker does not take the client for whom it should be.
const REFUSED_CERTIFICATE: [&str; 7] = [
    "alert bad certificate",
    "alert certificate required",
    "alert certificate unknown",
    "alert unknown ca",
    "alert handshake failure",
    "alert certificate expired",
    "client ssl authentication might be required",
];

/// What librdkafka said of a connection that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cause {
    /// What to call it and where to look.
    pub(super) text: String,
    /// Whether no waiting can change it.
    pub(super) is_final: bool,
    /// Whether the broker answered at all, only otherwise than the configuration expects.
    pub(super) is_known: bool,
    /// Whether it is the broker's certificate.
    pub(super) is_untrusted: bool,
}

impl Cause {
    /// Reads librdkafka's code and words, which name the broker.
    pub(super) fn new(connection: &KafkaConnection, code: Code, reason: &str) -> Self {
        let (kind, what, keys) = judge(connection, code, &reason.to_lowercase());
        let keys: Vec<_> = keys.iter().map(|key| format!("`{}.{key}`", connection.section)).collect();
        Self {
            text: format!("{what}; look at {} ({reason})", keys.join(" and ")),
            is_final: matches!(kind, Kind::Untrusted | Kind::Final),
            is_known: kind != Kind::Away,
            is_untrusted: kind == Kind::Untrusted,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing answers there, for now.
    Away,
    /// Something answers, and ends the connection, which a broker in trouble does as well.
    Doubtful,
    /// The client does not take the broker for whom it should be.
    Untrusted,
    /// The broker refuses the client, or both speak otherwise.
    Final,
}

fn judge(connection: &KafkaConnection, code: Code, reason: &str) -> (Kind, String, Vec<&'static str>) {
    let says = |texts: &[&str]| texts.iter().any(|text| reason.contains(text));
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            let (what, keys) = refused_login(connection);
            (Kind::Final, what, keys)
        }
        Code::SSL if says(&["hostname mismatch", "ip address mismatch"]) => {
            let what = "the broker's certificate is not for that host (verify failed)";
            (Kind::Final, what.to_owned(), vec!["brokers", verify_key(connection)])
        }
        Code::SSL if says(&["verify failed", "failed to verify", "could not be verified"]) => {
            let what = "the broker's certificate is not trusted (verify failed): no authority that is known has signed it, \
                        or it is not for that host";
            (Kind::Untrusted, what.to_owned(), vec![ca_key(connection), verify_key(connection)])
        }
        Code::SSL if says(&["wrong version number", "packet length", "record layer failure", "http request"]) => {
            let what = "the broker does not speak TLS at that port";
            (Kind::Final, what.to_owned(), vec!["brokers", protocol_key(connection)])
        }
        // After the handshake of TLS 1.3, so that librdkafka takes it for a broken connection.
        _ if says(&REFUSED_CERTIFICATE) => {
            let what = "the broker refuses this client's certificate, or wants one where none is given";
            (Kind::Final, what.to_owned(), certificate_keys(connection))
        }
        Code::SSL => (Kind::Doubtful, "TLS failed".to_owned(), vec![protocol_key(connection)]),
        _ if says(&["disconnected"]) && says(&["in state apiversion_query"]) && !connection.encrypts() => {
            let what = "the broker ended the connection at the first request: it may speak TLS only";
            (Kind::Doubtful, what.to_owned(), vec![protocol_key(connection)])
        }
        _ if says(&["disconnected"]) && says(&["in state up"]) && !connection.authenticates() => {
            let what = "the broker ended the connection at the first request that needs rights: it may want \
                        authentication";
            (Kind::Doubtful, what.to_owned(), vec!["sasl"])
        }
        _ if says(&["connecting to a plaintext"]) => {
            let what = "the broker ended the connection during the TLS handshake: it may not speak TLS at that port";
            (Kind::Doubtful, what.to_owned(), vec!["brokers", protocol_key(connection)])
        }
        _ => (Kind::Away, "no answer".to_owned(), vec!["brokers"]),
    }
}

fn refused_login(connection: &KafkaConnection) -> (String, Vec<&'static str>) {
    let Some(sasl) = &connection.sasl else {
        return ("authentication failed".to_owned(), vec!["sasl", "options"]);
    };
    let mechanism = sasl.mechanism.unwrap_or(SaslMechanism::Plain);
    let keys = match mechanism {
        SaslMechanism::OauthBearer => vec!["sasl.token_file"],
        _ => vec!["sasl.username", "sasl.password", "sasl.mechanism"],
    };
    (format!("authentication by {} failed", mechanism.name()), keys)
}

fn protocol_key(connection: &KafkaConnection) -> &'static str {
    if connection.options.contains_key("security.protocol") { "options.security.protocol" } else { "tls" }
}

fn ca_key(connection: &KafkaConnection) -> &'static str {
    if connection.tls.is_some() { "tls.ca" } else { "options.ssl.ca.location" }
}

fn verify_key(connection: &KafkaConnection) -> &'static str {
    if connection.tls.is_some() { "tls.verify_hostname" } else { "options.ssl.endpoint.identification.algorithm" }
}

fn certificate_keys(connection: &KafkaConnection) -> Vec<&'static str> {
    match connection.tls {
        Some(_) => vec!["tls.certificate", "tls.key"],
        None => vec!["options.ssl.certificate.location", "options.ssl.key.location"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::security::{KafkaSasl, KafkaTls};

    fn cause(tls: bool, sasl: Option<SaslMechanism>, code: Code, reason: &str) -> Cause {
        let connection = KafkaConnection {
            tls: tls.then(KafkaTls::default),
            sasl: sasl.map(|mechanism| KafkaSasl { mechanism: Some(mechanism), ..KafkaSasl::default() }),
            ..KafkaConnection::new("kafka:9092")
        };
        Cause::new(&connection, code, reason)
    }

    /// Words of librdkafka 2.12 with OpenSSL 3.
    #[test]
    fn librdkafkas_words_become_a_cause_and_the_keys_to_look_at() {
        use Code::{Authentication as Auth, BrokerTransportFailure as Transport, SSL as Tls};
        let (scram, token) = (Some(SaslMechanism::ScramSha512), Some(SaslMechanism::OauthBearer));
        let untrusted = "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed";
        let refused = "Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL alert number 42";
        let plaintext = "SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?";
        let first = "Disconnected: connection closed by peer (after 44ms in state APIVERSION_QUERY)";
        let second = "Disconnected: connection closed by peer (after 3ms in state UP)";
        let cases = [
            (true, scram, Auth, "SASL authentication error: invalid credentials", true, "sasl.password"),
            (true, token, Auth, "SASL authentication error: {\"status\":\"invalid_token\"}", true, "sasl.token_file"),
            (true, None, Tls, untrusted, true, "tls.ca"),
            (false, None, Tls, untrusted, true, "options.ssl.ca.location"),
            (true, None, Tls, "certificate verify failed: hostname mismatch", true, "tls.verify_hostname"),
            (true, None, Tls, "error:0A00010B:SSL routines::wrong version number", true, "tls"),
            (true, None, Transport, refused, true, "tls.certificate"),
            (true, None, Transport, plaintext, false, "tls"),
            (false, None, Transport, first, false, "tls"),
            (true, None, Transport, second, false, "sasl"),
        ];
        for (tls, sasl, code, reason, is_final, key) in cases {
            let cause = cause(tls, sasl, code, reason);
            assert_eq!((cause.is_final, cause.is_known), (is_final, true), "{cause:?}");
            assert!(cause.text.contains(&format!("`bus.kafka.{key}`")), "{key}: {}", cause.text);
            assert!(cause.text.contains(reason), "{}", cause.text);
        }
    }

    #[test]
    fn a_broker_that_is_away_may_come_back() {
        for (code, reason) in [
            (Code::BrokerTransportFailure, "Connect to ipv4#127.0.0.1:1 failed: Connection refused"),
            (
                Code::BrokerTransportFailure,
                "Disconnected: connection closed by peer (after 9ms in state APIVERSION_QUERY)",
            ),
            (Code::Resolve, "Failed to resolve 'kafka:9092'"),
        ] {
            let cause = cause(true, None, code, reason);
            assert!(!cause.is_known && !cause.is_final, "{cause:?}");
            assert!(cause.text.contains("`bus.kafka.brokers`"), "{}", cause.text);
        }
    }
}
