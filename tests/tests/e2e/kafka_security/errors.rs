//! What is said when a connection cannot be had, and how soon.

use std::time::{Duration, Instant};

use afflux_bus::kafka::{KafkaBus, KafkaConfig, KafkaConnection, KafkaSasl, KafkaTls, SaslMechanism, Secret};
use afflux_bus::{BusError, ErrorClass};
use afflux_tests::kafka::security::PASSWORD;

use super::{by_token, kafka, mutual_tls, sasl, tls};

/// Long enough that whoever waits for it is found out.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn refusal(brokers: String, tls: Option<KafkaTls>, sasl: Option<KafkaSasl>) -> BusError {
    let connection = KafkaConnection { tls, sasl, timeout: TIMEOUT, ..KafkaConnection::new(brokers) };
    let config = KafkaConfig { connection, transaction_timeout: TIMEOUT, ..KafkaConfig::new("") };
    let started = Instant::now();
    let refused = KafkaBus::connect(config).await.err().expect("must be refused");
    assert!(started.elapsed() < TIMEOUT / 2, "known long before: {refused}");
    let said = format!("{refused} {refused:?}");
    assert!(!said.contains(PASSWORD), "{said}");
    eprintln!("{refused}");
    refused
}

fn says(refused: &BusError, class: ErrorClass, texts: &[&str]) {
    let said = refused.to_string();
    assert_eq!(refused.class(), class, "{said}");
    for text in texts {
        assert!(said.contains(text), "`{text}` is not in: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_fatal_and_says_where_it_stands() {
    let Some(kafka) = kafka().await else { return };
    for mechanism in [SaslMechanism::ScramSha512, SaslMechanism::ScramSha256, SaslMechanism::Plain] {
        let wrong = KafkaSasl { password: Some(Secret::new(format!("{PASSWORD}x"))), ..sasl(mechanism) };
        let refused = refusal(kafka.sasl_tls(), Some(tls(kafka.security())), Some(wrong)).await;
        let keys = ["`bus.kafka.sasl.username`", "`bus.kafka.sasl.password`"];
        says(&refused, ErrorClass::Fatal, &[&kafka.sasl_tls(), mechanism.name(), keys[0], keys[1]]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_token_is_fatal_and_says_where_it_is_looked_for() {
    let Some(kafka) = kafka().await else { return };
    let refused = refusal(kafka.sasl_tls(), Some(tls(kafka.security())), Some(by_token("/nowhere".into()))).await;
    says(&refused, ErrorClass::Fatal, &["`bus.kafka.sasl.token_file`", "/nowhere"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_authority_is_fatal_and_says_which_key_names_it() {
    let Some(kafka) = kafka().await else { return };
    let other = KafkaTls { ca: Some(kafka.security().other_ca()), ..mutual_tls(kafka.security()) };
    let refused = refusal(kafka.mutual_tls(), Some(other), None).await;
    says(&refused, ErrorClass::Fatal, &[&kafka.mutual_tls(), "verify failed", "`bus.kafka.tls.ca`"]);
    assert!(!refused.to_string().contains("hostname"), "its name is right: {refused}");
    // The system trusts nobody who has signed this broker's.
    let system = KafkaTls { ca: None, ..mutual_tls(kafka.security()) };
    let refused = refusal(kafka.mutual_tls(), Some(system), None).await;
    says(&refused, ErrorClass::Fatal, &[&kafka.mutual_tls(), "`bus.kafka.tls.ca`"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_host_is_fatal_unless_names_do_not_matter() {
    let Some(kafka) = kafka().await else { return };
    let by_name = kafka.sasl_tls().replace("127.0.0.1", "localhost");
    let login = || Some(sasl(SaslMechanism::ScramSha512));
    let refused = refusal(by_name.clone(), Some(tls(kafka.security())), login()).await;
    says(&refused, ErrorClass::Fatal, &[&by_name, "not for that host", "`bus.kafka.tls.verify_hostname`"]);
    assert!(!refused.to_string().contains("tls.ca"), "its authority is known: {refused}");
    let anyhow = KafkaTls { verify_hostname: false, ..tls(kafka.security()) };
    super::connect(by_name, Some(anyhow), login()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_client_certificate_is_fatal_and_says_which_keys_name_it() {
    let Some(kafka) = kafka().await else { return };
    let refused = refusal(kafka.mutual_tls(), Some(tls(kafka.security())), None).await;
    let keys = ["`bus.kafka.tls.certificate`", "`bus.kafka.tls.key`"];
    says(&refused, ErrorClass::Fatal, &[&kafka.mutual_tls(), keys[0], keys[1]]);
}

/// To the client both look like a broker that is going down, which may come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_a_broker_without_it_and_the_reverse_are_said() {
    let Some(kafka) = kafka().await else { return };
    let refused = refusal(kafka.brokers(), Some(tls(kafka.security())), None).await;
    says(&refused, ErrorClass::Transient(None), &[&kafka.brokers(), "`bus.kafka.tls`"]);
    let refused = refusal(kafka.mutual_tls(), None, None).await;
    says(&refused, ErrorClass::Transient(None), &[&kafka.mutual_tls(), "`bus.kafka.tls`"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_wants_authentication_of_a_client_without_is_said() {
    let Some(kafka) = kafka().await else { return };
    let refused = refusal(kafka.sasl_tls(), Some(tls(kafka.security())), None).await;
    says(&refused, ErrorClass::Transient(None), &[&kafka.sasl_tls(), "`bus.kafka.sasl`"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_down_may_come_back() {
    let Some(_) = kafka().await else { return };
    let connection = KafkaConnection { timeout: Duration::from_secs(1), ..KafkaConnection::new("127.0.0.1:1") };
    let refused = KafkaBus::connect(KafkaConfig { connection, ..KafkaConfig::new("") }).await.err().expect("refused");
    says(&refused, ErrorClass::Transient(None), &["127.0.0.1:1", "`bus.kafka.brokers`", "onnect"]);
}
