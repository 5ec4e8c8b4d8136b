//! What is held, and what becomes of a request.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Instant;

use super::push::{Push, PushEntry, PushStream};
use super::rules::{Bucket, Limits, Refusal, metadata_bytes, normalized, seconds};
use super::{Options, Refuses};

/// Labels that Loki itself gives to the streams of a backfill.
const RESERVED: &str = "__backfill";
/// Loki's word for entries that are older than their stream's newest one by more than the window.
const TOO_FAR_BEHIND: &str = "too_far_behind";
/// Refusals of one request that are told in full.
const TOLD: usize = 10;

/// An entry as it is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoredEntry {
    /// Nanoseconds since the Unix epoch.
    pub time: i64,
    /// The line.
    pub line: String,
    /// Structured metadata, sorted.
    pub metadata: Vec<(String, String)>,
}

/// A stream as it is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredStream {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Shard of the backfill that it came by; empty otherwise.
    pub shard: String,
    /// Its entries in the order in which they came.
    pub entries: Vec<StoredEntry>,
}

/// Entries of all streams, without their content.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// How often each is stored, by trace id and span id as they are in its structured metadata, `@` and its time.
    pub entries: HashMap<String, u64>,
    /// Entries that were ignored because they were there already.
    pub deduplicated: u64,
    /// Entries that were stored once more although their client, connected since then, had been told that they are.
    pub needless: u64,
}

impl Found {
    /// Entries that are stored more than once.
    pub fn doubled(&self) -> usize {
        self.entries.values().filter(|copies| **copies > 1).count()
    }
}

impl StoredEntry {
    /// A value of its structured metadata; empty where there is none of that name.
    pub fn metadata(&self, name: &str) -> &str {
        value(&self.metadata, name)
    }

    /// As in [`Found::entries`].
    pub fn id(&self) -> String {
        id(&self.metadata, self.time)
    }

    /// Bytes that it takes of an open block: the line, and two numbers for each pair.
    fn block_bytes(&self) -> usize {
        self.line.len() + 8 * self.metadata.len()
    }
}

fn value<'p>(metadata: &'p [(String, String)], name: &str) -> &'p str {
    let pair = metadata.iter().find(|(other, _)| other == name);
    pair.map_or("", |(_, value)| value)
}

fn id(metadata: &[(String, String)], time: i64) -> String {
    format!("{}{}@{time}", value(metadata, "trace_id"), value(metadata, "span_id"))
}

/// A stream with what is known of it beyond its entries.
#[derive(Debug, Default)]
struct Held {
    stored: StoredStream,
    newest: Option<i64>,
    /// Entries of the open block, which are known again.
    head: HashSet<StoredEntry>,
    head_bytes: usize,
    last: Option<StoredEntry>,
}

/// Names and values.
type Pairs = Vec<(String, String)>;
/// What is wrong about entries, and with how many.
type Refusals = Vec<(Refusal, usize)>;
/// Tenant, shard and labels.
type Key = (String, String, Pairs);

/// All streams.
#[derive(Debug, Default)]
pub(super) struct Store {
    streams: BTreeMap<Key, Held>,
    buckets: BTreeMap<String, Bucket>,
    pub(super) refused: BTreeMap<&'static str, u64>,
    pub(super) found: Found,
    /// Entries that their clients know to be stored, of those that have not been cut off since.
    acknowledged: HashSet<String>,
}

/// What comes with a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<'r> {
    pub(super) tenant: &'r str,
    pub(super) shard: &'r str,
    /// Nanoseconds since the Unix epoch.
    pub(super) now: u64,
    /// Value of the label `app` of streams that are blocked.
    pub(super) blocked: Option<&'r str>,
}

impl Sent<'_> {
    fn blocks(&self, labels: &Pairs) -> bool {
        self.blocked.is_some_and(|app| labels.iter().any(|(name, value)| name == "app" && value == app))
    }
}

impl Store {
    /// Stores what is valid of a request and gives the ids; the refusal of the rest, or of all of it where too much comes.
    pub(super) fn push(&mut self, options: &Options, sent: &Sent<'_>, push: Push) -> Result<Vec<String>, Refusal> {
        let limits = &options.limits;
        if push.streams.is_empty() {
            let words = "error at least one valid stream is required for ingestion";
            return Err(Refusal::new(422, "missing_streams", words));
        }
        let mut refusals = Vec::new();
        let (count, mut streams) = (push.streams.len(), push.streams);
        streams.retain(|stream| !stream.labels.as_ref().is_ok_and(|labels| sent.blocks(labels)));
        let is_blocked = streams.len() < count;
        let mut valid: Vec<_> =
            streams.into_iter().filter_map(|stream| validated(limits, sent, stream, &mut refusals)).collect();
        for entry in valid.iter_mut().flat_map(|(_, entries)| entries) {
            entry.metadata = normalized(&entry.metadata)?;
        }
        if let Some(refuses) = options.refuses {
            valid
                .iter_mut()
                .for_each(|(labels, entries)| entries.retain(|entry| wanted(refuses, labels, entry, &mut refusals)));
        }
        let entries = || valid.iter().flat_map(|(_, entries)| entries);
        let bytes: usize = entries().map(|entry| entry.line.len() + metadata_bytes(entry)).sum();
        if let Some(rate) = options.rate {
            let now = Instant::now();
            let bucket = self.buckets.entry(sent.tenant.into()).or_insert_with(|| Bucket::full(rate, now));
            if !bucket.take(rate, now, bytes) {
                *self.refused.entry("rate_limited").or_default() += entries().count() as u64;
                let (tenant, per_second) = (sent.tenant, rate.per_second);
                let words = format!("ingestion rate limit exceeded for user {tenant} (limit: {per_second} bytes/sec)");
                return Err(Refusal::limited("rate_limited", words));
            }
        }
        let ids = entries().map(|entry| id(&entry.metadata, entry.time)).collect();
        let mut of_last = None;
        for (labels, entries) in valid {
            let mut of_stream = Vec::new();
            self.append(options, sent, labels, entries, &mut of_stream);
            of_stream.iter().for_each(|refusal: &Refusal| self.note(refusal, 1));
            // As in Loki, whose ingesters forget what they refused of one stream when they come to the next.
            of_last = of_stream.into_iter().max_by_key(|refusal| refusal.status);
        }
        refusals.iter().for_each(|(refusal, entries)| self.note(refusal, *entries));
        of_last.map_or_else(|| told(refusals), Err)?;
        if is_blocked {
            // Only where nothing else is wrong.
            return Err(Refusal::new(260, "ingestion_blocked", "ingestion blocked for user 'fake' (policy: 'p')"));
        }
        Ok(ids)
    }

    fn note(&mut self, refusal: &Refusal, entries: usize) {
        *self.refused.entry(refusal.reason).or_default() += entries as u64;
    }

    /// The client that sent these knows that they are stored.
    pub(super) fn acknowledge(&mut self, ids: Vec<String>) {
        self.acknowledged.extend(ids);
    }

    /// Clients are cut off or gone, and what they were told may have been lost.
    pub(super) fn cut(&mut self) {
        self.acknowledged.clear();
    }

    fn append(
        &mut self,
        options: &Options,
        sent: &Sent<'_>,
        labels: Pairs,
        entries: Vec<PushEntry>,
        refusals: &mut Vec<Refusal>,
    ) {
        let (limits, text) = (&options.limits, text(&labels));
        let key = (sent.tenant.to_owned(), sent.shard.to_owned(), labels);
        let of_tenant = self.streams.keys().filter(|(tenant, ..)| tenant == sent.tenant).count();
        if !self.streams.contains_key(&key) && of_tenant >= limits.max_streams {
            let words = format!("maximum active stream limit exceeded when trying to create stream {text}");
            refusals.extend(entries.iter().map(|_| Refusal::limited("stream_limit", words.clone())));
            return;
        }
        let stored =
            || StoredStream { labels: key.2.iter().cloned().collect(), shard: key.1.clone(), entries: Vec::new() };
        let held = self.streams.entry(key.clone()).or_insert_with(|| Held { stored: stored(), ..Held::default() });
        let (count, mut behind) = (entries.len(), Vec::new());
        for entry in entries {
            let entry = StoredEntry { time: entry.time, line: entry.line, metadata: entry.metadata };
            let id = entry.id();
            match held.add(limits, entry) {
                Added::New => {
                    self.found.needless += u64::from(self.acknowledged.contains(&id));
                    *self.found.entries.entry(id).or_default() += 1;
                }
                Added::Known => self.found.deduplicated += 1,
                Added::Behind(time, oldest) => behind.push((time, oldest)),
            }
        }
        let words = too_far_behind(&behind, count, sent.tenant, &text);
        refusals.extend(behind.iter().map(|_| Refusal::invalid(TOO_FAR_BEHIND, words.clone())));
    }

    pub(super) fn streams(&self, tenant: &str) -> Vec<StoredStream> {
        self.streams.iter().filter(|((of, ..), _)| of == tenant).map(|(_, held)| held.stored.clone()).collect()
    }

    pub(super) fn tenants(&self) -> Vec<String> {
        let mut tenants: Vec<String> = self.streams.keys().map(|(tenant, ..)| tenant.clone()).collect();
        tenants.dedup();
        tenants
    }

    pub(super) fn stored(&self) -> u64 {
        self.streams.values().map(|held| held.stored.entries.len() as u64).sum()
    }
}

/// What becomes of an entry.
enum Added {
    New,
    Known,
    /// Its time, and the oldest that would have been taken.
    Behind(i64, i64),
}

impl Held {
    fn add(&mut self, limits: &Limits, entry: StoredEntry) -> Added {
        if self.last.as_ref() == Some(&entry) {
            return Added::Known;
        }
        let oldest = self.newest.map_or(i64::MIN, |newest| newest.saturating_sub(limits.order_window));
        if entry.time < oldest {
            return Added::Behind(entry.time, oldest);
        }
        self.newest = self.newest.max(Some(entry.time));
        self.last = Some(entry.clone());
        if self.head.contains(&entry) {
            return Added::Known;
        }
        self.head_bytes += entry.block_bytes();
        self.head.insert(entry.clone());
        self.stored.entries.push(entry);
        if self.head_bytes >= limits.head_block_bytes {
            self.head.clear();
            self.head_bytes = 0;
        }
        Added::New
    }
}

/// Whether an entry is none that this server refuses for a reason of its own.
fn wanted(refuses: Refuses, labels: &Pairs, entry: &PushEntry, refusals: &mut Refusals) -> bool {
    let stored = StoredEntry { time: entry.time, line: entry.line.clone(), metadata: entry.metadata.clone() };
    if !refuses(&stored) {
        return true;
    }
    let words = format!("entry for stream '{}' is not wanted: {}", text(labels), stored.id());
    refusals.push((Refusal::invalid("not_wanted", words), 1));
    false
}

/// The valid entries of a stream, unless it has none.
fn validated(
    limits: &Limits,
    sent: &Sent<'_>,
    stream: PushStream,
    refusals: &mut Refusals,
) -> Option<(Pairs, Vec<PushEntry>)> {
    let count = stream.entries.len();
    let labels = stream
        .labels
        .map_err(|error| Refusal::invalid("invalid_labels", format!("error parsing labels with error: {error}")));
    let checked = labels.and_then(|labels| {
        if labels.iter().any(|(name, _)| name.starts_with(RESERVED)) {
            let words = format!("stream '{}' has a reserved label", text(&labels));
            return Err(Refusal::invalid("invalid_labels", words));
        }
        let mut checked = labels.clone();
        if !sent.shard.is_empty() {
            let added = [("__backfill__", "true"), ("__backfill_shard__", sent.shard)];
            checked.extend(added.map(|(name, value)| (name.to_owned(), value.to_owned())));
            checked.sort();
        }
        let text = text(&checked);
        limits.check_labels(&checked, &text).map(|()| (labels, text))
    });
    let (labels, text) = match checked {
        Ok(checked) => checked,
        Err(refusal) => {
            refusals.push((refusal, count));
            return None;
        }
    };
    let now = i64::try_from(sent.now).unwrap_or(i64::MAX);
    let mut entries = stream.entries;
    entries.retain(|entry| {
        let checked = limits.check_entry(entry, &text, now, !sent.shard.is_empty());
        let valid = checked.is_ok();
        refusals.extend(checked.err().map(|refusal| (refusal, 1)));
        valid
    });
    (!entries.is_empty()).then_some((labels, entries))
}

/// What Loki says of a stream's entries, so many in all, that are too far behind: times in whole seconds, and the stream
/// with the label that Loki adds to it.
fn too_far_behind(behind: &[(i64, i64)], count: usize, tenant: &str, stream: &str) -> String {
    let mut words = String::new();
    for (time, oldest) in behind.iter().take(TOLD) {
        let (time, oldest) = (seconds(*time), seconds(*oldest));
        let _ = writeln!(
            words,
            "entry with timestamp {time} ignored, reason: 'entry too far behind, entry timestamp is: {time}, oldest \
             acceptable timestamp is: {oldest}',"
        );
    }
    let stream = stream.replacen('{', "{service_name=\"unknown_service\", ", 1);
    let ignored = behind.len();
    let _ = write!(words, "user '{tenant}', total ignored: {ignored} out of {count} for stream: {stream}");
    words
}

/// Labels as Loki shows them.
fn text(labels: &[(String, String)]) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// The answer to what is wrong with entries and streams: the same words once, with their number.
fn told(refusals: Refusals) -> Result<(), Refusal> {
    let (mut count_by_words, mut first) = (BTreeMap::<String, usize>::new(), None);
    for (refusal, _) in refusals {
        *count_by_words.entry(refusal.words.clone()).or_default() += 1;
        first.get_or_insert(refusal);
    }
    let Some(first) = first else { return Ok(()) };
    let is_one = count_by_words.values().sum::<usize>() == 1;
    let like = |(words, count): (String, usize)| if is_one { words } else { format!("{count} errors like: {words}") };
    let words: Vec<String> = count_by_words.into_iter().map(like).collect();
    Err(Refusal { words: words.join("; "), ..first })
}
