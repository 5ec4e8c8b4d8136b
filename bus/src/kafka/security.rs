//! TLS and SASL: how a client knows the brokers, and how it proves to them who it is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

/// What must not be shown: `Debug` hides it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret in custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for whoever has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Encryption, and certificates of both sides. All files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaTls {
    /// Certificates of the authorities that may have signed a broker's; `None` is those of the system.
    pub ca: Option<PathBuf>,
    /// This client's certificate, followed by those between it and its authority.
    pub certificate: Option<PathBuf>,
    /// The key to it.
    pub key: Option<PathBuf>,
    /// What the key is encrypted with.
    pub key_password: Option<Secret>,
    /// The file that holds it.
    pub key_password_file: Option<PathBuf>,
    /// Whether a broker's certificate must name the host that was asked for.
    pub verify_hostname: bool,
}

impl Default for KafkaTls {
    /// The system's authorities, no certificate of the client's own.
    fn default() -> Self {
        Self {
            ca: None,
            certificate: None,
            key: None,
            key_password: None,
            key_password_file: None,
            verify_hostname: true,
        }
    }
}

/// Authentication by name and password, or by a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaSasl {
    /// How.
    pub mechanism: Option<SaslMechanism>,
    /// The name, for all mechanisms with a password.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The file that holds it, read when connecting.
    pub password_file: Option<PathBuf>,
    /// The file that holds the token, a JWT; read again before the token in use expires.
    pub token_file: Option<PathBuf>,
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password as it is: to be used over TLS.
    Plain,
    /// A proof that one knows the password.
    ScramSha256,
    /// As [`SaslMechanism::ScramSha256`], with the longer hash.
    ScramSha512,
    /// A token that someone else has signed.
    OauthBearer,
}

impl SaslMechanism {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OauthBearer];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// What is wrong with a section: the key within it, and why.
pub(super) type Wrong = (&'static str, String);

fn wrong<T>(key: &'static str, reason: impl Into<String>) -> Result<T, Wrong> {
    Err((key, reason.into()))
}

impl KafkaTls {
    /// librdkafka settings that this section decides.
    pub(super) const OWNED: [&str; 11] = [
        "security.protocol",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.location",
        "ssl.keystore.password",
    ];

    pub(super) fn validate(&self) -> Result<(), Wrong> {
        match (&self.certificate, &self.key) {
            (Some(_), None) => return wrong("key", "is not set, but `certificate` is; a certificate needs its key"),
            (None, Some(_)) => return wrong("certificate", "is not set, but `key` is; a key needs its certificate"),
            _ => {}
        }
        if self.key_password.is_some() && self.key_password_file.is_some() {
            return wrong("key_password_file", "is set, and so is `key_password`; set one of them");
        }
        if self.key.is_none() && self.key_password.is_some() {
            return wrong("key_password", "is set without `key`");
        }
        if self.key.is_none() && self.key_password_file.is_some() {
            return wrong("key_password_file", "is set without `key`");
        }
        Ok(())
    }

    /// Takes the password out of its file and sees to it that the others can be read.
    pub(super) fn read_files(&mut self) -> Result<(), Wrong> {
        let files = [("ca", &self.ca), ("certificate", &self.certificate), ("key", &self.key)];
        for (key, file) in files {
            if let Some(file) = file {
                // A folder of certificates is librdkafka's to read.
                if key != "ca" || !file.is_dir() {
                    read(key, file)?;
                }
            }
        }
        if let Some(file) = self.key_password_file.take() {
            self.key_password = Some(secret("key_password_file", &file)?);
        }
        Ok(())
    }

    pub(super) fn apply(&self, config: &mut ClientConfig) {
        let mut set = |key: &str, file: &Option<PathBuf>| {
            if let Some(file) = file {
                config.set(key, file.to_string_lossy());
            }
        };
        set("ssl.ca.location", &self.ca);
        set("ssl.certificate.location", &self.certificate);
        set("ssl.key.location", &self.key);
        if let Some(password) = &self.key_password {
            config.set("ssl.key.password", password.expose());
        }
        let identification = if self.verify_hostname { "https" } else { "none" };
        config.set("ssl.endpoint.identification.algorithm", identification);
    }
}

impl KafkaSasl {
    /// librdkafka settings that this section decides.
    pub(super) const OWNED: [&str; 5] =
        ["security.protocol", "sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password"];
    /// What further settings that this section decides begin with.
    pub(super) const OWNED_PREFIXES: [&str; 2] = ["sasl.oauthbearer.", "enable.sasl.oauthbearer."];

    /// The file of the token, where that is the mechanism.
    pub(super) fn token_file(&self) -> Option<&Path> {
        let by_token = self.mechanism == Some(SaslMechanism::OauthBearer);
        self.token_file.as_deref().filter(|_| by_token)
    }

    pub(super) fn validate(&self) -> Result<(), Wrong> {
        let Some(mechanism) = self.mechanism else {
            let names = SaslMechanism::ALL.map(SaslMechanism::name).join(", ");
            return wrong("mechanism", format!("is not set; write one of {names}"));
        };
        let name = mechanism.name();
        if mechanism == SaslMechanism::OauthBearer {
            if self.token_file.is_none() {
                return wrong("token_file", format!("is not set; mechanism {name} takes its token from there"));
            }
            let others = [
                ("username", self.username.is_some()),
                ("password", self.password.is_some()),
                ("password_file", self.password_file.is_some()),
            ];
            if let Some((key, _)) = others.into_iter().find(|(_, set)| *set) {
                return wrong(key, format!("is set, but mechanism {name} takes everything from `token_file`"));
            }
            return Ok(());
        }
        if self.token_file.is_some() {
            return wrong("token_file", format!("is set, but mechanism {name} takes a password"));
        }
        if self.username.as_deref().unwrap_or_default().is_empty() {
            return wrong("username", format!("is not set; mechanism {name} needs it"));
        }
        match (&self.password, &self.password_file) {
            (None, None) => wrong("password", format!("is not set, nor `password_file`; mechanism {name} needs one")),
            (Some(_), Some(_)) => wrong("password_file", "is set, and so is `password`; set one of them"),
            (Some(password), None) if password.expose().is_empty() => wrong("password", "is empty"),
            _ => Ok(()),
        }
    }

    /// Takes the password out of its file and sees to it that there is a token.
    pub(super) fn read_files(&mut self) -> Result<(), Wrong> {
        if let Some(file) = self.password_file.take() {
            self.password = Some(secret("password_file", &file)?);
        }
        if let Some(file) = &self.token_file {
            super::oauth::read(file).map_err(|reason| ("token_file", format!("names {reason}")))?;
        }
        Ok(())
    }

    pub(super) fn apply(&self, config: &mut ClientConfig) {
        if let Some(mechanism) = self.mechanism {
            config.set("sasl.mechanism", mechanism.name());
        }
        if let Some(username) = &self.username {
            config.set("sasl.username", username);
        }
        if let Some(password) = &self.password {
            config.set("sasl.password", password.expose());
        }
    }
}

/// A file's text; errors name the file.
fn read(key: &'static str, file: &Path) -> Result<String, Wrong> {
    fs::read_to_string(file).map_err(|error| (key, format!("names {}: {error}", file.display())))
}

/// A secret out of its file, without the line's end that editors add.
fn secret(key: &'static str, file: &Path) -> Result<Secret, Wrong> {
    let text = read(key, file)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        wrong(key, format!("names {}, which is empty", file.display()))
    } else {
        Ok(Secret::new(text))
    }
}
