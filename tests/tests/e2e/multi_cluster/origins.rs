//! Which records were copied twice, found as `docs/kafka.md` says.

use std::collections::{BTreeSet, HashMap};

use afflux_bus::Received;
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ORIGIN, HEADER_SOURCE};
use anyhow::{Context as _, ensure};

/// One record of one region: `NAME:topic/partition`, and its offset.
pub(crate) type Origin = (String, u64);

/// For every origin, and every output partition that holds something of it, the positions in the central ingest topic
/// that it came from.
///
/// Spans of one record may go to several partitions; those of its second copy go to the same ones.
#[derive(Debug, Default)]
pub(crate) struct Origins(HashMap<Origin, HashMap<u32, BTreeSet<String>>>);

/// A header's text.
pub(crate) fn text(record: &Received, header: &str) -> anyhow::Result<String> {
    let value = record.headers.get(header).with_context(|| format!("no header {header}"))?;
    Ok(String::from_utf8(value.to_vec())?)
}

/// The origins that an output lists.
pub(crate) fn of(record: &Received) -> anyhow::Result<Vec<Origin>> {
    let origin = text(record, HEADER_ORIGIN)?;
    let (partition, ranges) = origin.rsplit_once('/').context("no partition")?;
    let mut offsets = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').context("no range")?;
        offsets.extend((first.parse::<u64>()?..=last.parse()?).map(|offset| (partition.to_owned(), offset)));
    }
    ensure!(offsets.is_sorted(), "offsets rise, and each stands there once: {origin}");
    Ok(offsets)
}

impl Origins {
    /// Those of the records of an output topic.
    pub(crate) fn find(records: &[Received]) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for record in records {
            let cluster = text(record, HEADER_CLUSTER)?;
            for origin in of(record)? {
                ensure!(origin.0.starts_with(&format!("{cluster}:")), "{origin:?} in a record of {cluster}");
                let positions = found.0.entry(origin).or_default().entry(record.from.partition).or_default();
                positions.insert(text(record, HEADER_SOURCE)?);
            }
        }
        Ok(found)
    }

    /// Records of that region which arrived.
    pub(crate) fn of_region(&self, name: &str) -> usize {
        let name = format!("{name}:");
        self.0.keys().filter(|(partition, _)| partition.starts_with(&name)).count()
    }

    /// Copies beyond the first of each record.
    pub(crate) fn second_copies(&self) -> usize {
        let copies = |held: &HashMap<u32, BTreeSet<String>>| held.values().map(BTreeSet::len).max().unwrap_or(1);
        self.0.values().map(|held| copies(held) - 1).sum()
    }

    /// Whether there is more than one copy of something in an output.
    pub(crate) fn has_second_copy(&self, record: &Received) -> anyhow::Result<bool> {
        Ok(of(record)?.iter().any(|origin| self.0[origin][&record.from.partition].len() > 1))
    }
}
