//! Leaving spans out of a request, and marking those that stay, as bytes.

use std::convert::Infallible;
use std::ops::Range;

use afflux_schemas::otlp::common::ResourceView;
use afflux_schemas::otlp::trace::{SpanView, TracesView};
use afflux_schemas::wire::{Fields, LEN, key, put_len_header, put_message_field};
use bytes::Bytes;

use super::mark;

/// What becomes of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on as it is.
    Keep,
    /// It goes on, and says that it was sampled by this threshold, which is above 0 and below 2⁵⁶.
    Mark(u64),
    /// It goes no further.
    Drop,
}

/// Decides on spans.
pub(super) trait Judge {
    /// The resource of the spans that follow.
    fn resource(&mut self, resource: ResourceView<'_>);

    /// What becomes of a span.
    fn span(&mut self, span: &SpanView<'_>) -> Fate;
}

/// What is left of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selected {
    /// The request, the same bytes where nothing was changed; `None` where all spans were left out.
    pub(super) value: Option<Bytes>,
    /// Spans in it.
    pub(super) kept: u64,
    /// Spans left out.
    pub(super) dropped: u64,
}

/// Field number of the resource blocks in a request.
const BLOCKS: u32 = key(1, LEN);
/// Field number of the scopes in a resource block, and of the spans in a scope.
const CHILDREN: u32 = key(2, LEN);

/// Leaves out what the judge drops, with the resources and scopes that nothing is left of, and marks what it marks.
///
/// The rest is copied as it stands. The request must be valid. One without any spans stays as it is.
pub(super) fn select(request: &Bytes, judge: &mut impl Judge) -> Selected {
    let mut fates = Vec::new();
    for block in TracesView::new(request).resource_spans() {
        judge.resource(block.resource());
        fates.extend(block.scope_spans().flat_map(|scope| scope.spans()).map(|span| judge.span(&span)));
    }
    let dropped = fates.iter().filter(|fate| **fate == Fate::Drop).count();
    let value = if fates.iter().all(|fate| *fate == Fate::Keep) {
        Some(request.clone())
    } else if dropped == fates.len() {
        None
    } else {
        let mut writing = Writing { fates: fates.iter().copied(), out: Vec::with_capacity(request.len()) };
        writing.request(request);
        Some(writing.out.into())
    };
    Selected { value, kept: (fates.len() - dropped) as u64, dropped: dropped as u64 }
}

struct Writing<F> {
    /// Those of the spans to come, in their order.
    fates: F,
    out: Vec<u8>,
}

impl<F: Iterator<Item = Fate>> Writing<F> {
    fn request(&mut self, request: &[u8]) {
        for field in Fields::new(request) {
            if field.key == BLOCKS {
                self.container(1, |writing| writing.block(field.value));
            } else {
                self.out.extend_from_slice(field.raw);
            }
        }
    }

    fn block(&mut self, block: &[u8]) -> bool {
        let mut any = false;
        for field in Fields::new(block) {
            if field.key == CHILDREN {
                any |= self.container(2, |writing| writing.scope(field.value));
            } else {
                self.out.extend_from_slice(field.raw);
            }
        }
        any
    }

    fn scope(&mut self, scope: &[u8]) -> bool {
        let mut any = false;
        for field in Fields::new(scope) {
            let fate = if field.key == CHILDREN { self.fates.next() } else { None };
            match fate {
                Some(Fate::Drop) => continue,
                Some(Fate::Mark(threshold)) => {
                    let Ok(()) = put_message_field(&mut self.out, 2, |out| {
                        mark::span(field.value, threshold, out);
                        Ok::<_, Infallible>(())
                    });
                }
                Some(Fate::Keep) | None => self.out.extend_from_slice(field.raw),
            }
            any |= fate.is_some();
        }
        any
    }

    /// Writes a message field, unless `inside` says that there are no spans in it.
    fn container(&mut self, number: u32, inside: impl FnOnce(&mut Self) -> bool) -> bool {
        let start = self.out.len();
        let any = inside(self);
        if any {
            self.enclose(number, start..self.out.len());
        } else {
            self.out.truncate(start);
        }
        any
    }

    /// Puts key and length before what was written.
    fn enclose(&mut self, number: u32, content: Range<usize>) {
        put_len_header(&mut self.out, number, content.len());
        let header = self.out.len() - content.end;
        self.out[content.start..].rotate_right(header);
    }
}
