//! A byte budget: what bounds the memory of a stage (D8).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes counted by one permit of the semaphore, so that budgets over 4 GiB fit.
const UNIT: usize = 64;

/// A shared number of bytes that may be in flight.
#[derive(Clone, Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    total: usize,
}

/// Bytes taken from a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _units: OwnedSemaphorePermit,
}

impl Budget {
    /// A budget of that many bytes.
    pub fn new(bytes: usize) -> Self {
        let total = bytes.div_ceil(UNIT).max(1);
        Self { units: Arc::new(Semaphore::new(total)), total }
    }

    /// Takes bytes if they are free now.
    ///
    /// More than the whole budget counts as the whole budget, so that one oversized item can pass alone.
    pub fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        let units = self.units_of(bytes);
        Arc::clone(&self.units).try_acquire_many_owned(units).ok().map(|p| Permit { _units: p })
    }

    /// Waits until the bytes are free. Cancel safe; first come, first served.
    pub async fn acquire(&self, bytes: usize) -> Permit {
        let units = self.units_of(bytes);
        match Arc::clone(&self.units).acquire_many_owned(units).await {
            Ok(permit) => Permit { _units: permit },
            Err(_) => unreachable!("the semaphore of a budget is never closed"),
        }
    }

    /// Bytes in flight.
    pub fn in_flight(&self) -> usize {
        (self.total - self.units.available_permits()) * UNIT
    }

    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT).min(self.total)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_given_back_when_the_permit_goes() {
        let budget = Budget::new(1024);
        let permit = budget.try_acquire(1000).expect("free");
        assert!(budget.try_acquire(100).is_none());
        assert_eq!(budget.in_flight(), 1024);
        drop(permit);
        assert!(budget.try_acquire(100).is_some());
    }

    #[test]
    fn an_item_over_the_budget_passes_alone() {
        let budget = Budget::new(1024);
        let permit = budget.try_acquire(1 << 20).expect("counts as the whole budget");
        assert!(budget.try_acquire(1).is_none());
        drop(permit);
        assert_eq!(budget.in_flight(), 0);
    }
}
