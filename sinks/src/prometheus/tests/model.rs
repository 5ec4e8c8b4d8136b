//! Any series: what is read back is what a naive model makes of them.

use std::collections::BTreeMap;

use afflux_runtime::delivery::Backend as _;
use proptest::prelude::*;

use super::super::ProtocolConfig;
use super::super::names::bound;
use super::wire::{Flat, Pairs, read};
use super::*;

/// Values as they are owned.
#[derive(Clone, Debug)]
enum Owned {
    Count(u64),
    Number(f64),
    Classic { sum: f64, bounds: Vec<f64>, counts: Vec<u64> },
    Native { sum: f64, scale: i32, zero_count: u64, offset: i32, counts: Vec<u64> },
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Count(count) => Value::Count(*count),
            Self::Number(number) => Value::Number(*number),
            Self::Classic { sum, bounds, counts } => Value::Histogram { sum: *sum, bounds, counts },
            Self::Native { sum, scale, zero_count, offset, counts } => {
                let (sum, scale, zero_count, offset) = (*sum, *scale, *zero_count, *offset);
                Value::Exponential { sum, scale, zero_count, offset, counts }
            }
        }
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::Count(_) => SUM,
            Self::Number(_) => Kind::Gauge,
            Self::Classic { .. } => CLASSIC,
            Self::Native { .. } => NATIVE,
        }
    }
}

fn values() -> impl Strategy<Value = Owned> {
    let counts = |len| prop::collection::vec(prop_oneof![3 => Just(0_u64), 2 => 0..1000_u64, 1 => 0..1_u64 << 40], len);
    let bounds = prop::collection::btree_set(-3..20_i32, 0..6);
    let classic = (bounds, 0.0..1e9_f64).prop_flat_map(move |(bounds, sum)| {
        let bounds: Vec<f64> = bounds.into_iter().map(|exponent| f64::from(exponent).exp2()).collect();
        let len = bounds.len() + 1;
        counts(len..=len).prop_map(move |counts| Owned::Classic { sum, bounds: bounds.clone(), counts })
    });
    let native = (0.0..1e9_f64, -4..=12_i32, 0..100_u64, -300..300_i32, counts(0..=60))
        .prop_map(|(sum, scale, zero_count, offset, counts)| Owned::Native { sum, scale, zero_count, offset, counts });
    prop_oneof![(0..1_u64 << 50).prop_map(Owned::Count), (-1e9..1e9_f64).prop_map(Owned::Number), classic, native,]
}

/// One series: name, labels, value.
type One = (String, BTreeMap<String, String>, Owned);

fn series_list() -> impl Strategy<Value = Vec<One>> {
    let labels = prop::collection::btree_map("[a-zA-Z_][a-z0-9_]{0,3}", "\\PC{0,8}", 0..5);
    prop::collection::vec(("[a-z][a-z_]{0,6}", labels, values()), 1..20)
}

/// What a label set is, the long way round.
fn labels_of(name: String, labels: &BTreeMap<String, String>, more: &[(&str, String)]) -> Pairs {
    let mut all: BTreeMap<String, String> =
        labels.iter().filter(|(_, value)| !value.is_empty()).map(|(n, v)| (n.clone(), v.clone())).collect();
    all.remove("__name__");
    if let Some(own) = all.remove("le") {
        all.insert("exported_le".into(), own);
    }
    all.insert("__name__".into(), name);
    all.insert("cluster".into(), "eu-1".into());
    more.iter().for_each(|(name, value)| drop(all.insert((*name).into(), value.clone())));
    all.into_iter().collect()
}

/// Labels and value of each series that is not a native histogram.
fn model(series: &[One]) -> Vec<(Pairs, f64)> {
    let mut expected = Vec::new();
    for (name, labels, value) in series {
        match value {
            Owned::Count(count) => {
                let name = format!("{}_total", name.strip_suffix("_total").unwrap_or(name));
                expected.push((labels_of(name, labels, &[]), *count as f64));
            }
            Owned::Number(number) => expected.push((labels_of(name.clone(), labels, &[]), *number)),
            Owned::Classic { sum, bounds, counts } => {
                for (at, le) in bounds.iter().copied().chain([f64::INFINITY]).enumerate() {
                    let below = counts[..=at].iter().sum::<u64>() as f64;
                    expected.push((labels_of(format!("{name}_bucket"), labels, &[("le", bound(le))]), below));
                }
                expected.push((labels_of(format!("{name}_sum"), labels, &[]), *sum));
                expected.push((labels_of(format!("{name}_count"), labels, &[]), counts.iter().sum::<u64>() as f64));
            }
            Owned::Native { .. } => {}
        }
    }
    expected
}

/// Checks a native histogram against the bounds of its buckets.
fn check_native(flat: &Flat, (name, labels, value): &One) {
    let Owned::Native { sum, scale, zero_count, offset, counts } = value else { panic!("{value:?}") };
    let read = &flat.histograms[0];
    assert_eq!(flat.labels, labels_of(name.clone(), labels, &[]));
    assert_eq!((read.schema, read.zero_count, read.sum), ((*scale).min(8), *zero_count, *sum));
    assert_eq!(read.count, zero_count + counts.iter().sum::<u64>());
    let mut expected: BTreeMap<i32, i64> = BTreeMap::new();
    for (index, count) in (*offset..).zip(counts).filter(|(_, count)| **count > 0) {
        // By the upper bound, as logarithm: a bucket ends at 2^(index / 2^schema).
        let upper = f64::from(index + 1) * f64::from(-scale).exp2();
        let index = (upper * f64::from(read.schema).exp2()).ceil() as i32;
        *expected.entry(index).or_default() += count.cast_signed();
    }
    assert_eq!(read.buckets(), expected);
}

#[test]
fn both_versions_say_what_the_model_says_and_say_it_again() {
    let sinks = [ProtocolConfig::V1, ProtocolConfig::V2]
        .map(|protocol| sink(PrometheusConfig { protocol, ..PrometheusConfig::default() }));
    let record = |(name, labels, value): &One| {
        let labels: Vec<_> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        Some(series((name, "", value.kind()), &labels, &[point(1000, 2000, Some(value.value()), &[])]))
    };
    proptest!(ProptestConfig::with_cases(300), |(list in series_list())| {
        let batch = batch(list.iter().map(record));
        let natives = list.iter().filter(|one| matches!(one.2, Owned::Native { .. }));
        for sink in &sinks {
            let encoded = sink.encode(&batch);
            prop_assert!(encoded.refused.is_empty(), "{:?}", encoded.refused);
            let read = read(&encoded.requests[0]);
            let (native, plain): (Vec<_>, Vec<_>) = read.series.iter().partition(|flat| flat.samples.is_empty());
            let number = |flat: &&Flat| (flat.labels.clone(), f64::from_bits(flat.samples[0].0));
            prop_assert_eq!(plain.iter().map(number).collect::<Vec<_>>(), model(&list));
            prop_assert_eq!(native.len(), natives.clone().count());
            native.iter().zip(natives.clone()).for_each(|(flat, one)| check_native(flat, one));
            prop_assert!(read.series.iter().flat_map(|flat| &flat.samples).all(|sample| sample.1 == 2000));
            let again = sink.encode(&batch);
            prop_assert_eq!(again.requests[0].body(), encoded.requests[0].body());
        }
    });
}
