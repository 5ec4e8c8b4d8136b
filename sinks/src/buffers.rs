//! Buffers that a thread keeps from one batch to the next: large ones cost their pages each time they are made.

use std::cell::RefCell;

use afflux_schemas::wire::{put_varint, varint_len};
use bytes::Bytes;

/// Buffers that a thread keeps, and bytes of each at most.
const KEPT: usize = 4;
const KEPT_BYTES: usize = 4 << 20;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub(crate) fn take() -> Vec<u8> {
    let mut buffer = take_full();
    buffer.clear();
    buffer
}

/// A buffer with whatever it held last.
fn take_full() -> Vec<u8> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// A buffer that is no longer needed, whichever thread it is from.
pub(crate) fn give(buffer: Vec<u8>) {
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < KEPT && buffer.capacity() <= KEPT_BYTES {
            buffers.push(buffer);
        }
    });
}

/// Bytes that Snappy compresses at a time, whatever is given at once.
const PIECE: usize = 1 << 16;
/// Most bytes that a length takes before a piece, and before all of it.
const PIECE_LENGTH: usize = varint_len(PIECE as u64);
const LENGTH: usize = varint_len(u32::MAX as u64);

/// A block of Snappy in the making: compressed piece by piece, so that what is not yet compressed fits into the cache.
pub(crate) struct Snappy {
    encoder: snap::raw::Encoder,
    /// Not yet compressed.
    plain: Vec<u8>,
    /// Compressed pieces up to `end`, behind as many bytes as the length of a piece takes.
    out: Vec<u8>,
    end: usize,
    /// Bytes that are compressed.
    total: usize,
}

impl Snappy {
    /// Of nothing so far.
    pub(crate) fn new() -> Self {
        Self { encoder: snap::raw::Encoder::new(), plain: take(), out: take_full(), end: PIECE_LENGTH, total: 0 }
    }

    /// What follows is to be appended to.
    pub(crate) fn plain(&mut self) -> &mut Vec<u8> {
        &mut self.plain
    }

    /// Compresses what makes whole pieces. To be called now and then.
    #[inline]
    pub(crate) fn work(&mut self) {
        if self.plain.len() >= PIECE {
            let whole = self.plain.len() / PIECE * PIECE;
            self.compress(whole);
        }
    }

    /// The block. Only what has 4 GiB cannot be one, and comes to nothing.
    pub(crate) fn finish(mut self) -> Bytes {
        self.compress(self.plain.len());
        give(self.plain);
        let mut block = Vec::with_capacity(LENGTH + self.end);
        if u32::try_from(self.total).is_ok() {
            put_varint(&mut block, self.total as u64);
            block.extend_from_slice(self.out.get(PIECE_LENGTH..self.end).unwrap_or_default());
        }
        give(self.out);
        block.into()
    }

    /// Compresses the first bytes. Each piece comes as a block, whose length takes the place of what is before it.
    fn compress(&mut self, bytes: usize) {
        for piece in self.plain[..bytes].chunks(PIECE) {
            let most = self.end + snap::raw::max_compress_len(piece.len());
            if self.out.len() < most {
                self.out.resize(most.next_power_of_two(), 0);
            }
            let at = self.end - varint_len(piece.len() as u64);
            let mut before = [0; PIECE_LENGTH];
            before[..self.end - at].copy_from_slice(&self.out[at..self.end]);
            // There is room, so it cannot fail.
            let compressed = self.encoder.compress(piece, &mut self.out[at..]).unwrap_or_default();
            self.out[at..self.end].copy_from_slice(&before[..self.end - at]);
            self.end = at + compressed;
        }
        self.total += bytes;
        self.plain.drain(..bytes);
    }
}

/// A block of Snappy of all of that.
pub(crate) fn snappy(plain: Vec<u8>) -> Bytes {
    let mut snappy = Snappy::new();
    give(std::mem::replace(&mut snappy.plain, plain));
    snappy.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_large_ones_do_not() {
        let mut buffer = take();
        buffer.extend_from_slice(&[1; 1000]);
        give(buffer);
        let again = take();
        assert!(again.is_empty() && again.capacity() >= 1000);
        give(vec![0; KEPT_BYTES + 1]);
        assert_eq!(take().capacity(), 0);
    }

    #[test]
    fn a_block_is_that_of_the_whole_whatever_was_in_the_buffers() {
        let plain: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 7).wrapping_mul(n).to_le_bytes()).collect();
        for length in [0, 1, 10, 1000, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7, plain.len()] {
            give(vec![7; 1 << 20]);
            let whole = snap::raw::Encoder::new().compress_vec(&plain[..length]).unwrap();
            assert!(snappy(plain[..length].to_vec()) == whole, "{length} at once");
            for part in [1000, PIECE / 2, 3 * PIECE] {
                let mut snappy = Snappy::new();
                for part in plain[..length].chunks(part) {
                    snappy.plain().extend_from_slice(part);
                    snappy.work();
                }
                assert!(snappy.finish() == whole, "{length} in parts of {part}");
            }
        }
    }
}
