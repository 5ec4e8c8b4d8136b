//! The label sets of all tenants, within limits.

mod tenant;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Folded, Series};
use tenant::Tenant;

/// How often all series are looked at, in milliseconds: a share of `idle` between these.
const SCAN_MIN_MS: i64 = 1_000;
const SCAN_MAX_MS: i64 = 60_000;

/// 0 means no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) series: u64,
    pub(super) values: u64,
}

/// A series and, where a limit played a part in the decision, the tenant's epoch in which it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    pub(super) series: Series,
    epoch: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Limiter {
    limits: Limits,
    /// Milliseconds; 0: never.
    idle_ms: i64,
    labels: usize,
    by_name: HashMap<Box<str>, u32>,
    tenants: Vec<Option<Tenant>>,
    slots: Vec<Slot>,
    /// Slots without a series; the last is taken first.
    free: Vec<u32>,
    now_ms: i64,
    scanned_ms: Option<i64>,
}

/// Room for a series.
#[derive(Debug)]
struct Slot {
    generation: u32,
    tenant: u32,
    last_ms: i64,
    what: What,
}

#[derive(Debug)]
enum What {
    Nothing,
    /// The label set of that hash, with its values by label.
    Set {
        key: u128,
        values: Box<[u32]>,
    },
    Overflow,
}

impl Limiter {
    pub(super) fn new(limits: Limits, idle_ms: i64, labels: usize) -> Self {
        Self {
            limits,
            idle_ms,
            labels,
            by_name: HashMap::new(),
            tenants: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            now_ms: i64::MIN,
            scanned_ms: None,
        }
    }

    /// The series of a label set, and whether it is the overflow series. Values beyond the limit are replaced.
    pub(super) fn admit(
        &mut self,
        name: &str,
        labels: &mut [(usize, String)],
        folded: Option<Folded>,
        now_ms: i64,
    ) -> (Handle, bool) {
        self.now_ms = self.now_ms.max(now_ms);
        let at = self.place(name);
        let tenant = self.tenants[at as usize].get_or_insert_with(|| Tenant::new(name, self.labels));
        if let Some(folded) = folded {
            tenant.note(folded);
        }
        let (hashes, capped) = tenant.cap(labels, self.limits.values);
        let key = key(labels);
        let mut epoch = capped.then_some(tenant.epoch);
        let known = tenant.sets.get(&key).copied();
        let (slot, overflow) = if let Some(slot) = known {
            (slot, false)
        } else if self.limits.series == 0 || (tenant.sets.len() as u64) < self.limits.series {
            let values = tenant.hold(&hashes);
            let slot = put(&mut self.slots, &mut self.free, at, What::Set { key, values });
            tenant.sets.insert(key, slot);
            (slot, false)
        } else {
            tenant.overflowed.insert(key as u64);
            epoch = Some(tenant.epoch);
            let make = || put(&mut self.slots, &mut self.free, at, What::Overflow);
            (*tenant.overflow.get_or_insert_with(make), true)
        };
        let slot_at = &mut self.slots[slot as usize];
        slot_at.last_ms = self.now_ms;
        (Handle { series: Series { slot, generation: slot_at.generation }, epoch }, overflow)
    }

    /// Whether the series is there, and the decision would be no other by now.
    pub(super) fn is_valid(&self, handle: Handle) -> bool {
        let Some(slot) = self.slots.get(handle.series.slot as usize) else { return false };
        let epoch = || self.tenants[slot.tenant as usize].as_ref().map(|tenant| tenant.epoch);
        slot.generation == handle.series.generation && (handle.epoch.is_none() || handle.epoch == epoch())
    }

    /// Counts items of a valid handle.
    pub(super) fn touch(&mut self, handle: Handle, items: u64, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
        let slot = &mut self.slots[handle.series.slot as usize];
        slot.last_ms = self.now_ms;
        if let Some(tenant) = &mut self.tenants[slot.tenant as usize] {
            tenant.items = tenant.items.saturating_add(items);
            if matches!(slot.what, What::Overflow) {
                tenant.overflow_items = tenant.overflow_items.saturating_add(items);
            }
        }
    }

    pub(super) fn expire(&mut self, now_ms: i64) -> Vec<Series> {
        self.now_ms = self.now_ms.max(now_ms);
        let every = (self.idle_ms / 4).clamp(SCAN_MIN_MS, SCAN_MAX_MS);
        let since = *self.scanned_ms.get_or_insert(self.now_ms);
        if self.idle_ms == 0 || self.now_ms.saturating_sub(since) < every {
            return Vec::new();
        }
        self.scanned_ms = Some(self.now_ms);
        let mut forgotten = Vec::new();
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            let idle = self.now_ms.saturating_sub(slot.last_ms) > self.idle_ms;
            if idle && !matches!(slot.what, What::Nothing) {
                forgotten.push(Series { slot: at as u32, generation: slot.generation });
                self.forget(at);
            }
        }
        forgotten
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.iter().flatten()
    }

    /// How many label sets a tenant has.
    pub(super) fn series(&self, name: &str) -> u64 {
        let tenant = self.by_name.get(name).and_then(|at| self.tenants[*at as usize].as_ref());
        tenant.map_or(0, |tenant| tenant.sets.len() as u64)
    }

    /// Where the tenant stands, or is to stand.
    fn place(&mut self, name: &str) -> u32 {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let at = self.tenants.iter().position(Option::is_none).unwrap_or(self.tenants.len());
        if at == self.tenants.len() {
            self.tenants.push(None);
        }
        self.by_name.insert(name.into(), at as u32);
        at as u32
    }

    fn forget(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(at as u32);
        let what = std::mem::replace(&mut slot.what, What::Nothing);
        let Some(tenant) = &mut self.tenants[slot.tenant as usize] else { return };
        match what {
            What::Set { key, values } => {
                tenant.sets.remove(&key);
                tenant.release(&values);
                // What the limits held back may try again.
                tenant.epoch = tenant.epoch.wrapping_add(1);
            }
            What::Overflow => tenant.overflow = None,
            What::Nothing => {}
        }
        if tenant.sets.is_empty() && tenant.overflow.is_none() {
            self.by_name.remove(&*tenant.name);
            self.tenants[slot.tenant as usize] = None;
        }
    }
}

fn put(slots: &mut Vec<Slot>, free: &mut Vec<u32>, tenant: u32, what: What) -> u32 {
    if let Some(at) = free.pop() {
        let slot = &mut slots[at as usize];
        (slot.tenant, slot.what) = (tenant, what);
        return at;
    }
    slots.push(Slot { generation: 0, tenant, last_ms: 0, what });
    (slots.len() - 1) as u32
}

/// Hash of a label set. It tells sets apart as surely as comparing them.
fn key(labels: &[(usize, String)]) -> u128 {
    hash(|hasher| labels.iter().filter(|(_, value)| !value.is_empty()).for_each(|label| label.hash(hasher)))
}

/// Two hashes of 64 bits in one.
fn hash(feed: impl Fn(&mut DefaultHasher)) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        feed(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}
