//! `GET /events`: Kubernetes events on the bus of this process.
//!
//! Takes what [`EventFilter`] has and `follow=true`, and answers a [`KubernetesEvent`](crate::kubernetes_events::KubernetesEvent) a
//! line; then `{"complete": true}` and, where it is to follow, those that come, until the connection ends. `{"error": …}` ends it
//! before.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State as Extract};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use super::status::Monitor;
use crate::kubernetes_events::{EventFilter, Seen, Watch};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    cluster: Option<String>,
    namespace: Option<String>,
    pod: Option<String>,
    warnings: bool,
    since_ms: i64,
    follow: bool,
}

pub(super) fn routes() -> Router<Arc<Monitor>> {
    Router::new().route("/events", get(events))
}

async fn events(
    Extract(monitor): Extract<Arc<Monitor>>,
    Query(asked): Query<Asked>,
) -> Result<Response, (StatusCode, String)> {
    let early = || (StatusCode::SERVICE_UNAVAILABLE, "the bus is not open yet".to_owned());
    let events = monitor.events.get().ok_or_else(early)?;
    let Asked { cluster, namespace, pod, warnings, since_ms, follow } = asked;
    let filter = EventFilter { cluster, namespace, pod, warnings, since_ms };
    let watch = events.watch(filter).await.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let lines = futures::stream::unfold(Some((watch, follow)), next_lines);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// A watch, unless it is over, and whether it goes on when it is complete.
type Going = Option<(Watch, bool)>;

async fn next_lines(going: Going) -> Option<(Result<Vec<u8>, serde_json::Error>, Going)> {
    let (mut watch, follow) = going?;
    Some(match watch.next().await {
        Ok(Seen::Events(events)) => {
            let lines = events.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>();
            let joined =
                |lines: Vec<Vec<u8>>| lines.into_iter().flat_map(|line| [line, vec![b'\n']]).flatten().collect();
            (lines.map(joined), Some((watch, follow)))
        }
        Ok(Seen::Complete) => (Ok(b"{\"complete\":true}\n".to_vec()), follow.then_some((watch, follow))),
        Err(error) => (Ok(format!("{}\n", json!({"error": error.to_string()})).into_bytes()), None),
    })
}
