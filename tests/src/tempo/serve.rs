//! A server of HTTP/1 and HTTP/2 with or without TLS, whose connections can be ended from within.

use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// What a server needs for TLS.
pub(crate) type Tls = Arc<ServerConfig>;

/// A listener on a free port of the loopback. Everything ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    cuts: watch::Sender<u64>,
    accepting: tokio::task::JoinHandle<()>,
}

/// The connection by which a request came, among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    end: watch::Sender<Option<bool>>,
    cuts: watch::Receiver<u64>,
    cuts_before: u64,
    socket: Arc<std::net::TcpStream>,
}

impl Connection {
    /// Ends it without an answer; with `reset` not in the orderly way.
    pub(crate) fn end(&self, reset: bool) {
        self.end.send_replace(Some(reset));
    }

    /// Whether answers reach nobody, although requests may still be worked on: all connections have been ended since it was
    /// accepted, or the client has closed this one, as it does when an answer takes too long.
    pub(crate) fn is_cut(&self) -> bool {
        let closed = || matches!(self.socket.peek(&mut [0]), Ok(0));
        *self.cuts.borrow() > self.cuts_before || closed()
    }
}

impl Server {
    pub(crate) async fn start(router: axum::Router, tls: Option<Tls>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{}", listener.local_addr()?.port());
        let cuts = watch::Sender::new(0);
        let all_cuts = cuts.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, socket)) = accept(&listener).await {
                let (router, tls, mut cut) = (router.clone(), tls.clone(), all_cuts.subscribe());
                let (end, ended) = watch::channel(None);
                let connection = Connection { end, cuts: cut.clone(), cuts_before: *cut.borrow(), socket };
                let router = router.layer(axum::Extension(connection));
                tokio::spawn(async move {
                    tokio::select! {
                        _ = accepted(stream, router, ended, tls) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Ok(Self { url, cuts, accepting })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

/// The next connection, with a second handle to its socket.
async fn accept(listener: &TcpListener) -> std::io::Result<(TcpStream, Arc<std::net::TcpStream>)> {
    let stream = listener.accept().await?.0.into_std()?;
    let socket = Arc::new(stream.try_clone()?);
    Ok((TcpStream::from_std(stream)?, socket))
}

/// Whether a connection ends with a reset, once that is told.
type Ended = watch::Receiver<Option<bool>>;

async fn accepted(stream: TcpStream, router: axum::Router, ended: Ended, tls: Option<Tls>) -> anyhow::Result<()> {
    let stream = stream.into_std()?;
    // A second handle to the socket: the first goes where it cannot be reached any more.
    let control = TcpStream::from_std(stream.try_clone()?)?;
    let stream = TcpStream::from_std(stream)?;
    let reset = match tls {
        None => serve(stream, router, ended).await,
        Some(tls) => serve(TlsAcceptor::from(tls).accept(stream).await?, router, ended).await,
    };
    if reset {
        control.set_zero_linger()?;
    }
    Ok(())
}

/// Serves a connection to its end; whether it is to be reset.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: axum::Router,
    mut ended: Ended,
) -> bool {
    let builder = Builder::new(TokioExecutor::new());
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::select! {
        _ = serving => false,
        _ = ended.changed() => ended.borrow().unwrap_or_default(),
    }
}
