//! Receives spans and logs from OpenTelemetry clients, over gRPC and HTTP.
//!
//! A request is read under its limits, decompressed, validated as bytes, split by partition and written to the
//! bus; its client hears of success only after the bus has acknowledged all of it (D1). JSON is the one form
//! that is rewritten, as protobuf. Whatever a request holds is taken from one byte budget beforehand (D8).
//!
//! ```text
//! server ─▶ http │ grpc ─▶ body ─▶ ingest ─▶ decode ─▶ bus
//!                                             compression, json, screen, shape
//! ```

mod answer;
mod body;
mod compression;
pub mod config;
mod decode;
pub mod error;
mod grpc;
mod http;
mod ingest;
mod memory;
mod refusal;
mod screen;
mod server;
mod shape;

use std::net::SocketAddr;
use std::sync::Arc;

use afflux_runtime::admin::State;
use afflux_runtime::{Component, ComponentError, Context};
use afflux_schemas::topics::Topics;
use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::time::timeout;

pub use config::OtlpConfig;
pub use error::OtlpError;
use ingest::{Ingest, Names};
use server::Protocol;

/// The component's name.
pub const NAME: &str = "producers.otlp";

/// The OTLP receiver.
///
/// While it runs: success means stored, whatever goes wrong here is answered with "retry", and whatever is wrong
/// with a request with what is wrong. On shutdown it stops listening, answers what it has begun to read within
/// `ack_timeout`, and returns; what the bus has not acknowledged by then is unanswered, so that clients send it
/// again.
#[derive(Debug)]
pub struct OtlpReceiver {
    config: OtlpConfig,
    topics: Topics,
    clusters: Names,
}

impl OtlpReceiver {
    /// A receiver that writes to the ingest topics, and names `cluster` as the origin of all it receives.
    pub fn new(config: OtlpConfig, topics: Topics, cluster: Option<String>) -> Result<Self, OtlpError> {
        config.validate()?;
        let clusters = Names { all: cluster, unnamed: None };
        Ok(Self { config, topics, clusters })
    }

    /// Names the cluster of what it receives without a cluster in its resource.
    #[must_use]
    pub fn cluster_of_unnamed(mut self, cluster: Option<String>) -> Self {
        self.clusters.unnamed = cluster;
        self
    }

    async fn bind(&self) -> Result<Vec<(Protocol, TcpListener)>, OtlpError> {
        let wanted: [(Protocol, Option<SocketAddr>); 2] =
            [(Protocol::Grpc, self.config.grpc.listen), (Protocol::Http, self.config.http.listen)];
        let mut bound = Vec::new();
        for (protocol, address) in wanted {
            if let Some(address) = address {
                bound.push((protocol, server::bind(protocol, address).await?));
            }
        }
        Ok(bound)
    }

    async fn serve(self, listeners: Vec<(Protocol, TcpListener)>, context: Context) -> Result<(), OtlpError> {
        let drain_timeout = self.config.limits.ack_timeout.0;
        let ingest = Ingest::new(self.config.limits, &self.topics, self.clusters, &context);
        for (protocol, listener) in listeners {
            match listener.local_addr() {
                Ok(address) => tracing::info!(%address, ?protocol, "receiving OTLP"),
                Err(error) => tracing::warn!(%error, ?protocol, "receiving OTLP at an unknown address"),
            }
            ingest.tasks.spawn(server::accept(listener, protocol, Arc::clone(&ingest)));
        }
        context.health.set(State::Ready);
        tokio::select! {
            () = ingest.stop.cancelled() => {}
            () = ingest.watch() => {}
        }
        ingest.tasks.close();
        if timeout(drain_timeout, ingest.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = ingest.tasks.len(), "requests are left unanswered: the bus has not acknowledged");
            ingest.abandon.cancel();
            ingest.tasks.wait().await;
        }
        context.health.set(State::Stopped);
        ingest.broken().map_or(Ok(()), |error| Err(error.into()))
    }
}

#[async_trait]
impl Component for OtlpReceiver {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn run(self: Box<Self>, context: Context) -> Result<(), ComponentError> {
        let served = match self.bind().await {
            Ok(listeners) => self.serve(listeners, context).await,
            Err(error) => Err(error),
        };
        served.map_err(|error| ComponentError::new(NAME, error))
    }
}

#[cfg(test)]
pub(crate) mod tests;
