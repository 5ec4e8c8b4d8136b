//! Estimates of how many distinct things there were, in little memory.

/// Bits of a hash that choose a register.
const BITS: u32 = 10;
const REGISTERS: usize = 1 << BITS;

/// A HyperLogLog of 1 KiB: within some 3 %, and better below 1,000. It never forgets.
#[derive(Clone, Debug)]
pub(super) struct Sketch(Box<[u8; REGISTERS]>);

impl Default for Sketch {
    fn default() -> Self {
        Self(Box::new([0; REGISTERS]))
    }
}

impl Sketch {
    /// Takes in a hash that is even over all of `u64`.
    pub(super) fn insert(&mut self, hash: u64) {
        let register = &mut self.0[(hash >> (64 - BITS)) as usize];
        // The bit that is set keeps the count below 56.
        let zeros = ((hash << BITS) | 1 << (BITS - 1)).leading_zeros() as u8;
        *register = (*register).max(zeros + 1);
    }

    /// How many distinct hashes there were, about.
    pub(super) fn estimate(&self) -> u64 {
        let registers = REGISTERS as f64;
        let empty = self.0.iter().filter(|register| **register == 0).count();
        let sum: f64 = self.0.iter().map(|register| 2_f64.powi(-i32::from(*register))).sum();
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let few = raw <= 2.5 * registers && empty > 0;
        let estimate = if few { registers * (registers / empty as f64).ln() } else { raw };
        estimate.round() as u64
    }
}
