//! The labels of a stream.

use super::config::LimitsConfig;
use super::level::Level;
use super::limits::head_str;
use super::names::with_suffix;
use super::policy::{Kind, Policy};
use super::quote::quote;

/// Behind a name that a label has: as Loki calls structured metadata of that name in queries.
pub(super) const EXTRACTED: &str = "extracted";

/// What the label `source` says where no attribute does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Origin {
    /// A Kubernetes event.
    Events,
    /// A line of a file.
    File,
    /// Whatever else came in OTLP.
    Otlp,
}

/// How many there are.
pub(super) const ORIGINS: usize = 3;

impl Origin {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "k8s-events",
            Self::File => "file",
            Self::Otlp => "otlp",
        }
    }
}

/// The labels of a stream, and what would be one and is structured metadata instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels {
    /// As Loki reads them: `{app="cart", level="info"}`, sorted by name.
    pub(super) text: String,
    /// Names and values that became structured metadata.
    pub(super) moved: Vec<(String, String)>,
    /// Whether a value was cut.
    pub(super) cut: bool,
    /// Whether there were too many labels.
    pub(super) too_many: bool,
}

impl Labels {
    /// Of the values of rules, which the record's resource or attributes say.
    pub(super) fn new<'v>(
        policy: &Policy,
        limits: &LimitsConfig,
        value: impl Fn(usize) -> Option<&'v str>,
        (level, origin): (Level, Origin),
    ) -> Self {
        let mut labels = Self::default();
        let mut pairs: Vec<(&str, String)> = Vec::new();
        for (i, rule) in policy.rules.iter().enumerate() {
            let said = value(i).filter(|value| !value.is_empty());
            let value = match rule.kind {
                Kind::Attributes | Kind::Cluster => said.map(str::to_owned),
                Kind::Level => Some(level.as_str().to_owned()),
                Kind::Job => said.map(str::to_owned).or_else(|| job(policy, &value)),
                Kind::Source if origin == Origin::Events => {
                    labels.moved.extend(said.map(|said| (with_suffix(&rule.name, EXTRACTED), said.to_owned())));
                    Some(origin.as_str().to_owned())
                }
                Kind::Source => Some(said.unwrap_or(origin.as_str()).to_owned()),
            };
            pairs.extend(value.map(|value| (&*rule.name, value)));
        }
        if pairs.is_empty() {
            pairs.push(("source", origin.as_str().to_owned()));
        }
        labels.keep_within(&mut pairs, policy, limits);
        pairs.sort_unstable();
        labels.write(&pairs);
        labels
    }

    /// Makes what exceeds the limits structured metadata.
    fn keep_within(&mut self, pairs: &mut Vec<(&str, String)>, policy: &Policy, limits: &LimitsConfig) {
        // Loki adds that one itself where it is missing; not every version leaves it out of the count.
        let added = usize::from(!policy.has_service_name);
        let most = (limits.max_label_names as usize).saturating_sub(added).max(1);
        if pairs.len() > most {
            self.too_many = true;
            self.moved.extend(pairs.drain(most..).map(|(name, value)| (name.to_owned(), value)));
        }
        let most = limits.max_label_value_length as usize;
        for (name, value) in pairs {
            if value.len() > most {
                self.cut = true;
                let cut = head_str(value, most).into_owned();
                self.moved.push((with_suffix(name, EXTRACTED), std::mem::replace(value, cut)));
            }
        }
    }

    fn write(&mut self, pairs: &[(&str, String)]) {
        self.text.push('{');
        for (i, (name, value)) in pairs.iter().enumerate() {
            self.text.push_str(if i == 0 { "" } else { ", " });
            self.text.push_str(name);
            self.text.push('=');
            quote(&mut self.text, value);
        }
        self.text.push('}');
    }
}

/// `NAMESPACE/APP`, as far as they are there.
fn job<'v>(policy: &Policy, value: &impl Fn(usize) -> Option<&'v str>) -> Option<String> {
    let of = |rule: Option<usize>| rule.and_then(value).filter(|value| !value.is_empty());
    match (of(policy.namespace), of(policy.app)) {
        (Some(namespace), Some(app)) => Some(format!("{namespace}/{app}")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}
