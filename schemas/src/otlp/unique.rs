//! Attributes with every key once.

use std::collections::HashSet;

use super::common::{Attributes, KeyValueView};

/// Keys that are compared one by one; more are looked up in a set, so that no sender can make this slow.
const FEW: usize = 32;

/// Attributes whose key no earlier one has; see [`Attributes::unique`].
#[derive(Clone, Debug)]
pub struct Unique<'a> {
    attributes: Attributes<'a>,
    few: [&'a [u8]; FEW],
    count: usize,
    many: HashSet<&'a [u8]>,
}

impl<'a> Unique<'a> {
    pub(super) fn new(attributes: Attributes<'a>) -> Self {
        Self { attributes, few: [&[]; FEW], count: 0, many: HashSet::new() }
    }

    /// Notes a key; false if it was there.
    fn insert(&mut self, key: &'a [u8]) -> bool {
        if self.few[..self.count].contains(&key) {
            return false;
        }
        if self.count < FEW {
            self.few[self.count] = key;
            self.count += 1;
            return true;
        }
        self.many.insert(key)
    }
}

impl<'a> Iterator for Unique<'a> {
    type Item = KeyValueView<'a>;

    fn next(&mut self) -> Option<KeyValueView<'a>> {
        loop {
            let attribute = self.attributes.next()?;
            if self.insert(attribute.key_bytes()) {
                return Some(attribute);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_len_field;

    #[test]
    fn the_first_attribute_of_a_key_stays_however_many_there_are() {
        let keys: Vec<String> = (0..200).map(|i| format!("key {}", i * i % 97)).collect();
        let mut resource = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let mut attribute = Vec::new();
            put_len_field(&mut attribute, 1, key.as_bytes());
            put_len_field(&mut attribute, 2, &[0x18, i as u8]);
            put_len_field(&mut resource, 1, &attribute);
        }
        let unique: Vec<_> =
            Attributes::new(&resource, 1).unique().map(|a| (a.key(), a.value_raw().unwrap()[1])).collect();
        let mut expected: Vec<(&str, u8)> = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            if expected.iter().all(|(known, _)| known != key) {
                expected.push((key, i as u8));
            }
        }
        assert!(expected.len() > FEW);
        assert_eq!(unique, expected);
    }
}
