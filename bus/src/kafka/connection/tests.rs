use std::path::PathBuf;

use super::*;
use crate::kafka::security::{SaslMechanism, Secret};

fn plain() -> KafkaConnection {
    KafkaConnection::new("localhost:9092")
}

fn tls() -> KafkaTls {
    KafkaTls::default()
}

fn sasl(mechanism: SaslMechanism) -> KafkaSasl {
    KafkaSasl {
        mechanism: Some(mechanism),
        username: Some("afflux".to_owned()),
        password: Some(Secret::new("hunter2")),
        ..KafkaSasl::default()
    }
}

fn options(options: &[(&str, &str)]) -> BTreeMap<String, String> {
    options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn refusal(connection: &KafkaConnection) -> String {
    let refusal = connection.validate().expect_err("must be refused").to_string();
    assert!(!refusal.contains("hunter2"), "{refusal}");
    refusal
}

fn refused_tls(tls: KafkaTls, expected: &str) {
    let refusal = refusal(&KafkaConnection { tls: Some(tls), ..plain() });
    assert!(refusal.contains(expected), "{refusal}");
}

fn refused_sasl(sasl: KafkaSasl, expected: &str) {
    let refusal = refusal(&KafkaConnection { sasl: Some(sasl), ..plain() });
    assert!(refusal.contains(expected), "{refusal}");
}

fn file() -> Option<PathBuf> {
    Some("/etc/x.pem".into())
}

#[test]
fn halves_of_a_certificate_and_of_a_password_are_refused_by_key() {
    refused_tls(KafkaTls { certificate: file(), ..tls() }, "`bus.kafka.tls.key` is not set");
    refused_tls(KafkaTls { key: file(), ..tls() }, "`bus.kafka.tls.certificate` is not set");
    refused_tls(KafkaTls { key_password_file: file(), ..tls() }, "`bus.kafka.tls.key_password_file` is set without");
    let password = Some(Secret::new("hunter2"));
    let both = KafkaTls { certificate: file(), key: file(), key_password: password.clone(), ..tls() };
    refused_tls(KafkaTls { key_password_file: file(), ..both }, "`bus.kafka.tls.key_password_file` is set, and so is");
    refused_tls(KafkaTls { key_password: password, ..tls() }, "`bus.kafka.tls.key_password` is set without");
}

#[test]
fn credentials_that_a_mechanism_lacks_or_cannot_use_are_refused_by_key() {
    refused_sasl(KafkaSasl::default(), "`bus.kafka.sasl.mechanism` is not set; write one of PLAIN, SCRAM-SHA-256");
    for mechanism in [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512] {
        let whole = sasl(mechanism);
        let named = |key: &str| format!("`bus.kafka.sasl.{key}`");
        refused_sasl(KafkaSasl { username: None, ..whole.clone() }, &named("username"));
        refused_sasl(KafkaSasl { password: None, ..whole.clone() }, &named("password"));
        refused_sasl(KafkaSasl { password: Some(Secret::new("")), ..whole.clone() }, &named("password"));
        refused_sasl(KafkaSasl { password_file: file(), ..whole.clone() }, &named("password_file"));
        refused_sasl(KafkaSasl { token_file: file(), ..whole.clone() }, &named("token_file"));
        KafkaConnection { sasl: Some(whole), ..plain() }.validate().unwrap();
    }
    let token = KafkaSasl { mechanism: Some(SaslMechanism::OauthBearer), token_file: file(), ..KafkaSasl::default() };
    refused_sasl(KafkaSasl { token_file: None, ..token.clone() }, "`bus.kafka.sasl.token_file` is not set");
    let named = KafkaSasl { username: Some("afflux".to_owned()), ..token.clone() };
    refused_sasl(named, "`bus.kafka.sasl.username` is set");
    KafkaConnection { sasl: Some(token), ..plain() }.validate().unwrap();
}

#[test]
fn an_option_that_a_section_decides_is_refused_with_both_names() {
    for key in KafkaTls::OWNED {
        let connection = KafkaConnection { tls: Some(tls()), options: options(&[(key, "hunter2")]), ..plain() };
        let refusal = refusal(&connection);
        assert!(refusal.contains(&format!("`bus.kafka.options.{key}`")), "{refusal}");
        assert!(refusal.contains("`bus.kafka.tls`"), "{refusal}");
    }
    let prefixed = ["sasl.oauthbearer.config", "enable.sasl.oauthbearer.unsecure.jwt"];
    for key in KafkaSasl::OWNED.into_iter().chain(prefixed) {
        let sasl = Some(sasl(SaslMechanism::Plain));
        let connection = KafkaConnection { sasl, options: options(&[(key, "hunter2")]), ..plain() };
        let refusal = refusal(&connection);
        assert!(refusal.contains(&format!("`bus.kafka.options.{key}`")), "{refusal}");
        assert!(refusal.contains("`bus.kafka.sasl`"), "{refusal}");
    }
}

#[test]
fn a_password_is_not_sent_in_the_clear_against_an_option_that_says_tls() {
    let sasl = Some(sasl(SaslMechanism::Plain));
    let connection = KafkaConnection { sasl, options: options(&[("ssl.ca.location", "/ca")]), ..plain() };
    assert!(refusal(&connection).contains("`bus.kafka.options.ssl.ca.location` has no effect without TLS"));
    KafkaConnection { tls: None, sasl: None, ..connection }.validate().unwrap();
}

#[test]
fn the_protocol_follows_from_the_sections() {
    let protocol = |tls: bool, sasl: bool, options| {
        let tls = tls.then(KafkaTls::default);
        let sasl = sasl.then(|| self::sasl(SaslMechanism::ScramSha512));
        let connection = KafkaConnection { tls, sasl, options, ..plain() };
        connection.validate().unwrap();
        let config = connection.with_options(connection.client());
        (config.get("security.protocol").map(str::to_owned), config.get("ssl.ca.location").map(str::to_owned))
    };
    let (of, probe) = (|text: &str| Some(text.to_owned()), Some("probe".to_owned()));
    assert_eq!(protocol(false, false, options(&[])), (None, None));
    assert_eq!(protocol(true, false, options(&[])), (of("ssl"), probe.clone()));
    assert_eq!(protocol(true, true, options(&[])), (of("sasl_ssl"), probe.clone()));
    assert_eq!(protocol(false, true, options(&[])), (of("sasl_plaintext"), None));
    assert_eq!(protocol(false, false, options(&[("security.protocol", "SASL_SSL")])), (of("SASL_SSL"), probe.clone()));
    assert_eq!(protocol(true, false, options(&[("sasl.mechanism", "PLAIN")])), (of("sasl_ssl"), probe));
    let own = options(&[("security.protocol", "ssl"), ("ssl.ca.location", "/ca")]);
    assert_eq!(protocol(false, false, own), (of("ssl"), of("/ca")));
}

#[test]
fn passwords_come_from_their_files_and_missing_files_are_named_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let written = dir.path().join("password");
    std::fs::write(&written, "hunter2\n").unwrap();
    let from = |password_file| {
        let sasl = KafkaSasl { password: None, password_file: Some(password_file), ..sasl(SaslMechanism::Plain) };
        KafkaConnection { sasl: Some(sasl), ..plain() }
    };
    let mut connection = from(written.clone());
    connection.validate().unwrap();
    connection.read_files().unwrap();
    assert_eq!(connection.client().get("sasl.password"), Some("hunter2"));

    let missing = dir.path().join("missing");
    let reason = |connection: &mut KafkaConnection| connection.read_files().unwrap_err().to_string();
    let said = reason(&mut from(missing.clone()));
    assert!(said.contains("`bus.kafka.sasl.password_file`") && said.contains("missing"), "{said}");
    std::fs::write(&written, "\n").unwrap();
    assert!(reason(&mut from(written)).contains("which is empty"));
    let tls = KafkaTls { ca: Some(missing), ..tls() };
    let said = reason(&mut KafkaConnection { tls: Some(tls), ..plain() });
    assert!(said.contains("`bus.kafka.tls.ca`"), "{said}");
}

#[test]
fn secrets_are_not_shown() {
    let tls = KafkaTls { key_password: Some(Secret::new("hunter2")), ..tls() };
    let shown = KafkaConnection {
        tls: Some(tls),
        sasl: Some(sasl(SaslMechanism::Plain)),
        options: options(&[("ssl.key.pem", "hunter2")]),
        ..plain()
    };
    assert!(!format!("{shown:?}").contains("hunter2"));
}
