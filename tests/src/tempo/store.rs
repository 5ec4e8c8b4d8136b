//! What is stored, and how it is read.

use std::collections::{BTreeSet, HashMap, HashSet};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

/// Tenant, trace id, span id and kind, by which the parts of a trace are put together.
type Identity = (String, Vec<u8>, Vec<u8>, i32);

/// Spans, and how many copies came of each.
#[derive(Debug, Default)]
pub(super) struct Store {
    spans: HashMap<Identity, (Span, usize)>,
    /// As in [`Found::spans`].
    ids: HashSet<String>,
    truncated: usize,
}

/// What a reader is given.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Spans by their ids, `trace id` and `span id` in hex, joined.
    pub spans: HashMap<String, Span>,
    /// Copies that were removed: they had the trace id, span id and kind of another.
    pub duplicates: usize,
    /// Names and texts of attributes that were cut off.
    pub truncated: usize,
}

impl Store {
    pub(super) fn write(&mut self, tenant: &str, mut request: ExportTraceServiceRequest, max_attribute_bytes: usize) {
        self.truncated += truncate(&mut request, max_attribute_bytes);
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        for span in scopes.flat_map(|scope| scope.spans) {
            self.ids.insert(id(&span));
            let key = (tenant.to_owned(), span.trace_id.clone(), span.span_id.clone(), span.kind);
            self.spans.entry(key).and_modify(|(_, copies)| *copies += 1).or_insert((span, 1));
        }
    }

    pub(super) fn found(&self) -> Found {
        Found {
            spans: self.spans.values().map(|(span, _)| (id(span), span.clone())).collect(),
            duplicates: self.spans.values().map(|(_, copies)| copies - 1).sum(),
            truncated: self.truncated,
        }
    }

    /// How many of these have not been stored.
    pub(super) fn missing(&self, expected: &HashSet<String>) -> usize {
        expected.difference(&self.ids).count()
    }

    pub(super) fn tenants(&self) -> BTreeSet<String> {
        self.spans.keys().map(|(tenant, ..)| tenant.clone()).collect()
    }
}

fn id(span: &Span) -> String {
    span.trace_id.iter().chain(&span.span_id).map(|byte| format!("{byte:02x}")).collect()
}

/// Cuts off names and texts; gives how many.
fn truncate(request: &mut ExportTraceServiceRequest, most: usize) -> usize {
    let mut count = 0;
    for resource in &mut request.resource_spans {
        count += resource.resource.iter_mut().map(|resource| cut(&mut resource.attributes, most)).sum::<usize>();
        for scope in &mut resource.scope_spans {
            count += scope.scope.iter_mut().map(|scope| cut(&mut scope.attributes, most)).sum::<usize>();
            for span in &mut scope.spans {
                count += cut(&mut span.attributes, most);
                count += span.events.iter_mut().map(|event| cut(&mut event.attributes, most)).sum::<usize>();
                count += span.links.iter_mut().map(|link| cut(&mut link.attributes, most)).sum::<usize>();
            }
        }
    }
    count
}

fn cut(attributes: &mut [KeyValue], most: usize) -> usize {
    let mut count = 0;
    for attribute in attributes {
        let text = match attribute.value.as_mut().and_then(|value| value.value.as_mut()) {
            Some(Value::StringValue(text)) => Some(text),
            _ => None,
        };
        for text in [Some(&mut attribute.key), text].into_iter().flatten().filter(|text| text.len() > most) {
            text.truncate(text.floor_char_boundary(most));
            count += 1;
        }
    }
    count
}
