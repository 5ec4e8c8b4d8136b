//! The messages of remote write, declared anew, and what they hold in a form that both versions share.

use std::collections::BTreeMap;

use prost::Message;

use super::super::{Protocol, WriteRequest};

pub(super) type Pairs = Vec<(String, String)>;

/// A series as a request has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Flat {
    pub(super) labels: Pairs,
    /// Bits of the value, time, start.
    pub(super) samples: Vec<(u64, i64, i64)>,
    pub(super) histograms: Vec<Histogram>,
    pub(super) exemplars: Vec<(Pairs, f64, i64)>,
}

/// A request as it is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Read {
    pub(super) series: Vec<Flat>,
    /// By name of the family: type, help, unit.
    pub(super) metadata: BTreeMap<String, (i32, String, String)>,
}

#[derive(Clone, PartialEq, Message)]
struct RequestV1 {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<SeriesV1>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<MetadataV1>,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesV1 {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<ExemplarV1>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataV1 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarV1 {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct RequestV2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<SeriesV2>,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<ExemplarV2>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<MetadataV2>,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataV2 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help: u32,
    #[prost(uint32, tag = "4")]
    unit: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start: i64,
}

/// A native histogram of integer counts.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(uint64, tag = "1")]
    pub(super) count: u64,
    #[prost(double, tag = "3")]
    pub(super) sum: f64,
    #[prost(sint32, tag = "4")]
    pub(super) schema: i32,
    #[prost(double, tag = "5")]
    pub(super) zero_threshold: f64,
    #[prost(uint64, tag = "6")]
    pub(super) zero_count: u64,
    #[prost(message, repeated, tag = "11")]
    pub(super) spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    pub(super) deltas: Vec<i64>,
    #[prost(int64, tag = "15")]
    pub(super) timestamp: i64,
    #[prost(int64, tag = "17")]
    pub(super) start: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Span {
    #[prost(sint32, tag = "1")]
    pub(super) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(super) length: u32,
}

impl Histogram {
    /// Counts by index of the bucket; empty ones are left out.
    pub(super) fn buckets(&self) -> BTreeMap<i32, i64> {
        let (mut index, mut count, mut deltas) = (0, 0, self.deltas.iter());
        let mut buckets = BTreeMap::new();
        for span in &self.spans {
            index += span.offset;
            for _ in 0..span.length {
                count += deltas.next().expect("a delta for each bucket");
                buckets.insert(index, count);
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None, "a bucket for each delta");
        buckets.retain(|_, count| *count != 0);
        buckets
    }
}

/// Reads a request, and checks what its version demands.
pub(super) fn read(request: &WriteRequest) -> Read {
    let bytes = snap::raw::Decoder::new().decompress_vec(request.body()).expect("a block of snappy");
    let read = match request.protocol() {
        Protocol::V1 => v1(RequestV1::decode(&bytes[..]).expect("a request of 1.0")),
        Protocol::V2 => v2(&RequestV2::decode(&bytes[..]).expect("a request of 2.0")),
    };
    for Flat { labels, samples, histograms, .. } in &read.series {
        assert!(labels.is_sorted_by(|(a, _), (b, _)| a < b), "sorted, each once: {labels:?}");
        assert!(labels.iter().any(|(name, _)| name == "__name__"), "{labels:?}");
        assert!(labels.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()), "{labels:?}");
        assert_eq!(samples.len() + histograms.len(), 1, "a sample of one sort: {labels:?}");
    }
    let samples = read.series.iter().map(|series| (series.samples.len() + series.histograms.len()) as u64).sum::<u64>();
    assert_eq!(request.samples(), samples);
    assert_eq!(request.counts.exemplars, read.series.iter().map(|series| series.exemplars.len() as u64).sum::<u64>());
    read
}

fn v1(request: RequestV1) -> Read {
    let pairs = |labels: Vec<Label>| labels.into_iter().map(|label| (label.name, label.value)).collect::<Pairs>();
    let series = request.timeseries.into_iter().map(|series| Flat {
        labels: pairs(series.labels),
        samples: series.samples.iter().map(|s| (s.value.to_bits(), s.timestamp, s.start)).collect(),
        histograms: series.histograms,
        exemplars: series.exemplars.into_iter().map(|e| (pairs(e.labels), e.value, e.timestamp)).collect(),
    });
    let metadata = request.metadata.into_iter().map(|m| (m.name, (m.kind, m.help, m.unit)));
    Read { series: series.collect(), metadata: metadata.collect() }
}

fn v2(request: &RequestV2) -> Read {
    assert_eq!(request.symbols.first().map(String::as_str), Some(""), "the first symbol is empty");
    let distinct: std::collections::BTreeSet<_> = request.symbols.iter().collect();
    assert_eq!(distinct.len(), request.symbols.len(), "every symbol once");
    let text = |at: &u32| request.symbols[*at as usize].clone();
    let pairs = |refs: &[u32]| refs.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect::<Pairs>();
    let mut read = Read::default();
    for series in &request.timeseries {
        let labels = pairs(&series.labels);
        let metadata = series.metadata.as_ref().expect("metadata in each series");
        let name =
            labels.iter().find(|(name, _)| name == "__name__").map(|(_, value)| value.clone()).unwrap_or_default();
        let suffixes =
            if series.histograms.is_empty() && metadata.kind == 3 { &["_bucket", "_sum", "_count"][..] } else { &[] };
        let family = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name).to_owned();
        read.metadata.insert(family, (metadata.kind, text(&metadata.help), text(&metadata.unit)));
        read.series.push(Flat {
            labels,
            samples: series.samples.iter().map(|s| (s.value.to_bits(), s.timestamp, s.start)).collect(),
            histograms: series.histograms.clone(),
            exemplars: series.exemplars.iter().map(|e| (pairs(&e.labels), e.value, e.timestamp)).collect(),
        });
    }
    read
}
