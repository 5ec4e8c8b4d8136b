//! A forward proxy of HTTP: `CONNECT` for TLS, absolute URLs for the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of a request's head beyond which it is no request.
const MAX_HEAD: usize = 64 << 10;

/// A running proxy; takes no more connections once dropped.
#[derive(Debug)]
pub struct ForwardProxy {
    port: u16,
    counts: Arc<Counts>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    tunnels: AtomicUsize,
    plain: AtomicUsize,
}

impl ForwardProxy {
    /// Listens on a free port of the loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, Arc::clone(&shared)));
            }
        });
        Ok(Self { port, counts, accepting })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Connections that asked for a tunnel.
    pub fn tunnels(&self) -> usize {
        self.counts.tunnels.load(Ordering::Acquire)
    }

    /// Connections whose first request named a URL.
    pub fn plain(&self) -> usize {
        self.counts.plain.load(Ordering::Acquire)
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(mut client: TcpStream, counts: Arc<Counts>) -> anyhow::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        ensure!(head.len() < MAX_HEAD && client.read_buf(&mut head).await? > 0, "no request");
    }
    let line = String::from_utf8_lossy(&head);
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().context("a method")?, words.next().context("a target")?);
    if method == "CONNECT" {
        let mut server = TcpStream::connect(target).await?;
        counts.tunnels.fetch_add(1, Ordering::AcqRel);
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    let address = target.strip_prefix("http://").context("an absolute URL")?.split('/').next().context("a host")?;
    let mut server = TcpStream::connect(address).await?;
    counts.plain.fetch_add(1, Ordering::AcqRel);
    // Servers take absolute URLs as well, so that the connection can go on as it is.
    server.write_all(&head).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tempo::{Settings, Tempo};

    #[tokio::test]
    async fn requests_go_through_in_plain_and_by_tunnel() {
        let (proxy, tempo) = (ForwardProxy::start().await.unwrap(), Tempo::start(Settings::default()).await.unwrap());
        let client = reqwest::Client::builder().proxy(reqwest::Proxy::all(proxy.url()).unwrap()).build().unwrap();
        let request = client.post(format!("{}/v1/traces", tempo.endpoint()));
        let answer = request.header("content-type", "application/x-protobuf").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), proxy.plain(), proxy.tunnels()), (200, 1, 0));

        let certificates = crate::tempo::certificates::Certificates::new().unwrap();
        let tempo = Tempo::start_tls(Settings::default(), &certificates, false).await.unwrap();
        let authority = reqwest::Certificate::from_pem(&std::fs::read(certificates.ca()).unwrap()).unwrap();
        let client = reqwest::Client::builder().proxy(reqwest::Proxy::all(proxy.url()).unwrap());
        let client = client.add_root_certificate(authority).build().unwrap();
        let request = client.post(format!("{}/v1/traces", tempo.endpoint()));
        let answer = request.header("content-type", "application/x-protobuf").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), proxy.tunnels()), (200, 1));
    }
}
