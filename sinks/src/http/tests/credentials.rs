//! Names with passwords, tokens, and files that hold them.

use super::*;

fn basic(password: Option<&str>, password_file: Option<PathBuf>) -> AuthConfig {
    let basic = BasicConfig { username: "me".into(), password: password.map(Secret::new), password_file };
    AuthConfig { basic: Some(basic), ..AuthConfig::default() }
}

fn bearer(token: Option<&str>, token_file: Option<PathBuf>) -> AuthConfig {
    AuthConfig { bearer: Some(BearerConfig { token: token.map(Secret::new), token_file }), ..AuthConfig::default() }
}

fn oauth2(token_url: &str, client_secret: Option<&str>) -> OAuth2Config {
    let client_secret = client_secret.map(Secret::new);
    OAuth2Config { token_url: token_url.into(), client_secret, ..OAuth2Config::default() }
}

#[tokio::test]
async fn a_name_and_its_password_are_sent_as_configured_or_as_the_file_says_now() {
    let (script, dir) = (Script::start().await, tempfile::tempdir().unwrap());
    let file = dir.path().join("password");
    std::fs::write(&file, "from a file\n").unwrap();
    for (auth, expected) in [
        // `me:pass wörd` and `me:from a file`.
        (basic(Some("pass wörd"), None), "Basic bWU6cGFzcyB3w7ZyZA=="),
        (basic(None, Some(file)), "Basic bWU6ZnJvbSBhIGZpbGU="),
        (bearer(Some("t0ken"), None), "Bearer t0ken"),
    ] {
        let parts = Parts { auth, ..Parts::of(script.url()) };
        post(&parts.client().unwrap()).await.unwrap();
        assert_eq!(script.seen().last().unwrap().header("authorization"), expected);
    }
}

#[tokio::test]
async fn a_token_file_is_read_at_every_request() {
    let (script, dir) = (Script::start().await, tempfile::tempdir().unwrap());
    let file = dir.path().join("token");
    let parts = Parts { auth: bearer(None, Some(file.clone())), ..Parts::of(script.url()) };
    let client = parts.client().unwrap();
    let (reason, error) = blocked(post(&client).await);
    assert!(reason == "unauthorized" && error.contains("token: No such file"), "{error}");
    for token in ["one", "two"] {
        std::fs::write(&file, format!(" {token}\n")).unwrap();
        post(&client).await.unwrap();
        assert_eq!(script.seen().last().unwrap().header("authorization"), format!("Bearer {token}"));
    }
    std::fs::write(&file, format!("{SECRET}\nsecond line")).unwrap();
    let (reason, error) = blocked(post(&client).await);
    assert_eq!((reason, &*error), ("unauthorized", "the credentials are no valid header; check `auth`"));
}

#[test]
fn credentials_that_contradict_themselves_are_named_by_their_key() {
    let file = || Some(PathBuf::from("/file"));
    let oauth2 = |url, secret| AuthConfig { oauth2: Some(oauth2(url, secret)), ..AuthConfig::default() };
    let both = AuthConfig { bearer: bearer(Some(SECRET), None).bearer, ..basic(Some(SECRET), None) };
    for (auth, expected) in [
        (both, "`auth` takes one of `basic`, `bearer` and `oauth2`"),
        (basic(None, None), "`auth.basic.password` or `auth.basic.password_file` is missing"),
        (basic(Some(SECRET), file()), "`auth.basic.password` and `auth.basic.password_file` exclude each other"),
        (bearer(None, None), "`auth.bearer.token` or `auth.bearer.token_file` is missing"),
        (bearer(Some(SECRET), file()), "`auth.bearer.token` and `auth.bearer.token_file` exclude each other"),
        (oauth2("http://a", None), "`auth.oauth2.client_secret` or `auth.oauth2.client_secret_file` is missing"),
        (oauth2("nowhere", Some(SECRET)), "`auth.oauth2.token_url: nowhere` is no URL"),
    ] {
        let error = Parts { auth, ..Parts::of("http://a:1") }.client().unwrap_err().to_string();
        assert!(error.starts_with("sinks.x.") && error.contains(expected), "{error} instead of {expected}");
        assert!(!error.contains(SECRET), "{error}");
    }
}
