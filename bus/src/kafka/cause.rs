//! Why a connection cannot be had, in words that name the key to look at.

use rdkafka::error::RDKafkaErrorCode as Code;

use super::connection::KafkaConnection;
use super::security::SaslMechanism;

/// What librdkafka said of a connection that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cause {
    /// What to call it and where to look.
    pub(super) text: String,
    /// Whether no waiting can change it.
    pub(super) is_final: bool,
    /// Whether the broker answered at all, only otherwise than the configuration expects.
    pub(super) is_known: bool,
}

impl Cause {
    /// Reads librdkafka's code and words, which name the broker.
    pub(super) fn new(connection: &KafkaConnection, code: Code, reason: &str) -> Self {
        let (kind, what, keys) = judge(connection, code, &reason.to_lowercase());
        let keys: Vec<_> = keys.iter().map(|key| format!("`{}.{key}`", connection.section)).collect();
        Self {
            text: format!("{what}; look at {} ({reason})", keys.join(" and ")),
            is_final: kind == Kind::Final,
            is_known: kind != Kind::Away,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing answers there, for now.
    Away,
    /// Something answers, and ends the connection, which a broker in trouble does as well.
    Doubtful,
    /// The broker or the client refuses the other.
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
            (Kind::Final, what.to_owned(), vec![ca_key(connection), verify_key(connection)])
        }
        Code::SSL if says(&["wrong version number", "packet length", "record layer failure", "http request"]) => {
            let what = "the broker does not speak TLS at that port";
            (Kind::Final, what.to_owned(), vec!["brokers", protocol_key(connection)])
        }
        Code::SSL if says(&["alert", "unexpected message", "certificate required", "client ssl authentication"]) => {
            let what = "the broker refuses this client's certificate, or wants one where none is given";
            (Kind::Final, what.to_owned(), certificate_keys(connection))
        }
        Code::SSL => (Kind::Doubtful, "TLS failed".to_owned(), vec![protocol_key(connection)]),
        _ if says(&["incorrect security.protocol", "connecting to a ssl listener"]) => {
            let what = "the broker ended the connection at the first request: it may speak TLS only";
            (Kind::Doubtful, what.to_owned(), vec![protocol_key(connection)])
        }
        _ if says(&["might require sasl"]) => {
            let what = "the broker ended the connection early: it may want authentication";
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
