//! What comes of spans: edges, and spans that made none.

use std::sync::Arc;

/// What is emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// A request between two services.
    Edge(Edge),
    /// A span that makes no edge. At most one is emitted per span, and none for a span that is part of an edge.
    NoEdge {
        /// Its kind.
        kind: SpanKind,
        /// Why not.
        why: Why,
    },
}

/// A request between two services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Name of the service that asks; never empty.
    pub client: Arc<str>,
    /// Name of the service or database that is asked; never empty.
    pub server: Arc<str>,
    /// Cluster of the client's span, where there is one.
    pub client_cluster: Option<Arc<str>>,
    /// Cluster of the server's span, where there is one.
    pub server_cluster: Option<Arc<str>>,
    /// What kind of a request it is.
    pub connection: Connection,
    /// Which side has no span and was named by the other.
    pub virtual_node: Option<Side>,
    /// Whether the status of either span is an error.
    pub failed: bool,
    /// Nanoseconds that the server's span lasted; of a database the client's. None where the server is virtual.
    pub server_nanos: Option<u64>,
    /// Nanoseconds that the client's span lasted. None where the client is virtual.
    pub client_nanos: Option<u64>,
    /// Nanoseconds from the end of the producer's span to the start of the consumer's, where that is wanted and above
    /// 0.
    pub messaging_nanos: Option<u64>,
    /// Values of the labels that [`GraphConfig::dimension_labels`](super::GraphConfig::dimension_labels) names.
    pub dimensions: Box<[Option<Arc<str>>]>,
    /// End of the server's span, or of the client's where there is no other: nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// Trace that it is from.
    pub trace_id: [u8; 16],
    /// How many requests it stands for: the greater of both spans' weights.
    pub weight: u64,
}

/// What kind of a request an edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Connection {
    /// A call.
    Direct,
    /// A message: either span is a producer's or consumer's.
    MessagingSystem,
    /// A request to a database, known from the client's span alone.
    Database,
    /// A request of which one side has no span.
    VirtualNode,
}

impl Connection {
    /// Value of the label `connection_type`; empty for a call.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "",
            Self::MessagingSystem => "messaging_system",
            Self::Database => "database",
            Self::VirtualNode => "virtual_node",
        }
    }
}

/// A side of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Who asks or sends.
    Client,
    /// Who is asked or receives.
    Server,
}

impl Side {
    /// Value of the label `virtual_node`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Kinds of spans that are halves of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpanKind {
    /// Asks.
    Client,
    /// Is asked.
    Server,
    /// Sends a message.
    Producer,
    /// Receives a message.
    Consumer,
}

impl SpanKind {
    /// The kind that OTLP gives that number; none for internal and unspecified ones.
    pub const fn from_otlp(number: i32) -> Option<Self> {
        match number {
            2 => Some(Self::Server),
            3 => Some(Self::Client),
            4 => Some(Self::Producer),
            5 => Some(Self::Consumer),
            _ => None,
        }
    }

    /// Value of the label `span_kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }

    /// Its side of a request.
    pub const fn side(self) -> Side {
        match self {
            Self::Client | Self::Producer => Side::Client,
            Self::Server | Self::Consumer => Side::Server,
        }
    }

    pub(super) const fn is_messaging(self) -> bool {
        matches!(self, Self::Producer | Self::Consumer)
    }
}

/// Why a span makes no edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// Its counterpart did not come within `wait`, and it does not tell what is on the other side.
    Expired,
    /// Its counterpart did not come within `wait`, but a span on the other side that the filter rejects.
    CounterpartFiltered,
    /// Its request has been told.
    Duplicate,
    /// Its record is older than stream time by `wait` or more.
    Late,
    /// `max_items` others came before it.
    Dropped,
    /// The filter rejects it.
    Filtered,
    /// Its trace id, or the span id that it would be paired by, has a wrong length or is zeros.
    InvalidId,
}

impl Why {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Expired,
        Self::CounterpartFiltered,
        Self::Duplicate,
        Self::Late,
        Self::Dropped,
        Self::Filtered,
        Self::InvalidId,
    ];

    /// The reason as a label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::CounterpartFiltered => "counterpart_filtered",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Dropped => "dropped",
            Self::Filtered => "filtered",
            Self::InvalidId => "invalid_id",
        }
    }
}
