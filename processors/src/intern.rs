//! Texts and short lists of numbers by number.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Texts, each once. Number 0 is the empty one.
#[derive(Debug)]
pub(crate) struct Texts {
    hasher: DefaultHashBuilder,
    table: HashTable<Text>,
    /// Where each text ends in the arena, behind the end of the one before.
    ends: Vec<usize>,
    arena: Vec<u8>,
}

/// A text's number and where it stands, so that comparing it looks up nothing else.
#[derive(Clone, Copy, Debug)]
struct Text {
    start: usize,
    len: u32,
    number: u32,
}

impl Text {
    #[inline]
    fn of(self, arena: &[u8]) -> &[u8] {
        &arena[self.start..][..self.len as usize]
    }
}

impl Default for Texts {
    fn default() -> Self {
        Self { hasher: DefaultHashBuilder::default(), table: HashTable::new(), ends: vec![0], arena: Vec::new() }
    }
}

impl Texts {
    /// The number of a text.
    #[inline]
    pub(crate) fn intern(&mut self, text: &[u8]) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let hash = self.hasher.hash_one(text);
        match self.table.find(hash, |known| known.of(&self.arena) == text) {
            Some(known) => known.number,
            None => self.add(hash, text),
        }
    }

    #[cold]
    fn add(&mut self, hash: u64, text: &[u8]) -> u32 {
        let (start, len, number) = (self.arena.len(), text.len() as u32, self.ends.len() as u32);
        self.arena.extend_from_slice(text);
        self.ends.push(self.arena.len());
        let (hasher, arena) = (&self.hasher, &self.arena);
        self.table.insert_unique(hash, Text { start, len, number }, |known| hasher.hash_one(known.of(arena)));
        number
    }

    /// The text of a number.
    #[inline]
    pub(crate) fn text(&self, number: u32) -> &str {
        afflux_schemas::wire::as_text(get(&self.ends, &self.arena, number))
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.len() + self.ends.len() * 32
    }
}

#[inline]
fn get<'a>(ends: &[usize], arena: &'a [u8], number: u32) -> &'a [u8] {
    let at = number as usize;
    &arena[if at == 0 { 0 } else { ends[at - 1] }..ends[at]]
}

/// Keys of equally many numbers, each with a value.
#[derive(Debug)]
pub(crate) struct Keys {
    width: usize,
    hasher: DefaultHashBuilder,
    table: HashTable<(u32, u32)>,
    keys: Vec<u32>,
}

impl Keys {
    /// No keys yet, of so many numbers each.
    pub(crate) fn new(width: usize) -> Self {
        Self { width, hasher: DefaultHashBuilder::default(), table: HashTable::new(), keys: Vec::new() }
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn get(&self, key: &[u32]) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        let found = self.table.find(hash, |&(at, _)| &self.keys[at as usize * self.width..][..self.width] == key);
        found.map(|&(_, value)| value)
    }

    /// Adds a key that is not there.
    pub(crate) fn insert(&mut self, key: &[u32], value: u32) {
        let at = (self.keys.len() / self.width) as u32;
        self.keys.extend_from_slice(key);
        let hash = self.hasher.hash_one(key);
        let (hasher, keys, width) = (&self.hasher, &self.keys, self.width);
        self.table.insert_unique(hash, (at, value), |&(at, _)| hasher.hash_one(&keys[at as usize * width..][..width]));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_keys_are_found_again() {
        let mut texts = Texts::default();
        let names: Vec<String> = (0..5000).map(|n| format!("name {}", n % 1000)).collect();
        let numbers: Vec<u32> = names.iter().map(|name| texts.intern(name.as_bytes())).collect();
        assert_eq!(numbers[..1000], numbers[4000..]);
        assert!(names.iter().zip(&numbers).all(|(name, &number)| texts.text(number) == name));
        assert_eq!((texts.intern(b""), texts.text(0)), (0, ""));

        let mut keys = Keys::new(2);
        for n in 0..1000 {
            assert_eq!(keys.get(&[n % 10, n]), None);
            keys.insert(&[n % 10, n], n * 2);
        }
        assert!((0..1000).all(|n| keys.get(&[n % 10, n]) == Some(n * 2)));
        assert_eq!((keys.get(&[1, 2]), keys.len()), (None, 1000));
    }
}
