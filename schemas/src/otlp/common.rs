//! Views over what traces and logs share: resources, scopes, attributes and their values.

pub use super::unique::Unique;
use crate::wire::{Extent, FIXED64, LEN, RECURSION_LIMIT, Reader, Reason, Repeated, VARINT, key, text};

/// Attributes in their order; keys may repeat.
pub type Attributes<'a> = Repeated<'a, KeyValueView<'a>>;

impl<'a> Attributes<'a> {
    /// The attributes without those whose key an earlier one has.
    ///
    /// OTLP forbids repeated keys without saying what they mean; readers of maps, such as DuckDB, refuse them.
    pub fn unique(self) -> Unique<'a> {
        Unique::new(self)
    }
}

/// The values of an array.
pub type Values<'a> = Repeated<'a, ValueView<'a>>;

/// A `Resource` message. An absent one reads as empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResourceView<'a> {
    raw: &'a [u8],
}

impl<'a> From<&'a [u8]> for ResourceView<'a> {
    #[inline]
    fn from(raw: &'a [u8]) -> Self {
        Self { raw }
    }
}

impl<'a> ResourceView<'a> {
    /// Sees a message's bytes as a resource.
    #[inline]
    pub const fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The message's bytes.
    #[inline]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The attributes.
    #[inline]
    pub const fn attributes(&self) -> Attributes<'a> {
        Repeated::new(self.raw, 1)
    }

    /// How many attributes the sender left out.
    pub fn dropped_attributes_count(&self) -> u32 {
        last_varint(self.raw, 2) as u32
    }

    /// The entities that this resource describes.
    pub const fn entity_refs(&self) -> Repeated<'a, EntityRefView<'a>> {
        Repeated::new(self.raw, 3)
    }
}

/// An `EntityRef` message.
#[derive(Clone, Copy, Debug, Default)]
pub struct EntityRefView<'a> {
    raw: &'a [u8],
}

impl<'a> From<&'a [u8]> for EntityRefView<'a> {
    fn from(raw: &'a [u8]) -> Self {
        Self { raw }
    }
}

impl<'a> EntityRefView<'a> {
    /// URL of the schema of the entity.
    pub fn schema_url(&self) -> &'a str {
        Repeated::<&[u8]>::new(self.raw, 1).last().map_or("", text)
    }

    /// Type of the entity, such as `service`.
    pub fn kind(&self) -> &'a str {
        Repeated::<&[u8]>::new(self.raw, 2).last().map_or("", text)
    }

    /// Resource attributes that identify the entity.
    pub fn id_keys(&self) -> impl Iterator<Item = &'a str> {
        Repeated::<&[u8]>::new(self.raw, 3).map(text)
    }

    /// Resource attributes that describe the entity.
    pub fn description_keys(&self) -> impl Iterator<Item = &'a str> {
        Repeated::<&[u8]>::new(self.raw, 4).map(text)
    }
}

/// An `InstrumentationScope` message. An absent one reads as empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScopeView<'a> {
    raw: &'a [u8],
    name: &'a [u8],
    version: &'a [u8],
    dropped_attributes_count: u32,
    attributes: Extent,
}

impl<'a> From<&'a [u8]> for ScopeView<'a> {
    fn from(raw: &'a [u8]) -> Self {
        let mut view = Self { raw, ..Self::default() };
        let _malformed = view.read();
        view
    }
}

impl<'a> ScopeView<'a> {
    const NAME: u32 = key(1, LEN);
    const VERSION: u32 = key(2, LEN);
    const ATTRIBUTES: u32 = key(3, LEN);
    const DROPPED_ATTRIBUTES: u32 = key(4, VARINT);

    fn read(&mut self) -> Result<(), Reason> {
        let mut reader = Reader::new(self.raw);
        while !reader.is_empty() {
            let before = reader.rest();
            match reader.key()? {
                Self::NAME => self.name = reader.bytes()?,
                Self::VERSION => self.version = reader.bytes()?,
                Self::ATTRIBUTES => {
                    reader.bytes()?;
                    self.attributes.note(self.raw, before, reader.rest());
                }
                Self::DROPPED_ATTRIBUTES => self.dropped_attributes_count = reader.varint()? as u32,
                other => reader.skip(other, RECURSION_LIMIT)?,
            }
        }
        Ok(())
    }

    /// Sees a message's bytes as a scope.
    pub fn new(raw: &'a [u8]) -> Self {
        raw.into()
    }

    /// The message's bytes.
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Name of the instrumentation library.
    pub fn name(&self) -> &'a str {
        text(self.name)
    }

    /// Version of the instrumentation library.
    pub fn version(&self) -> &'a str {
        text(self.version)
    }

    /// The attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        self.attributes.iter(self.raw, 3)
    }

    /// How many attributes the sender left out.
    pub const fn dropped_attributes_count(&self) -> u32 {
        self.dropped_attributes_count
    }
}

/// A `KeyValue` message: one attribute.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyValueView<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
    key_strindex: i32,
}

impl<'a> From<&'a [u8]> for KeyValueView<'a> {
    #[inline]
    fn from(raw: &'a [u8]) -> Self {
        let mut view = Self::default();
        let _malformed = view.read(raw);
        view
    }
}

impl<'a> KeyValueView<'a> {
    const KEY: u32 = key(1, LEN);
    const VALUE: u32 = key(2, LEN);
    const KEY_STRINDEX: u32 = key(3, VARINT);

    #[inline]
    fn read(&mut self, raw: &'a [u8]) -> Result<(), Reason> {
        let mut reader = Reader::new(raw);
        while !reader.is_empty() {
            match reader.key()? {
                Self::KEY => self.key = reader.bytes()?,
                Self::VALUE => self.value = Some(reader.bytes()?),
                Self::KEY_STRINDEX => self.key_strindex = reader.varint()? as i32,
                other => reader.skip(other, RECURSION_LIMIT)?,
            }
        }
        Ok(())
    }

    /// Sees a message's bytes as an attribute.
    #[inline]
    pub fn new(raw: &'a [u8]) -> Self {
        raw.into()
    }

    /// Name of the attribute.
    #[inline]
    pub fn key(&self) -> &'a str {
        text(self.key)
    }

    /// Name of the attribute, not looked at as text: for comparing with a known name.
    #[inline]
    pub const fn key_bytes(&self) -> &'a [u8] {
        self.key
    }

    /// Value of the attribute; an absent one is [`ValueView::Empty`].
    #[inline]
    pub fn value(&self) -> ValueView<'a> {
        self.value.map_or(ValueView::Empty, ValueView::new)
    }

    /// Bytes of the `AnyValue` message, where there is one.
    #[inline]
    pub const fn value_raw(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// Index of the name in a table of strings, which only profiles have.
    pub const fn key_strindex(&self) -> i32 {
        self.key_strindex
    }
}

/// An `AnyValue` message.
#[derive(Clone, Debug, Default)]
pub enum ValueView<'a> {
    /// No value.
    #[default]
    Empty,
    /// Text.
    Str(&'a str),
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Values in order.
    Array(Values<'a>),
    /// Named values in order.
    KvList(Attributes<'a>),
    /// Index of the text in a table of strings, which only profiles have.
    StrIndex(i32),
}

impl<'a> From<&'a [u8]> for ValueView<'a> {
    #[inline]
    fn from(raw: &'a [u8]) -> Self {
        Self::read(raw).unwrap_or_default()
    }
}

impl<'a> ValueView<'a> {
    const STRING: u32 = key(1, LEN);
    const BOOL: u32 = key(2, VARINT);
    const INT: u32 = key(3, VARINT);
    const DOUBLE: u32 = key(4, FIXED64);
    const ARRAY: u32 = key(5, LEN);
    const KVLIST: u32 = key(6, LEN);
    const BYTES: u32 = key(7, LEN);
    const STRING_STRINDEX: u32 = key(8, VARINT);

    #[inline]
    fn read(raw: &'a [u8]) -> Result<Self, Reason> {
        let mut reader = Reader::new(raw);
        let mut last = Self::Empty;
        while !reader.is_empty() {
            last = match reader.key()? {
                Self::STRING => Self::Str(text(reader.bytes()?)),
                Self::BOOL => Self::Bool(reader.varint()? != 0),
                Self::INT => Self::Int(reader.varint()? as i64),
                Self::DOUBLE => Self::Double(f64::from_bits(reader.fixed64()?)),
                Self::ARRAY => Self::Array(Repeated::new(reader.bytes()?, 1)),
                Self::KVLIST => Self::KvList(Repeated::new(reader.bytes()?, 1)),
                Self::BYTES => Self::Bytes(reader.bytes()?),
                Self::STRING_STRINDEX => Self::StrIndex(reader.varint()? as i32),
                other => {
                    reader.skip(other, RECURSION_LIMIT)?;
                    continue;
                }
            };
        }
        Ok(last)
    }

    /// Sees a message's bytes as a value.
    #[inline]
    pub fn new(raw: &'a [u8]) -> Self {
        raw.into()
    }

    /// The text, if it is one.
    #[inline]
    pub const fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }
}

/// Last occurrence of an integer field.
fn last_varint(raw: &[u8], field: u32) -> u64 {
    let mut reader = Reader::new(raw);
    let mut last = 0;
    let mut read = || -> Result<(), Reason> {
        while !reader.is_empty() {
            let found = reader.key()?;
            if found == key(field, VARINT) {
                last = reader.varint()?;
            } else {
                reader.skip(found, RECURSION_LIMIT)?;
            }
        }
        Ok(())
    };
    let _malformed = read();
    last
}
