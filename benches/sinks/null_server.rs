//! A server that takes every request, reads it to its end and answers success: Loki, Tempo and Prometheus in one. It
//! answers 503 to requests whose path holds a word, from `POST /down/WORD` until `POST /up/WORD`.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

/// The word in paths that are answered 503.
static DOWN: Mutex<Option<String>> = Mutex::new(None);

/// Makes this program the server.
pub(crate) const ARGUMENT: &str = "--null-server";

/// The server, in a process of its own, which ends with this.
pub(crate) struct NullServer {
    child: Child,
    port: u16,
}

impl NullServer {
    pub(crate) fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg(ARGUMENT).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        Ok(Self { child, port: line.trim().parse()? })
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until killed.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http2().initial_stream_window_size(4 << 20).initial_connection_window_size(16 << 20);
            let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>> {
    let path = request.uri().path().to_owned();
    let mut down = DOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (start, word) in [("/down/", path.strip_prefix("/down/")), ("/up/", path.strip_prefix("/up/"))] {
        if let Some(word) = word {
            down = (start == "/down/").then(|| word.to_owned());
            DOWN.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&down);
        }
    }
    let refused = down.is_some_and(|word| path.contains(&word)) && !path.starts_with("/down/");
    let grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let none = futures::stream::empty::<Result<Frame<Bytes>, Infallible>>();
    if refused {
        return Ok(Response::builder().status(503).body(BoxBody::new(StreamBody::new(none)))?);
    }
    if !grpc {
        let response = Response::builder().status(204).header("X-Prometheus-Remote-Write-Samples-Written", "1");
        return Ok(response.body(BoxBody::new(StreamBody::new(none)))?);
    }
    let trailers = HeaderMap::from_iter([("grpc-status".parse()?, HeaderValue::from_static("0"))]);
    let frames = [Ok(Frame::data(Bytes::from_static(&[0; 5]))), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures::stream::iter(frames));
    Ok(Response::builder().header("content-type", "application/grpc").body(BoxBody::new(body))?)
}
