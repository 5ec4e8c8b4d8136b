//! What JSON writers of other formats do differently from each other: numbers as text, `null` for absent, ids and
//! bytes as text. Lists are bounded.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::otlp::build::{AttributeMap, MOST, Value};

/// Standard or URL alphabet, with padding or without.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

/// `null` counts as absent.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A list of at most [`MOST`] entries; `null` is an empty one.
#[derive(Debug)]
pub(crate) struct Bounded<T>(pub(crate) Vec<T>);

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(List(PhantomData))
    }
}

struct List<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Bounded<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Bounded::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = seq.next_element()? {
            push(&mut list, entry)?;
        }
        Ok(Bounded(list))
    }
}

fn push<T, E: Error>(list: &mut Vec<T>, entry: T) -> Result<(), E> {
    if list.len() == MOST {
        return Err(E::custom(format_args!("a list of over {MOST} entries")));
    }
    list.push(entry);
    Ok(())
}

/// An object of texts, in its order, of at most [`MOST`] entries; `null` is an empty one, and a null entry is none.
#[derive(Debug, Default)]
pub(crate) struct Texts(pub(crate) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_unit<E: Error>(self) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some((key, text)) = map.next_entry::<String, Option<String>>()? {
            if let Some(text) = text {
                push(&mut texts, (key, text))?;
            }
        }
        Ok(Texts(texts))
    }
}

/// A number, as such or as text, whole or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// Every integer that a field may hold.
    Whole(i128),
    /// Anything else.
    Real(f64),
}

impl Default for Number {
    fn default() -> Self {
        Self::Whole(0)
    }
}

impl Number {
    /// As an integer of the field's type.
    pub(crate) fn whole<T: TryFrom<i128>>(self) -> Option<T> {
        match self {
            Self::Whole(value) => T::try_from(value).ok(),
            // Beyond 2^53 a double no longer says which integer.
            #[allow(clippy::cast_possible_truncation, reason = "integral and below 2^53")]
            Self::Real(value) if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => {
                T::try_from(value as i128).ok()
            }
            Self::Real(_) => None,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a JSON number is a double wherever a double is expected")]
    pub(crate) const fn real(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Real(value) => value,
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_unit<E: Error>(self) -> Result<Number, E> {
        Ok(Number::default())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Number, E> {
        Ok(Number::Whole(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Number, E> {
        Ok(Number::Whole(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Number, E> {
        Ok(Number::Real(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
        let whole = text.parse().map(Number::Whole);
        whole.or_else(|_| text.parse().map(Number::Real)).map_err(|_| {
            E::invalid_value(serde::de::Unexpected::Str(&text[..text.floor_char_boundary(64)]), &"a number")
        })
    }
}

/// Attributes that stand in a text as a JSON object: texts, numbers and booleans. Lists and objects in it are left
/// out, as by the Collector.
pub(crate) fn attributes(json: &str) -> Option<AttributeMap<'static>> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let attributes = reader.deserialize_map(AttributesVisitor).ok()?;
    reader.end().ok().map(|()| attributes)
}

struct AttributesVisitor;

impl<'de> Visitor<'de> for AttributesVisitor {
    type Value = AttributeMap<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut attributes = AttributeMap::default();
        let mut count = 0;
        while let Some((key, Plain(value))) = map.next_entry::<String, Plain>()? {
            count += 1;
            if count > MOST {
                return Err(A::Error::custom("too many attributes"));
            }
            if let Some(value) = value {
                attributes.set(key, value);
            }
        }
        Ok(attributes)
    }
}

/// A value without inner structure, or none.
struct Plain(Option<Value<'static>>);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(PlainVisitor)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Plain, E> {
        Ok(Plain(None))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Plain, E> {
        Ok(Plain(Some(Value::Bool(value))))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Plain, E> {
        Ok(Plain(Some(Value::Int(value))))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Plain, E> {
        let real = Number::Whole(value.into()).real();
        Ok(Plain(Some(i64::try_from(value).map_or(Value::Double(real), Value::Int))))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Plain, E> {
        // Writers whose only number is a double write 1.0 for 1.
        Ok(Plain(Some(Number::Real(value).whole().map_or(Value::Double(value), Value::Int))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Plain, E> {
        Ok(Plain(Some(Value::Str(text.to_owned().into()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Plain, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Plain(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Plain, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Plain(None))
    }
}
