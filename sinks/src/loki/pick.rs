//! Some of the items of a request as a request of their own.

use std::convert::Infallible;

use afflux_schemas::wire::{Field, Fields, LEN, key, put_message_field};
use bytes::Bytes;

/// Number of the field that holds resource blocks in a request.
const BLOCKS: u32 = 1;
/// Number of the field that holds scopes in a resource block, and items in a scope.
const CHILDREN: u32 = 2;

/// A request that holds the items in those positions, which rise, and what encloses them.
pub(super) fn pick(request: &[u8], positions: &[u64]) -> Bytes {
    let mut picker = Picker { positions, item: 0 };
    let mut out = Vec::new();
    for block in Fields::new(request).filter(|field| field.key == key(BLOCKS, LEN)) {
        picker.container(&mut out, BLOCKS, block.value, |picker, out, scope| {
            picker.container(out, CHILDREN, scope.value, |picker, out, item| {
                let picked = picker.next();
                if picked {
                    out.extend_from_slice(item.raw);
                }
                picked
            })
        });
    }
    out.into()
}

struct Picker<'p> {
    /// Those that are still to come.
    positions: &'p [u64],
    item: u64,
}

impl Picker<'_> {
    /// Whether the next item is one of them.
    fn next(&mut self) -> bool {
        let item = self.item;
        self.item += 1;
        match self.positions {
            [first, rest @ ..] if *first == item => {
                self.positions = rest;
                true
            }
            _ => false,
        }
    }

    /// Appends a message of whose children `child` appends what is picked; nothing where that is none.
    fn container(
        &mut self,
        out: &mut Vec<u8>,
        number: u32,
        message: &[u8],
        mut child: impl FnMut(&mut Self, &mut Vec<u8>, Field<'_>) -> bool,
    ) -> bool {
        let (start, mut any) = (out.len(), false);
        let Ok(()) = put_message_field(out, number, |out| {
            for field in Fields::new(message) {
                if field.key == key(CHILDREN, LEN) {
                    any |= child(self, out, field);
                } else {
                    out.extend_from_slice(field.raw);
                }
            }
            Ok::<_, Infallible>(())
        });
        if !any {
            out.truncate(start);
        }
        any
    }
}
