//! What is valid: Loki's limits, by its names and defaults.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::push::PushEntry;

/// Limits of a tenant.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `max_label_names_per_series`.
    pub max_label_names: usize,
    /// `max_label_name_length`, bytes.
    pub max_label_name_length: usize,
    /// `max_label_value_length`, bytes.
    pub max_label_value_length: usize,
    /// `max_line_size`, bytes.
    pub max_line_size: usize,
    /// `allow_structured_metadata`.
    pub allow_structured_metadata: bool,
    /// `max_structured_metadata_size`, bytes.
    pub max_structured_metadata_size: usize,
    /// `max_structured_metadata_entries_count`.
    pub max_structured_metadata_entries: usize,
    /// `reject_old_samples_max_age`, nanoseconds.
    pub max_age: i64,
    /// `creation_grace_period`, nanoseconds.
    pub max_future: i64,
    /// How far behind the newest entry of a stream one may be: half of `max_chunk_age`, nanoseconds.
    pub order_window: i64,
    /// `chunk_block_size`: bytes of an open block from which on it is closed, and its entries are no longer known again.
    pub head_block_bytes: usize,
    /// `max_global_streams_per_user`.
    pub max_streams: usize,
    /// Largest body.
    pub max_body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const SECOND: i64 = 1_000_000_000;
        Self {
            max_label_names: 15,
            max_label_name_length: 1024,
            max_label_value_length: 2048,
            max_line_size: 256 << 10,
            allow_structured_metadata: true,
            max_structured_metadata_size: 64 << 10,
            max_structured_metadata_entries: 128,
            max_age: 7 * 86_400 * SECOND,
            max_future: 600 * SECOND,
            order_window: 3600 * SECOND,
            head_block_bytes: 256 << 10,
            max_streams: 5000,
            max_body_bytes: 100 << 20,
        }
    }
}

/// How much a tenant may send: `ingestion_rate_mb` and `ingestion_burst_size_mb`, bytes of lines and structured metadata.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Bytes per second.
    pub per_second: f64,
    /// Bytes at once.
    pub burst: f64,
}

/// A tenant's bucket of tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn full(rate: Rate, now: Instant) -> Self {
        Self { tokens: rate.burst, at: now }
    }

    /// Takes so many bytes, or none.
    pub(super) fn take(&mut self, rate: Rate, now: Instant, bytes: usize) -> bool {
        self.tokens = rate.burst.min(self.tokens + rate.per_second * now.duration_since(self.at).as_secs_f64());
        self.at = now;
        let taken = bytes as f64 <= self.tokens;
        self.tokens -= if taken { bytes as f64 } else { 0.0 };
        taken
    }
}

/// Why something is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// Loki's word for it.
    pub(super) reason: &'static str,
    pub(super) words: String,
}

impl Refusal {
    pub(super) fn new(status: u16, reason: &'static str, words: impl Into<String>) -> Self {
        Self { status, reason, words: words.into() }
    }

    /// Of an entry or a stream; the rest of its request is stored.
    pub(super) fn invalid(reason: &'static str, words: String) -> Self {
        Self::new(400, reason, words)
    }

    /// Of a limit of rates or streams.
    pub(super) fn limited(reason: &'static str, words: String) -> Self {
        Self::new(429, reason, words)
    }
}

impl Limits {
    /// Checks the labels of a stream, sorted by name; `text` is what they are in errors.
    pub(super) fn check_labels(&self, labels: &[(String, String)], text: &str) -> Result<(), Refusal> {
        let refuse = |reason, words| Err(Refusal::invalid(reason, words));
        if labels.is_empty() {
            return refuse("missing_labels", "error at least one label pair is required per stream".into());
        }
        // Loki adds that one itself where it is missing, and counts it in neither case.
        let (count, limit) = (labels.iter().filter(|(name, _)| name != "service_name").count(), self.max_label_names);
        if count > limit {
            let words = format!("entry for stream '{text}' has {count} label names; limit {limit}");
            return refuse("max_label_names_per_series", words);
        }
        let mut last = "";
        for (name, value) in labels {
            if name.len() > self.max_label_name_length {
                return refuse("label_name_too_long", format!("stream '{text}' has label name too long: '{name}'"));
            }
            if value.len() > self.max_label_value_length {
                return refuse("label_value_too_long", format!("stream '{text}' has label value too long: '{value}'"));
            }
            if name == last {
                return refuse("duplicate_label_names", format!("stream '{text}' has duplicate label name: '{name}'"));
            }
            last = name;
        }
        Ok(())
    }

    /// Checks an entry; `any_age` in a backfill.
    pub(super) fn check_entry(&self, entry: &PushEntry, text: &str, now: i64, any_age: bool) -> Result<(), Refusal> {
        let refuse = |reason, words| Err(Refusal::invalid(reason, words));
        let (time, oldest) = (entry.time, now.saturating_sub(self.max_age));
        if !any_age && time < oldest {
            let (time, oldest) = (seconds(time), seconds(oldest));
            let words = format!(
                "entry for stream '{text}' has timestamp too old: {time}, oldest acceptable timestamp is: {oldest}"
            );
            return refuse("greater_than_max_sample_age", words);
        }
        if time > now.saturating_add(self.max_future) {
            let time = seconds(time);
            return refuse("too_far_in_future", format!("entry for stream '{text}' has timestamp too new: {time}"));
        }
        let (length, limit) = (entry.line.len(), self.max_line_size);
        if length > limit {
            let words = format!(
                "max entry size '{limit}' bytes exceeded for stream '{text}' while adding an entry with length \
                 '{length}' bytes"
            );
            return refuse("line_too_long", words);
        }
        self.check_metadata(entry, text)
    }

    fn check_metadata(&self, entry: &PushEntry, text: &str) -> Result<(), Refusal> {
        let refuse = |reason, words| Err(Refusal::invalid(reason, words));
        if !entry.metadata.is_empty() && !self.allow_structured_metadata {
            let words = format!("stream '{text}' includes structured metadata, but this feature is disallowed");
            return refuse("disallowed_structured_metadata", words);
        }
        let (size, limit) = (metadata_bytes(entry), self.max_structured_metadata_size);
        if size > limit {
            let words = format!(
                "stream '{text}' has structured metadata too large: '{size}' bytes, limit: '{limit}' bytes. Please see `limits_config.max_structured_metadata_size` or contact your Loki administrator to increase it"
            );
            return refuse("structured_metadata_too_large", words);
        }
        let (count, limit) = (entry.metadata.len(), self.max_structured_metadata_entries);
        if count > limit {
            let words = format!(
                "stream '{text}' has too many structured metadata labels: '{count}', limit: '{limit}'. Please see `limits_config.max_structured_metadata_entries_count` or contact your Loki administrator to increase it"
            );
            return refuse("structured_metadata_too_many", words);
        }
        Ok(())
    }
}

/// A time in nanoseconds since the Unix epoch as Loki says it.
pub(super) fn seconds(nanos: i64) -> String {
    let since_epoch = Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch).to_string()
}

/// Bytes of an entry's structured metadata.
pub(super) fn metadata_bytes(entry: &PushEntry) -> usize {
    entry.metadata.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// The structured metadata of an entry as Loki holds it: names with single underscores, sorted, of a repeated one the last.
///
/// A name that has neither letters nor digits fails the whole request.
pub(super) fn normalized(metadata: &[(String, String)]) -> Result<Vec<(String, String)>, Refusal> {
    let mut pairs = BTreeMap::new();
    for (name, value) in metadata {
        let mut text = String::new();
        for c in name.chars() {
            let c = if c.is_ascii_alphanumeric() { c } else { '_' };
            if c != '_' || !text.ends_with('_') {
                text.push(c);
            }
        }
        if text.is_empty() || text == "_" {
            let words = format!("normalization for label name {name:?} resulted in invalid name {text:?}");
            return Err(Refusal::new(500, "invalid_metadata_name", words));
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            text.insert_str(0, "key_");
        }
        pairs.insert(text, value.replace(char::REPLACEMENT_CHARACTER, " "));
    }
    Ok(pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect())
}
