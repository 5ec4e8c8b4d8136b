//! Configuration of HTTP clients that sinks have in common.

use std::path::PathBuf;

use afflux_bus::kafka::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a sink proves who it is; one way at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// By name and password.
    pub basic: Option<BasicConfig>,
    /// By a token.
    pub bearer: Option<BearerConfig>,
    /// By a token that is asked for with the client's own credentials (OAuth 2.0, client credentials grant), and
    /// again before it expires.
    pub oauth2: Option<OAuth2Config>,
}

/// Name and password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BasicConfig {
    /// The name.
    pub username: String,
    /// The password.
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret>,
    /// File that holds it; read at each request, so that it may change.
    pub password_file: Option<PathBuf>,
}

/// A token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BearerConfig {
    /// The token.
    #[schemars(with = "Option<String>")]
    pub token: Option<Secret>,
    /// File that holds it; read at each request, so that somebody else can keep it fresh.
    pub token_file: Option<PathBuf>,
}

/// Where tokens come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OAuth2Config {
    /// URL of the token endpoint.
    pub token_url: String,
    /// The client's name.
    pub client_id: String,
    /// Its secret.
    #[schemars(with = "Option<String>")]
    pub client_secret: Option<Secret>,
    /// File that holds it; read whenever a token is asked for.
    pub client_secret_file: Option<PathBuf>,
    /// What the token is to be good for.
    pub scopes: Vec<String>,
    /// For whom it is to be, where the endpoint asks for that.
    pub audience: Option<String>,
}

/// TLS of a client, which is on where the URL begins with `https://`. All files are PEM and read at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientTlsConfig {
    /// File of the authorities that may have signed the server's certificate, besides the system's.
    pub ca: Option<PathBuf>,
    /// File of this client's certificate, followed by those between it and its authority.
    pub certificate: Option<PathBuf>,
    /// File of the key to it.
    pub key: Option<PathBuf>,
}
