//! Sorting items by partition and writing one request for each.
//!
//! A first pass notes every item's position and partition and copies what encloses items; a counting sort brings
//! the items of a partition together, in their order; then each part is measured and written in one go. Nothing
//! is allocated for a single item.

use std::ops::Range;

use bytes::Bytes;

use super::{InvalidId, Part, Split};
use crate::otlp::block::Block;
use crate::wire::{Fields, LEN, key, len_field_size, offset_in, put_len_header};

/// Chooses the partition of each item.
pub(super) trait Place {
    /// Called with the bytes of a `Resource` message before its items.
    fn resource(&mut self, raw: &[u8]);
    /// The partition of an item's bytes, below the number of partitions.
    fn item(&mut self, raw: &[u8]) -> Result<u32, InvalidId>;
}

/// Field number of the resource blocks in a request.
const BLOCKS: u32 = 1;
/// Field number of the scopes in a resource block, and of the items in a scope.
const CHILDREN: u32 = 2;

/// An accepted item.
struct Item {
    /// Where it stands in the request, key and length included.
    at: Range<usize>,
    partition: u32,
    scope: u32,
}

/// A scope: its fields other than items lie in [`Scattered::envelopes`].
struct Scope {
    envelope: Range<usize>,
    resource: u32,
}

/// What a first pass over a request finds.
#[derive(Default)]
struct Scattered {
    items: Vec<Item>,
    scopes: Vec<Scope>,
    /// Where the fields of each resource block other than scopes lie in [`Scattered::envelopes`].
    resources: Vec<Range<usize>>,
    envelopes: Vec<u8>,
    rejected: u64,
    reason: Option<InvalidId>,
}

pub(super) fn scatter(request: &Bytes, partitions: u32, mut place: impl Place) -> Split {
    let mut found = Scattered::default();
    for block in Fields::new(request).filter(|field| field.key == key(BLOCKS, LEN)) {
        found.resource(request, block.value, &mut place);
    }
    let parts = match found.only_partition() {
        Some(partition) => vec![Part { partition, value: request.clone(), items: found.items.len() as u64 }],
        None => found.parts(request, partitions),
    };
    Split { parts, rejected: found.rejected, reason: found.reason }
}

impl Scattered {
    fn resource(&mut self, request: &[u8], block: &[u8], place: &mut impl Place) {
        place.resource(Block::new(block).head.unwrap_or_default());
        let resource = self.resources.len() as u32;
        let start = self.envelopes.len();
        for field in Fields::new(block).filter(|field| field.key != key(CHILDREN, LEN)) {
            self.envelopes.extend_from_slice(field.raw);
        }
        self.resources.push(start..self.envelopes.len());
        for field in Fields::new(block).filter(|field| field.key == key(CHILDREN, LEN)) {
            self.scope(request, resource, field.value, place);
        }
    }

    fn scope(&mut self, request: &[u8], resource: u32, block: &[u8], place: &mut impl Place) {
        let scope = self.scopes.len() as u32;
        let start = self.envelopes.len();
        for field in Fields::new(block) {
            if field.key != key(CHILDREN, LEN) {
                self.envelopes.extend_from_slice(field.raw);
                continue;
            }
            match place.item(field.value) {
                Ok(partition) => {
                    let from = offset_in(request, field.raw);
                    self.items.push(Item { at: from..from + field.raw.len(), partition, scope });
                }
                Err(reason) => {
                    self.rejected += 1;
                    self.reason.get_or_insert(reason);
                }
            }
        }
        self.scopes.push(Scope { envelope: start..self.envelopes.len(), resource });
    }

    /// The partition of all items, where nothing has to be rewritten.
    fn only_partition(&self) -> Option<u32> {
        let first = self.items.first()?.partition;
        (self.rejected == 0 && self.items.iter().all(|item| item.partition == first)).then_some(first)
    }

    fn parts(&self, request: &[u8], partitions: u32) -> Vec<Part> {
        let mut ends = vec![0_usize; partitions as usize + 1];
        for item in &self.items {
            ends[item.partition as usize + 1] += 1;
        }
        for partition in 1..ends.len() {
            ends[partition] += ends[partition - 1];
        }
        // `ends[p]` is where the items of `p` begin; placing them moves it to where they end.
        let mut order = vec![0_u32; self.items.len()];
        for (position, item) in self.items.iter().enumerate() {
            let end = &mut ends[item.partition as usize];
            order[*end] = position as u32;
            *end += 1;
        }
        let mut parts = Vec::new();
        let mut runs = Vec::new();
        let mut start = 0;
        for (partition, &end) in ends.iter().take(partitions as usize).enumerate() {
            if start < end {
                let value = self.write(request, &order[start..end], &mut runs);
                parts.push(Part { partition: partition as u32, value, items: (end - start) as u64 });
            }
            start = end;
        }
        parts
    }

    /// A request of the items named in `order`.
    fn write(&self, request: &[u8], order: &[u32], runs: &mut Vec<Run>) -> Bytes {
        self.measure(order, runs);
        let resource_size = |runs: &[Run]| -> usize {
            let envelope = self.resources[runs[0].resource as usize].len();
            envelope + runs.iter().map(|run| len_field_size(CHILDREN, run.size)).sum::<usize>()
        };
        let resources = || runs.chunk_by(|a, b| a.resource == b.resource);
        let total = resources().map(|runs| len_field_size(BLOCKS, resource_size(runs))).sum();
        let mut value = Vec::with_capacity(total);
        for runs in resources() {
            put_len_header(&mut value, BLOCKS, resource_size(runs));
            value.extend_from_slice(&self.envelopes[self.resources[runs[0].resource as usize].clone()]);
            for run in runs {
                put_len_header(&mut value, CHILDREN, run.size);
                value.extend_from_slice(&self.envelopes[self.scopes[run.scope as usize].envelope.clone()]);
                self.copy(request, &order[run.order.clone()], &mut value);
            }
        }
        debug_assert_eq!(value.len(), total);
        value.into()
    }

    /// Finds the scopes of the items named in `order` and how many bytes each will take.
    fn measure(&self, order: &[u32], runs: &mut Vec<Run>) {
        runs.clear();
        let mut start = 0;
        let item = |&position: &u32| &self.items[position as usize];
        for same in order.chunk_by(|a, b| item(a).scope == item(b).scope) {
            let scope = item(&same[0]).scope;
            let Scope { envelope, resource } = &self.scopes[scope as usize];
            let size = envelope.len() + same.iter().map(|position| item(position).at.len()).sum::<usize>();
            runs.push(Run { scope, resource: *resource, order: start..start + same.len(), size });
            start += same.len();
        }
    }

    /// Appends items, those that stand next to each other at once.
    fn copy(&self, request: &[u8], order: &[u32], value: &mut Vec<u8>) {
        let mut pending = 0..0;
        for &position in order {
            let at = &self.items[position as usize].at;
            if at.start != pending.end {
                value.extend_from_slice(&request[pending]);
                pending = at.clone();
            }
            pending.end = at.end;
        }
        value.extend_from_slice(&request[pending]);
    }
}

/// Items of one scope that go to the same partition.
struct Run {
    scope: u32,
    resource: u32,
    /// Which entries of the partition's order.
    order: Range<usize>,
    /// Bytes of the scope message.
    size: usize,
}
