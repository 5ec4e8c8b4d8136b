//! Which cluster it is.

use std::sync::Arc;

use afflux_runtime::Backoff;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::api::{Api, Resource};
use super::encode::Cluster;
use super::error::ApiError;
use super::health::Board;
use super::{FIRST_RETRY, LAST_RETRY};

/// The namespace that every cluster has from its beginning to its end.
const NAMESPACE: &str = "kube-system";
/// As it stands in the state of the component.
const STREAM: &str = "cluster";

#[derive(Deserialize)]
struct Namespace {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
}

/// Waits until the API server says which cluster it is of; `None` when asked to stop.
pub(super) async fn identify(api: &Api, name: &Arc<str>, board: &Board, stop: &CancellationToken) -> Option<Cluster> {
    let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
    loop {
        let answer = tokio::select! {
            () = stop.cancelled() => return None,
            answer = ask(api) => answer,
        };
        let error = match answer {
            Ok(uid) => {
                board.works(STREAM);
                return Some(Cluster { name: Arc::clone(name), uid });
            }
            Err(error) => error,
        };
        board.failed(STREAM, &error.to_string());
        tokio::select! {
            () = stop.cancelled() => return None,
            () = backoff.wait(error.retry_after()) => {}
        }
        if error.is_about_access() {
            api.renew();
        }
    }
}

async fn ask(api: &Api) -> Result<Arc<str>, ApiError> {
    let body = api.get(&Resource::new("", "v1", "namespaces").metadata(), "", NAMESPACE).await?;
    let wrong = |error: serde_json::Error| ApiError::Protocol(format!("the namespace {NAMESPACE}: {error}"));
    let uid = serde_json::from_slice::<Namespace>(&body).map_err(wrong)?.metadata.uid;
    if uid.is_empty() {
        return Err(ApiError::Protocol(format!("the namespace {NAMESPACE} has no uid")));
    }
    Ok(uid.into())
}
