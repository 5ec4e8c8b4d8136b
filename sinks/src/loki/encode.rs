//! Log records to push requests, straight from the bytes.
//!
//! What log records of one resource or scope have in common is worked out once; of each log record only what is its own.
//! Entries are gathered in one buffer, sorted by stream and time, and written out from there.

mod resource;

use std::collections::BTreeMap;

use afflux_runtime::delivery::{Batch, Encoded, Refused};
use afflux_schemas::otlp::logs::LogsView;
use hashbrown::HashMap;

use self::resource::Resource;
use super::behind::Oldest;
use super::config::LokiConfig;
use super::input::{Input, inputs};
use super::limits::{Untimely, Window};
use super::metadata::{Pair, Shared};
use super::names::Names;
use super::pick::pick;
use super::policy::Policy;
use super::request::LokiRequest;
use super::streams::{Entry, Member, Streams};
use super::write;
use crate::buffers;

/// Bytes of entries that a byte of input makes, about.
const GROWTH: usize = 2;

/// What is counted of what is changed: fixed words.
const LABEL_CUT: &str = "label_value_truncated";
const LABEL_MOVED: &str = "label_to_metadata";
const LINE_CUT: &str = "line_truncated";
const METADATA_LEFT_OUT: &str = "metadata_left_out";

/// Log records that one or another change has been made to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes {
    pub(super) label_cut: u64,
    pub(super) label_moved: u64,
    pub(super) line_cut: u64,
    pub(super) metadata_left_out: u64,
}

/// A batch in the making.
#[derive(Debug)]
pub(super) struct Encoder<'a> {
    pub(super) policy: &'a Policy,
    pub(super) config: &'a LokiConfig,
    pub(super) window: Window,
    /// Entries before that time are sent as old.
    pub(super) old_before: Option<u64>,
    /// Entries before that time may be too far behind those that their streams have.
    pub(super) late_before: u64,
    /// Nanoseconds that a shard of old ones covers.
    pub(super) bucket: u64,
    pub(super) names: Names<'a>,
    pub(super) resources: Vec<Resource>,
    known_resources: HashMap<(Option<&'a str>, &'a [u8]), u32>,
    pub(super) shared: Vec<Shared>,
    known_scopes: HashMap<(u32, &'a [u8]), u32>,
    pub(super) streams: Streams,
    pub(super) members: Vec<Member>,
    /// Members whose values are those of log records: resource, level, origin and values as bytes.
    pub(super) known_members: HashMap<Box<[u8]>, u32>,
    pub(super) buffer: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    pub(super) changes: Changes,
    pub(super) pairs: Vec<Pair<'a>>,
    pub(super) scratch: String,
    /// Number of the entry in the making, from 1.
    pub(super) entry: u32,
}

/// Where a log record stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) resource: u32,
    pub(super) shared: u32,
    /// Its time where it has none itself.
    pub(super) time: u64,
    /// Whether the whole topic holds Kubernetes events.
    pub(super) events: bool,
}

/// Log records of a record that are not sent, by their position.
pub(super) type Untaken = BTreeMap<&'static str, (Untimely, Vec<u64>)>;

/// Makes the requests of a batch, at a time in nanoseconds since the Unix epoch.
///
/// The time decides only what is refused for its age, and what is sent as a backfill; so do the oldest times that Loki takes
/// for some streams.
pub(super) fn encode(
    policy: &Policy,
    config: &LokiConfig,
    batch: &Batch,
    now: u64,
    behind: Oldest,
) -> Encoded<LokiRequest> {
    let mut encoded = Encoded::default();
    let inputs = inputs(batch, &mut encoded);
    let mut encoder = Encoder::new(policy, config, &inputs, batch, now);
    encoder.streams.behind = behind;
    for input in &inputs {
        let untaken = encoder.record(input, batch.kind == afflux_runtime::delivery::Kind::Events);
        encoded.refused.extend(untaken.into_values().map(|(why, items)| refused(input, why, &items)));
    }
    encoded.refused.sort_by_key(|refused| refused.record);
    let Changes { label_cut, label_moved, line_cut, metadata_left_out } = encoder.changes;
    let changed = [
        (LABEL_CUT, label_cut),
        (LABEL_MOVED, label_moved),
        (LINE_CUT, line_cut),
        (METADATA_LEFT_OUT, metadata_left_out),
    ];
    encoded.changed.extend(changed.into_iter().filter(|(_, count)| *count > 0));
    encoded.requests = write::requests(encoder, batch.tenant.clone());
    encoded
}

fn refused(input: &Input<'_>, why: Untimely, items: &[u64]) -> Refused {
    let count = items.len() as u64;
    let value = (count < input.items).then(|| pick(&input.value, items));
    Refused { record: input.record, value, items: count, reason: why.reason(), error: why.error().into() }
}

impl<'a> Encoder<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        config: &'a LokiConfig,
        inputs: &[Input<'_>],
        batch: &Batch,
        now: u64,
    ) -> Self {
        let nanos = |period: afflux_runtime::config::Period| u64::try_from(period.0.as_nanos()).unwrap_or(u64::MAX);
        let backfills = batch.replay && config.backfill.enabled;
        let old_before = backfills.then(|| now.saturating_sub(nanos(config.backfill.after)));
        let bytes: usize = inputs.iter().map(|input| input.value.len()).sum();
        let items: u64 = inputs.iter().map(|input| input.items).sum();
        let mut buffer = buffers::take();
        buffer.reserve(GROWTH * bytes);
        Self {
            policy,
            config,
            window: Window::new(&config.limits, now, backfills),
            old_before,
            late_before: Window::late_before(config, now),
            bucket: nanos(config.backfill.bucket).max(1),
            names: Names::new(policy),
            resources: Vec::new(),
            known_resources: HashMap::new(),
            shared: Vec::new(),
            known_scopes: HashMap::new(),
            streams: Streams::default(),
            members: Vec::new(),
            known_members: HashMap::new(),
            buffer,
            entries: Vec::with_capacity(usize::try_from(items).unwrap_or_default()),
            changes: Changes::default(),
            pairs: Vec::new(),
            scratch: String::new(),
            entry: 0,
        }
    }

    pub(super) fn record(&mut self, input: &'a Input<'_>, events: bool) -> Untaken {
        let mut untaken = Untaken::new();
        let mut item = 0;
        for block in LogsView::new(&input.value).resource_logs() {
            let resource = self.resource(input, block.resource_raw().unwrap_or_default());
            for scope in block.scope_logs() {
                let shared = self.scope(resource, scope.scope_raw().unwrap_or_default());
                let place = Place { resource, shared, time: input.time, events };
                for log in scope.log_records() {
                    if let Err(why) = self.log(place, &log) {
                        untaken.entry(why.reason()).or_insert_with(|| (why, Vec::new())).1.push(item);
                    }
                    item += 1;
                }
            }
        }
        untaken
    }

    /// The number of a resource.
    fn resource(&mut self, input: &Input<'a>, raw: &'a [u8]) -> u32 {
        if let Some(&known) = self.known_resources.get(&(input.cluster, raw)) {
            return known;
        }
        let cluster = (input.cluster, input.fallback_cluster);
        self.resources.push(Resource::new(self.policy, &mut self.names, cluster, raw));
        let added = self.resources.len() as u32 - 1;
        self.known_resources.insert((input.cluster, raw), added);
        added
    }

    /// The number of what entries of a scope share; notes the names in it as taken.
    fn scope(&mut self, resource: u32, raw: &'a [u8]) -> u32 {
        let shared = self.known_scopes.get(&(resource, raw)).copied().unwrap_or_else(|| {
            let pairs = &self.resources[resource as usize].pairs;
            let wanted = resource::scope_pairs(&mut self.names, raw, pairs);
            self.shared.push(Shared::new(&mut self.names, wanted));
            let added = self.shared.len() as u32 - 1;
            self.known_scopes.insert((resource, raw), added);
            added
        });
        for &name in &self.shared[shared as usize].names {
            self.names.name(name).shared = shared + 1;
        }
        shared
    }
}
