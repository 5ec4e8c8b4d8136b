//! What series take from a resource, worked out once for each.

use std::hash::BuildHasher;
use std::sync::Arc;

use afflux_schemas::otlp::common::{ResourceView, ValueView};
use afflux_schemas::otlp::metrics::Labels;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::plan::{Plan, sanitized};
use crate::intern::Texts;

/// What series take from a resource.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    raw: Box<[u8]>,
    pub(super) owner: u32,
    pub(super) service: u32,
    pub(super) job: u32,
    pub(super) instance: u32,
    /// Values of the wanted attributes; 0 where absent.
    pub(super) values: Arc<[u32]>,
    /// Whether a span's attributes may be needed for others.
    pub(super) incomplete: bool,
    /// Labels of its `target_info`, where it has one.
    pub(super) target: Option<Labels>,
    /// The last time bucket in which it was seen since the last commit, in nanoseconds; 0 where it was not.
    pub(super) seen: u64,
}

/// Resources by owner and bytes.
#[derive(Debug, Default)]
pub(super) struct Resources {
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
    pub(super) all: Vec<Facts>,
    /// Bytes of all resources.
    pub(super) bytes: usize,
    /// How many have a `target_info`.
    targets: usize,
}

impl Resources {
    /// Position of a resource's facts.
    pub(super) fn of(&mut self, owner: u32, resource: ResourceView<'_>, plan: &Plan, texts: &mut Texts) -> usize {
        let hash = self.hasher.hash_one((owner, resource.raw()));
        let same = |facts: &Facts| facts.owner == owner && *facts.raw == *resource.raw();
        if let Some(&at) = self.table.find(hash, |&at| same(&self.all[at as usize])) {
            return at as usize;
        }
        let at = self.all.len();
        let mut facts = facts(owner, resource, plan, texts);
        let most = usize::try_from(plan.config.cardinality.max_series).unwrap_or(usize::MAX);
        if most > 0 && self.targets >= most {
            facts.target = None;
        }
        self.targets += usize::from(facts.target.is_some());
        self.bytes += resource.raw().len();
        self.all.push(facts);
        let (hasher, all) = (&self.hasher, &self.all);
        let hash_of = |facts: &Facts| hasher.hash_one((facts.owner, &*facts.raw));
        self.table.insert_unique(hash, at as u32, |&at| hash_of(&all[at as usize]));
        at
    }
}

fn facts(owner: u32, resource: ResourceView<'_>, plan: &Plan, texts: &mut Texts) -> Facts {
    let (mut service, mut namespace, mut instance) = (String::new(), String::new(), String::new());
    let mut values = vec![0; plan.wanted.len()];
    for attribute in resource.attributes().unique() {
        match attribute.key_bytes() {
            b"service.name" => attribute.value().write_text(&mut service),
            b"service.namespace" => attribute.value().write_text(&mut namespace),
            b"service.instance.id" => attribute.value().write_text(&mut instance),
            _ => {}
        }
        if let Some(at) = plan.wanted.iter().position(|key| **key == *attribute.key_bytes()) {
            values[at] = value(&attribute.value(), texts);
        }
    }
    let job = if namespace.is_empty() { service.clone() } else { format!("{namespace}/{service}") };
    let job = if service.is_empty() { String::new() } else { job };
    Facts {
        raw: resource.raw().into(),
        owner,
        service: texts.intern(service.as_bytes()),
        job: texts.intern(job.as_bytes()),
        instance: texts.intern(instance.as_bytes()),
        incomplete: values.contains(&0),
        values: values.into(),
        target: plan.target.as_ref().and_then(|_| target(resource, plan, &job, &instance)),
        seen: 0,
    }
}

/// Bytes of a label's name and value at most, as in Tempo.
const MOST_NAME: usize = 1024;
const MOST_VALUE: usize = 2048;

fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

/// Labels of a resource's `target_info`: there must be something to join it by, and something to tell.
fn target(resource: ResourceView<'_>, plan: &Plan, job: &str, instance: &str) -> Option<Labels> {
    let excluded = &plan.config.target_info_excluded_dimensions;
    let mut told: Vec<(String, String)> = Vec::new();
    for attribute in resource.attributes().unique() {
        let key = attribute.key();
        let identity = ["service.name", "service.namespace", "service.instance.id"].contains(&key);
        if identity || key.starts_with(|c: char| c.is_ascii_digit()) || excluded.iter().any(|name| name == key) {
            continue;
        }
        let mut text = String::new();
        attribute.value().write_text(&mut text);
        cut(&mut text, MOST_VALUE);
        let mut label = sanitized(key);
        cut(&mut label, MOST_NAME);
        if !text.is_empty() && told.iter().all(|(known, _)| *known != label) && label != "job" && label != "instance" {
            told.push((label, text));
        }
    }
    if told.is_empty() || (job.is_empty() && instance.is_empty()) {
        return None;
    }
    told.sort();
    let (job, instance) =
        (&job[..job.floor_char_boundary(MOST_VALUE)], &instance[..instance.floor_char_boundary(MOST_VALUE)]);
    let instance = Some(instance).filter(|_| plan.config.instance_label);
    let by = [("job", Some(job)), ("instance", instance)];
    let by = by.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)));
    Some(Labels::new(by.chain(told.iter().map(|(name, value)| (name.as_str(), value.as_str())))))
}

/// Number of a value's text.
#[inline]
pub(super) fn value(value: &ValueView<'_>, texts: &mut Texts) -> u32 {
    match value {
        ValueView::Str(text) => texts.intern(text.as_bytes()),
        other => {
            let mut text = String::new();
            other.write_text(&mut text);
            texts.intern(text.as_bytes())
        }
    }
}
