//! Which events are published.

use std::collections::BTreeMap;

use regex::Regex;

use super::config::Rule;
use super::error::InvalidKubernetes;
use super::event::Observation;

/// Labels and annotations of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// Rules that have been read. Without any, everything is published.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    drop: Vec<Fit>,
    matches: Vec<Fit>,
}

/// One rule.
#[derive(Clone, Debug)]
struct Fit {
    fields: Vec<(Field, Regex)>,
    labels: Vec<(String, Regex)>,
    annotations: Vec<(String, Regex)>,
    min_count: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Message,
    ApiVersion,
    Kind,
    Namespace,
    Reason,
    Type,
    Component,
    Host,
}

impl Filter {
    pub(super) fn new(drop: &[Rule], matches: &[Rule]) -> Result<Self, InvalidKubernetes> {
        let read = |list, rules: &[Rule]| {
            rules.iter().enumerate().map(|(at, rule)| Fit::new(list, at, rule)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self { drop: read("drop", drop)?, matches: read("match", matches)? })
    }

    /// Whether labels or annotations of objects are needed to tell.
    pub(super) fn needs_metadata(&self) -> bool {
        self.drop.iter().chain(&self.matches).any(|rule| !rule.labels.is_empty() || !rule.annotations.is_empty())
    }

    /// Whether the event is published. An object that is not known has neither labels nor annotations.
    pub(super) fn passes(&self, event: &Observation, object: &Metadata) -> bool {
        let fits = |rules: &[Fit]| rules.iter().any(|rule| rule.fits(event, object));
        !fits(&self.drop) && (self.matches.is_empty() || fits(&self.matches))
    }
}

impl Fit {
    fn new(list: &'static str, at: usize, rule: &Rule) -> Result<Self, InvalidKubernetes> {
        if *rule == Rule::default() {
            return Err(InvalidKubernetes::Rule { list, at });
        }
        let read = |field: &str, text: &str| {
            let wrong = |error: regex::Error| InvalidKubernetes::Expression {
                list,
                at,
                field: field.to_owned(),
                reason: error.to_string(),
            };
            Regex::new(text).map_err(wrong)
        };
        let fields = [
            (Field::Message, "message", &rule.message),
            (Field::ApiVersion, "api_version", &rule.api_version),
            (Field::Kind, "kind", &rule.kind),
            (Field::Namespace, "namespace", &rule.namespace),
            (Field::Reason, "reason", &rule.reason),
            (Field::Type, "type", &rule.kind_of_event),
            (Field::Component, "component", &rule.component),
            (Field::Host, "host", &rule.host),
        ];
        let given = fields.into_iter().filter_map(|(field, name, text)| Some((field, name, text.as_ref()?)));
        let fields = given.map(|(field, name, text)| Ok((field, read(name, text)?))).collect::<Result<_, _>>()?;
        let named = |what: &str, texts: &BTreeMap<String, String>| {
            let one = |(name, text): (&String, &String)| Ok((name.clone(), read(&format!("{what}.{name}"), text)?));
            texts.iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        let (labels, annotations) = (named("labels", &rule.labels)?, named("annotations", &rule.annotations)?);
        Ok(Self { fields, labels, annotations, min_count: rule.min_count })
    }

    fn fits(&self, event: &Observation, object: &Metadata) -> bool {
        let text = |field| match field {
            Field::Message => &event.message,
            Field::ApiVersion => &event.object.api_version,
            Field::Kind => &event.object.kind,
            Field::Namespace => &event.namespace,
            Field::Reason => &event.reason,
            Field::Type => &event.kind,
            Field::Component => &event.component,
            Field::Host => &event.host,
        };
        let all = |rules: &[(String, Regex)], texts: &BTreeMap<String, String>| {
            rules.iter().all(|(name, rule)| texts.get(name).is_some_and(|text| rule.is_match(text)))
        };
        self.fields.iter().all(|(field, rule)| rule.is_match(text(*field)))
            && self.min_count.is_none_or(|least| event.count >= least)
            && all(&self.labels, &object.labels)
            && all(&self.annotations, &object.annotations)
    }
}

#[cfg(test)]
mod tests;
