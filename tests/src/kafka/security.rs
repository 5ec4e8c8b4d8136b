//! Certificates, users and tokens: what a broker and its clients need to know each other.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

/// The one user of the broker, by every mechanism.
pub const USER: &str = "afflux";
/// The user's password: nothing may ever print it.
pub const PASSWORD: &str = "hunter2-never-shown";

/// Extensions of the certificates, by who they are for. The broker's names no host but this address.
const EXTENSIONS: &str = "[req]\ndistinguished_name = dn\n[dn]\n\
    [authority]\nbasicConstraints = critical, CA:TRUE\nsubjectKeyIdentifier = hash\n\
    [broker]\nsubjectAltName = IP:127.0.0.1\n\
    [client]\nextendedKeyUsage = clientAuth\n";

/// Keys and certificates in a folder of their own, removed when dropped.
#[derive(Debug)]
pub struct Security {
    dir: TempDir,
}

impl Security {
    pub(super) fn new() -> anyhow::Result<Self> {
        let security = Self { dir: tempfile::Builder::new().prefix("afflux-tls-").tempdir()? };
        fs::write(security.path("extensions"), EXTENSIONS)?;
        security.authority("ca")?;
        security.authority("other-ca")?;
        security.certificate("broker")?;
        security.certificate("client")?;
        let client = security.path("client.key").display().to_string();
        let encrypted = security.path("client-encrypted.key").display().to_string();
        let password = format!("pass:{PASSWORD}");
        openssl(&["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", &client, "-out", &encrypted, "-passout", &password])?;
        let parts = [security.path("broker.key"), security.path("broker.pem")];
        let texts = parts.iter().map(fs::read_to_string).collect::<Result<String, _>>()?;
        fs::write(security.path("broker-keystore.pem"), texts)?;
        Ok(security)
    }

    /// Certificate of the authority that has signed all others.
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Certificate of an authority that has signed nothing.
    pub fn other_ca(&self) -> PathBuf {
        self.path("other-ca.pem")
    }

    /// The client's certificate.
    pub fn certificate_file(&self) -> PathBuf {
        self.path("client.pem")
    }

    /// The client's key.
    pub fn key(&self) -> PathBuf {
        self.path("client.key")
    }

    /// The same key, encrypted with [`PASSWORD`].
    pub fn encrypted_key(&self) -> PathBuf {
        self.path("client-encrypted.key")
    }

    /// Writes a file of that name into the folder.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// An unsigned token of [`USER`] that is valid for so long.
    pub fn token(seconds: u64) -> anyhow::Result<String> {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = format!(r#"{{"sub":"{USER}","iat":{now},"exp":{}}}"#, now + seconds);
        Ok(format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims)))
    }

    /// The broker's settings, for listeners `MTLS` and `SASL_SSL`.
    pub(super) fn properties(&self) -> String {
        const MODULES: &str = "org.apache.kafka.common.security";
        let mut text = format!(
            "ssl.keystore.type=PEM\nssl.keystore.location={}\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
             listener.name.mtls.ssl.client.auth=required\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER\n",
            self.path("broker-keystore.pem").display(),
            self.ca().display()
        );
        for (mechanism, module) in [
            ("plain", format!("plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\"")),
            ("scram-sha-256", "scram.ScramLoginModule required".to_owned()),
            ("scram-sha-512", "scram.ScramLoginModule required".to_owned()),
            // Without a handler of its own this one believes unsigned tokens. The claim is for the broker's own login.
            (
                "oauthbearer",
                "oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"b\"".to_owned(),
            ),
        ] {
            let _ = writeln!(text, "listener.name.sasl_ssl.{mechanism}.sasl.jaas.config={MODULES}.{module};");
        }
        text
    }

    /// Arguments of `kafka-storage format` that create the user.
    pub(super) fn scram_arguments() -> Vec<String> {
        let user = |mechanism| format!("{mechanism}=[name={USER},password={PASSWORD}]");
        let users = ["SCRAM-SHA-256", "SCRAM-SHA-512"].map(user);
        users.into_iter().flat_map(|user| ["--add-scram".to_owned(), user]).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn authority(&self, name: &str) -> anyhow::Result<()> {
        self.request(name, "authority", &[])
    }

    fn certificate(&self, name: &str) -> anyhow::Result<()> {
        let (ca, key) = (self.ca(), self.path("ca.key"));
        self.request(name, name, &[("-CA", &ca), ("-CAkey", &key)])
    }

    /// Makes NAME.key and NAME.pem.
    fn request(&self, name: &str, extensions: &str, files: &[(&str, &Path)]) -> anyhow::Result<()> {
        let (key, certificate) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.pem")));
        let (config, subject) = (self.path("extensions"), format!("/CN={name}"));
        let own: [(&str, &Path); 3] = [("-config", &config), ("-keyout", &key), ("-out", &certificate)];
        let mut arguments = vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        arguments.extend(["-days", "2", "-subj", &subject, "-extensions", extensions]);
        let files: Vec<_> =
            own.iter().chain(files).map(|(option, path)| (*option, path.display().to_string())).collect();
        arguments.extend(files.iter().flat_map(|(option, path)| [*option, path.as_str()]));
        openssl(&arguments)
    }
}

fn openssl(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("openssl").args(arguments).output().context("starting openssl")?;
    ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
