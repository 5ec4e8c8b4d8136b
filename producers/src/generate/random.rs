//! Seeded numbers: the same for a seed on every machine and with every version of every crate.

/// A SplitMix64 stream. Not for secrets; statistically good enough for a shop.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

/// Spreads a number over all 64 bits. A bijection: different inputs give different outputs.
pub(super) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Random {
    /// The stream of that seed; `purpose` keeps several streams of one seed apart.
    pub(super) const fn new(seed: u64, purpose: u64) -> Self {
        Self(mix(mix(seed).wrapping_add(purpose)))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in `0..n`.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        (((self.next() >> 32) * u64::from(n)) >> 32) as u32
    }

    /// True in that share of the calls.
    pub(super) fn chance(&mut self, share: Share) -> bool {
        self.next() >> 32 < u64::from(share.0)
    }
}

/// A probability in parts of 2^32, so that drawing needs no floating point; the greatest means always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share(u32);

impl Share {
    pub(super) const NEVER: Self = Self(0);

    pub(super) fn of(probability: f64) -> Self {
        Self((probability.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32)
    }
}

/// Ids that never repeat within 2^64 calls and are never zero, which OTLP calls invalid.
#[derive(Clone, Debug)]
pub(super) struct Ids(u64);

impl Ids {
    pub(super) const fn new(seed: u64, purpose: u64) -> Self {
        Self(mix(mix(seed).wrapping_add(purpose)))
    }

    pub(super) fn next(&mut self) -> u64 {
        loop {
            self.0 = self.0.wrapping_add(1);
            let id = mix(self.0);
            if id != 0 {
                return id;
            }
        }
    }
}

/// Quantiles of a log-normal distribution with median 1, in 1/65536.
#[derive(Debug)]
pub(super) struct LogNormal(Box<[u32]>);

const QUANTILES: usize = 4096;

impl LogNormal {
    /// With `sigma` 0.35 the 99th percentile is 2.3 times the median, with 1.0 it is 10 times.
    pub(super) fn new(sigma: f64) -> Self {
        // The normal distribution summed up in small steps; each quantile is where the sum passes it.
        const STEP: f64 = 1.0 / 4096.0;
        let mut table = Vec::with_capacity(QUANTILES);
        let (mut z, mut below) = (-6.0_f64, 0.0);
        for i in 0..QUANTILES {
            let quantile = (i as f64 + 0.5) / QUANTILES as f64;
            while below < quantile && z < 6.0 {
                below += STEP * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
                z += STEP;
            }
            table.push(((sigma * z).exp() * 65_536.0).round() as u32);
        }
        Self(table.into())
    }

    /// A draw around that median of at most 2^30, interpolated so that values seldom repeat.
    pub(super) fn around(&self, median: u64, random: u64) -> u64 {
        let at = (random >> 52) as usize;
        let low = u64::from(self.0[at]);
        let high = u64::from(self.0[(at + 1).min(QUANTILES - 1)]);
        // Ten more bits between one quantile and the next: 2^26 in all.
        let scaled = (low << 10) + (high - low) * ((random >> 42) & 0x3ff);
        ((median * scaled) >> 26).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_normal_has_its_median_and_its_tail() {
        let (table, mut random) = (LogNormal::new(1.0), Random::new(1, 1));
        let mut draws: Vec<u64> = (0..100_000).map(|_| table.around(1_000_000, random.next())).collect();
        draws.sort_unstable();
        let share = |q: f64| draws[(q * draws.len() as f64) as usize] as f64 / 1e6;
        assert!((0.97..1.03).contains(&share(0.5)), "median {}", share(0.5));
        assert!((9.5..11.0).contains(&share(0.99)), "99th percentile {}", share(0.99));
        draws.dedup();
        assert!(draws.len() > 90_000, "values repeat: {} distinct", draws.len());
    }

    #[test]
    fn chances_come_out_in_their_share() {
        let mut random = Random::new(7, 7);
        let hits = (0..100_000).filter(|_| random.chance(Share::of(0.02))).count();
        assert!((1_800..2_200).contains(&hits), "{hits}");
        assert!(!(0..100_000).any(|_| random.chance(Share::NEVER)));
    }
}
