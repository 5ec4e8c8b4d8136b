//! Attributes of spans, logs and resources.

use super::template::{Draft, Hole, Number};

/// An attribute's value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// May hold placeholders, see [`super::facts::Word`].
    Text(String),
    Int(i64),
    Flag(bool),
    Double(f64),
    List(&'static [&'static str]),
    /// An integer drawn for each span.
    Drawn(Number),
    /// The total of the trace's cart.
    Price,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        Self::Drawn(number)
    }
}

/// Key and value.
pub(super) type Attribute = (&'static str, Value);

/// Adds a `KeyValue` as an element of that field.
pub(super) fn attribute(message: &mut Draft, field: u32, key: &str, value: &Value) {
    let mut any = Draft::default();
    any_value(&mut any, value);
    let mut pair = Draft::default();
    pair.text(1, key);
    pair.nested(2, any);
    message.nested(field, pair);
}

/// Fills an `AnyValue`.
pub(super) fn any_value(any: &mut Draft, value: &Value) {
    match value {
        Value::Text(text) => any.text(1, text),
        Value::Flag(flag) => any.number(2, u64::from(*flag)),
        Value::Int(int) => any.number(3, *int as u64),
        Value::Drawn(number) => any.number_hole(3, *number),
        Value::Double(double) => any.double(4, *double),
        Value::Price => any.fixed64_hole(4, Hole::Price),
        Value::List(items) => {
            let mut list = Draft::default();
            for item in *items {
                let mut element = Draft::default();
                element.text(1, item);
                list.nested(1, element);
            }
            any.nested(5, list);
        }
    }
}
