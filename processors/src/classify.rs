//! What Kubernetes events are about: a category, and how bad it is.
//!
//! Components write reasons as they like; the table knows those of Kubernetes itself and of usual add-ons. Where a reason
//! says little (`Failed`, `BackOff`), the message decides.

mod category;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use afflux_schemas::otlp::common::{ResourceView, ValueView};
use afflux_schemas::otlp::logs::LogRecordView;
use afflux_schemas::otlp::rewrite::{Rewrite, rewrite};
use afflux_schemas::wire::{Fields, key, put_len_field, put_len_header, put_varint_field};
use serde::Deserialize;

pub use category::{Category, Severity};

use crate::chain::{At, Envelope, Next, Step};

/// The step's name.
pub const NAME: &str = "classify";

/// `event_name` of Kubernetes events.
const EVENT: &str = "k8s.event";
const CATEGORY: &str = "k8s.event.category";
const REASON: &str = "k8s.event.reason";
const TYPE: &str = "k8s.event.type";
/// The type of events that call for attention.
const WARNING: &str = "Warning";
/// Number of the fields of a log record.
const SEVERITY_NUMBER: u32 = 2;
const ATTRIBUTES: u32 = 6;
/// `SEVERITY_NUMBER_WARN`.
const WARN: i32 = 13;

/// The step that adds `k8s.event.category` to Kubernetes events and sets their severity's number.
///
/// Events that have a category keep it, and so do all other log records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Classify;

impl Step for Classify {
    fn name(&self) -> &'static str {
        NAME
    }

    fn process(&mut self, mut envelope: Envelope, _: &At<'_>, next: &mut Next<'_>) {
        let mut classifying = Classifying { classified: 0 };
        envelope.value = rewrite(&envelope.value, &mut classifying);
        next.note("classified", classifying.classified);
        next.pass(envelope);
    }
}

struct Classifying {
    classified: u64,
}

impl Rewrite for Classifying {
    fn resource(&mut self, _: ResourceView<'_>, _: &mut Vec<u8>) -> bool {
        false
    }

    fn item(&mut self, item: &[u8], out: &mut Vec<u8>) -> bool {
        let log = LogRecordView::new(item);
        if log.event_name() != EVENT {
            return false;
        }
        let Some((category, severity)) = classified(&log) else { return false };
        for field in Fields::new(item).filter(|field| field.key != key(SEVERITY_NUMBER, 0)) {
            out.extend_from_slice(field.raw);
        }
        put_varint_field(out, SEVERITY_NUMBER, severity.number());
        put_attribute(out, CATEGORY, category.as_str());
        self.classified += 1;
        true
    }
}

/// What of an event says what it is about; other fields are passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body<'a> {
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    /// Of `core/v1`.
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    /// Of `events.k8s.io/v1`.
    #[serde(borrow)]
    note: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
}

/// Of an event without a category, what it is about and how bad that is.
fn classified(log: &LogRecordView<'_>) -> Option<(Category, Severity)> {
    let (mut reason, mut kind) = (None, None);
    for attribute in log.attributes() {
        match attribute.key() {
            CATEGORY => return None,
            REASON => reason = text(attribute.value()),
            TYPE => kind = text(attribute.value()),
            _ => {}
        }
    }
    let json = text(log.body()).unwrap_or_default();
    let body: Body<'_> = serde_json::from_str(json).unwrap_or_default();
    let reason = reason.or(body.reason.as_deref()).unwrap_or_default();
    // A body that is no event is its message.
    let message = body.message.as_deref().or(body.note.as_deref()).unwrap_or(json);
    let kind = kind.or(body.kind.as_deref()).or(Some(log.severity_text()).filter(|text| !text.is_empty()));
    let is_warning = kind.map_or(log.severity_number() >= WARN, |kind| kind.eq_ignore_ascii_case(WARNING));
    let category = Category::of(reason, message);
    Some((category, category.severity(reason, is_warning)))
}

fn text<'a>(value: ValueView<'a>) -> Option<&'a str> {
    value.as_str().filter(|text| !text.is_empty())
}

fn put_attribute(out: &mut Vec<u8>, name: &str, text: &str) {
    let mut value = Vec::with_capacity(text.len() + 2);
    put_len_field(&mut value, 1, text.as_bytes());
    let mut attribute = Vec::with_capacity(name.len() + value.len() + 4);
    put_len_field(&mut attribute, 1, name.as_bytes());
    put_len_field(&mut attribute, 2, &value);
    put_len_header(out, ATTRIBUTES, attribute.len());
    out.extend_from_slice(&attribute);
}
