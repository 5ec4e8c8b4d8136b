//! Requests to the API server, over bytes.
//!
//! kube knows how the server is reached and renews credentials; its own watcher cannot start at a resource version that was
//! kept, so lists and watches are made here.

mod lines;
mod page;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::{ApiError, chain};

pub(super) use lines::{Change, Lines};
pub(super) use page::{ListQuery, Page};

/// How long a request may take whose answer has an end.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer at most: a page of objects as large as they can be.
const MOST_BYTES: usize = 256 << 20;
/// Bytes of an error's answer that are read.
const MOST_ERROR_BYTES: usize = 64 << 10;
const JSON: &str = "application/json";
/// Objects without their specification and status.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// How an API server is reached.
#[derive(Clone, Debug, Default)]
pub(super) struct Access {
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) context: Option<String>,
}

/// One kind of object in the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// Empty: the core group.
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    /// Whether only the metadata is asked for.
    pub(super) metadata_only: bool,
}

impl Resource {
    pub(super) fn new(group: &str, version: &str, plural: &str) -> Self {
        Self { group: group.into(), version: version.into(), plural: plural.into(), metadata_only: false }
    }

    /// The same without specification and status.
    pub(super) fn metadata(self) -> Self {
        Self { metadata_only: true, ..self }
    }

    /// Where all of them are.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.base(), self.plural)
    }

    /// Where those of a namespace are, or one of them.
    pub(super) fn path_of(&self, namespace: &str, name: &str) -> String {
        let mut path = self.base();
        if !namespace.is_empty() {
            path += &format!("/namespaces/{namespace}");
        }
        path += &format!("/{}", self.plural);
        if !name.is_empty() {
            path += &format!("/{name}");
        }
        path
    }

    fn base(&self) -> String {
        if self.group.is_empty() {
            return format!("/api/{}", self.version);
        }
        format!("/apis/{}/{}", self.group, self.version)
    }
}

/// A client of one API server. Cheap to share.
pub(super) struct Api {
    access: Access,
    client: Mutex<Option<Client>>,
}

impl Api {
    pub(super) fn new(access: Access) -> Self {
        Self { access, client: Mutex::default() }
    }

    /// Reads how the server is reached, and with which credentials, without asking it anything.
    pub(super) async fn connect(&self) -> Result<(), ApiError> {
        self.client().await.map(drop)
    }

    /// Namespace of the pod or of the context.
    pub(super) async fn namespace(&self) -> Result<String, ApiError> {
        Ok(self.client().await?.default_namespace().to_owned())
    }

    /// Has everything read anew before the next request, credentials too.
    pub(super) fn renew(&self) {
        self.slot().take();
    }

    fn slot(&self) -> MutexGuard<'_, Option<Client>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn client(&self) -> Result<Client, ApiError> {
        if let Some(client) = self.slot().clone() {
            return Ok(client);
        }
        let mut config = self.access.config().await?;
        // Requests are repeated here.
        config.default_retry = false;
        config.read_timeout = None;
        let client = Client::try_from(config).map_err(|error| ApiError::Config(chain(&error)))?;
        Ok(self.slot().insert(client).clone())
    }

    /// One object.
    pub(super) async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Bytes, ApiError> {
        let path = resource.path_of(namespace, name);
        self.whole("get", resource, Method::GET, &path, Vec::new()).await
    }

    /// What is at a path of the server itself.
    pub(super) async fn discover(&self, path: &str) -> Result<Bytes, ApiError> {
        self.whole("get", &Resource::new("", "v1", path), Method::GET, path, Vec::new()).await
    }

    /// One page of a list.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        query: &ListQuery<'_>,
    ) -> Result<Page<T>, ApiError> {
        let path = format!("{}?{query}", resource.path());
        Page::read(&self.whole("list", resource, Method::GET, &path, Vec::new()).await?)
    }

    /// Creates an object.
    pub(super) async fn create(&self, resource: &Resource, namespace: &str, body: Vec<u8>) -> Result<Bytes, ApiError> {
        self.whole("create", resource, Method::POST, &resource.path_of(namespace, ""), body).await
    }

    /// Replaces an object.
    pub(super) async fn update(
        &self,
        resource: &Resource,
        (namespace, name): (&str, &str),
        body: Vec<u8>,
    ) -> Result<Bytes, ApiError> {
        self.whole("update", resource, Method::PUT, &resource.path_of(namespace, name), body).await
    }

    /// What changes after that resource version, for so long at most.
    pub(super) async fn watch(&self, resource: &Resource, from: &str, lasts: Duration) -> Result<Lines, ApiError> {
        let (seconds, from) = (lasts.as_secs().max(1), page::escaped(from));
        let path = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={from}",
            resource.path()
        );
        Ok(Lines::new(self.send("watch", resource, Method::GET, &path, Vec::new()).await?.into_body()))
    }

    async fn whole(
        &self,
        verb: &'static str,
        resource: &Resource,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Bytes, ApiError> {
        let work = async {
            let mut body = self.send(verb, resource, method, path, body).await?.into_body();
            let mut whole = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| ApiError::Unreachable(chain(&error)))?;
                let Ok(data) = frame.into_data() else { continue };
                if whole.len() + data.len() > MOST_BYTES {
                    return Err(ApiError::Protocol(format!("more than {MOST_BYTES} bytes")));
                }
                whole.extend_from_slice(&data);
            }
            Ok(whole.freeze())
        };
        let late = |_| ApiError::Unreachable(format!("no answer to `{verb}` within {REQUEST_TIMEOUT:?}"));
        timeout(REQUEST_TIMEOUT, work).await.map_err(late)?
    }

    /// The answer, if it is a good one.
    async fn send(
        &self,
        verb: &'static str,
        resource: &Resource,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Body>, ApiError> {
        let accept = if resource.metadata_only { METADATA } else { JSON };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(ACCEPT, accept)
            .header(CONTENT_TYPE, JSON)
            .header(ACCEPT_ENCODING, "identity")
            .body(Body::from(body))
            .map_err(|error| ApiError::Protocol(error.to_string()))?;
        let client = self.client().await?;
        let answer = client.send(request).await.map_err(|error| ApiError::Unreachable(chain(&error)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (status, wait) = (answer.status(), retry_after(answer.headers()));
        let mut said = BytesMut::new();
        let mut body = answer.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            said.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if said.len() > MOST_ERROR_BYTES {
                break;
            }
        }
        Err(refusal(verb, resource, status, &said, wait))
    }
}

impl Access {
    async fn config(&self) -> Result<Config, ApiError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let found = match &self.kubeconfig {
            Some(path) => {
                let advice = |error: &dyn std::error::Error| {
                    let path = path.display();
                    ApiError::Config(format!(
                        "kubeconfig {path}: {}; see `producers.kubernetes.kubeconfig`",
                        chain(error)
                    ))
                };
                let kubeconfig = Kubeconfig::read_from(path).map_err(|error| advice(&error))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| advice(&error))?
            }
            None if self.context.is_some() => {
                let found = Config::from_kubeconfig(&options).await;
                found.map_err(|error| ApiError::Config(format!("kubeconfig: {}", chain(&error))))?
            }
            None => Config::infer().await.map_err(|error| {
                let text = chain(&error);
                ApiError::Config(format!(
                    "neither a kubeconfig nor a service account: {text}; set `producers.kubernetes.kubeconfig`"
                ))
            })?,
        };
        Ok(found)
    }
}

/// What a status object says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) message: String,
}

fn refusal(
    verb: &'static str,
    resource: &Resource,
    status: StatusCode,
    said: &[u8],
    retry_after: Option<Duration>,
) -> ApiError {
    let message = serde_json::from_slice::<Status>(said).map(|status| status.message).unwrap_or_default();
    let said = if message.is_empty() { String::from_utf8_lossy(said).trim().to_owned() } else { message };
    match status {
        StatusCode::GONE => ApiError::Gone,
        StatusCode::UNAUTHORIZED => ApiError::Unauthorized(said),
        StatusCode::FORBIDDEN => {
            let (resource, group) = (resource.plural.clone(), resource.group.clone());
            ApiError::Forbidden { verb, resource, group, said }
        }
        StatusCode::NOT_FOUND => ApiError::NotFound(resource.plural.clone()),
        StatusCode::CONFLICT => ApiError::Conflict,
        _ => ApiError::Status { code: status.as_u16(), said, retry_after },
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}
