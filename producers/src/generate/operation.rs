//! The kinds of work that a trace is made of, with the attributes that the semantic conventions give them.

use super::attributes::{Attribute, Value};
use super::services::{Layer, Service};
use super::template::Number;

/// As in the field `kind` of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

/// As in the field `severity_number` of a log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Debug = 5,
    Info = 9,
    Warn = 13,
    Error = 17,
}

/// A log line that a span writes in some of its runs.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) severity: Severity,
    pub(super) body: String,
    /// Share of the runs that write it.
    pub(super) share: f64,
}

/// Why and how often an operation fails by itself.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) probability: f64,
    pub(super) exception: &'static str,
    pub(super) message: &'static str,
}

/// One span, what it calls, and how it behaves.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// Where it runs; without one, where its caller runs.
    pub(super) service: Option<Service>,
    /// Whose pod is at the other end: of a client span the callee; of a server span nobody, its caller is known.
    pub(super) peer: Option<Service>,
    pub(super) layer: Layer,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) attributes: Vec<Attribute>,
    /// Added, or put in the place of those with the same key, when it failed.
    pub(super) when_failed: Vec<Attribute>,
    /// Median of the time it takes itself, in microseconds.
    pub(super) micros: u64,
    /// Whether it is far slower now and then.
    pub(super) tailed: bool,
    pub(super) failure: Option<Failure>,
    /// A failed call does not make it fail.
    pub(super) recovers: bool,
    /// Calls what it calls at the same time.
    pub(super) at_once: bool,
    /// Share of its caller's runs in which it happens.
    pub(super) share: f64,
    /// Happens one to so many times in a row.
    pub(super) repeats: u32,
    pub(super) calls: Vec<Operation>,
    /// What receives the message, of a producer.
    pub(super) consumers: Vec<Operation>,
    /// Spans of other traces that it links to.
    pub(super) batch: usize,
    pub(super) lines: Vec<Line>,
}

impl Operation {
    fn new(layer: Layer, kind: Kind, name: impl Into<String>, micros: u64) -> Self {
        Self {
            service: None,
            peer: None,
            layer,
            kind,
            name: name.into(),
            attributes: Vec::new(),
            when_failed: Vec::new(),
            micros,
            tailed: false,
            failure: None,
            recovers: false,
            at_once: false,
            share: 1.0,
            repeats: 1,
            calls: Vec::new(),
            consumers: Vec::new(),
            batch: 0,
            lines: Vec::new(),
        }
    }

    /// The side that does the work: of a call to another service, the server's.
    fn working_side(&mut self) -> &mut Self {
        if self.kind == Kind::Client && !self.calls.is_empty() { &mut self.calls[0] } else { self }
    }

    pub(super) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.working_side().attributes.push((key, value.into()));
        self
    }

    fn and(mut self, attributes: impl IntoIterator<Item = Attribute>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    fn if_failed(mut self, attributes: impl IntoIterator<Item = Attribute>) -> Self {
        self.when_failed.extend(attributes);
        self
    }

    fn at(mut self, service: Service) -> Self {
        self.service = Some(service);
        self
    }

    pub(super) fn calls(mut self, calls: impl IntoIterator<Item = Self>) -> Self {
        self.working_side().calls.extend(calls);
        self
    }

    pub(super) fn calls_at_once(mut self, calls: impl IntoIterator<Item = Self>) -> Self {
        self.working_side().at_once = true;
        self.calls(calls)
    }

    pub(super) fn received_by(mut self, consumers: impl IntoIterator<Item = Self>) -> Self {
        self.consumers.extend(consumers);
        self
    }

    pub(super) fn fails(mut self, probability: f64, exception: &'static str, message: &'static str) -> Self {
        self.working_side().failure = Some(Failure { probability, exception, message });
        self
    }

    pub(super) fn recovers(mut self) -> Self {
        self.working_side().recovers = true;
        self
    }

    pub(super) fn tailed(mut self) -> Self {
        self.working_side().tailed = true;
        self
    }

    pub(super) fn in_share(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    pub(super) fn up_to(mut self, times: u32) -> Self {
        self.repeats = times;
        self
    }

    pub(super) fn says(mut self, severity: Severity, share: f64, body: &str) -> Self {
        self.working_side().lines.push(Line { severity, body: body.to_owned(), share });
        self
    }
}

/// A request from a browser.
pub(super) fn page(method: &'static str, route: &'static str, path: &str, status: i64, micros: u64) -> Operation {
    Operation::new(Layer::Http, Kind::Server, format!("{method} {route}"), micros)
        .at(Service::Frontend)
        .and([
            ("http.request.method", method.into()),
            ("url.scheme", "https".into()),
            ("url.path", path.into()),
            ("http.route", route.into()),
            ("http.response.status_code", status.into()),
            ("server.address", "shop.example.com".into()),
            ("client.address", "{client}".into()),
            ("user_agent.original", "{agent}".into()),
            ("session.id", "{session}".into()),
        ])
        .if_failed([("http.response.status_code", 500.into()), ("error.type", "500".into())])
}

/// A gRPC call to another service: the client's span with the server's inside.
pub(super) fn rpc(callee: Service, method: &str, micros: u64) -> Operation {
    let shared = |kind, micros| {
        Operation::new(Layer::Rpc, kind, method, micros)
            .and([
                ("rpc.system.name", "grpc".into()),
                ("rpc.method", method.into()),
                ("rpc.response.status_code", "OK".into()),
                ("server.address", host(callee).into()),
                ("server.port", callee.port().into()),
                ("network.transport", "tcp".into()),
            ])
            .if_failed([("rpc.response.status_code", "INTERNAL".into()), ("error.type", "INTERNAL".into())])
    };
    let server = shared(Kind::Server, micros)
        .at(callee)
        .and([("client.address", "{peer}".into()), ("client.port", Number::Port.into())]);
    let mut client = shared(Kind::Client, NETWORK)
        .and([("network.peer.address", "{peer}".into()), ("network.peer.port", callee.port().into())])
        .calls([server]);
    client.peer = Some(callee);
    client
}

/// An HTTP call to another service: the client's span with the server's inside.
pub(super) fn http(callee: Service, method: &'static str, route: &'static str, micros: u64) -> Operation {
    let failed = || [("http.response.status_code", 500.into()), ("error.type", "500".into())];
    let server = Operation::new(Layer::Http, Kind::Server, format!("{method} {route}"), micros)
        .at(callee)
        .and([
            ("http.request.method", method.into()),
            ("url.scheme", "http".into()),
            ("url.path", route.into()),
            ("http.route", route.into()),
            ("http.response.status_code", 200.into()),
            ("server.address", host(callee).into()),
            ("client.address", "{peer}".into()),
        ])
        .if_failed(failed());
    let mut client = Operation::new(Layer::Http, Kind::Client, method, NETWORK)
        .and([
            ("http.request.method", method.into()),
            ("url.full", format!("http://{}:{}{route}", host(callee), callee.port()).into()),
            ("http.response.status_code", 200.into()),
            ("http.response.body.size", Number::Size.into()),
            ("server.address", host(callee).into()),
            ("server.port", callee.port().into()),
        ])
        .if_failed(failed())
        .calls([server]);
    client.peer = Some(callee);
    client
}

/// A call to somebody outside, of whom there are no spans.
pub(super) fn outside(method: &'static str, address: &'static str, path: &str, micros: u64) -> Operation {
    Operation::new(Layer::Http, Kind::Client, method, micros)
        .and([
            ("http.request.method", method.into()),
            ("url.full", format!("https://{address}{path}").into()),
            ("http.response.status_code", 200.into()),
            ("network.protocol.version", "2".into()),
            ("server.address", address.into()),
            ("server.port", 443.into()),
        ])
        .if_failed([("http.response.status_code", 503.into()), ("error.type", "503".into())])
}

/// A statement to PostgreSQL.
pub(super) fn sql(verb: &'static str, table: &'static str, query: &str, micros: u64) -> Operation {
    Operation::new(Layer::Database, Kind::Client, format!("{verb} {table}"), micros)
        .and([
            ("db.system.name", "postgresql".into()),
            ("db.namespace", "shop".into()),
            ("db.collection.name", table.into()),
            ("db.operation.name", verb.into()),
            ("db.query.summary", format!("{verb} {table}").into()),
            ("db.query.text", query.into()),
            ("db.response.returned_rows", Number::Rows.into()),
            ("server.address", "postgresql.shop.svc.cluster.local".into()),
            ("server.port", 5432.into()),
        ])
        .if_failed([("db.response.status_code", "40P01".into()), ("error.type", "40P01".into())])
}

/// A command to Redis.
pub(super) fn redis(command: &'static str, arguments: &str, micros: u64) -> Operation {
    Operation::new(Layer::Database, Kind::Client, command, micros)
        .and([
            ("db.system.name", "redis".into()),
            ("db.namespace", "0".into()),
            ("db.operation.name", command.into()),
            ("db.query.text", format!("{command} {arguments}").into()),
            ("server.address", "redis-cart.shop.svc.cluster.local".into()),
            ("server.port", 6379.into()),
        ])
        .if_failed([("error.type", "ETIMEDOUT".into())])
}

/// A message sent to Kafka.
pub(super) fn publish(topic: &'static str, key: &str, micros: u64) -> Operation {
    message(Kind::Producer, "send", topic, micros)
        .and([("messaging.kafka.message.key", key.into()), ("messaging.message.body.size", Number::Size.into())])
}

/// A message taken from Kafka: part of the sender's trace, with a link to the sending span.
pub(super) fn consume(service: Service, topic: &'static str, micros: u64) -> Operation {
    message(Kind::Consumer, "process", topic, micros)
        .at(service)
        .and([("messaging.consumer.group.name", service.name().into()), ("messaging.client.id", service.name().into())])
}

/// Many messages taken from Kafka at once: a trace of its own, with a link to the sender of each.
pub(super) fn consume_batch(service: Service, topic: &'static str, messages: usize, micros: u64) -> Operation {
    let mut batch = consume(service, topic, micros).with("messaging.batch.message_count", messages as i64);
    batch.batch = messages;
    batch
}

/// Work within a service that is worth a span of its own.
pub(super) fn within(name: &'static str, micros: u64) -> Operation {
    Operation::new(Layer::Own, Kind::Internal, name, micros).and([
        ("code.function.name", format!("shop.{name}").into()),
        ("code.line.number", 117.into()),
        ("thread.id", Number::Rows.into()),
        ("thread.name", "worker-7".into()),
    ])
}

/// Work that nobody asked for.
pub(super) fn job(service: Service, name: &'static str, micros: u64) -> Operation {
    within(name, micros).at(service)
}

/// Median of what the network and the client's side of a call take.
const NETWORK: u64 = 350;

fn host(service: Service) -> String {
    format!("{}.shop.svc.cluster.local", service.name())
}

fn message(kind: Kind, verb: &'static str, topic: &'static str, micros: u64) -> Operation {
    Operation::new(Layer::Messaging, kind, format!("{verb} {topic}"), micros)
        .and([
            ("messaging.system", "kafka".into()),
            ("messaging.operation.name", verb.into()),
            ("messaging.operation.type", verb.into()),
            ("messaging.destination.name", topic.into()),
            ("messaging.destination.partition.id", "3".into()),
            ("messaging.kafka.offset", Number::Offset.into()),
            ("server.address", "kafka.shop.svc.cluster.local".into()),
        ])
        .if_failed([("error.type", "NOT_LEADER_OR_FOLLOWER".into())])
}
