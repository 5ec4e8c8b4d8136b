//! `POST /replay`: feeds a sink of this process again, which owns the bus.
//!
//! Takes `{"sink": NAME, "from_ms": …, "until_ms": …}` and answers a [`Progress`](crate::delivery::Progress) a line, or
//! `{"error": …}`. The replay ends with the connection.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State as Extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::status::Monitor;
use crate::delivery::{Progress, Span};

/// What is asked for.
#[derive(Debug, Deserialize)]
struct Asked {
    sink: String,
    from_ms: i64,
    until_ms: Option<i64>,
}

pub(super) fn routes() -> Router<Arc<Monitor>> {
    // Only JSON is taken, which a page of another origin cannot send unasked.
    Router::new().route("/replay", post(async |monitor, Json(asked)| start(monitor, &asked)))
}

fn start(Extract(monitor): Extract<Arc<Monitor>>, asked: &Asked) -> Result<Response, (StatusCode, String)> {
    let early = || (StatusCode::SERVICE_UNAVAILABLE, "the bus is not open yet".to_owned());
    let replays = monitor.replays.get().ok_or_else(early)?;
    let of = Span { from_ms: asked.from_ms, until_ms: asked.until_ms };
    let told = replays.start(&asked.sink, of).map_err(|why| (StatusCode::CONFLICT, why))?;
    tracing::info!(?asked, "replay started over the admin port");
    let lines = futures::stream::unfold(told, next_line);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

type Told = mpsc::Receiver<Result<Progress, String>>;

async fn next_line(mut told: Told) -> Option<(Result<Vec<u8>, serde_json::Error>, Told)> {
    let line = match told.recv().await? {
        Ok(progress) => serde_json::to_vec(&progress),
        Err(error) => serde_json::to_vec(&json!({"error": error})),
    };
    let line = line.map(|mut line| {
        line.push(b'\n');
        line
    });
    Some((line, told))
}
