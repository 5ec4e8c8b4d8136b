//! Credentials: what goes into the `Authorization` header.

use std::path::Path;
use std::time::{Duration, Instant};

use afflux_bus::kafka::Secret;
use http::HeaderValue;
use reqwest::Client;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::config::{AuthConfig, BasicConfig, BearerConfig, OAuth2Config};

/// How long before its end a token is asked for anew.
const EARLY: Duration = Duration::from_secs(30);
/// Life of a token whose endpoint does not say.
const UNSAID: Duration = Duration::from_secs(300);
/// How long the token endpoint may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the header of each request.
#[derive(Debug)]
pub(super) enum Credentials {
    Nobody,
    Basic(BasicConfig),
    Bearer(BearerConfig),
    OAuth2(Box<OAuth2>),
}

/// Tokens of an endpoint.
#[derive(Debug)]
pub(super) struct OAuth2 {
    config: OAuth2Config,
    client: Client,
    tokens: Mutex<Tokens>,
}

#[derive(Debug, Default)]
struct Tokens {
    current: Option<Token>,
    /// The last one that a server did not accept.
    refused: Option<Token>,
}

/// Why there are no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoCredentials {
    /// Whoever issues them is away.
    Later(String),
    /// Somebody has to mend something.
    Wrong(String),
}

impl From<String> for NoCredentials {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

#[derive(Clone, Debug)]
struct Token {
    value: Secret,
    ends: Instant,
    /// Whether a server has let it pass.
    accepted: bool,
}

impl Token {
    fn is(&self, header: &HeaderValue) -> bool {
        header.as_bytes().strip_prefix(b"Bearer ") == Some(self.value.expose().as_bytes())
    }
}

/// What is read of a token endpoint's answer.
#[derive(Deserialize)]
struct Issued {
    access_token: String,
    expires_in: Option<u64>,
}

impl Credentials {
    /// Of the configuration; the reason where it contradicts itself.
    pub(super) fn new(config: &AuthConfig, client: &Client) -> Result<Self, String> {
        check(config)?;
        Ok(match config.clone() {
            AuthConfig { basic: Some(basic), .. } => Self::Basic(basic),
            AuthConfig { bearer: Some(bearer), .. } => Self::Bearer(bearer),
            AuthConfig { oauth2: Some(config), .. } => {
                Self::OAuth2(Box::new(OAuth2 { config, client: client.clone(), tokens: Mutex::default() }))
            }
            _ => Self::Nobody,
        })
    }

    /// The header's value; the reason why there is none.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, NoCredentials> {
        let text = match self {
            Self::Nobody => return Ok(None),
            Self::Basic(basic) => {
                use base64::Engine as _;
                let password = secret(basic.password.as_ref(), basic.password_file.as_deref()).await?;
                let pair = format!("{}:{}", basic.username, password.expose());
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
            }
            Self::Bearer(bearer) => {
                let token = secret(bearer.token.as_ref(), bearer.token_file.as_deref()).await?;
                format!("Bearer {}", token.expose())
            }
            Self::OAuth2(oauth2) => format!("Bearer {}", oauth2.token().await?.expose()),
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| "the credentials are no valid header".to_owned())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The server did not accept what [`Self::header`] gave. Whether that was a token that had been accepted before, and a
    /// new one will be asked for.
    pub(super) async fn refused(&self, header: Option<&HeaderValue>) -> bool {
        let (Self::OAuth2(oauth2), Some(header)) = (self, header) else { return false };
        let mut tokens = oauth2.tokens.lock().await;
        if let Some(token) = tokens.current.take_if(|token| token.is(header)) {
            tokens.refused = Some(token);
        }
        // Whoever is late must not take a new one away.
        match &tokens.refused {
            Some(refused) if refused.is(header) => refused.accepted,
            _ => tokens.current.is_some(),
        }
    }

    /// The server did accept it.
    pub(super) async fn accepted(&self, header: Option<&HeaderValue>) {
        let (Self::OAuth2(oauth2), Some(header)) = (self, header) else { return };
        let mut tokens = oauth2.tokens.lock().await;
        let Tokens { current, refused } = &mut *tokens;
        let used = [current, refused].into_iter().flatten().filter(|token| token.is(header));
        used.for_each(|token| token.accepted = true);
    }
}

/// Whether the configuration is complete and says one thing.
fn check(config: &AuthConfig) -> Result<(), String> {
    let AuthConfig { basic, bearer, oauth2 } = config;
    if usize::from(basic.is_some()) + usize::from(bearer.is_some()) + usize::from(oauth2.is_some()) > 1 {
        return Err("`auth` takes one of `basic`, `bearer` and `oauth2`".into());
    }
    let one_of = |key: &str, value: bool, file: bool| match (value, file) {
        (true, true) => Err(format!("`auth.{key}` and `auth.{key}_file` exclude each other")),
        (false, false) => Err(format!("`auth.{key}` or `auth.{key}_file` is missing")),
        _ => Ok(()),
    };
    if let Some(basic) = basic {
        one_of("basic.password", basic.password.is_some(), basic.password_file.is_some())?;
    }
    if let Some(bearer) = bearer {
        one_of("bearer.token", bearer.token.is_some(), bearer.token_file.is_some())?;
    }
    if let Some(oauth2) = oauth2 {
        one_of("oauth2.client_secret", oauth2.client_secret.is_some(), oauth2.client_secret_file.is_some())?;
        if reqwest::Url::parse(&oauth2.token_url).is_err() {
            return Err(format!("`auth.oauth2.token_url: {}` is no URL", oauth2.token_url));
        }
    }
    Ok(())
}

/// A secret as configured, or as the file holds it now.
async fn secret(value: Option<&Secret>, file: Option<&Path>) -> Result<Secret, String> {
    match (value, file) {
        (Some(value), _) => Ok(value.clone()),
        (None, Some(file)) => {
            let text = tokio::fs::read_to_string(file).await.map_err(|error| format!("{}: {error}", file.display()))?;
            Ok(Secret::new(text.trim()))
        }
        (None, None) => Err("no secret is configured".into()),
    }
}

impl OAuth2 {
    /// The token in use, or a new one.
    async fn token(&self) -> Result<Secret, NoCredentials> {
        // Whoever comes meanwhile waits for the one request.
        let mut tokens = self.tokens.lock().await;
        if let Some(token) = tokens.current.as_ref().filter(|token| Instant::now() < token.ends) {
            return Ok(token.value.clone());
        }
        let issued = self.ask().await?;
        let life = issued.expires_in.map_or(UNSAID, Duration::from_secs);
        // A life as short as the margin would have every request ask.
        let ends = Instant::now() + life.saturating_sub(EARLY).max(life / 2);
        let value = Secret::new(issued.access_token);
        tokens.current = Some(Token { value: value.clone(), ends, accepted: false });
        Ok(value)
    }

    async fn ask(&self) -> Result<Issued, NoCredentials> {
        let config = &self.config;
        let of_endpoint = |reason: &dyn std::fmt::Display| format!("{}: {reason}", config.token_url);
        let secret = secret(config.client_secret.as_ref(), config.client_secret_file.as_deref()).await?;
        let scope = config.scopes.join(" ");
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend((!scope.is_empty()).then_some(("scope", scope.as_str())));
        form.extend(config.audience.as_deref().map(|audience| ("audience", audience)));
        let request = self.client.post(&config.token_url).timeout(TIMEOUT);
        let request = request.basic_auth(&config.client_id, Some(secret.expose())).form(&form);
        let sent = request.send().await;
        let response = sent.map_err(|error| NoCredentials::Later(of_endpoint(&super::because(&error))))?;
        let status = response.status();
        let answered = of_endpoint(&format_args!("answered {status}"));
        match status.as_u16() {
            200..=299 => {}
            408 | 429 | 500..=599 => return Err(NoCredentials::Later(answered)),
            _ => return Err(NoCredentials::Wrong(answered)),
        }
        // The parser's own words might quote the token.
        response.json().await.map_err(|_| NoCredentials::Later(of_endpoint(&"the answer has no `access_token`")))
    }
}
