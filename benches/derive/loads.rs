//! Requests that chains work off.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use afflux_producers::generate::Corpus;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

pub(crate) const SPANS_PER_REQUEST: usize = 512;
/// Of the corpus's clock.
pub(crate) const MS_PER_REQUEST: i64 = 51;
/// 2026-01-01T00:00:00Z.
pub(crate) const START_NANOS: u64 = 1_767_225_600_000_000_000;

/// Requests of one cluster.
pub(crate) struct Load {
    pub(crate) requests: Vec<Bytes>,
    pub(crate) spans: usize,
    pub(crate) cluster: Arc<str>,
}

/// Service, name, kind and status: what makes a series.
type Series = (String, String, i32, i32);

impl Load {
    /// The generator's corpus.
    pub(crate) fn plain(spans: usize) -> Self {
        let mut corpus = Corpus::new(1, START_NANOS).without_logs();
        let count = spans.div_ceil(SPANS_PER_REQUEST);
        let requests = (0..count).map(|_| corpus.next_request(SPANS_PER_REQUEST).traces).collect();
        Self { requests, spans: count * SPANS_PER_REQUEST, cluster: "bench".into() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.requests.iter().map(Bytes::len).sum()
    }

    /// The same with other spans.
    pub(crate) fn with_spans(&self, mut change: impl FnMut(&str, &mut Span)) -> Self {
        self.with(|request| {
            for block in &mut request.resource_spans {
                let service = service(block.resource.as_ref());
                block.scope_spans.iter_mut().flat_map(|scope| &mut scope.spans).for_each(|span| change(&service, span));
            }
        })
    }

    /// The same with other resources.
    pub(crate) fn with_resources(&self, mut change: impl FnMut(&mut Resource)) -> Self {
        self.with(|request| {
            request.resource_spans.iter_mut().filter_map(|block| block.resource.as_mut()).for_each(&mut change);
        })
    }

    fn with(&self, mut change: impl FnMut(&mut ExportTraceServiceRequest)) -> Self {
        let changed = |request: &Bytes| {
            let mut request = ExportTraceServiceRequest::decode(&request[..]).unwrap_or_default();
            change(&mut request);
            request.encode_to_vec().into()
        };
        Self { requests: self.requests.iter().map(changed).collect(), spans: self.spans, cluster: self.cluster.clone() }
    }

    /// The same with names that make so many series, each as often as another of the same kind of span.
    pub(crate) fn with_series(&self, wanted: usize) -> Self {
        let mut counts: HashMap<Series, usize> = HashMap::new();
        self.with_spans(|service, span| *counts.entry(series(service, span)).or_default() += 1);
        let made = |most: usize| counts.values().map(|count| (*count).min(most)).sum::<usize>();
        // The smallest number of names for each kind of span that makes enough series.
        let most = (1..=self.spans).find(|most| made(*most) >= wanted).unwrap_or(self.spans);
        let mut seen: HashMap<Series, usize> = HashMap::new();
        self.with_spans(|service, span| {
            let seen = seen.entry(series(service, span)).or_default();
            span.name = format!("{} {}", span.name, *seen % most);
            *seen += 1;
        })
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> usize {
        let mut all = HashSet::new();
        self.with_spans(|service, span| _ = all.insert(series(service, span)));
        all.len()
    }

    /// The same with an id in every name, one after the other of so many.
    pub(crate) fn with_ids(&self, ids: u64) -> Self {
        let mut spans = 0;
        self.with_spans(|_, span| {
            let id = (spans % ids).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            span.name = format!("{}/{id:016x}/items", span.name);
            spans += 1;
        })
    }
}

fn series(service: &str, span: &Span) -> Series {
    (service.into(), span.name.clone(), span.kind, span.status.as_ref().map_or(0, |status| status.code))
}

fn service(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| &resource.attributes[..]).unwrap_or_default();
    let name = attributes.iter().find(|attribute| attribute.key == "service.name");
    name.and_then(|name| name.value.as_ref()).map(|value| format!("{value:?}")).unwrap_or_default()
}
