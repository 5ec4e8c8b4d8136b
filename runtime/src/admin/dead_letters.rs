//! `/dead-letters`: for whoever cannot open the bus, because this process owns it.
//!
//! `POST /dead-letters/list`, `/replay` and `/drop` take a [`Selection`] as JSON and answer an [`Entry`] a line.
//! `GET /dead-letters/PARTITION:OFFSET` answers a [`Shown`](crate::dead_letter::Shown).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State as Extract};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::mpsc;

use super::status::Monitor;
use crate::dead_letter::{Act, DeadLetters, Entry, LetterId, Selection};

/// What lines of JSON are.
const JSON_LINES: &str = "application/x-ndjson";

pub(super) fn routes() -> Router<Arc<Monitor>> {
    // Only JSON is taken, which a page of another origin cannot send unasked.
    let list = async |monitor, Json(selection)| act(monitor, None, selection);
    let replay = async |monitor, Json(selection)| act(monitor, Some(Act::Replay), selection);
    let drop = async |monitor, Json(selection)| act(monitor, Some(Act::Drop), selection);
    Router::new()
        .route("/dead-letters/list", post(list))
        .route("/dead-letters/replay", post(replay))
        .route("/dead-letters/drop", post(drop))
        .route("/dead-letters/{id}", get(show))
}

type Refused = (StatusCode, String);

fn desk(monitor: &Monitor) -> Result<&DeadLetters, Refused> {
    let early = || (StatusCode::SERVICE_UNAVAILABLE, "the bus is not open yet".to_owned());
    monitor.dead_letters.get().ok_or_else(early)
}

fn act(Extract(monitor): Extract<Arc<Monitor>>, act: Option<Act>, selection: Selection) -> Result<Response, Refused> {
    let desk = desk(&monitor)?;
    if act.is_some() {
        tracing::info!(?act, ?selection, "dead letters resolved over the admin port");
    }
    let lines = futures::stream::unfold(desk.start(act, selection), next_line);
    Ok(([(header::CONTENT_TYPE, JSON_LINES)], Body::from_stream(lines)).into_response())
}

type Line = Result<Vec<u8>, serde_json::Error>;

async fn next_line(mut entries: mpsc::Receiver<Entry>) -> Option<(Line, mpsc::Receiver<Entry>)> {
    let entry = entries.recv().await?;
    let line = serde_json::to_vec(&entry).map(|mut line| {
        line.push(b'\n');
        line
    });
    Some((line, entries))
}

async fn show(Extract(monitor): Extract<Arc<Monitor>>, Path(id): Path<String>) -> Result<Response, Refused> {
    let id: LetterId = id.parse().map_err(|error| (StatusCode::BAD_REQUEST, error))?;
    let shown = desk(&monitor)?.show(id).await;
    match shown.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))? {
        Some(shown) => Ok(Json(shown).into_response()),
        None => Ok(StatusCode::NOT_FOUND.into_response()),
    }
}
