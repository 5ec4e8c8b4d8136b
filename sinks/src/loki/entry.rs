//! One log record as an entry.

use afflux_schemas::otlp::common::ValueView;
use afflux_schemas::otlp::logs::LogRecordView;
use afflux_schemas::wire::{put_len_field, put_len_header, put_varint_field, varint_len};

use super::encode::{Encoder, Place};
use super::labels::{Labels, Origin};
use super::level::Level;
use super::limits::{Untimely, cut};
use super::metadata::{Pair, Value, plain, put_pair, put_within};
use super::names::{NameId, own};
use super::streams::Entry;

/// `event_name` of Kubernetes events.
const K8S_EVENT: &str = "k8s.event";
/// Numbers of fields of an entry.
const TIMESTAMP: u32 = 1;
const LINE: u32 = 2;
const NANOS: u64 = 1_000_000_000;

/// Marks a pair that has become a label.
const LABEL: NameId = NameId::MAX;

/// What looking through a log record's attributes tells.
#[derive(Debug, Default)]
struct Seen {
    /// Rule, rank of the attribute in it, and which pair it is.
    labels: Vec<(u8, u8, usize)>,
    of_file: bool,
    /// Whether a name is wanted twice.
    collided: bool,
}

impl<'a> Encoder<'a> {
    /// Appends a log record, unless Loki would refuse it for its time.
    pub(super) fn log(&mut self, place: Place, log: &LogRecordView<'a>) -> Result<(), Untimely> {
        let time = match (log.time_unix_nano(), log.observed_time_unix_nano()) {
            (0, 0) => place.time,
            (0, observed) => observed,
            (time, _) => time,
        };
        self.window.refuses(time).map_or(Ok(()), Err)?;
        self.entry += 1;
        self.pairs.clear();
        let level = Level::of(log.severity_number(), log.severity_text().as_bytes());
        let collided = self.own_pairs(place, log, level);
        let seen = self.attributes(place, log);
        let is_event = place.events || log.event_name() == K8S_EVENT;
        let origin = match seen.of_file {
            _ if is_event => Origin::Events,
            true => Origin::File,
            false => Origin::Otlp,
        };
        let member = self.member(place.resource, (level, origin), &seen.labels);
        let start = self.buffer.len();
        self.put_time(time);
        self.put_line(log);
        let shared = self.put_pairs(place.shared, member, collided || seen.collided);
        let member = &self.members[member as usize];
        self.changes.label_cut += u64::from(member.cut);
        self.changes.label_moved += u64::from(member.too_many);
        let oldest = self.streams.all[member.stream as usize].oldest;
        let is_late = time < self.late_before;
        let is_old =
            (is_late && self.config.backfill.enabled) || time < oldest.max(self.old_before).unwrap_or_default();
        self.entries.push(Entry {
            stream: member.stream,
            shared,
            time,
            start,
            len: self.buffer.len() - start,
            bucket: is_old.then(|| time / self.bucket),
            late: is_late && !is_old,
        });
        Ok(())
    }

    /// Gathers what a log record says besides its attributes; whether its scope or resource wants one of the names.
    fn own_pairs(&mut self, place: Place, log: &LogRecordView<'a>, level: Level) -> bool {
        let mut collided = false;
        let mut push = |name: NameId, value: Value<'a>| {
            self.pairs.push(Pair { name, value });
            let name = self.names.name(name);
            collided |= name.shared == place.shared + 1;
            name.seen = self.entry;
        };
        for (name, id) in [(own::TRACE_ID, log.trace_id()), (own::SPAN_ID, log.span_id())] {
            if id.iter().any(|&byte| byte != 0) {
                push(name, Value::Hex(id));
            }
        }
        for (name, text) in [(own::SEVERITY_TEXT, log.severity_text()), (own::EVENT_NAME, log.event_name())] {
            if !text.is_empty() {
                push(name, Value::Text(text.as_bytes()));
            }
        }
        let number = log.severity_number();
        if !Level::says_all_of(number)
            && let Ok(number) = u64::try_from(number)
        {
            push(own::SEVERITY_NUMBER, Value::Number(number));
        }
        for (name, number) in
            [(own::FLAGS, log.flags()), (own::DROPPED_ATTRIBUTES_COUNT, log.dropped_attributes_count())]
        {
            if number != 0 {
                push(name, Value::Number(number.into()));
            }
        }
        if !self.policy.has_level {
            push(own::LEVEL, Value::Text(level.as_str().as_bytes()));
        }
        collided
    }

    /// Gathers the attributes of a log record; of a repeated one the first counts.
    fn attributes(&mut self, place: Place, log: &LogRecordView<'a>) -> Seen {
        let mut seen = Seen::default();
        let open = self.resources[place.resource as usize].open;
        for (position, attribute) in log.attributes().enumerate() {
            let number = self.names.key(position, attribute.key_bytes());
            let key = self.names.known(number);
            if key.seen == self.entry {
                continue;
            }
            key.seen = self.entry;
            let Some(value) = Value::of(attribute.value_raw()) else { continue };
            seen.of_file |= key.of_file;
            let (wanted, sources) = (key.name, key.sources);
            for source in sources.iter().filter(|source| open & 1 << source.rule != 0) {
                let found = (source.rule, source.rank, self.pairs.len());
                match seen.labels.iter_mut().find(|(rule, ..)| *rule == source.rule) {
                    Some(label) if source.rank < label.1 => *label = found,
                    Some(_) => {}
                    None => seen.labels.push(found),
                }
            }
            let name = self.names.name(wanted);
            seen.collided |= name.seen == self.entry || name.shared == place.shared + 1;
            name.seen = self.entry;
            self.pairs.push(Pair { name: wanted, value });
        }
        seen
    }

    /// The member that a log record belongs to, given the attributes that are labels.
    fn member(&mut self, resource: u32, kind: (Level, Origin), labels: &[(u8, u8, usize)]) -> u32 {
        let (level, origin) = (kind.0 as usize, kind.1 as usize);
        if labels.is_empty() {
            if let Some(known) = self.resources[resource as usize].members[level][origin] {
                return known;
            }
            let member = self.new_member(resource, kind, &[]);
            self.resources[resource as usize].members[level][origin] = Some(member);
            return member;
        }
        let mut values: Vec<(u8, String)> = Vec::with_capacity(labels.len());
        for &(rule, _, pair) in labels {
            let text = self.pairs[pair].value.text(&mut self.scratch);
            values.push((rule, String::from_utf8_lossy(text).into_owned()));
        }
        labels.iter().for_each(|&(.., pair)| self.pairs[pair].name = LABEL);
        values.sort_unstable();
        let mut key = Vec::with_capacity(64);
        key.extend_from_slice(&resource.to_le_bytes());
        key.extend_from_slice(&[kind.0 as u8, kind.1 as u8]);
        for (rule, value) in &values {
            key.push(*rule);
            key.extend_from_slice(&(value.len() as u64).to_le_bytes());
            key.extend_from_slice(value.as_bytes());
        }
        if let Some(&known) = self.known_members.get(key.as_slice()) {
            return known;
        }
        let member = self.new_member(resource, kind, &values);
        self.known_members.insert(key.into(), member);
        member
    }

    fn new_member(&mut self, resource: u32, kind: (Level, Origin), values: &[(u8, String)]) -> u32 {
        let of_resource = &self.resources[resource as usize].values;
        let value = |rule: usize| {
            let own = values.iter().find(|(own, _)| usize::from(*own) == rule);
            own.map(|(_, value)| value.as_str()).or(of_resource[rule].as_deref())
        };
        let labels = Labels::new(self.policy, &self.config.limits, value, kind);
        let member = self.streams.member(labels, &mut self.names);
        self.members.push(member);
        self.members.len() as u32 - 1
    }

    fn put_time(&mut self, time: u64) {
        let (seconds, nanos) = (time / NANOS, time % NANOS);
        let field = |value: u64| if value == 0 { 0 } else { 1 + varint_len(value) };
        put_len_header(&mut self.buffer, TIMESTAMP, field(seconds) + field(nanos));
        for (number, value) in [(1, seconds), (2, nanos)] {
            if value != 0 {
                put_varint_field(&mut self.buffer, number, value);
            }
        }
    }

    /// Appends the line: a text as it is, other bodies as JSON.
    fn put_line(&mut self, log: &LogRecordView<'a>) {
        let body = log.body_raw().unwrap_or_default();
        let line: &[u8] = match plain(body) {
            Some(text) => text,
            None => match ValueView::new(body) {
                ValueView::Empty => &[],
                ValueView::Str(text) => text.as_bytes(),
                other => {
                    self.scratch.clear();
                    other.write_json(&mut self.scratch);
                    self.scratch.as_bytes()
                }
            },
        };
        match cut(line, self.config.limits.max_line_size.as_usize()) {
            None => put_len_field(&mut self.buffer, LINE, line),
            Some(cut) => {
                put_len_field(&mut self.buffer, LINE, &cut);
                self.changes.line_cut += 1;
            }
        }
    }

    /// Appends the structured metadata; what is left is shared, and returned by its number.
    fn put_pairs(&mut self, shared: u32, member: u32, collided: bool) -> Option<u32> {
        let common = &self.shared[shared as usize];
        if collided || !self.members[member as usize].moved.is_empty() {
            self.put_carefully(shared, member);
            return None;
        }
        let start = self.buffer.len();
        let (most_bytes, most) = self.config.limits.metadata();
        let (mut count, mut bytes) = (common.names.len(), common.bytes);
        for pair in self.pairs.iter().filter(|pair| pair.name != LABEL) {
            let name = self.names.name(pair.name);
            let value = pair.value.text(&mut self.scratch);
            put_pair(&mut self.buffer, &name.field, value);
            count += 1;
            bytes += name.text.len() + value.len();
        }
        if count > most || bytes > most_bytes {
            self.buffer.truncate(start);
            self.put_carefully(shared, member);
            return None;
        }
        Some(shared)
    }

    /// Appends all structured metadata where names collide, labels have become some, or there is too much of it.
    fn put_carefully(&mut self, shared: u32, member: u32) {
        let mut all: Vec<(NameId, Vec<u8>)> = Vec::new();
        let moved = &self.members[member as usize].moved;
        all.extend(moved.iter().map(|(name, value)| (*name, value.clone().into())));
        for pair in self.pairs.iter().filter(|pair| pair.name != LABEL) {
            all.push((pair.name, pair.value.text(&mut self.scratch).to_vec()));
        }
        let wanted = &self.shared[shared as usize].wanted;
        all.extend(wanted.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())));
        let left_out = put_within(&mut self.buffer, &mut self.names, &all, &self.config.limits);
        self.changes.metadata_left_out += u64::from(left_out > 0);
    }
}
