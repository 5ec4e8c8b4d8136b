//! Streams and their entries, in the order in which they are sent.

use hashbrown::HashMap;

use super::behind::Oldest;
use super::labels::Labels;
use super::names::{NameId, Names, sanitized};
use super::stream_name::name;

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// Its labels as Loki reads them.
    pub(super) labels: Box<str>,
    /// The oldest time that Loki takes, in nanoseconds since the Unix epoch, as far as that is known.
    pub(super) oldest: Option<u64>,
}

/// The streams of a batch, each once.
#[derive(Debug, Default)]
pub(super) struct Streams {
    by_labels: HashMap<Box<str>, u32>,
    /// What is known of streams of this tenant.
    pub(super) behind: Oldest,
    pub(super) all: Vec<Stream>,
}

/// A set of values for the labels: the stream that it makes, and what it changes for entries.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) stream: u32,
    /// What would be labels, as structured metadata.
    pub(super) moved: Vec<(NameId, String)>,
    pub(super) cut: bool,
    pub(super) too_many: bool,
}

impl Streams {
    /// The stream of some labels.
    pub(super) fn member(&mut self, labels: Labels, names: &mut Names<'_>) -> Member {
        let known = self.by_labels.get(labels.text.as_str()).copied();
        let stream = known.unwrap_or_else(|| {
            let text: Box<str> = labels.text.into();
            let name = if self.behind.is_empty() { None } else { name(&text) };
            let oldest = name.and_then(|name| self.behind.get(&name).copied());
            self.all.push(Stream { labels: text.clone(), oldest });
            let added = self.all.len() as u32 - 1;
            self.by_labels.insert(text, added);
            added
        });
        let moved =
            labels.moved.into_iter().map(|(name, value)| (names.of_text(&sanitized(name.as_bytes())), value)).collect();
        Member { stream, moved, cut: labels.cut, too_many: labels.too_many }
    }

    /// For each stream, its place among all in the order of their labels.
    pub(super) fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.all.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| self.all[a as usize].labels.cmp(&self.all[b as usize].labels));
        let mut ranks = vec![0; order.len()];
        (0..).zip(order).for_each(|(rank, stream)| ranks[stream as usize] = rank);
        ranks
    }
}

/// An entry: what it says itself stands in a buffer, the rest is shared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) stream: u32,
    /// What is appended, by number; none where all of it is in the buffer.
    pub(super) shared: Option<u32>,
    /// Nanoseconds since the Unix epoch.
    pub(super) time: u64,
    /// Position in the buffer.
    pub(super) start: usize,
    pub(super) len: usize,
    /// Of a backfill, number of the shard.
    pub(super) bucket: Option<u64>,
    /// Whether it may be too far behind: it is sent with others of its stream only.
    pub(super) late: bool,
}
