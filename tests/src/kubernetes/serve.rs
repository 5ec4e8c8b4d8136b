//! A listener that can go away and come back at its address.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Shared, http};

/// Connections that wait to be accepted at most.
const BACKLOG: u32 = 64;

/// Accepts connections until it is dropped, which cuts them.
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    cuts: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

impl Listener {
    pub(crate) async fn start(address: SocketAddr, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let cuts = watch::Sender::new(0);
        let all_cuts = cuts.clone();
        let accepting = tokio::spawn(async move {
            let router = http::router(shared);
            while let Ok((stream, _)) = listener.accept().await {
                let (router, mut cut) = (router.clone(), all_cuts.subscribe());
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
                    tokio::select! {
                        _ = serving => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Ok(Self { address, cuts, accepting })
    }

    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}
