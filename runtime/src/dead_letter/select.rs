//! Which dead letters are meant.

use serde::{Deserialize, Serialize};

use super::letter::{Letter, LetterId, State};

/// Which dead letters are meant: those that every filter lets pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Only these; none at all is no filter.
    pub ids: Vec<LetterId>,
    /// Full name of the topic that they were read from.
    pub topic: Option<String>,
    /// The component that refused them.
    pub component: Option<String>,
    /// The reason, as one word.
    pub reason: Option<String>,
    /// The cluster that their header names.
    pub cluster: Option<String>,
    /// Refused then or later, in milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// Refused before then, in milliseconds since the Unix epoch.
    pub until_ms: Option<i64>,
    /// Those that have been replayed or dropped as well.
    pub all: bool,
    /// So many at most, from the oldest on in each partition.
    pub limit: Option<u64>,
}

impl Selection {
    /// Whether nothing is said that leaves any open one out.
    pub fn is_everything(&self) -> bool {
        *self == Self { all: self.all, limit: self.limit, ..Self::default() }
    }

    /// Whether a dead letter is meant, but for the limit. One that does not say when it was refused is older than any
    /// time.
    pub(super) fn includes(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        let time = letter.time_ms.unwrap_or(i64::MIN);
        (self.all || letter.state == State::Open)
            && (self.ids.is_empty() || self.ids.contains(&letter.id))
            && is(&self.topic, &letter.topic)
            && is(&self.component, &letter.component)
            && is(&self.reason, &letter.reason)
            && is(&self.cluster, letter.cluster.as_deref().unwrap_or_default())
            && self.since_ms.is_none_or(|since| time >= since)
            && self.until_ms.is_none_or(|until| time < until)
    }
}
