//! The HTTP server of the admin port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, State as Extract};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

use super::exposition::{self, TextFormat};
use super::status::Monitor;
use super::{dead_letters, events, replay};

/// What `/metrics` is.
const OPENMETRICS: &str = TextFormat::OpenMetrics.content_type();

/// Why the admin port could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The address cannot be listened on.
    #[error("`admin.listen`: cannot listen on {address}: {source}; stop what uses it or choose another address")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// A bound admin port.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl AdminServer {
    /// Listens on an address; port 0 is any free one. Answers only once [`AdminServer::serve`] runs.
    pub async fn bind(address: SocketAddr) -> Result<Self, AdminError> {
        let refused = |source| AdminError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests and samples the counters, until dropped.
    pub async fn serve(self, monitor: Arc<Monitor>) {
        let routes = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/status", get(status))
            .route("/{report}", get(report))
            .merge(dead_letters::routes())
            .merge(replay::routes())
            .merge(events::routes())
            .merge(exposition::routes())
            .with_state(Arc::clone(&monitor));
        tokio::select! {
            served = axum::serve(self.listener, routes) => {
                if let Err(error) = served {
                    tracing::error!(%error, "admin port failed");
                }
            }
            () = monitor.watch() => {}
        }
    }
}

async fn metrics(Extract(monitor): Extract<Arc<Monitor>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPENMETRICS)], monitor.metrics.encode())
}

async fn status(Extract(monitor): Extract<Arc<Monitor>>) -> impl IntoResponse {
    Json(monitor.status())
}

/// What a component publishes under that name.
async fn report(Extract(monitor): Extract<Arc<Monitor>>, Path(name): Path<String>) -> Response {
    match monitor.health.report(&name) {
        Some(report) => Json(report).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// 200 when all components are ready, else 503; the body lists them.
async fn readyz(Extract(monitor): Extract<Arc<Monitor>>) -> impl IntoResponse {
    let code = if monitor.health.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let component = |(name, state): (&str, super::State)| {
        (name.to_owned(), json!({"state": state.as_str(), "detail": state.detail()}))
    };
    let components: serde_json::Map<_, _> = monitor.health.snapshot().into_iter().map(component).collect();
    (code, Json(json!({"ready": code == StatusCode::OK, "components": components})))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::admin::{HealthTable, State};
    use crate::metrics::{ComponentLabels, Metrics};

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn every_path_answers_and_readiness_follows_the_components() {
        let (health, metrics) = (HealthTable::default(), Arc::new(Metrics::new()));
        let labels = ComponentLabels { component: "sinks.x", signal: "logs" };
        metrics.settled_items.get_or_create(&labels).inc_by(3);
        let sink = health.component("sinks.x");
        let monitor = Arc::new(Monitor::new("1.2.3", json!({"a": 1}), health, metrics));
        let server = AdminServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = server.address();
        let task = tokio::spawn(server.serve(monitor));

        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let waiting = ask(address, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("not started"), "{waiting}");
        sink.set(State::Ready);
        let ready = ask(address, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("sinks.x"), "{ready}");
        let metrics = ask(address, "/metrics").await;
        assert!(metrics.contains(OPENMETRICS), "{metrics}");
        assert!(metrics.contains("afflux_settled_items_total{component=\"sinks.x\",signal=\"logs\"} 3"), "{metrics}");
        let status = ask(address, "/status").await;
        assert!(status.contains("\"version\":\"1.2.3\"") && status.contains("\"config\":{\"a\":1}"), "{status}");
        assert!(ask(address, "/else").await.starts_with("HTTP/1.1 404"));
        task.abort();
    }

    #[tokio::test]
    async fn a_report_is_shown_under_its_name_as_it_was_published_last() {
        let health = HealthTable::default();
        let component = health.component("processors");
        let monitor = Arc::new(Monitor::new("1.2.3", json!({}), health, Arc::new(Metrics::new())));
        let server = AdminServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = server.address();
        let task = tokio::spawn(server.serve(monitor));

        assert!(ask(address, "/cardinality").await.starts_with("HTTP/1.1 404"));
        component.publish("cardinality", json!({"tenants": [], "old": true}));
        component.publish("cardinality", json!({"tenants": ["a"]}));
        component.publish("status", json!("in the way"));
        let answer = ask(address, "/cardinality").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("content-type: application/json"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n{\"tenants\":[\"a\"]}"), "{answer}");
        assert!(ask(address, "/status").await.contains("\"version\":\"1.2.3\""), "what the port has itself goes first");
        task.abort();
    }

    #[tokio::test]
    async fn a_port_in_use_names_address_and_key() {
        let first = AdminServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let text = AdminServer::bind(first.address()).await.unwrap_err().to_string();
        let expected = format!("`admin.listen`: cannot listen on {}: ", first.address());
        assert!(text.starts_with(&expected), "{text}");
    }
}
