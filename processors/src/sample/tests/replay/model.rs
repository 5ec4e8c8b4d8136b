//! The rules, word by word, over a whole log.

use std::collections::BTreeSet;

use super::*;

/// A record of the log.
struct Came {
    offset: u64,
    /// Stream time with which it came.
    time: i64,
    bytes: u64,
    spans: Vec<(&'static str, Span)>,
}

struct Model {
    came: Vec<Came>,
    bound: u64,
    rare: bool,
}

/// Everything that comes out.
pub(super) fn outs(log: &[Envelope], bound: u64, rare: bool) -> Vec<Out> {
    let mut time = i64::MIN;
    let came = log.iter().map(|envelope| {
        time = time.max(envelope.timestamp_ms);
        let data = TracesData::decode(&envelope.value[..]).unwrap();
        let spans = data.resource_spans.into_iter().flat_map(|block| {
            let cart = block.resource
                == Some(Resource { attributes: vec![text("service.name", "cart")], ..Resource::default() });
            let spans = block.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.map(move |span| (if cart { "cart" } else { "shop" }, span))
        });
        let (offset, bytes) = (envelope.route.offset, envelope.value.len() as u64);
        Came { offset, time, bytes, spans: spans.collect() }
    });
    let model = Model { came: came.collect(), bound, rare };
    let mut outs = Vec::new();
    for (at, now) in model.came.iter().enumerate() {
        let decided = |early| {
            let model = &model;
            (0..=at).filter(move |of| model.decided(*of).is_some_and(|d| d == (at, early)))
        };
        outs.extend(decided(false).filter_map(|of| model.out(of)).map(|out| (now.offset, out.0, out.1)));
        outs.extend(decided(true).filter_map(|of| model.out(of)).map(|out| (now.offset, out.0, out.1)));
    }
    outs
}

impl Model {
    fn bytes(&self, of: std::ops::RangeInclusive<usize>) -> u64 {
        self.came[of].iter().map(|came| came.bytes).sum()
    }

    /// The record at which one is decided upon, and whether that is early.
    fn decided(&self, of: usize) -> Option<(usize, bool)> {
        let later = of..self.came.len();
        later.into_iter().find_map(|at| {
            let due = self.came[at].time >= self.came[of].time + WAIT;
            let full = self.bytes(of..=at) > self.bound;
            (due || full).then_some((at, !due))
        })
    }

    /// The last record that is known when one is decided upon.
    fn known_until(&self, of: usize) -> usize {
        match self.decided(of).unwrap() {
            (at, true) => at,
            (at, false) => at - 1,
        }
    }

    /// Records that count for one.
    fn window(&self, of: usize) -> impl Iterator<Item = usize> {
        let until = self.known_until(of);
        let early = self.decided(of).unwrap().1;
        (0..=until).filter(move |at| {
            let forgotten_at = if early { until.checked_sub(1) } else { Some(until) };
            let forgotten = forgotten_at.is_some_and(|last| *at <= last && self.bytes(*at..=last) > 2 * self.bound);
            self.came[*at].time > self.came[of].time - WAIT && !forgotten
        })
    }

    fn of_trace<'a>(
        &'a self,
        records: impl Iterator<Item = usize> + 'a,
        id: &'a [u8],
    ) -> impl Iterator<Item = (usize, &'a (&'static str, Span))> + 'a {
        let spans = records.flat_map(|at| self.came[at].spans.iter().map(move |span| (at, span)));
        spans.filter(move |(_, (_, span))| span.trace_id == id)
    }

    /// Whether a trace is the one of its second that is chosen.
    fn is_chosen(&self, of: usize, id: &[u8]) -> bool {
        let second = |at: usize| self.came[at].time.div_euclid(SECOND);
        let Some((began, _)) = self.of_trace(self.window(of), id).next() else { return false };
        let all = (0..self.came.len()).filter(|at| second(*at) == second(began) && !self.came[*at].spans.is_empty());
        let first = all.clone().next().unwrap();
        let until = self.known_until(first);
        let traces: BTreeSet<&[u8]> = all
            .filter(|at| *at <= until)
            .flat_map(|at| &self.came[at].spans)
            .map(|(_, span)| &span.trace_id[..])
            .collect();
        let cart = |id: &&&[u8]| self.of_trace(first..=until, id).any(|(_, (service, _))| *service == "cart");
        // Ids are alike in front of their randomness.
        traces.iter().filter(cart).max() == Some(&id)
    }

    fn is_rare(&self, of: usize, id: &[u8]) -> bool {
        let named = |(_, (service, span)): (usize, &(&'static str, Span))| {
            span.parent_span_id.is_empty().then(|| (*service, span.name.clone()))
        };
        let others: BTreeSet<_> = self
            .window(of)
            .flat_map(|at| self.came[at].spans.iter().map(move |span| (at, span)))
            .filter(|(_, (_, span))| span.trace_id != id)
            .filter_map(named)
            .collect();
        self.of_trace(self.window(of), id).filter_map(named).any(|name| !others.contains(&name))
    }

    /// What is left of a record; of one without spans, all.
    fn out(&self, of: usize) -> Option<(u64, Vec<(u8, String)>)> {
        let offset = self.came[of].offset;
        if self.came[of].spans.is_empty() {
            return Some((offset, Vec::new()));
        }
        let kept = self.came[of].spans.iter().filter_map(|(_, span)| {
            let id = &span.trace_id[..];
            let any = |holds: &dyn Fn(&(&'static str, Span)) -> bool| {
                self.of_trace(self.window(of), id).any(|(_, span)| holds(span))
            };
            let failed = any(&|(_, span)| span.status.as_ref().is_some_and(|status| status.code == 2));
            let is_of = |name| any(&|(service, _)| *service == name);
            let whole = failed || is_of("cart") && self.is_chosen(of, id) || self.rare && self.is_rare(of, id);
            // Seven tenths of 2⁵⁶.
            let threshold = (1_u64 << 56) - (0.3 * (1_u64 << 56) as f64).round() as u64;
            let randomness = u64::from_be_bytes(id[8..].try_into().unwrap());
            let share = is_of("shop") && randomness >= threshold;
            let state = if whole { String::new() } else { format!("ot=th:{threshold:x}") };
            (whole || share).then_some((span.span_id[0], state))
        });
        let kept: Vec<_> = kept.collect();
        (!kept.is_empty()).then_some((offset, kept))
    }
}
