//! What log records of one resource or scope have in common.

use afflux_schemas::otlp::common::{ResourceView, ScopeView};

use crate::loki::labels::ORIGINS;
use crate::loki::level::LEVELS;
use crate::loki::metadata::Value;
use crate::loki::names::{NameId, Names};
use crate::loki::policy::{Kind, Policy, Source};

/// A resource's labels and structured metadata.
#[derive(Debug)]
pub(in crate::loki) struct Resource {
    /// Values of the policy's rules, as far as the resource or the record's headers say them.
    pub(in crate::loki) values: Vec<Option<Box<str>>>,
    /// Rules whose value an attribute of a log record may be.
    pub(in crate::loki) open: u64,
    /// Attributes that are no labels.
    pub(in crate::loki) pairs: Vec<(NameId, Box<str>)>,
    /// Members by level and origin, where all values are those of the resource; none where they are not known yet.
    pub(in crate::loki) members: [[Option<u32>; ORIGINS]; LEVELS],
}

impl Resource {
    /// Of a resource's bytes; `cluster` is what headers say: for certain, and for want of anything else.
    pub(super) fn new(
        policy: &Policy,
        names: &mut Names<'_>,
        cluster: (Option<&str>, Option<&str>),
        raw: &[u8],
    ) -> Self {
        let mut scratch = String::new();
        let mut attributes: Vec<(&[u8], Box<str>)> = Vec::new();
        // For each rule the attribute that comes first in it.
        let mut best: Vec<Option<(u8, usize)>> = vec![None; policy.rules.len()];
        for attribute in ResourceView::new(raw).attributes().unique() {
            let Some(value) = Value::of(attribute.value_raw()) else { continue };
            for &Source { rule, rank } in policy.sources(attribute.key_bytes()) {
                let best = &mut best[usize::from(rule)];
                if best.is_none_or(|(other, _)| rank < other) {
                    *best = Some((rank, attributes.len()));
                }
            }
            attributes.push((attribute.key_bytes(), text(value, &mut scratch)));
        }
        let mut is_label = vec![false; attributes.len()];
        let mut value = |rule: usize| {
            let said = best[rule].map(|(_, attribute)| attribute);
            let said = said.map(|attribute| (attribute, attributes[attribute].1.clone()));
            let value: Option<Box<str>> = match (policy.rules[rule].kind, cluster) {
                (Kind::Cluster, (Some(header), _)) => Some(header.into()),
                (Kind::Cluster, (None, fallback)) => {
                    said.as_ref().map(|(_, value)| value.clone()).or_else(|| fallback.map(Into::into))
                }
                _ => said.as_ref().map(|(_, value)| value.clone()),
            };
            // An attribute that says something else than the header stays.
            if let Some((attribute, said)) = said {
                is_label[attribute] |= value.as_ref() == Some(&said);
            }
            value
        };
        let values: Vec<_> = (0..policy.rules.len()).map(&mut value).collect();
        let missing = values.iter().enumerate().filter(|(_, value)| value.is_none());
        let open = missing.fold(0, |open, (rule, _)| open | 1 << rule) & policy.from_attributes;
        let rest = attributes.into_iter().zip(is_label).filter(|(_, is_label)| !is_label);
        let pairs = rest.map(|((key, value), _)| (names.of_key(key), value)).collect();
        Self { values, open, pairs, members: Default::default() }
    }
}

/// Name, version and attributes of a scope, and behind them those of its resource.
pub(super) fn scope_pairs(
    names: &mut Names<'_>,
    raw: &[u8],
    resource: &[(NameId, Box<str>)],
) -> Vec<(NameId, Box<str>)> {
    let scope = ScopeView::new(raw);
    let mut scratch = String::new();
    let mut pairs = Vec::with_capacity(resource.len() + 2);
    for (name, value) in [("scope_name", scope.name()), ("scope_version", scope.version())] {
        if !value.is_empty() {
            pairs.push((names.of_key(name.as_bytes()), value.into()));
        }
    }
    for attribute in scope.attributes().unique() {
        if let Some(value) = Value::of(attribute.value_raw()) {
            pairs.push((names.of_key(attribute.key_bytes()), text(value, &mut scratch)));
        }
    }
    pairs.extend_from_slice(resource);
    pairs
}

fn text(value: Value<'_>, scratch: &mut String) -> Box<str> {
    String::from_utf8_lossy(value.text(scratch)).into()
}
