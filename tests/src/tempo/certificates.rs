//! Certificates of servers and clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Extensions of the certificates, by who they are for. The server's names no host but this address.
const EXTENSIONS: &str = "[req]\ndistinguished_name = dn\n[dn]\n\
    [authority]\nbasicConstraints = critical, CA:TRUE\nsubjectKeyIdentifier = hash\n\
    [server]\nsubjectAltName = IP:127.0.0.1\n\
    [client]\nextendedKeyUsage = clientAuth\n";

/// Keys and certificates in a folder of their own, removed when dropped.
#[derive(Debug)]
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// An authority, a server and a client that it has signed, and an authority that has signed nothing.
    pub fn new() -> anyhow::Result<Self> {
        let certificates = Self { dir: tempfile::Builder::new().prefix("afflux-tls-").tempdir()? };
        std::fs::write(certificates.path("extensions"), EXTENSIONS)?;
        certificates.make("ca", "authority", None)?;
        certificates.make("other-ca", "authority", None)?;
        certificates.make("server", "server", Some("ca"))?;
        certificates.make("client", "client", Some("ca"))?;
        Ok(certificates)
    }

    /// Certificate of the authority that has signed the others.
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Certificate of the authority that has signed nothing.
    pub fn other_ca(&self) -> PathBuf {
        self.path("other-ca.pem")
    }

    /// The client's certificate and its key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.path("client.pem"), self.path("client.key"))
    }

    /// What a server needs, which asks clients for certificates or does not.
    pub(super) fn server(&self, client: bool) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = if client {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(self.ca())?)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let certificate = CertificateDer::from_pem_file(self.path("server.pem"))?;
        let key = PrivateKeyDer::from_pem_file(self.path("server.key"))?;
        let mut config = builder.with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes NAME.key and NAME.pem, signed by an authority or by itself.
    fn make(&self, name: &str, extensions: &str, authority: Option<&str>) -> anyhow::Result<()> {
        let text = |path: &Path| path.display().to_string();
        let path = |extension: &str| text(&self.path(&format!("{name}.{extension}")));
        let (config, key, certificate, subject) =
            (text(&self.path("extensions")), path("key"), path("pem"), format!("/CN={name}"));
        let mut arguments: Vec<String> = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            .into_iter()
            .chain(["-nodes", "-days", "2", "-subj", &subject, "-extensions", extensions, "-config", &config])
            .chain(["-keyout", &key, "-out", &certificate])
            .map(str::to_owned)
            .collect();
        if let Some(authority) = authority {
            let file = |extension: &str| text(&self.path(&format!("{authority}.{extension}")));
            arguments.extend(["-CA".into(), file("pem"), "-CAkey".into(), file("key")]);
        }
        let output = Command::new("openssl").args(&arguments).output().context("starting openssl")?;
        ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}
