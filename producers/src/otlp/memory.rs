//! Bytes that requests hold, each taken from the byte budget before it is allocated (D8).

use afflux_runtime::{Budget, Permit};
use bytes::Bytes;

use super::refusal::Refusal;

/// Bytes that a request of announced length may take before anything of it has arrived.
const EAGER: usize = 64 * 1024;

/// The byte budget of all requests.
///
/// Nobody waits for it: requests that hold some while waiting for more would block each other for good, so who
/// finds it taken answers its client with "retry".
#[derive(Clone, Debug)]
pub(super) struct Memory {
    budget: Budget,
    total: usize,
}

impl Memory {
    pub(super) fn new(bytes: usize) -> Self {
        Self { budget: Budget::new(bytes), total: bytes }
    }

    /// Takes bytes, or refuses: for good if they will never fit, otherwise for now.
    pub(super) fn take(&self, bytes: usize) -> Result<Permit, Refusal> {
        if bytes > self.total {
            return Err(Refusal::WorkTooLarge { limit: self.total });
        }
        self.budget.try_acquire(bytes).ok_or(Refusal::Busy)
    }

    /// Bytes taken.
    pub(super) fn in_flight(&self) -> usize {
        self.budget.in_flight()
    }
}

/// Bytes and their share of the budget.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    pub(super) permit: Option<Permit>,
}

/// A buffer that grows within the budget.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    permit: Option<Permit>,
}

impl Buffer {
    /// Makes room for `additional` bytes.
    ///
    /// Doubles the capacity, but not beyond `most` (the length in the end, or a bound of it), and starts with as
    /// much of `expected` (0 if unknown) as is harmless to believe. While it moves, old and new are both counted.
    pub(super) fn reserve(
        &mut self,
        additional: usize,
        expected: usize,
        most: usize,
        memory: &Memory,
    ) -> Result<(), Refusal> {
        let needed = self.bytes.len() + additional;
        if needed <= self.bytes.capacity() {
            return Ok(());
        }
        let capacity = self.bytes.capacity().saturating_mul(2).max(expected.min(EAGER)).min(most).max(needed);
        let permit = memory.take(capacity)?;
        self.bytes.reserve_exact(capacity - self.bytes.len());
        self.permit = Some(permit);
        Ok(())
    }

    /// The bytes so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes so far, to append what [`Buffer::reserve`] made room for.
    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends the growing.
    pub(super) fn finish(self) -> Held {
        Held { bytes: self.bytes.into(), permit: self.permit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_what_the_budget_counts_and_ends_at_the_bound() {
        let memory = Memory::new(1 << 20);
        let mut buffer = Buffer::default();
        for _ in 0..100 {
            buffer.reserve(1000, 0, 100_000, &memory).unwrap();
            buffer.bytes_mut().extend_from_slice(&[1; 1000]);
            let counted = memory.in_flight();
            assert!((buffer.bytes.capacity()..buffer.bytes.capacity() + 64).contains(&counted), "{counted}");
        }
        assert_eq!(buffer.bytes.capacity(), 100_000);
        let held = buffer.finish();
        assert_eq!(held.bytes.len(), 100_000);
        drop(held);
        assert_eq!(memory.in_flight(), 0);
    }

    #[test]
    fn an_announced_length_is_believed_only_as_far_as_is_harmless() {
        let memory = Memory::new(1 << 30);
        let mut buffer = Buffer::default();
        buffer.reserve(1, 500 << 20, 500 << 20, &memory).unwrap();
        assert_eq!(buffer.bytes.capacity(), EAGER);
        let mut exact = Buffer::default();
        exact.reserve(10, 300, 300, &memory).unwrap();
        assert_eq!(exact.bytes.capacity(), 300, "a small one is allocated once");
    }

    #[test]
    fn a_taken_budget_is_refused_for_now_and_one_that_never_fits_for_good() {
        let memory = Memory::new(6400);
        let held = memory.take(6000).unwrap();
        assert!(matches!(memory.take(1000), Err(Refusal::Busy)));
        assert!(matches!(memory.take(6401), Err(Refusal::WorkTooLarge { limit: 6400 })));
        drop(held);
        memory.take(6400).unwrap();
    }
}
