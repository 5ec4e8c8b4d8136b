//! OTLP requests as bytes: views, validation, splitting and joining without decoding.

pub mod block;
pub(crate) mod build;
pub mod canonical;
pub mod common;
pub mod json;
pub mod logs;
pub mod metrics;
pub mod rewrite;
pub mod split;
mod text;
pub mod trace;
mod unique;
pub mod validate;

#[cfg(test)]
mod tests;

use bytes::Bytes;

/// Joins serialized export requests of one signal into one that holds what all of them hold, in order.
pub fn concat<'a>(parts: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
    let mut joined = Vec::with_capacity(parts.clone().map(<[u8]>::len).sum());
    parts.for_each(|part| joined.extend_from_slice(part));
    joined.into()
}
