//! Lists, watches and single objects over HTTP.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::event::{OTHER_GROUP, in_other_group};
use super::store::{Entry, Told, status};
use super::{Compacted, EVENTS, Shared};

/// Bytes of a request's body at most.
const MOST_BODY: usize = 1 << 20;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

type Parameters = HashMap<String, String>;

/// A request that is let in.
struct Asked {
    /// As asked for.
    path: String,
    /// Where the objects are.
    stored: String,
    parameters: Parameters,
}

async fn answer(State(shared): State<Arc<Shared>>, Query(parameters): Query<Parameters>, request: Request) -> Response {
    let line = format!("{} {} ", request.method(), request.uri());
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    if let Some(refusal) = refused(&shared, &request, &parameters) {
        return refusal;
    }
    let path = request.uri().path().to_owned();
    if let Some(found) = discovery(&path) {
        return ok(&found);
    }
    let stored = if path == OTHER_GROUP { EVENTS.to_owned() } else { path.clone() };
    let asked = Asked { path, stored, parameters };
    match request.method().clone() {
        Method::GET if asked.parameters.contains_key("watch") => watch(shared, asked),
        Method::GET => match placed(&asked.path) {
            Some((collection, namespace, name)) => {
                let found = shared.store().named(&collection, &namespace, &name);
                found.map_or_else(|| refuse(404, "NotFound", &format!("\"{name}\" not found")), |object| ok(&object))
            }
            None => list(&shared, &asked).await,
        },
        method => {
            let body = axum::body::to_bytes(request.into_body(), MOST_BODY).await.unwrap_or_default();
            write(&shared, &method, &asked.path, &body)
        }
    }
}

/// What the script has against a request.
fn refused(shared: &Shared, request: &Request, parameters: &Parameters) -> Option<Response> {
    let script = shared.script();
    if let Some(code) = script.fails {
        return Some(refuse(code, "InternalError", "told to fail"));
    }
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if token != Some(&format!("Bearer {}", script.token)) {
        return Some(refuse(401, "Unauthorized", "Unauthorized"));
    }
    let path = request.uri().path();
    let named = placed(path);
    let resource = named.as_ref().map_or(path, |(collection, _, _)| collection).rsplit('/').next().unwrap_or_default();
    let verb = match *request.method() {
        Method::GET if parameters.contains_key("watch") => "watch",
        Method::GET if named.is_none() => "list",
        Method::GET => "get",
        Method::POST => "create",
        _ => "update",
    };
    let forbidden = script.forbidden.iter().any(|(v, r)| v == verb && r == resource);
    let said =
        || format!("{resource} is forbidden: User \"it\" cannot {verb} resource \"{resource}\" at the cluster scope");
    forbidden.then(|| refuse(403, "Forbidden", &said()))
}

/// The kinds of core/v1 and apps/v1, as rules ask for them.
fn discovery(path: &str) -> Option<Value> {
    let kinds = match path {
        "/api/v1" => json!([{"name": "pods/log", "kind": "Pod"}, {"name": "pods", "kind": "Pod"}]),
        "/apis/apps/v1" => json!([{"name": "deployments", "kind": "Deployment"}]),
        _ => return None,
    };
    Some(json!({"kind": "APIResourceList", "resources": kinds}))
}

/// Path of the kind, namespace and name of a path of one object.
pub(crate) fn placed(path: &str) -> Option<(String, String, String)> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (base, rest) = match parts.first()? {
        &"api" => parts.split_at_checked(2)?,
        _ => parts.split_at_checked(3)?,
    };
    let base = format!("/{}", base.join("/"));
    match rest {
        ["namespaces", namespace, plural, name] => {
            Some((format!("{base}/{plural}"), (*namespace).to_owned(), (*name).to_owned()))
        }
        [plural, name] => Some((format!("{base}/{plural}"), String::new(), (*name).to_owned())),
        _ => None,
    }
}

/// Creates or replaces an object, the latter only where its resource version is the current one.
fn write(shared: &Shared, method: &Method, path: &str, body: &[u8]) -> Response {
    let Ok(object) = serde_json::from_slice::<Value>(body) else { return refuse(400, "BadRequest", "no JSON") };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let full = if *method == Method::POST { format!("{path}/{name}") } else { path.to_owned() };
    let Some((collection, namespace, name)) = placed(&full) else { return refuse(404, "NotFound", "no such kind") };
    let mut store = shared.store();
    let before = store.named(&collection, &namespace, &name);
    let given = object["metadata"]["resourceVersion"].clone();
    let fits = match (&before, *method == Method::POST) {
        (None, true) => true,
        (Some(before), false) => before["metadata"]["resourceVersion"] == given,
        _ => false,
    };
    if !fits {
        return refuse(409, "Conflict", "the object has been modified");
    }
    let mut object = object;
    object["metadata"]["namespace"] = namespace.clone().into();
    let version = store.put(&collection, object);
    store.tell(version);
    store.named(&collection, &namespace, &name).map_or_else(|| refuse(500, "", ""), |object| ok(&object))
}

async fn list(shared: &Shared, asked: &Asked) -> Response {
    let of = |name: &str| asked.parameters.get(name).map(String::as_str).unwrap_or_default();
    let limit = of("limit").parse().ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let takes = shared.script().page_takes;
    sleep(takes).await;
    let gone = || refuse(410, "Expired", "The provided continue parameter is too old");
    let (version, from) = if let Some((version, from)) = of("continue").split_once(':') {
        let mut script = shared.script();
        if script.pages_gone > 0 {
            script.pages_gone -= 1;
            return gone();
        }
        (version.parse().unwrap_or_default(), from.parse().unwrap_or(0))
    } else if of("resourceVersionMatch") == "Exact" {
        (of("resourceVersion").parse().unwrap_or_default(), 0)
    } else {
        (shared.store().revision, 0)
    };
    let mut store = shared.store();
    if version < store.compacted {
        return gone();
    }
    if version > store.revision {
        let current = store.revision;
        return refuse(504, "Timeout", &format!("Too large resource version: {version}, current: {current}"));
    }
    let list = store.list(&asked.stored, version);
    drop(store);
    let end = list.len().min(limit.saturating_add(from));
    let token = if end < list.len() { format!("{version}:{end}") } else { String::new() };
    let items: Vec<String> = list[from.min(end)..end].iter().map(|object| shown(&asked.path, object)).collect();
    let head = json!({"resourceVersion": version.to_string(), "continue": token});
    let body =
        format!("{{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":{head},\"items\":[{}]}}", items.join(","));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// An object as the path shows it.
fn shown(path: &str, object: &Value) -> String {
    if path == OTHER_GROUP { in_other_group(object).to_string() } else { object.to_string() }
}

fn watch(shared: Arc<Shared>, asked: Asked) -> Response {
    let of = |name: &str| asked.parameters.get(name).map(String::as_str).unwrap_or_default();
    let lasts = Duration::from_secs(of("timeoutSeconds").parse().unwrap_or(1800));
    let from: u64 = of("resourceVersion").parse().unwrap_or_default();
    let (sender, receiver) = mpsc::channel::<Result<Bytes, Infallible>>(16);
    let mut store = shared.store();
    let script = shared.script().compacted;
    if from < store.compacted {
        match script {
            Compacted::Status => return refuse(410, "Expired", "too old resource version"),
            Compacted::Object => {
                let line = error_line();
                return stream(Body::from(line));
            }
            Compacted::Empty => return stream(Body::empty()),
            Compacted::Silent => {}
        }
    }
    let silent = from < store.compacted;
    let backlog = if silent { Vec::new() } else { store.after(&asked.stored, from) };
    let at = store.told.len();
    store.watches += 1;
    drop(store);
    let watching = Watching { shared: Arc::clone(&shared), asked, at, silent };
    tokio::spawn(async move {
        let shared = Arc::clone(&watching.shared);
        let until = Instant::now() + lasts;
        let _ = tokio::select! {
            over = watching.run(backlog, sender.clone(), until) => over,
            () = sender.closed() => None,
        };
        shared.store().watches -= 1;
    });
    let lines = futures::stream::unfold(receiver, |mut lines| async move { Some((lines.recv().await?, lines)) });
    stream(Body::from_stream(lines))
}

struct Watching {
    shared: Arc<Shared>,
    asked: Asked,
    at: usize,
    silent: bool,
}

impl Watching {
    /// What happened before, then what is told, until it is over.
    async fn run(
        mut self,
        backlog: Vec<Entry>,
        lines: mpsc::Sender<Result<Bytes, Infallible>>,
        until: Instant,
    ) -> Option<()> {
        let mut news = self.shared.news.subscribe();
        for entry in backlog {
            lines.send(Ok(self.line(&entry))).await.ok()?;
        }
        let bookmarks = self.asked.parameters.get("allowWatchBookmarks").is_some_and(|value| value == "true");
        loop {
            let told: Vec<Told> = self.shared.store().told[self.at..].to_vec();
            self.at += told.len();
            for told in told {
                match told {
                    _ if self.silent => {}
                    Told::Entry(entry) if entry.path == self.asked.stored => {
                        lines.send(Ok(self.line(&entry))).await.ok()?;
                    }
                    Told::Entry(_) => {}
                    Told::Bookmark(version) if bookmarks => {
                        let object = json!({"metadata": {"resourceVersion": version.to_string()}});
                        let line = format!("{}\n", json!({"type": "BOOKMARK", "object": object}));
                        lines.send(Ok(line.into())).await.ok()?;
                    }
                    Told::Bookmark(_) => {}
                    Told::Expired => {
                        lines.send(Ok(error_line().into())).await.ok()?;
                        return None;
                    }
                    Told::End => return None,
                }
            }
            timeout_at(until, news.changed()).await.ok()?.ok()?;
        }
    }

    fn line(&self, entry: &Entry) -> Bytes {
        format!("{{\"type\":\"{}\",\"object\":{}}}\n", entry.kind, shown(&self.asked.path, &entry.object)).into()
    }
}

fn error_line() -> String {
    format!("{}\n", json!({"type": "ERROR", "object": status(410, "Expired", "too old resource version")}))
}

fn stream(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn ok(object: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], object.to_string()).into_response()
}

fn refuse(code: u16, reason: &str, message: &str) -> Response {
    let code_of = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code_of, [(header::CONTENT_TYPE, "application/json")], status(code, reason, message).to_string()).into_response()
}
