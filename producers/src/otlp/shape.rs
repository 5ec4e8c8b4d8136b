//! What splitting a request will cost, known before it is done, and cutting what is too long for one record.
//!
//! A request is resource blocks of scopes of items. What surrounds the items (the *envelope*: resource, scope,
//! schema URLs) is repeated in every part, so few bytes can turn into many.

use afflux_schemas::wire::{Field, Fields, LEN, key, len_field_size, put_len_field};
use bytes::Bytes;

/// Field number of the resource blocks in a request.
const BLOCKS: u32 = 1;
/// Field number of the scopes in a resource block, and of the items in a scope.
const CHILDREN: u32 = 2;

/// Memory that `afflux_schemas::otlp::split` takes for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SplitCost {
    /// Bytes of its tables, free again when it is done.
    pub(super) tables: usize,
    /// At most as many bytes in all parts together.
    pub(super) parts: usize,
}

/// Bytes of the splitter's tables for each item, scope and resource, while a table that grows is copied: three
/// times the size of an entry, and its share of the order.
const ITEM_COST: usize = 3 * 24 + 4;
const SCOPE_COST: usize = 3 * 24 + 3 * 40;
const RESOURCE_COST: usize = 3 * 16;
/// Key and length around an envelope in a part.
const HEADERS: usize = 2 * 6;

impl SplitCost {
    /// The cost of splitting a validated request whose items may go to that many partitions.
    pub(super) fn of(request: &[u8], partitions: usize) -> Self {
        let mut cost = Self { tables: 0, parts: request.len() };
        for block in Fields::new(request).filter(|field| field.key == key(BLOCKS, LEN)) {
            let mut envelope = 0;
            let mut items = 0;
            for field in Fields::new(block.value) {
                if field.key == key(CHILDREN, LEN) {
                    items += cost.scope(field.value, partitions);
                } else {
                    envelope += field.raw.len();
                }
            }
            cost.envelope(envelope, items.min(partitions), RESOURCE_COST);
        }
        cost
    }

    fn scope(&mut self, scope: &[u8], partitions: usize) -> usize {
        let mut envelope = 0;
        let mut items = 0;
        for field in Fields::new(scope) {
            if field.key == key(CHILDREN, LEN) {
                items += 1;
            } else {
                envelope += field.raw.len();
            }
        }
        self.tables += items * ITEM_COST;
        self.envelope(envelope, items.min(partitions), SCOPE_COST);
        items
    }

    fn envelope(&mut self, bytes: usize, copies: usize, entry: usize) {
        self.tables += entry + 3 * bytes;
        self.parts = self.parts.saturating_add((bytes + HEADERS).saturating_mul(copies));
    }
}

/// A piece of a request, itself a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) value: Bytes,
    pub(super) items: u64,
}

/// An envelope may take this share of a piece at most; otherwise the piece becomes longer than asked for, so that
/// all pieces together stay below 4/3 of the request.
const ENVELOPE_SHARE: usize = 4;

/// Cuts a validated request into pieces of about `limit` bytes at most, each handed to `emit` once complete.
///
/// Items keep their order and are never cut: one over the limit stands alone.
pub(super) fn cut<E>(request: &[u8], limit: usize, emit: impl FnMut(Piece) -> Result<(), E>) -> Result<(), E> {
    let mut cutter = Cutter { limit, emit, open: Open::default() };
    for block in Fields::new(request).filter(|field| field.key == key(BLOCKS, LEN)) {
        let (children, envelope) = envelope_of(block.value);
        for scope in children {
            let (items, inner) = envelope_of(scope.value);
            for item in items {
                cutter.item(&envelope, &inner, item.raw)?;
            }
            cutter.open.close_scope();
        }
        cutter.open.close_resource();
    }
    cutter.flush()
}

/// The children of a block, and the bytes of all its other fields.
fn envelope_of(block: &[u8]) -> (impl Iterator<Item = Field<'_>>, Vec<u8>) {
    let is_child = |field: &Field<'_>| field.key == key(CHILDREN, LEN);
    let mut envelope = Vec::new();
    for field in Fields::new(block).filter(|field| !is_child(field)) {
        envelope.extend_from_slice(field.raw);
    }
    (Fields::new(block).filter(is_child), envelope)
}

struct Cutter<F> {
    limit: usize,
    emit: F,
    open: Open,
}

/// The piece being written: what is complete, and the open resource block and scope.
#[derive(Default)]
struct Open {
    done: Vec<u8>,
    resource: Option<Vec<u8>>,
    scope: Option<Vec<u8>>,
    items: u64,
}

impl<E, F: FnMut(Piece) -> Result<(), E>> Cutter<F> {
    fn item(&mut self, resource: &[u8], scope: &[u8], item: &[u8]) -> Result<(), E> {
        let limit = self.limit.max(ENVELOPE_SHARE * (resource.len() + scope.len()));
        if self.open.items > 0 && self.open.size_with(resource, scope, item) > limit {
            self.flush()?;
        }
        self.open.resource.get_or_insert_with(|| resource.to_vec());
        self.open.scope.get_or_insert_with(|| scope.to_vec()).extend_from_slice(item);
        self.open.items += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), E> {
        self.open.close_scope();
        self.open.close_resource();
        let Open { done, items, .. } = std::mem::take(&mut self.open);
        if items == 0 { Ok(()) } else { (self.emit)(Piece { value: done.into(), items }) }
    }
}

impl Open {
    fn close_scope(&mut self) {
        if let Some(scope) = self.scope.take() {
            put_len_field(self.resource.get_or_insert_default(), CHILDREN, &scope);
        }
    }

    fn close_resource(&mut self) {
        if let Some(resource) = self.resource.take() {
            put_len_field(&mut self.done, BLOCKS, &resource);
        }
    }

    fn size_with(&self, resource: &[u8], scope: &[u8], item: &[u8]) -> usize {
        let scope = self.scope.as_ref().map_or(scope.len(), Vec::len) + item.len();
        let resource = self.resource.as_ref().map_or(resource.len(), Vec::len) + len_field_size(CHILDREN, scope);
        self.done.len() + len_field_size(BLOCKS, resource)
    }
}

#[cfg(test)]
mod tests;
