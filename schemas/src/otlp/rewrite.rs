//! Rewriting resources and items of a request as bytes.
//!
//! What is not replaced is copied as it stands: unknown fields, the order of fields, padded integers. Only the lengths
//! of messages around a replacement are written again. A request of which nothing is replaced is not copied at all.

use std::convert::Infallible;
use std::ops::Range;

use bytes::Bytes;

use super::block::Block;
use super::common::ResourceView;
use crate::wire::{Field, Fields, LEN, key, offset_in, put_len_header, put_message_field};

/// What becomes of the messages of a request.
///
/// Each method may append what replaces the message to `out`, without key and length, and says whether it did. What
/// it appended and did not mean is dropped.
pub trait Rewrite {
    /// Whether [`Rewrite::item`] is to be called; looking at resources alone costs next to nothing.
    const ITEMS: bool = true;

    /// A `Resource` message, before the items that belong to it; empty where a block has none.
    fn resource(&mut self, resource: ResourceView<'_>, out: &mut Vec<u8>) -> bool;

    /// The bytes of a `Span` or `LogRecord` message.
    fn item(&mut self, item: &[u8], out: &mut Vec<u8>) -> bool;
}

/// Field number of the resource blocks in a request, and of the resource in such a block.
const HEAD: u32 = 1;
/// Field number of the scopes in a resource block, and of the items in a scope.
const CHILDREN: u32 = 2;

/// Rewrites a request of either signal.
///
/// The request must be valid and canonical ([`super::validate`]): what lies behind a malformed byte, and all but the
/// last piece of a resource that stands in pieces, stays as it is. The same [`Bytes`] come back where nothing is
/// replaced.
pub fn rewrite(request: &Bytes, by: &mut impl Rewrite) -> Bytes {
    let mut rewriting = Rewriting { request, splices: Vec::new(), written: Vec::new() };
    for block in Fields::new(request).filter(|field| field.key == key(HEAD, LEN)) {
        rewriting.container(block, |rewriting| rewriting.block(block.value, by));
    }
    rewriting.finish()
}

/// Rewrites the resources of a request of either signal; see [`rewrite`].
pub fn resources(request: &Bytes, replace: impl FnMut(ResourceView<'_>, &mut Vec<u8>) -> bool) -> Bytes {
    rewrite(request, &mut Resources(replace))
}

struct Resources<F>(F);

impl<F: FnMut(ResourceView<'_>, &mut Vec<u8>) -> bool> Rewrite for Resources<F> {
    const ITEMS: bool = false;

    fn resource(&mut self, resource: ResourceView<'_>, out: &mut Vec<u8>) -> bool {
        (self.0)(resource, out)
    }

    fn item(&mut self, _item: &[u8], _out: &mut Vec<u8>) -> bool {
        false
    }
}

/// Bytes of the request, and those of [`Rewriting::written`] that take their place.
struct Splice {
    old: Range<usize>,
    new: Range<usize>,
}

struct Rewriting<'a> {
    request: &'a Bytes,
    /// By rising position; none overlap.
    splices: Vec<Splice>,
    written: Vec<u8>,
}

impl Rewriting<'_> {
    fn block<R: Rewrite>(&mut self, block: &[u8], by: &mut R) {
        let head = Block::new(block).head;
        let start = self.written.len();
        let replaced =
            put_if(&mut self.written, HEAD, |out| by.resource(ResourceView::new(head.unwrap_or_default()), out));
        let new = replaced.then_some(start..self.written.len());
        if let (None, Some(new)) = (head, &new) {
            let at = offset_in(self.request, block);
            self.splices.push(Splice { old: at..at, new: new.clone() });
        }
        for field in Fields::new(block) {
            if let (Some(head), Some(new)) = (head, &new)
                && field.key == key(HEAD, LEN)
                && std::ptr::eq(head, field.value)
            {
                let old = self.position(field.raw);
                self.splices.push(Splice { old, new: new.clone() });
            } else if R::ITEMS && field.key == key(CHILDREN, LEN) {
                self.container(field, |rewriting| rewriting.scope(field.value, by));
            }
        }
    }

    fn scope(&mut self, scope: &[u8], by: &mut impl Rewrite) {
        for field in Fields::new(scope).filter(|field| field.key == key(CHILDREN, LEN)) {
            let start = self.written.len();
            if put_if(&mut self.written, CHILDREN, |out| by.item(field.value, out)) {
                let (old, new) = (self.position(field.raw), start..self.written.len());
                self.splices.push(Splice { old, new });
            }
        }
    }

    /// Rewrites what a message field holds by `inside`, and its length if that changes it.
    fn container(&mut self, field: Field<'_>, inside: impl FnOnce(&mut Self)) {
        let mut header = self.position(field.raw);
        header.end -= field.value.len();
        let at = self.splices.len();
        // Keeps the place before those of what lies within.
        self.splices.push(Splice { old: header, new: 0..0 });
        inside(self);
        let within = &self.splices[at + 1..];
        if within.is_empty() {
            self.splices.truncate(at);
            return;
        }
        let added: usize = within.iter().map(|splice| splice.new.len()).sum();
        let removed: usize = within.iter().map(|splice| splice.old.len()).sum();
        let start = self.written.len();
        put_len_header(&mut self.written, field.key >> 3, field.value.len() + added - removed);
        self.splices[at].new = start..self.written.len();
    }

    fn position(&self, part: &[u8]) -> Range<usize> {
        let start = offset_in(self.request, part);
        start..start + part.len()
    }

    fn finish(self) -> Bytes {
        if self.splices.is_empty() {
            return self.request.clone();
        }
        let added: usize = self.splices.iter().map(|splice| splice.new.len()).sum();
        let removed: usize = self.splices.iter().map(|splice| splice.old.len()).sum();
        let mut value = Vec::with_capacity(self.request.len() + added - removed);
        let mut copied = 0;
        for Splice { old, new } in self.splices {
            value.extend_from_slice(&self.request[copied..old.start]);
            value.extend_from_slice(&self.written[new]);
            copied = old.end;
        }
        value.extend_from_slice(&self.request[copied..]);
        value.into()
    }
}

/// Appends a message field if `fill` says so, else nothing.
fn put_if(out: &mut Vec<u8>, number: u32, fill: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    let start = out.len();
    let mut replaced = false;
    let Ok(()) = put_message_field(out, number, |out| {
        replaced = fill(out);
        Ok::<_, Infallible>(())
    });
    if !replaced {
        out.truncate(start);
    }
    replaced
}
