//! What a line says of itself: its severity, and the trace and span that it belongs to.

mod ids;
mod severity;

pub(super) use severity::Severity;

/// What was recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts<'a> {
    pub(super) severity: Option<Severity<'a>>,
    pub(super) trace_id: Option<[u8; 16]>,
    /// Only with a trace id.
    pub(super) span_id: Option<[u8; 8]>,
}

impl<'a> Facts<'a> {
    /// Looks through the first bytes of a line, or of the first line of several.
    ///
    /// Severities stand under a key of JSON or logfmt, or in front of the text as klog, loggers of Java, Python and Go,
    /// nginx and syslog write them; ids under a key, whatever the format.
    #[inline]
    pub(super) fn of(body: &'a [u8]) -> Self {
        let head = &body[..body.len().min(LOOKED_AT)];
        let trace_id = ids::trace_id(head);
        let span_id = trace_id.and_then(|_| ids::span_id(head));
        Self { severity: severity::of(head), trace_id, span_id }
    }
}

/// Bytes of a line that are looked at.
const LOOKED_AT: usize = 8 * 1024;

#[cfg(test)]
mod tests;
