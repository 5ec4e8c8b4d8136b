//! Tokens that are asked for.

use super::*;

/// A backend, whoever issues tokens for it, and a client of both.
struct World {
    backend: Script,
    issuer: Script,
    client: HttpClient,
}

impl World {
    async fn new() -> Self {
        let (backend, issuer) = (Script::start().await, Script::start().await);
        let oauth2 = OAuth2Config {
            token_url: format!("{}/token", issuer.url()),
            client_id: "me".into(),
            client_secret: Some(Secret::new(SECRET)),
            scopes: vec!["traces".into(), "write".into()],
            audience: Some("tempo".into()),
            ..OAuth2Config::default()
        };
        let auth = AuthConfig { oauth2: Some(oauth2), ..AuthConfig::default() };
        let client = Parts { auth, ..Parts::of(backend.url()) }.client().unwrap();
        Self { backend, issuer, client }
    }

    fn issues(&self, token: &str, expires_in: Option<u64>) {
        self.issuer
            .answers(axum::Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in})));
    }

    /// The tokens with which the backend was asked.
    fn used(&self) -> Vec<String> {
        let token = |seen: &Seen| seen.header("authorization").strip_prefix("Bearer ").unwrap().to_owned();
        self.backend.seen().iter().map(token).collect()
    }
}

#[tokio::test]
async fn a_token_is_asked_for_once_with_the_clients_own_credentials() {
    let world = World::new().await;
    world.issues("one", Some(3600));
    let (a, b) = tokio::join!(post(&world.client), post(&world.client));
    assert!(a.is_ok() && b.is_ok() && post(&world.client).await.is_ok());
    assert_eq!(world.used(), ["one", "one", "one"]);
    let asked = world.issuer.seen();
    let [asked] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((&*asked.path, asked.header("authorization")), ("/token", "Basic bWU6aHVudGVyMi1uZXZlci1zaG93bg=="));
    assert_eq!(asked.body, "grant_type=client_credentials&scope=traces+write&audience=tempo");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let world = World::new().await;
    world.issues("short", Some(1));
    world.issues("long", None);
    post(&world.client).await.unwrap();
    // Half of its life, since the usual margin is longer than that.
    tokio::time::sleep(Duration::from_millis(600)).await;
    post(&world.client).await.unwrap();
    post(&world.client).await.unwrap();
    assert_eq!(world.used(), ["short", "long", "long"]);
}

#[tokio::test]
async fn a_token_that_is_not_accepted_any_more_is_replaced_and_nobody_is_blamed() {
    let world = World::new().await;
    ["one", "two"].iter().for_each(|token| world.issues(token, Some(3600)));
    post(&world.client).await.unwrap();
    world.backend.answers(http::StatusCode::UNAUTHORIZED);
    assert_eq!(later(post(&world.client).await).0, "credentials");
    post(&world.client).await.unwrap();
    assert_eq!(world.used(), ["one", "one", "two"]);

    // gRPC says it in a header, under another status.
    world.issues("three", Some(3600));
    world.backend.answers((http::StatusCode::OK, [("grpc-status", "16")]));
    assert_eq!(later(post(&world.client).await).0, "credentials");
    post(&world.client).await.unwrap();
    assert_eq!(world.used().last().unwrap(), "three");
}

#[tokio::test]
async fn a_new_token_that_is_not_accepted_is_the_backends_answer() {
    let world = World::new().await;
    ["one", "two"].iter().for_each(|token| world.issues(token, Some(3600)));
    for token in ["one", "two"] {
        world.backend.answers(http::StatusCode::UNAUTHORIZED);
        assert_eq!(post(&world.client).await.unwrap().status, 401);
        assert_eq!(world.used().last().unwrap(), token, "each is tried once");
    }
}

#[tokio::test]
async fn whoever_is_late_does_not_take_a_new_token_away() {
    let world = World::new().await;
    ["one", "two"].iter().for_each(|token| world.issues(token, Some(3600)));
    post(&world.client).await.unwrap();
    let old = world.client.credentials.header().await.unwrap();
    assert!(world.client.credentials.refused(old.as_ref()).await);
    assert!(
        world.client.credentials.refused(old.as_ref()).await,
        "whoever had it, too, comes before there is a new one"
    );
    post(&world.client).await.unwrap();
    assert!(world.client.credentials.refused(old.as_ref()).await);
    post(&world.client).await.unwrap();
    assert_eq!(world.used(), ["one", "two", "two"]);
}

#[tokio::test]
async fn an_issuer_that_fails_is_asked_again_and_its_words_are_not_repeated() {
    let world = World::new().await;
    world.issuer.answers((http::StatusCode::BAD_REQUEST, SECRET));
    world.issuer.answers(format!("{{\"access_tokn\": \"{SECRET}\"}}"));
    world.issues("good", Some(3600));
    let at = format!("{}/token: ", world.issuer.url());
    let wrong = blocked(post(&world.client).await);
    assert_eq!(wrong, ("unauthorized", format!("{at}answered 400 Bad Request; check `auth`")));
    let away = later(post(&world.client).await);
    assert_eq!(away, ("credentials", format!("{at}the answer has no `access_token`")));
    post(&world.client).await.unwrap();
    assert_eq!(world.used(), ["good"]);
}

#[tokio::test]
async fn an_issuer_is_asked_over_http_1_even_where_the_backend_speaks_http_2_only() {
    let issuer = Script::start().await;
    issuer.answers(axum::Json(json!({"access_token": "good"})));
    let token_url = format!("{}/token", issuer.url());
    let oauth2 = OAuth2Config { token_url, client_secret: Some(Secret::new(SECRET)), ..OAuth2Config::default() };
    let auth = AuthConfig { oauth2: Some(oauth2), ..AuthConfig::default() };
    let client = Parts { auth, http2: true, ..Parts::of("http://127.0.0.1:1") }.client().unwrap();
    assert_eq!(later(post(&client).await).0, "unreachable");
    assert_eq!(issuer.seen().len(), 1);
}
