use std::collections::{BTreeMap, BTreeSet};

use afflux_schemas::otlp::metrics::{Temporality, Value, read};

use super::*;

fn metric(name: &str) -> MetricName {
    MetricName { name: name.into(), unit: "", kind: Kind::Sum(Temporality::Delta) }
}

fn owner(cluster: &str) -> Owner {
    Owner { cluster: cluster.into(), tenant: None }
}

fn point(count: u64) -> Point<'static> {
    Point {
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        value: Some(Value::Count(count)),
        exemplars: &[],
        ended_bounds: &[],
    }
}

#[test]
fn all_metrics_of_one_set_of_labels_share_a_partition_and_series_are_spread() {
    let mut derived = Derived::new("m".into(), 4, usize::MAX);
    for n in 0..100 {
        let labels = Labels::new([("n", n.to_string().as_str())]);
        for name in ["a", "b"] {
            derived.add(&owner("eu"), &metric(name), &labels, &point(n));
        }
    }
    let mut seen: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    let records = derived.take(7, "source");
    assert_eq!(records.len(), 4, "one for each partition");
    for record in records {
        let mut metrics = BTreeSet::new();
        read(record.value.as_deref().unwrap(), |series, _| {
            metrics.insert(series.metric.to_owned());
            seen.entry(format!("{:?}", series.labels)).or_default().insert(record.to.partition);
        })
        .unwrap();
        assert_eq!(metrics.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }
    assert_eq!((seen.len(), seen.values().all(|partitions| partitions.len() == 1)), (100, true));
    assert!(derived.take(7, "source").is_empty());
}

#[test]
fn a_record_is_closed_before_it_outgrows_what_the_bus_takes() {
    let mut derived = Derived::new("m".into(), 1, 2000);
    let (a, b) = (metric("a"), metric("b"));
    for n in 0..100 {
        let labels = Labels::new([("n", format!("value {n}").as_str())]);
        derived.add(&owner("eu"), if n % 2 == 0 { &a } else { &b }, &labels, &point(1));
    }
    let records = derived.take(7, "source");
    let mut points = 0;
    for record in &records {
        assert!(record.size() < 2000, "{}", record.size());
        read(record.value.as_deref().unwrap(), |_, _| points += 1).unwrap();
    }
    assert!(records.len() > 2 && points == 100, "{} records, {points} points", records.len());
}

#[test]
fn the_same_points_give_the_same_records_whatever_came_before() {
    let metrics = ["a", "b", "c"].map(metric);
    let fill = |derived: &mut Derived, order: &[usize], rounds: u64| {
        for n in 0..rounds {
            let labels = Labels::new([("n", n.to_string().as_str())]);
            for owner in [owner("eu"), owner("us")] {
                order.iter().for_each(|&at| derived.add(&owner, &metrics[at], &labels, &point(n)));
            }
        }
        derived.take(7, "source")
    };
    let mut fresh = Derived::new("m".into(), 3, 2000);
    let expected = fill(&mut fresh, &[0, 1], 50);
    let mut used = Derived::new("m".into(), 3, 2000);
    for (order, rounds) in [(&[2, 1, 0][..], 300), (&[2], 1), (&[], 0)] {
        fill(&mut used, order, rounds);
        assert_eq!(fill(&mut used, &[0, 1], 50), expected);
    }
}
