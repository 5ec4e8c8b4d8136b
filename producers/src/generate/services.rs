//! Who works in the shop: services, their pods, and the identity that Kubernetes gives them.

use super::attributes::{Value, attribute};
use super::facts::{decimal, hex};
use super::random::Random;
use super::template::Draft;

/// The OpenTelemetry semantic conventions that the shop follows.
pub(super) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.45.0";

/// The clusters that the shop runs in: a name, and the zones of its nodes.
pub(super) const CLUSTERS: [(&str, &str); 2] = [("shop-eu", "eu-west-1"), ("shop-us", "us-east-1")];

/// Pods of one service in one cluster.
pub(super) const REPLICAS: usize = 2;

/// Width of a pod's address, e.g. `10.42.3.117`.
pub(super) const ADDRESS: usize = 11;

/// A service of the shop; its deployment has the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Frontend,
    Cart,
    Checkout,
    Payment,
    Currency,
    Shipping,
    Email,
    Recommendation,
    Catalog,
    Ad,
    Inventory,
    Fraud,
    Accounting,
}

/// What instrumented a span; each becomes a scope of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    Http,
    Rpc,
    Database,
    Messaging,
    /// The service's own spans.
    Own,
}

impl Layer {
    pub(super) const COUNT: usize = 5;
}

impl Service {
    pub(super) const ALL: [Self; 13] = [
        Self::Frontend,
        Self::Cart,
        Self::Checkout,
        Self::Payment,
        Self::Currency,
        Self::Shipping,
        Self::Email,
        Self::Recommendation,
        Self::Catalog,
        Self::Ad,
        Self::Inventory,
        Self::Fraud,
        Self::Accounting,
    ];

    /// Name, language, version and port.
    const fn facts(self) -> (&'static str, Language, &'static str, i64) {
        match self {
            Self::Frontend => ("frontend", Language::Node, "2.14.3", 8080),
            Self::Cart => ("cart", Language::Dotnet, "1.9.0", 7070),
            Self::Checkout => ("checkout", Language::Go, "3.2.1", 5050),
            Self::Payment => ("payment", Language::Node, "2.0.7", 50_051),
            Self::Currency => ("currency", Language::Go, "1.4.2", 7001),
            Self::Shipping => ("shipping", Language::Go, "0.12.0", 50_050),
            Self::Email => ("email", Language::Python, "1.1.5", 6060),
            Self::Recommendation => ("recommendation", Language::Python, "4.0.1", 9001),
            Self::Catalog => ("catalog", Language::Go, "2.6.0", 3550),
            Self::Ad => ("ad", Language::Java, "1.3.9", 9555),
            Self::Inventory => ("inventory", Language::Java, "2.2.0", 9090),
            Self::Fraud => ("fraud-detection", Language::Java, "1.0.4", 9191),
            Self::Accounting => ("accounting", Language::Dotnet, "1.5.6", 9292),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        self.facts().0
    }

    pub(super) const fn port(self) -> i64 {
        self.facts().3
    }

    /// The exception that it raises when something that it called failed.
    pub(super) const fn upstream_exception(self) -> &'static str {
        match self.facts().1 {
            Language::Node => "UpstreamError",
            Language::Go => "*errors.errorString",
            Language::Java => "io.grpc.StatusRuntimeException",
            Language::Python => "grpc.aio.AioRpcError",
            Language::Dotnet => "Grpc.Core.RpcException",
        }
    }

    /// Name and version of the library that instruments that layer.
    pub(super) const fn scope(self, layer: Layer) -> (&'static str, &'static str) {
        match (self.facts().1, layer) {
            (_, Layer::Own) => (self.name(), self.facts().2),
            (Language::Node, Layer::Http) => ("@opentelemetry/instrumentation-http", "0.203.0"),
            (Language::Node, Layer::Rpc) => ("@opentelemetry/instrumentation-grpc", "0.203.0"),
            (Language::Node, Layer::Database) => ("@opentelemetry/instrumentation-pg", "0.56.0"),
            (Language::Node, Layer::Messaging) => ("@opentelemetry/instrumentation-kafkajs", "0.12.0"),
            (Language::Go, Layer::Http) => ("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", "0.62.0"),
            (Language::Go, Layer::Rpc) => {
                ("go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc", "0.62.0")
            }
            (Language::Go, Layer::Database) => ("github.com/XSAM/otelsql", "0.39.0"),
            (Language::Go, Layer::Messaging) => ("github.com/twmb/franz-go/plugin/kotel", "1.6.0"),
            (Language::Java, Layer::Http) => ("io.opentelemetry.netty-4.1", "2.18.1-alpha"),
            (Language::Java, Layer::Rpc) => ("io.opentelemetry.grpc-1.6", "2.18.1-alpha"),
            (Language::Java, Layer::Database) => ("io.opentelemetry.jdbc", "2.18.1-alpha"),
            (Language::Java, Layer::Messaging) => ("io.opentelemetry.kafka-clients-0.11", "2.18.1-alpha"),
            (Language::Python, Layer::Http) => ("opentelemetry.instrumentation.flask", "0.57b0"),
            (Language::Python, Layer::Rpc) => ("opentelemetry.instrumentation.grpc", "0.57b0"),
            (Language::Python, Layer::Database) => ("opentelemetry.instrumentation.psycopg", "0.57b0"),
            (Language::Python, Layer::Messaging) => ("opentelemetry.instrumentation.confluent_kafka", "0.57b0"),
            (Language::Dotnet, Layer::Http) => ("Microsoft.AspNetCore", "9.0.0"),
            (Language::Dotnet, Layer::Rpc) => ("OpenTelemetry.Instrumentation.GrpcNetClient", "1.12.0-beta.1"),
            (Language::Dotnet, Layer::Database) => {
                ("OpenTelemetry.Instrumentation.StackExchangeRedis", "1.12.0-beta.2")
            }
            (Language::Dotnet, Layer::Messaging) => ("Confluent.Kafka.Extensions.OpenTelemetry", "0.4.0"),
        }
    }
}

#[derive(Clone, Copy)]
enum Language {
    Node,
    Go,
    Java,
    Python,
    Dotnet,
}

impl Language {
    /// As in `telemetry.sdk.language` and `telemetry.sdk.version`.
    const fn sdk(self) -> (&'static str, &'static str) {
        match self {
            Self::Node => ("nodejs", "2.0.1"),
            Self::Go => ("go", "1.37.0"),
            Self::Java => ("java", "1.52.0"),
            Self::Python => ("python", "1.36.0"),
            Self::Dotnet => ("dotnet", "1.12.0"),
        }
    }
}

/// One pod: who a batch of telemetry comes from.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) address: [u8; ADDRESS],
    /// The encoded `Resource`.
    pub(super) resource: Vec<u8>,
}

impl Pod {
    /// Every pod of a cluster, by service and replica.
    pub(super) fn of_cluster(cluster: usize, seed: u64) -> Vec<Self> {
        let mut random = Random::new(seed, 0x90d5 + cluster as u64);
        let replicas = Service::ALL.iter().flat_map(|service| {
            // Pods of one deployment share the hash of its template.
            let deployed = random.next();
            let pods: Vec<_> = (0..REPLICAS).map(|_| (deployed, random.next())).collect();
            pods.into_iter().map(|(deployed, own)| Self::new(*service, cluster, deployed, own))
        });
        replicas.collect()
    }

    fn new(service: Service, cluster: usize, deployed: u64, own: u64) -> Self {
        let (name, language, version, _) = service.facts();
        let (cluster_name, zone) = CLUSTERS[cluster];
        let pod_name = format!("{name}-{}-{}", suffix(deployed, 10), suffix(own, 5));
        let node = own % 3;
        let mut uid = *b"00000000-0000-4000-8000-000000000000";
        hex(&mut uid[..8], own);
        hex(&mut uid[24..], own >> 16);
        let uid = String::from_utf8_lossy(&uid).into_owned();
        let mut address = *b"10.42.0.000";
        decimal(&mut address[6..7], 1 + node as u32);
        decimal(&mut address[8..], 100 + (own >> 32) as u32 % 155);

        let (sdk_language, sdk_version) = language.sdk();
        let mut resource = Draft::default();
        for (key, text) in [
            ("service.name", name.to_owned()),
            ("service.namespace", "shop".to_owned()),
            ("service.version", version.to_owned()),
            ("service.instance.id", uid.clone()),
            ("deployment.environment.name", "production".to_owned()),
            ("k8s.cluster.name", cluster_name.to_owned()),
            ("k8s.namespace.name", "shop".to_owned()),
            ("k8s.deployment.name", name.to_owned()),
            ("k8s.pod.name", pod_name),
            ("k8s.pod.uid", uid),
            ("k8s.pod.ip", String::from_utf8_lossy(&address).into_owned()),
            ("k8s.node.name", format!("{cluster_name}-node-{}", node + 1)),
            ("k8s.container.name", name.to_owned()),
            ("cloud.region", zone.to_owned()),
            ("telemetry.sdk.name", "opentelemetry".to_owned()),
            ("telemetry.sdk.language", sdk_language.to_owned()),
            ("telemetry.sdk.version", sdk_version.to_owned()),
        ] {
            attribute(&mut resource, 1, key, &Value::Text(text));
        }
        Self { address, resource: resource.into_bytes() }
    }
}

/// As Kubernetes makes up names: no vowels, nothing that looks like something else.
fn suffix(mut random: u64, length: usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut letter = || {
        let picked = LETTERS[(random % LETTERS.len() as u64) as usize];
        random /= LETTERS.len() as u64;
        char::from(picked)
    };
    (0..length).map(|_| letter()).collect()
}
