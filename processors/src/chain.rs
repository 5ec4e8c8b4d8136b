//! The place where processors plug in: a chain of steps over envelopes.

use std::sync::Arc;

use afflux_bus::Headers;
use afflux_runtime::Signal;
use bytes::Bytes;

/// Telemetry on its way through a chain: an OTLP export request and what is known about it without decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the value holds.
    pub signal: Signal,
    /// A valid, canonical OTLP export request.
    pub value: Bytes,
    /// Spans or log records in the value.
    pub items: u64,
    /// Cluster that the items come from.
    pub cluster: Arc<str>,
    /// Milliseconds since the Unix epoch, from the record.
    pub timestamp_ms: i64,
    /// Headers to be written beside those of the envelope itself: tenant, and whatever the producer set.
    pub headers: Headers,
}

/// One processor.
///
/// A step is a pure function of its input and its own state; it does no I/O. It may change an envelope,
/// split it or drop it. A drop is counted by the step, with its reason (D7).
pub trait Step: Send {
    /// Name as in the configuration and in metrics, e.g. `identity`.
    fn name(&self) -> &'static str;

    /// Passes what becomes of one envelope to `next`, in order.
    fn process(&mut self, envelope: Envelope, next: &mut dyn FnMut(Envelope));
}

/// Steps in order.
#[derive(Default)]
pub struct Chain {
    steps: Vec<Box<dyn Step>>,
}

impl Chain {
    /// A chain of those steps.
    pub fn new(steps: Vec<Box<dyn Step>>) -> Self {
        Self { steps }
    }

    /// Names of the steps, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.steps.iter().map(|s| s.name()).collect()
    }

    /// Passes one envelope through every step and hands what comes out to `out`.
    pub fn process(&mut self, envelope: Envelope, out: &mut dyn FnMut(Envelope)) {
        run(&mut self.steps, envelope, out);
    }
}

fn run(steps: &mut [Box<dyn Step>], envelope: Envelope, out: &mut dyn FnMut(Envelope)) {
    match steps.split_first_mut() {
        None => out(envelope),
        Some((first, rest)) => first.process(envelope, &mut |e| run(rest, e, out)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Twice;
    impl Step for Twice {
        fn name(&self) -> &'static str {
            "twice"
        }
        fn process(&mut self, envelope: Envelope, next: &mut dyn FnMut(Envelope)) {
            next(envelope.clone());
            next(Envelope { items: envelope.items + 1, ..envelope });
        }
    }

    struct DropEven;
    impl Step for DropEven {
        fn name(&self) -> &'static str {
            "drop_even"
        }
        fn process(&mut self, envelope: Envelope, next: &mut dyn FnMut(Envelope)) {
            if envelope.items % 2 == 1 {
                next(envelope);
            }
        }
    }

    #[test]
    fn what_one_step_emits_reaches_the_next_in_order() {
        let mut chain = Chain::new(vec![Box::new(Twice), Box::new(Twice), Box::new(DropEven)]);
        let envelope = Envelope {
            signal: Signal::Spans,
            value: Bytes::new(),
            items: 1,
            cluster: "c".into(),
            timestamp_ms: 0,
            headers: Headers::new(),
        };
        let mut seen = Vec::new();
        chain.process(envelope, &mut |e| seen.push(e.items));
        assert_eq!(chain.names(), ["twice", "twice", "drop_even"]);
        assert_eq!(seen, [1, 3]);
    }
}
