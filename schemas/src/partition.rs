//! Which partition an item belongs to.
//!
//! Spans go by trace id, hashed as the OpenTelemetry Collector's Kafka exporter does by default, so that a
//! Collector and Afflux put a trace on the same partition: FNV-1a over the hex text of the id, with the sign
//! handled as Sarama does (`sarama_compat`).

const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// FNV-1a, 32 bits.
#[inline]
pub fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(FNV_OFFSET, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME))
}

/// Partition of a key as Sarama's hash partitioner chooses it (`sarama_compat` in the Collector): the FNV-1a hash
/// as a signed number modulo `n`, without its sign. `n` is at least 1 and fits 31 bits.
#[inline]
pub fn sarama_partition(key: &[u8], n: u32) -> u32 {
    sarama_modulo(fnv1a(key), n)
}

/// Partition of a key as Java clients choose it: murmur2 without its top bit, modulo `n`. `n` is at least 1.
#[inline]
pub fn java_partition(key: &[u8], n: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % n
}

/// Partition of a span among `n`, at least 1: that of the trace id's hex text by [`sarama_partition`].
#[inline]
pub fn trace_partition(trace_id: &[u8; 16], n: u32) -> u32 {
    sarama_partition(crate::hex::trace_id(trace_id).as_bytes(), n)
}

/// Partition among `n`, at least 1, of the log stream of a cluster and a `Resource` message's bytes.
///
/// Equal bytes mean the same stream; a sender encodes one resource the same way every time.
#[inline]
pub fn stream_partition(cluster: &str, resource: &[u8], n: u32) -> u32 {
    (murmur2_seeded(murmur2(cluster.as_bytes()), resource) & 0x7fff_ffff) % n
}

#[inline]
fn sarama_modulo(hash: u32, n: u32) -> u32 {
    // The sign goes after the modulo, so that i32::MIN needs no special case.
    (hash as i32 % n as i32).unsigned_abs()
}

/// Murmur2 with the seed that Kafka's Java clients use.
#[inline]
pub fn murmur2(bytes: &[u8]) -> u32 {
    murmur2_seeded(0x9747_b28c, bytes)
}

fn murmur2_seeded(seed: u32, bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = seed ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let last = tail.iter().rev().fold(0, |k, &byte| k << 8 | u32::from(byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests;
