//! A token endpoint of OAuth 2.0, for clients that have credentials of their own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Form, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use crate::tempo::lock;
use crate::tempo::serve::Server;

/// The one client.
pub const CLIENT_ID: &str = "afflux";
/// Its secret: nothing may ever print it.
pub const CLIENT_SECRET: &str = "swordfish-never-shown";

/// A running endpoint, stopped when dropped.
#[derive(Debug)]
pub struct TokenEndpoint {
    server: Server,
    issued: Arc<Issued>,
}

/// Tokens and how long they are good.
#[derive(Debug)]
pub struct Issued {
    life: Duration,
    tokens: Mutex<HashMap<String, Instant>>,
    forms: Mutex<Vec<HashMap<String, String>>>,
    failing: AtomicBool,
}

impl Issued {
    /// Whether an `Authorization` bears a token that is good now.
    pub fn admits(&self, authorization: &str) -> bool {
        let token = authorization.strip_prefix("Bearer ");
        let tokens = lock(&self.tokens);
        token.and_then(|token| tokens.get(token)).is_some_and(|ends| Instant::now() < *ends)
    }

    /// Ends all tokens now, whatever their life.
    pub fn revoke(&self) {
        lock(&self.tokens).clear();
    }

    /// How many were asked for with success.
    pub fn count(&self) -> usize {
        lock(&self.forms).len()
    }

    /// What was asked in the requests for them.
    pub fn forms(&self) -> Vec<HashMap<String, String>> {
        lock(&self.forms).clone()
    }

    /// Whether it answers 503 from now on.
    pub fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::Release);
    }
}

impl TokenEndpoint {
    /// Listens on a free port of the loopback; tokens live for so long, in whole seconds.
    pub async fn start(life: Duration) -> anyhow::Result<Self> {
        let issued =
            Issued { life, tokens: Mutex::default(), forms: Mutex::default(), failing: AtomicBool::new(false) };
        let issued = Arc::new(issued);
        let router = axum::Router::new().route("/token", post(token)).with_state(Arc::clone(&issued));
        Ok(Self { server: Server::start(router, None).await?, issued })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}/token", self.server.url())
    }

    /// What it has issued, for whoever checks tokens.
    pub fn issued(&self) -> Arc<Issued> {
        Arc::clone(&self.issued)
    }
}

async fn token(
    State(issued): State<Arc<Issued>>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    if issued.failing.load(Ordering::Acquire) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let expected = format!("Basic {}", STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}")));
    if headers.get(header::AUTHORIZATION).is_none_or(|value| *value != *expected) {
        return (StatusCode::UNAUTHORIZED, axum::Json(json!({"error": "invalid_client"}))).into_response();
    }
    if form.get("grant_type").is_none_or(|grant| grant != "client_credentials") {
        return (StatusCode::BAD_REQUEST, axum::Json(json!({"error": "unsupported_grant_type"}))).into_response();
    }
    let token = format!("token-{:032x}", rand::random::<u128>());
    lock(&issued.tokens).insert(token.clone(), Instant::now() + issued.life);
    lock(&issued.forms).push(form);
    let answer = json!({"access_token": token, "token_type": "Bearer", "expires_in": issued.life.as_secs()});
    axum::Json(answer).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_good_for_its_life_or_until_it_is_revoked() {
        let endpoint = TokenEndpoint::start(Duration::from_secs(1)).await.unwrap();
        let client = reqwest::Client::new();
        let ask = |secret: &str, grant: &str| {
            let request = client.post(endpoint.url()).basic_auth(CLIENT_ID, Some(secret));
            request.form(&[("grant_type", grant), ("scope", "traces")]).send()
        };
        assert_eq!(ask("wrong", "client_credentials").await.unwrap().status(), 401);
        assert_eq!(ask(CLIENT_SECRET, "password").await.unwrap().status(), 400);
        let answer: serde_json::Value = ask(CLIENT_SECRET, "client_credentials").await.unwrap().json().await.unwrap();
        let header = format!("Bearer {}", answer["access_token"].as_str().unwrap());
        let issued = endpoint.issued();
        assert_eq!((issued.count(), &*issued.forms()[0]["scope"], &answer["expires_in"]), (1, "traces", &json!(1)));
        assert!(issued.admits(&header) && !issued.admits("Bearer token-0"));
        tokio::time::sleep(Duration::from_millis(1050)).await;
        assert!(!issued.admits(&header));
        let answer: serde_json::Value = ask(CLIENT_SECRET, "client_credentials").await.unwrap().json().await.unwrap();
        issued.revoke();
        assert!(!issued.admits(&format!("Bearer {}", answer["access_token"].as_str().unwrap())));
        issued.fail(true);
        assert_eq!(ask(CLIENT_SECRET, "client_credentials").await.unwrap().status(), 503);
    }
}
