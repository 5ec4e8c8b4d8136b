//! How far the events of a cluster have been published.
//!
//! Everything up to the *floor* has been, and some of what lies above it: what was seen last is kept one by one, so that a
//! server that repeats itself or changes the order neither doubles nor hides anything. A watch is taken up again at the
//! floor.
//!
//! Resource versions are sent back as they came. Two that are decimal integers are compared as numbers, which Kubernetes
//! guarantees within one resource type of one cluster; one that is not is compared with nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Observations above the floor that are kept one by one.
const RECENT: usize = 64;
/// How long they are, in milliseconds. A server delivers what happened in between in order well within that.
const RECENT_MS: i64 = 10_000;
/// Version of the checkpoint's form.
const VERSION: u32 = 1;

/// What is known of an observation before it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has not been published.
    New,
    /// It has been.
    Published,
    /// Its resource version cannot be compared. It is published, perhaps again.
    Uncomparable,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    floor: Option<String>,
    /// Resource version and event, by when it was seen; a count where it was published.
    recent: BTreeMap<(u64, u64), Seen>,
    /// Nothing above the floor happened before that, in milliseconds since the Unix epoch.
    since_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    count: Option<i64>,
    seen_ms: i64,
    /// When it happened, or was seen, whichever is earlier.
    happened_ms: i64,
}

impl Progress {
    /// Where a watch is taken up; `None` before the first list.
    pub(super) fn floor(&self) -> Option<&str> {
        self.floor.as_deref()
    }

    /// No event that may be missing happened before that, in milliseconds since the Unix epoch.
    pub(super) fn since_ms(&self) -> i64 {
        self.since_ms
    }

    /// Whether that observation has been published.
    pub(super) fn verdict(&self, uid: u64, resource_version: &str) -> Verdict {
        let Some(version) = decimal(resource_version) else { return Verdict::Uncomparable };
        match self.floor.as_deref().map(decimal) {
            Some(Some(floor)) if version <= floor => return Verdict::Published,
            Some(None) => return Verdict::Uncomparable,
            _ => {}
        }
        if self.recent.contains_key(&(version, uid)) { Verdict::Published } else { Verdict::New }
    }

    /// A watch has brought that observation, and it is published or of no interest; `count` of the former.
    pub(super) fn saw(&mut self, uid: u64, resource_version: &str, count: Option<i64>, times: Times) {
        let happened_ms = if times.event_ms > 0 { times.event_ms.min(times.now_ms) } else { times.now_ms };
        let Some(version) = decimal(resource_version) else {
            // What cannot be compared is gone through in the order in which it comes.
            self.reached(resource_version, happened_ms);
            return;
        };
        self.recent.insert((version, uid), Seen { count, seen_ms: times.now_ms, happened_ms });
        self.settle(times.now_ms);
    }

    /// Everything up to that resource version has come.
    pub(super) fn reached(&mut self, resource_version: &str, now_ms: i64) {
        if let (Some(floor), Some(version)) = (self.floor.as_deref().and_then(decimal), decimal(resource_version))
            && version < floor
        {
            return;
        }
        self.rest_at(resource_version, now_ms);
    }

    /// Everything up to that resource version is published, and what follows it happened after that time, in
    /// milliseconds since the Unix epoch; 0 says nothing.
    pub(super) fn rest_at(&mut self, resource_version: &str, happened_ms: i64) {
        self.since_ms = self.since_ms.max(happened_ms);
        match decimal(resource_version) {
            Some(version) => self.recent = self.recent.split_off(&(version.saturating_add(1), 0)),
            None => self.recent.clear(),
        }
        self.floor = Some(resource_version.to_owned());
    }

    /// The history of the cluster has begun anew, as after it was restored.
    pub(super) fn forget(&mut self) {
        self.floor = None;
        self.recent.clear();
    }

    /// Counts of the events that were published above the floor.
    pub(super) fn counts(&self) -> impl Iterator<Item = (u64, i64)> + '_ {
        self.recent.iter().filter_map(|((_, uid), seen)| Some((*uid, seen.count?)))
    }

    /// Raises the floor past what was seen long ago, and past the lowest where there is too much.
    fn settle(&mut self, now_ms: i64) {
        while let Some(((version, _), seen)) = self.recent.first_key_value() {
            if self.recent.len() <= RECENT && seen.seen_ms + RECENT_MS > now_ms {
                return;
            }
            let (version, happened_ms) = (*version, seen.happened_ms);
            self.recent.pop_first();
            if self.floor.as_deref().and_then(decimal).is_none_or(|floor| floor < version) {
                self.floor = Some(version.to_string());
            }
            self.since_ms = self.since_ms.max(happened_ms);
        }
    }

    /// The value of a checkpoint.
    pub(super) fn encode(&self, cluster: &str, cluster_uid: &str, now_ms: i64) -> Vec<u8> {
        let recent = self.recent.iter().map(|((version, uid), seen)| (*version, *uid, seen.count)).collect();
        let stored = Stored {
            version: VERSION,
            cluster: cluster.to_owned(),
            cluster_uid: cluster_uid.to_owned(),
            resource_version: self.floor.clone(),
            since_ms: self.since_ms,
            recent,
            time_ms: now_ms,
        };
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads a checkpoint.
    pub(super) fn decode(value: &[u8], now_ms: i64) -> Result<Self, String> {
        let stored: Stored = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if stored.version > VERSION {
            return Err(format!("it has version {}, this program knows {VERSION}: run a newer one", stored.version));
        }
        let seen = |count| Seen { count, seen_ms: now_ms, happened_ms: stored.since_ms };
        let recent = stored.recent.into_iter().map(|(version, uid, count)| ((version, uid), seen(count))).collect();
        Ok(Self { floor: stored.resource_version, recent, since_ms: stored.since_ms })
    }
}

/// When an observation came, and when it says that it happened (0: it does not), in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) now_ms: i64,
    pub(super) event_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    cluster: String,
    cluster_uid: String,
    resource_version: Option<String>,
    since_ms: i64,
    recent: Vec<(u64, u64, Option<i64>)>,
    time_ms: i64,
}

/// The number that a resource version is, where it is a decimal integer without leading zeros.
pub(super) fn decimal(resource_version: &str) -> Option<u64> {
    let canonical = resource_version.bytes().all(|byte| byte.is_ascii_digit())
        && (resource_version == "0" || !resource_version.starts_with('0'));
    canonical.then(|| resource_version.parse().ok()).flatten()
}

/// A number for a uid, the same in every process: FNV-1a, 64 bits.
pub(super) fn uid_hash(uid: &str) -> u64 {
    uid.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
