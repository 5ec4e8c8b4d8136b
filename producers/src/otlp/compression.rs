//! Decompression that stops at the limit.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;

use super::memory::{Buffer, Held, Memory};
use super::refusal::Refusal;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// Encodings that are understood, for `Accept-Encoding`.
pub(super) const ACCEPTED: &str = "gzip, zstd";

/// Largest window of a zstd stream, 8 MiB as in RFC 9659: the decoder allocates what the stream's head asks for,
/// by default up to 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Smallest first allocation.
const SMALLEST: usize = 4 * 1024;

impl Encoding {
    /// The encoding of that name, in either case.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match name {
            _ if is("identity") => Some(Self::Identity),
            _ if is("gzip") => Some(Self::Gzip),
            _ if is("zstd") => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Decompresses to at most `limit` bytes; a stream that has more is refused without making them.
    pub(super) fn decompress(self, body: Held, limit: usize, memory: &Memory) -> Result<Held, Refusal> {
        let (name, inflated) = match self {
            Self::Identity => return Ok(body),
            Self::Gzip => ("gzip", inflate(MultiGzDecoder::new(&body.bytes[..]), body.bytes.len(), limit, memory)),
            Self::Zstd => ("zstd", unzstd(&body.bytes, limit, memory)),
        };
        inflated.map_err(|failed| match failed {
            Failed::Data(source) => Refusal::Compression { encoding: name, source },
            Failed::Refused(refusal) => refusal,
        })
    }
}

enum Failed {
    Data(std::io::Error),
    Refused(Refusal),
}

fn unzstd(body: &[u8], limit: usize, memory: &Memory) -> Result<Held, Failed> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(Failed::Data)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(Failed::Data)?;
    inflate(decoder, body.len(), limit, memory)
}

fn inflate(mut from: impl Read, compressed: usize, limit: usize, memory: &Memory) -> Result<Held, Failed> {
    let mut buffer = Buffer::default();
    // Telemetry shrinks to a fifth or a tenth.
    let guess = compressed.saturating_mul(6).max(SMALLEST);
    loop {
        let start = buffer.bytes().len();
        if start == limit {
            return match from.read(&mut [0]).map_err(Failed::Data)? {
                0 => Ok(buffer.finish()),
                _ => Err(Failed::Refused(Refusal::DecompressedTooLarge { limit })),
            };
        }
        buffer.reserve(1, guess, limit, memory).map_err(Failed::Refused)?;
        let bytes = buffer.bytes_mut();
        bytes.resize(bytes.capacity().min(limit), 0);
        let filled = fill(&mut from, &mut bytes[start..]).map_err(Failed::Data)?;
        bytes.truncate(start + filled);
        if start + filled < bytes.capacity().min(limit) {
            return Ok(buffer.finish());
        }
    }
}

/// Reads until the space is full or the stream at its end.
fn fill(from: &mut impl Read, mut space: &mut [u8]) -> std::io::Result<usize> {
    let all = space.len();
    while !space.is_empty() {
        match from.read(space) {
            Ok(0) => break,
            Ok(n) => space = &mut space[n..],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all - space.len())
}

#[cfg(test)]
mod tests;
