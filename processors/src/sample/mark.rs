//! Writing into a span that it was sampled, and by which threshold.

use afflux_schemas::otlp::trace::SpanView;
use afflux_schemas::wire::{Fields, put_len_field};

/// Field number of the trace state.
const TRACE_STATE: u32 = 3;
/// Entries that a trace state may have.
const MOST: usize = 32;

/// Appends a `Span` message with that threshold, above 0 and below 2⁵⁶, in its trace state. The rest is copied.
pub(super) fn span(span: &[u8], threshold: u64, out: &mut Vec<u8>) {
    let state = trace_state(SpanView::new(span).trace_state(), threshold);
    let mut state = Some(state);
    for field in Fields::new(span) {
        let number = field.key >> 3;
        if number >= TRACE_STATE
            && let Some(state) = state.take()
        {
            put_len_field(out, TRACE_STATE, state.as_bytes());
        }
        if number != TRACE_STATE {
            out.extend_from_slice(field.raw);
        }
    }
    if let Some(state) = state {
        put_len_field(out, TRACE_STATE, state.as_bytes());
    }
}

/// A trace state whose first entry is `ot`, with that threshold and with what else `ot` said. The entries of others
/// follow in their order; what is no entry is left out, as is what is beyond 32 entries.
pub(super) fn trace_state(before: &str, threshold: u64) -> String {
    let digits = format!("{threshold:014x}");
    let mut state = format!("ot=th:{}", digits.trim_end_matches('0'));
    let entries = || before.split(',').map(|entry| entry.trim_matches([' ', '\t']));
    let of_ours = entries().find_map(|entry| entry.strip_prefix("ot=")).unwrap_or_default();
    for pair in of_ours.split(';').filter(|pair| !pair.is_empty() && !pair.starts_with("th:")) {
        state.push(';');
        state.push_str(pair);
    }
    let of_others = entries().filter(|entry| entry.contains('=') && !entry.starts_with("ot="));
    for entry in of_others.take(MOST - 1) {
        state.push(',');
        state.push_str(entry);
    }
    state
}
