//! Texts and attributes that many objects share, each held once.

use std::collections::HashSet;
use std::hash::Hash;
use std::mem::{size_of, size_of_val};
use std::sync::Arc;

/// An attribute of text: key and value.
pub(super) type Tag = (Arc<str>, Arc<str>);

/// What is shared.
#[derive(Debug, Default)]
pub(super) struct Strings {
    texts: Shared<str>,
    /// Pods of one workload mostly have the same labels.
    tags: Shared<[Tag]>,
}

/// Values in use, and some that no longer are.
#[derive(Debug)]
struct Shared<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// Number of values at which those that nobody uses are dropped.
    sweep_at: usize,
}

/// Fewer values are not worth looking through.
const FEW: usize = 1024;

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), sweep_at: FEW }
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T> {
    fn get<'v>(&mut self, value: &'v T) -> Arc<T>
    where
        Arc<T>: From<&'v T>,
    {
        if let Some(known) = self.known.get(value) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = FEW.max(2 * self.known.len());
        }
        let value = Arc::from(value);
        self.known.insert(Arc::clone(&value));
        value
    }

    fn heap_bytes(&self) -> usize {
        map_bytes::<Arc<T>>(self.known.capacity()) + self.known.iter().map(shared_bytes).sum::<usize>()
    }
}

impl Strings {
    /// The text, the same one each time.
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        self.texts.get(text)
    }

    /// The attributes, the same ones each time.
    pub(super) fn tags(&mut self, tags: &[Tag]) -> Arc<[Tag]> {
        self.tags.get(tags)
    }

    /// Estimate of the heap that it all takes, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.texts.heap_bytes() + self.tags.heap_bytes()
    }
}

/// Estimate of the heap that a shared value takes: two counters before it, in steps of 16 bytes.
pub(super) fn shared_bytes<T: ?Sized>(value: &Arc<T>) -> usize {
    (2 * size_of::<usize>() + size_of_val::<T>(value)).next_multiple_of(16)
}

/// Estimate of the heap that a hash map or set of entries `T` takes: a byte of its own for each, an eighth empty.
pub(super) fn map_bytes<T>(capacity: usize) -> usize {
    capacity * 8 / 7 * (size_of::<T>() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_held_once_and_dropped_when_nobody_uses_them() {
        let mut strings = Strings::default();
        let kept = strings.get("kept");
        assert!(Arc::ptr_eq(&kept, &strings.get("kept")));
        for i in 0..10 * FEW {
            strings.get(&i.to_string());
        }
        assert!(strings.texts.known.len() <= FEW + 1, "{}", strings.texts.known.len());
        assert!(Arc::ptr_eq(&kept, &strings.get("kept")));
    }
}
