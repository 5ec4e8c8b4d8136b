//! What encloses items, the same for spans and log records.

use std::marker::PhantomData;

use super::common::{ResourceView, ScopeView};
use crate::wire::{Extent, LEN, RECURSION_LIMIT, Reader, Reason, Repeated, key, text};

/// A `ResourceSpans` or `ResourceLogs` message: one resource and blocks `S` of scopes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResourceBlock<'a, S> {
    block: Block<'a>,
    scopes: PhantomData<fn(&'a [u8]) -> S>,
}

impl<'a, S> From<&'a [u8]> for ResourceBlock<'a, S> {
    #[inline]
    fn from(raw: &'a [u8]) -> Self {
        Self { block: Block::new(raw), scopes: PhantomData }
    }
}

impl<'a, S> ResourceBlock<'a, S> {
    /// Sees a message's bytes as what belongs to a resource.
    #[inline]
    pub fn new(raw: &'a [u8]) -> Self {
        raw.into()
    }

    /// The message's bytes.
    #[inline]
    pub const fn raw(&self) -> &'a [u8] {
        self.block.raw
    }

    /// The resource; an absent one reads as empty.
    #[inline]
    pub fn resource(&self) -> ResourceView<'a> {
        ResourceView::new(self.block.head.unwrap_or_default())
    }

    /// Bytes of the `Resource` message, where there is one.
    #[inline]
    pub const fn resource_raw(&self) -> Option<&'a [u8]> {
        self.block.head
    }

    /// URL of the schema of the resource.
    pub fn schema_url(&self) -> &'a str {
        text(self.block.schema_url)
    }

    /// Its blocks, one for each scope.
    #[inline]
    pub(super) fn scopes(&self) -> Repeated<'a, S> {
        self.block.items()
    }
}

/// A `ScopeSpans` or `ScopeLogs` message: one instrumentation scope and items `I`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScopeBlock<'a, I> {
    block: Block<'a>,
    items: PhantomData<fn(&'a [u8]) -> I>,
}

impl<'a, I> From<&'a [u8]> for ScopeBlock<'a, I> {
    #[inline]
    fn from(raw: &'a [u8]) -> Self {
        Self { block: Block::new(raw), items: PhantomData }
    }
}

impl<'a, I> ScopeBlock<'a, I> {
    /// Sees a message's bytes as what belongs to a scope.
    #[inline]
    pub fn new(raw: &'a [u8]) -> Self {
        raw.into()
    }

    /// The message's bytes.
    #[inline]
    pub const fn raw(&self) -> &'a [u8] {
        self.block.raw
    }

    /// The scope; an absent one reads as empty.
    #[inline]
    pub fn scope(&self) -> ScopeView<'a> {
        ScopeView::new(self.block.head.unwrap_or_default())
    }

    /// Bytes of the `InstrumentationScope` message, where there is one.
    #[inline]
    pub const fn scope_raw(&self) -> Option<&'a [u8]> {
        self.block.head
    }

    /// URL of the schema of the items.
    pub fn schema_url(&self) -> &'a str {
        text(self.block.schema_url)
    }

    /// Its spans or log records.
    #[inline]
    pub(super) fn items(&self) -> Repeated<'a, I> {
        self.block.items()
    }
}

/// What the messages around items have in common, for spans and logs: field 1 is the resource or scope, field 2
/// the items, field 3 the schema URL.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Block<'a> {
    pub(super) raw: &'a [u8],
    pub(super) head: Option<&'a [u8]>,
    pub(super) schema_url: &'a [u8],
    items: Extent,
}

impl<'a> Block<'a> {
    const HEAD: u32 = key(1, LEN);
    const ITEMS: u32 = key(2, LEN);
    const SCHEMA_URL: u32 = key(3, LEN);

    #[inline]
    pub(super) fn new(raw: &'a [u8]) -> Self {
        let mut view = Self { raw, ..Self::default() };
        let _malformed = view.read();
        view
    }

    #[inline]
    pub(super) fn items<T>(&self) -> Repeated<'a, T> {
        self.items.iter(self.raw, 2)
    }

    fn read(&mut self) -> Result<(), Reason> {
        let mut reader = Reader::new(self.raw);
        while !reader.is_empty() {
            let before = reader.rest();
            match reader.key()? {
                Self::HEAD => self.head = Some(reader.bytes()?),
                Self::ITEMS => {
                    reader.bytes()?;
                    self.items.note(self.raw, before, reader.rest());
                }
                Self::SCHEMA_URL => self.schema_url = reader.bytes()?,
                other => reader.skip(other, RECURSION_LIMIT)?,
            }
        }
        Ok(())
    }
}
