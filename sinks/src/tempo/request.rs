//! A request as it goes over the wire: values of records behind one another, behind gRPC's prefix where that is spoken.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use afflux_runtime::delivery::Batch;
use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use http_body::{Body, Frame, SizeHint};

use super::config::{Compression, Protocol};

/// What one attempt sends.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) tenant: Option<Arc<str>>,
    /// How many others had been stored at the first attempt.
    pub(super) stored_before: Arc<AtomicU64>,
    chunks: Arc<[Bytes]>,
}

impl Request {
    /// Of all values of a batch; `None` where there are none.
    pub(super) fn new(batch: &Batch, protocol: Protocol, compression: Compression) -> Option<Self> {
        let values = batch.records.iter().filter_map(|record| record.value.clone()).filter(|value| !value.is_empty());
        let mut chunks: VecDeque<Bytes> = values.collect();
        if chunks.is_empty() {
            return None;
        }
        if compression == Compression::Gzip {
            chunks = VecDeque::from([gzip(&chunks)]);
        }
        if protocol == Protocol::Grpc {
            chunks.push_front(prefix(&chunks, compression));
        }
        Some(Self { tenant: batch.tenant.clone(), stored_before: Arc::default(), chunks: Vec::from(chunks).into() })
    }

    /// The body of one attempt, which shares the bytes of all others.
    pub(super) fn body(&self) -> reqwest::Body {
        let left = self.chunks.iter().map(|chunk| chunk.len() as u64).sum();
        reqwest::Body::wrap(Chunks { chunks: Arc::clone(&self.chunks), next: 0, left })
    }

    /// All bytes, for tests.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.chunks.concat()
    }
}

/// Of a gRPC message: whether it is compressed, and its length.
fn prefix(chunks: &VecDeque<Bytes>, compression: Compression) -> Bytes {
    let length: usize = chunks.iter().map(Bytes::len).sum();
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let compressed = u8::from(compression == Compression::Gzip);
    Bytes::from([&[compressed][..], &length].concat())
}

fn gzip(chunks: &VecDeque<Bytes>) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    // Writing to a vector cannot fail.
    chunks.iter().for_each(|chunk| encoder.write_all(chunk).unwrap_or_default());
    encoder.finish().unwrap_or_default().into()
}

/// Chunks, one after another, without a copy.
struct Chunks {
    chunks: Arc<[Bytes]>,
    next: usize,
    left: u64,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(chunk) = self.chunks.get(self.next).cloned() else { return Poll::Ready(None) };
        self.next += 1;
        self.left -= chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.chunks.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests;
