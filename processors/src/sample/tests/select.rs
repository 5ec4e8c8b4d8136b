//! Leaving spans out, against requests that were decoded.

use afflux_schemas::otlp::common::ResourceView;
use afflux_schemas::otlp::trace::SpanView;
use proptest::prelude::*;

use super::*;
use crate::sample::select::{Fate, Judge, Selected, select};

/// Keeps, marks and drops spans by the first byte of their ids.
#[derive(Default)]
struct ById {
    resources: usize,
}

fn fate(span_id: &[u8]) -> Fate {
    match span_id.first().copied().unwrap_or_default() % 4 {
        0 => Fate::Keep,
        1 => Fate::Mark(1 << 55),
        _ => Fate::Drop,
    }
}

impl Judge for ById {
    fn resource(&mut self, _: ResourceView<'_>) {
        self.resources += 1;
    }

    fn span(&mut self, span: &SpanView<'_>) -> Fate {
        fate(span.span_id())
    }
}

fn data() -> impl Strategy<Value = TracesData> {
    // Names long enough that lengths of messages take two bytes.
    let span = (any::<u8>(), "[a-z]{0,90}", prop::option::of("[a-z]=[0-9]")).prop_map(|(id, name, state)| Span {
        trace_id: vec![id; 16],
        span_id: vec![id; 8],
        trace_state: state.unwrap_or_default(),
        name,
        kind: i32::from(id % 6),
        ..Span::default()
    });
    let scope = (prop::collection::vec(span, 0..4), "[a-z]{0,3}").prop_map(|(spans, schema_url)| ScopeSpans {
        spans,
        schema_url,
        ..ScopeSpans::default()
    });
    let block = (prop::collection::vec(scope, 0..3), prop::option::of("[a-z]{0,140}"));
    let block = block.prop_map(|(scope_spans, name)| ResourceSpans {
        resource: name.map(|name| Resource { attributes: vec![text("k", &name)], ..Resource::default() }),
        scope_spans,
        schema_url: "url".into(),
    });
    prop::collection::vec(block, 0..4).prop_map(|resource_spans| TracesData { resource_spans })
}

/// The same with structures.
fn selected(mut data: TracesData) -> TracesData {
    for block in &mut data.resource_spans {
        for scope in &mut block.scope_spans {
            scope.spans.retain(|span| fate(&span.span_id) != Fate::Drop);
            for span in scope.spans.iter_mut().filter(|span| fate(&span.span_id) != Fate::Keep) {
                let others = std::mem::take(&mut span.trace_state);
                span.trace_state = if others.is_empty() { "ot=th:8".into() } else { format!("ot=th:8,{others}") };
            }
        }
        block.scope_spans.retain(|scope| !scope.spans.is_empty());
    }
    data.resource_spans.retain(|block| !block.scope_spans.is_empty());
    data
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn spans_are_left_out_and_marked_as_in_a_decoded_request(data in data()) {
        let value = Bytes::from(data.encode_to_vec());
        let (all, expected) = (spans(&value), selected(data.clone()));
        let left = spans(&Bytes::from(expected.encode_to_vec()));
        let mut judge = ById::default();
        let Selected { value: found, kept, dropped } = select(&value, &mut judge);
        prop_assert_eq!(judge.resources, data.resource_spans.len());
        prop_assert_eq!((kept, dropped), (left.len() as u64, (all.len() - left.len()) as u64));
        if all.iter().all(|span| fate(&span.span_id) == Fate::Keep) {
            prop_assert_eq!(found, Some(value));
        } else {
            prop_assert_eq!(found, Some(expected.encode_to_vec()).filter(|_| kept > 0).map(Bytes::from));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(data in data(), at: prop::sample::Index, byte: u8, cut: bool) {
        let mut value = data.encode_to_vec();
        if !value.is_empty() {
            let at = at.index(value.len());
            value[at] = byte;
            value.truncate(if cut { at } else { value.len() });
        }
        let value = Bytes::from(value);
        let _ = select(&value, &mut ById::default());
        let wrong = Envelope { value, items: 1, ..envelope(0, 10, Bytes::new()) };
        for yaml in ["probability: {ratio: 0.5}", "tail: {policies: [{probability: {ratio: 0.5}}], keep_rare: {}}"] {
            let mut run = Run::new(&config(yaml));
            run.pass(wrong.clone());
            run.pass(envelope(1, 100_000, Bytes::new()));
        }
    }
}
