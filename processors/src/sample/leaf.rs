//! Conditions on a single span, of which policies are made.

use afflux_schemas::otlp::common::{Attributes, ResourceView, ValueView};
use afflux_schemas::otlp::trace::SpanView;

use super::config::{AttributePolicy, InvalidSample};
use crate::span_metrics::filter::{Filter, FilterPolicy, InvalidFilter, PolicyAttribute, PolicyMatch};

/// Number of the status that is an error.
const STATUS_ERROR: i32 = 2;

/// Name of a resource's service; empty where it has none.
pub(super) fn service(resource: ResourceView<'_>) -> &str {
    let found = resource.attributes().find(|attribute| attribute.key_bytes() == b"service.name");
    found.and_then(|attribute| attribute.value().as_str()).unwrap_or_default()
}

/// What must be true of a span of the trace.
#[derive(Clone, Debug)]
pub(super) enum Leaf {
    /// Its status is an error.
    Error,
    /// It took that many nanoseconds or more.
    Latency(u128),
    /// It is of one of these services.
    Service(Vec<String>),
    /// Some value matches.
    Filter(Filter),
    /// An attribute is a number in a range.
    Range(Range),
}

/// An attribute that is a number, and its bounds.
#[derive(Clone, Debug)]
pub(super) struct Range {
    on_resource: bool,
    key: String,
    min: f64,
    max: f64,
}

impl Leaf {
    pub(super) fn attribute(policy: &AttributePolicy, path: &str) -> Result<Self, InvalidSample> {
        let AttributePolicy { key, values, min, max, .. } = policy;
        let range = min.is_some() || max.is_some();
        if values.is_empty() != range {
            return Err(InvalidSample::Compare { path: path.into() });
        }
        if !range {
            return Ok(Self::Filter(filter(policy, path)?));
        }
        let (min, max) = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
        if min.is_nan() || max.is_nan() || min > max {
            return Err(InvalidSample::Range { path: path.into(), min, max });
        }
        let found = [("resource.", true), ("span.", false)].into_iter().find_map(|(prefix, on_resource)| {
            key.strip_prefix(prefix).filter(|key| !key.is_empty()).map(|key| (on_resource, key.to_owned()))
        });
        let Some((on_resource, key)) = found else {
            return Err(InvalidFilter::Key { path: format!("{path}.key"), key: key.clone() }.into());
        };
        Ok(Self::Range(Range { on_resource, key, min, max }))
    }

    /// Whether it holds for every span of a resource, where that can be told from the resource alone.
    pub(super) fn holds_for_all(&self, resource: ResourceView<'_>) -> bool {
        match self {
            Self::Service(names) => names.iter().any(|name| name == service(resource)),
            Self::Range(range) => range.on_resource && range.holds(resource.attributes()),
            Self::Error | Self::Latency(_) | Self::Filter(_) => false,
        }
    }

    /// Whether it holds for a span, where that cannot be told from the resource alone.
    pub(super) fn holds(&self, resource: ResourceView<'_>, span: &SpanView<'_>) -> bool {
        match self {
            Self::Error => span.status().code() == STATUS_ERROR,
            Self::Latency(least) => {
                u128::from(span.end_time_unix_nano().saturating_sub(span.start_time_unix_nano())) >= *least
            }
            Self::Filter(filter) => filter.keeps(resource, span),
            Self::Range(range) => !range.on_resource && range.holds(span.attributes()),
            Self::Service(_) => false,
        }
    }
}

impl Range {
    fn holds(&self, mut attributes: Attributes<'_>) -> bool {
        let found = attributes.find(|attribute| attribute.key_bytes() == self.key.as_bytes());
        let number = match found.map(|attribute| attribute.value()) {
            Some(ValueView::Int(number)) => number as f64,
            Some(ValueView::Double(number)) => number,
            _ => return false,
        };
        (self.min..=self.max).contains(&number)
    }
}

/// A filter that passes what has any of the values.
fn filter(policy: &AttributePolicy, path: &str) -> Result<Filter, InvalidFilter> {
    let AttributePolicy { key, match_type, values, .. } = policy;
    let any = values.iter().map(|value| {
        let attributes = vec![PolicyAttribute { key: key.clone(), value: value.clone() }];
        let any = Some(PolicyMatch { match_type: *match_type, attributes });
        FilterPolicy { include_any: any, ..FilterPolicy::default() }
    });
    let any: Vec<_> = any.collect();
    // One by one, since errors must name the value's key in our part of the configuration.
    for (at, one) in any.iter().enumerate() {
        Filter::new(std::slice::from_ref(one), "").map_err(|error| placed(error, path, at))?;
    }
    Filter::new(&any, path)
}

/// The error with the path of what is at fault.
fn placed(error: InvalidFilter, policy: &str, at: usize) -> InvalidFilter {
    let path = format!("{policy}.values.{at}");
    match error {
        InvalidFilter::Key { key, .. } => InvalidFilter::Key { path: format!("{policy}.key"), key },
        InvalidFilter::Value { value, known, .. } => InvalidFilter::Value { path, value, known },
        InvalidFilter::Pattern { pattern, position, reason, .. } => {
            InvalidFilter::Pattern { path, pattern, position, reason }
        }
        other => other,
    }
}
