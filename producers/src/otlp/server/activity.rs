//! When a connection has a request, and how long the head of one may take.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// When a connection last had a request.
pub(super) struct Activity {
    start: Instant,
    open: AtomicUsize,
    /// Requests so far.
    begun: AtomicU64,
    /// Milliseconds from the start to the end of the last request; 0 before the first.
    last_ms: AtomicU64,
    /// Whether HTTP/2 is spoken, where bytes between requests need not be the head of one.
    http2: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            open: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            last_ms: AtomicU64::new(0),
            http2: AtomicBool::new(false),
        }
    }

    /// When the connection was accepted.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    pub(super) fn begin(self: &Arc<Self>, version: Version) -> RequestOpen {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.http2.store(version == Version::HTTP_2, Ordering::Relaxed);
        RequestOpen(Arc::clone(self))
    }

    /// When the connection will have been without a request for that long; `None` if it never had one.
    pub(super) fn quiet_at(&self, patience: Duration) -> Option<Instant> {
        if self.open.load(Ordering::Relaxed) > 0 {
            return Some(Instant::now() + patience);
        }
        match self.last_ms.load(Ordering::Relaxed) {
            0 => None,
            last => Some(self.start + Duration::from_millis(last) + patience),
        }
    }

    /// The request whose head is the next thing to come, by number; `None` while another is open.
    fn awaited(&self) -> Option<u64> {
        let between = self.open.load(Ordering::Relaxed) == 0 && !self.http2.load(Ordering::Relaxed);
        between.then(|| self.begun.load(Ordering::Relaxed))
    }
}

/// A request in progress.
pub(super) struct RequestOpen(Arc<Activity>);

impl Drop for RequestOpen {
    fn drop(&mut self) {
        let since = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_ms.store(since.max(1), Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that fails where the head of an HTTP/1 request takes too long from its first byte.
pub(super) struct Patient {
    stream: TcpStream,
    activity: Arc<Activity>,
    patience: Duration,
    /// The request whose head has begun, and until when it must be complete.
    head: Option<(u64, Pin<Box<Sleep>>)>,
}

impl Patient {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>, patience: Duration) -> Self {
        Self { stream, activity, patience, head: None }
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let awaited = self.activity.awaited();
        self.head.take_if(|(request, _)| Some(*request) != awaited);
        if read.is_ready() {
            let patience = self.patience;
            self.head = self.head.take().or_else(|| Some((awaited?, Box::pin(sleep(patience)))));
        } else if let Some((_, deadline)) = &mut self.head
            && deadline.as_mut().poll(cx).is_ready()
        {
            let late = "the head of the request did not arrive in time";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, late)));
        }
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
