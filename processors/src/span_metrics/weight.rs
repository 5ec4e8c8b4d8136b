//! How many spans a sampled span stands for.
//!
//! A sampler says its probability in the W3C trace state, as `ot=th:T`: a span is kept where its 56 random bits are at
//! least the threshold *T*, so it stands for 2⁵⁶ / (2⁵⁶ − *T*) spans. Older ones write a ratio into an attribute. Counts
//! are whole numbers: a fraction is rounded up or down by a hash of the span's own ids, so that sums are right in
//! expectation and a replay counts the same.

use afflux_schemas::otlp::trace::SpanView;

/// The greatest weight. A probability below one in a million is taken for a mistake, which must not drown what is right.
pub const MAX_WEIGHT: u64 = 1_000_000;

/// Digits of a threshold or of randomness: 56 bits.
const DIGITS: usize = 14;
const ALL: u64 = 1 << 56;

/// How many spans this one stands for, from 1 to [`MAX_WEIGHT`]; the same for the same span and ratio.
///
/// `ratio` is what an attribute says, a probability above 0 and up to 1. It goes before the trace state, as in Tempo;
/// one out of bounds counts as absent. A span of which neither is known, or is malformed, stands for itself.
pub fn weight(span: &SpanView<'_>, ratio: Option<f64>) -> u64 {
    if let Some(ratio) = ratio.filter(|ratio| *ratio > 0.0 && *ratio <= 1.0) {
        return of_ratio(ratio, || draw(span));
    }
    threshold(span.trace_state()).map_or(1, |threshold| of_threshold(threshold, || draw(span)))
}

/// The rejection threshold of `ot=th:` in a trace state, below 2⁵⁶; `None` where there is none or it is malformed.
///
/// Digits are hexadecimal of either case, as the OpenTelemetry Collector reads them; those left out at the end are 0.
pub fn threshold(trace_state: &str) -> Option<u64> {
    let digits = sub_key(trace_state, "th")?;
    let value = hex(digits)?;
    // As `hex` has checked, there are 14 at most.
    Some(value << (4 * (DIGITS - digits.len())))
}

/// The 56 random bits that samplers compare with the threshold.
///
/// They are those of `ot=rv:` where it has all of its 14 digits, else the low 56 bits of the trace id, missing bytes of
/// which count as 0.
pub fn randomness(span: &SpanView<'_>) -> u64 {
    let explicit = sub_key(span.trace_state(), "rv").filter(|digits| digits.len() == DIGITS).and_then(hex);
    let low = |id: &[u8]| id[id.len().saturating_sub(7)..].iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    explicit.unwrap_or_else(|| low(span.trace_id()))
}

/// Value of a sub-key in the `ot` entry of a trace state.
fn sub_key<'a>(trace_state: &'a str, wanted: &str) -> Option<&'a str> {
    if trace_state.is_empty() {
        return None;
    }
    let mut entries = trace_state.split(',').filter_map(|entry| entry.trim_matches([' ', '\t']).split_once('='));
    let (_, value) = entries.find(|(vendor, _)| *vendor == "ot")?;
    let mut pairs = value.split(';').filter_map(|pair| pair.split_once(':'));
    pairs.find(|(key, _)| *key == wanted).map(|(_, value)| value)
}

/// A number of 1 to 14 hexadecimal digits and nothing else.
fn hex(digits: &str) -> Option<u64> {
    let well_formed = (1..=DIGITS).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if well_formed { u64::from_str_radix(digits, 16).ok() } else { None }
}

fn of_threshold(threshold: u64, draw: impl Fn() -> u64) -> u64 {
    let kept = ALL.saturating_sub(threshold).max(1);
    let (whole, rest) = (ALL / kept, ALL % kept);
    if rest == 0 || whole >= MAX_WEIGHT {
        return whole.min(MAX_WEIGHT);
    }
    // The draw as a fraction of 2⁶⁴, scaled to `kept`: below `rest` in just `rest` of `kept` cases.
    let up = (u128::from(draw()) * u128::from(kept)) >> 64 < u128::from(rest);
    whole + u64::from(up)
}

fn of_ratio(ratio: f64, draw: impl Fn() -> u64) -> u64 {
    const FRACTION: f64 = (1_u64 << 53) as f64;
    let exact = 1.0 / ratio;
    if exact >= MAX_WEIGHT as f64 {
        return MAX_WEIGHT;
    }
    let up = ((draw() >> 11) as f64) / FRACTION < exact.fract();
    exact as u64 + u64::from(up)
}

/// A number that is the same for the same ids and even over all of `u64`: FNV-1a, then the finalizer of SplitMix64.
fn draw(span: &SpanView<'_>) -> u64 {
    let bytes = span.trace_id().iter().chain(span.span_id());
    let mut bits =
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests;
