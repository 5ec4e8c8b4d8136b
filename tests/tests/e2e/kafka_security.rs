//! Kafka with TLS and SASL: what works, and what is said when it does not.

mod errors;
mod process;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use afflux_bus::kafka::{KafkaBus, KafkaConfig, KafkaConnection, KafkaSasl, KafkaTls, SaslMechanism, Secret};
use afflux_bus::{Bus, Cleanup, ConsumerConfig, Event, Headers, Offset, PartitionId, Received, Record, TopicSpec};
use afflux_tests::kafka::security::{PASSWORD, USER};
use afflux_tests::kafka::{KafkaServer, Security};

/// The broker that the tests of this suite share.
async fn kafka() -> Option<&'static KafkaServer> {
    static SHARED: OnceLock<Option<KafkaServer>> = OnceLock::new();
    let start = || SHARED.get_or_init(|| KafkaServer::start_secured().expect("Apache Kafka starts")).as_ref();
    tokio::task::spawn_blocking(start).await.expect("a broker")
}

/// What trusts the broker, without a certificate of its own.
fn tls(security: &Security) -> KafkaTls {
    KafkaTls { ca: Some(security.ca()), ..KafkaTls::default() }
}

/// What also has a certificate.
fn mutual_tls(security: &Security) -> KafkaTls {
    KafkaTls { certificate: Some(security.certificate_file()), key: Some(security.key()), ..tls(security) }
}

/// The user's name and password.
fn sasl(mechanism: SaslMechanism) -> KafkaSasl {
    KafkaSasl {
        mechanism: Some(mechanism),
        username: Some(USER.to_owned()),
        password: Some(Secret::new(PASSWORD)),
        ..KafkaSasl::default()
    }
}

fn by_token(token_file: PathBuf) -> KafkaSasl {
    let mechanism = Some(SaslMechanism::OauthBearer);
    KafkaSasl { mechanism, token_file: Some(token_file), ..KafkaSasl::default() }
}

async fn connect(brokers: String, tls: Option<KafkaTls>, sasl: Option<KafkaSasl>) -> Arc<KafkaBus> {
    let connection = KafkaConnection { tls, sasl, ..KafkaConnection::new(brokers) };
    let config = KafkaConfig { connection, ..KafkaConfig::new("") };
    KafkaBus::connect(config).await.expect("a connection")
}

/// Every kind of client does its work: administration, producer, group, transaction, lag.
async fn does_everything(bus: Arc<KafkaBus>, name: &str) {
    let (input, output) = (format!("{name}.in"), format!("{name}.out"));
    let spec = |name: &str| TopicSpec {
        name: name.into(),
        partitions: 1,
        cleanup: Cleanup::Delete { max_age: None, max_bytes: None },
    };
    bus.create_topics(&[spec(&input), spec(&output)]).await.expect("topics");
    bus.producer().await.expect("a producer").send(vec![record(&input, "in")]).await.expect("an ack");

    let mut config = ConsumerConfig::new(name, [input.as_str().into()]);
    config.transactional_id = Some(name.into());
    let mut stage = bus.consumer(config).await.expect("a member");
    let first = next_record(stage.as_mut()).await;
    assert_eq!(first.value.as_deref(), Some(&b"in"[..]));
    let offset = Offset { partition: first.from.clone(), generation: first.generation, next: 1 };
    stage.transact(vec![record(&output, "out")], &[offset]).await.expect("a transaction");
    stage.close().await;

    let reader = ConsumerConfig::new(&*format!("{name}-reader"), [output.as_str().into()]);
    let mut reader = bus.consumer(reader).await.expect("a member");
    assert_eq!(next_record(reader.as_mut()).await.value.as_deref(), Some(&b"out"[..]));
    reader.close().await;
    let lag = bus.lag(name, &[input.as_str().into()]).await.expect("a lag");
    assert_eq!((lag[0].committed, lag[0].end), (Some(1), 1));
    bus.close().await;
}

fn record(topic: &str, value: &'static str) -> Record {
    let to = PartitionId::new(topic, 0);
    Record { to, key: None, value: Some(value.into()), timestamp_ms: 1, headers: Headers::new() }
}

async fn next_record(consumer: &mut dyn afflux_bus::Consumer) -> Received {
    loop {
        if let Event::Records(records) = consumer.poll().await.expect("an event") {
            return records.into_iter().next().expect("a record");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_with_a_password_over_tls() {
    let Some(kafka) = kafka().await else { return };
    for mechanism in [SaslMechanism::ScramSha512, SaslMechanism::ScramSha256, SaslMechanism::Plain] {
        let bus = connect(kafka.sasl_tls(), Some(tls(kafka.security())), Some(sasl(mechanism))).await;
        does_everything(bus, &format!("secure-{}", mechanism.name())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_with_a_password_from_a_file() {
    let Some(kafka) = kafka().await else { return };
    let file = kafka.security().write("password", &format!("{PASSWORD}\n")).expect("a file");
    let sasl = KafkaSasl { password: None, password_file: Some(file), ..sasl(SaslMechanism::ScramSha256) };
    let bus = connect(kafka.sasl_tls(), Some(tls(kafka.security())), Some(sasl)).await;
    does_everything(bus, "secure-password-file").await;
}

/// librdkafka asks for a token after four fifths of its lifetime: this one is followed by others while the bus works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_with_a_token_that_is_renewed() {
    let Some(kafka) = kafka().await else { return };
    let write = |seconds| {
        let token = Security::token(seconds).expect("a token");
        kafka.security().write("token", &token).expect("a file")
    };
    let file = write(4);
    let bus = connect(kafka.sasl_tls(), Some(tls(kafka.security())), Some(by_token(file))).await;
    write(3600);
    // Past the end of the first token: whoever still has it cannot connect to a broker.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    does_everything(bus, "secure-token").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_with_a_certificate() {
    let Some(kafka) = kafka().await else { return };
    let bus = connect(kafka.mutual_tls(), Some(mutual_tls(kafka.security())), None).await;
    does_everything(bus, "secure-certificate").await;
    let encrypted = KafkaTls {
        key: Some(kafka.security().encrypted_key()),
        key_password: Some(Secret::new(PASSWORD)),
        ..mutual_tls(kafka.security())
    };
    let bus = connect(kafka.mutual_tls(), Some(encrypted), None).await;
    does_everything(bus, "secure-encrypted-key").await;
}

/// As it was before there were sections for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_by_librdkafkas_own_options() {
    let Some(kafka) = kafka().await else { return };
    let ca = kafka.security().ca().display().to_string();
    let options = [
        ("security.protocol", "sasl_ssl"),
        ("ssl.ca.location", &ca),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", USER),
        ("sasl.password", PASSWORD),
    ];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let connection = KafkaConnection { options, ..KafkaConnection::new(kafka.sasl_tls()) };
    let bus = KafkaBus::connect(KafkaConfig { connection, ..KafkaConfig::new("") }).await.expect("a connection");
    does_everything(bus, "secure-options").await;
}
