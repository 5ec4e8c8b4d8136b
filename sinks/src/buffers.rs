//! Buffers that a thread keeps from one batch to the next: large ones cost their pages each time they are made.

use std::cell::RefCell;

use bytes::Bytes;

/// Buffers that a thread keeps, and bytes of each at most.
const KEPT: usize = 4;
const KEPT_BYTES: usize = 4 << 20;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub(crate) fn take() -> Vec<u8> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// A buffer that is no longer needed, whichever thread it is from.
pub(crate) fn give(mut buffer: Vec<u8>) {
    buffer.clear();
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < KEPT && buffer.capacity() <= KEPT_BYTES {
            buffers.push(buffer);
        }
    });
}

/// A block of Snappy. Only what has 4 GiB cannot be compressed, and comes to nothing.
pub(crate) fn snappy(encoder: &mut snap::raw::Encoder, plain: &[u8]) -> Bytes {
    let mut out = take();
    out.resize(snap::raw::max_compress_len(plain.len()), 0);
    let length = encoder.compress(plain, &mut out).unwrap_or_default();
    let compressed = Bytes::copy_from_slice(&out[..length]);
    give(out);
    compressed
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
    fn a_block_is_whole_whatever_was_in_the_buffer() {
        give(vec![7; 1 << 20]);
        let plain: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut encoder = snap::raw::Encoder::new();
        for plain in [&plain[..], &plain[..1000], &[]] {
            let block = snappy(&mut encoder, plain);
            assert_eq!(snap::raw::Decoder::new().decompress_vec(&block).unwrap(), plain);
        }
    }
}
