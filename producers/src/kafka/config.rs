//! What is to be read of another Kafka cluster.

use std::collections::HashSet;

use afflux_schemas::topics::Topics;

use super::error::InvalidSource;

/// Consumer group at a source, unless configured.
pub const DEFAULT_GROUP: &str = "afflux-sources";
/// Bytes of a name at most: it stands in a header of every record.
const MAX_NAME: usize = 100;

/// A source: another Kafka cluster with ingest topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Names it; the cluster of records that name none.
    pub name: String,
    /// Consumer group there.
    pub group: String,
    /// Its topics.
    pub topics: Topics,
    /// Bytes of its records that are held at most, and about as much again that is fetched ahead.
    pub fetch_bytes: usize,
}

/// Checks what types cannot.
pub(super) fn validate<'s>(sources: impl Iterator<Item = &'s SourceConfig>) -> Result<(), InvalidSource> {
    let mut names = HashSet::new();
    for (at, SourceConfig { name, group, .. }) in sources.enumerate() {
        // It stands before a colon and becomes a cluster's name.
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=MAX_NAME).contains(&name.len()) || !name.chars().all(allowed) {
            return Err(InvalidSource::Name { at, name: name.clone() });
        }
        if !names.insert(name.as_str()) {
            return Err(InvalidSource::Twice { at, name: name.clone() });
        }
        if group.is_empty() {
            return Err(InvalidSource::Group { at });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(names: &[&str]) -> String {
        let source = |name: &&str| SourceConfig {
            name: (*name).to_owned(),
            group: DEFAULT_GROUP.into(),
            topics: Topics::default(),
            fetch_bytes: 1,
        };
        let sources: Vec<_> = names.iter().map(source).collect();
        validate(sources.iter()).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn names_are_unique_and_usable_as_names_of_clusters() {
        assert_eq!(verdict(&["east", "eu-west_1.b"]), "");
        assert!(verdict(&["east", "west", "east"]).starts_with("`bus.kafka.sources.2.name` is `east`, which another"));
        for name in ["", "a:b", "a/b", "a b", "ü", &"x".repeat(101)] {
            assert!(
                verdict(&["east", name]).starts_with(&format!("`bus.kafka.sources.1.name` is `{name}`, which is no"))
            );
        }
    }
}
