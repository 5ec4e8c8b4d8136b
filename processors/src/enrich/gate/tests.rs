use std::time::Duration;

use afflux_bus::Headers;
use afflux_runtime::Signal;
use afflux_runtime::config::{ByteSize, Period};
use afflux_schemas::objects::{Kind, Object, ObjectKey};
use afflux_schemas::otlp::metrics::Labels;
use afflux_schemas::wire::{put_len_field, put_message_field};

use super::*;
use crate::chain::Route;

struct Parcel {
    number: u64,
    envelopes: Vec<Envelope>,
}

impl Waits for Parcel {
    fn envelopes(&self) -> &[Envelope] {
        &self.envelopes
    }
    fn bytes(&self) -> usize {
        100
    }
}

fn parcel(number: u64, uid: &str) -> Parcel {
    let mut resource = Vec::new();
    Labels::new([("k8s.pod.uid", uid)]).messages().for_each(|message| put_len_field(&mut resource, 1, message));
    let mut value = Vec::new();
    let Ok(()) = put_message_field(&mut value, 1, |out| {
        put_len_field(out, 1, &resource);
        Ok::<_, std::convert::Infallible>(())
    });
    let envelope = Envelope {
        signal: Signal::Spans,
        value: value.into(),
        items: 1,
        cluster: "eu".into(),
        timestamp_ms: 0,
        headers: Headers::new(),
        route: Route::default(),
    };
    Parcel { number, envelopes: vec![envelope] }
}

fn gate(max_waiting: u64) -> (Gate<Parcel>, Shared, PartitionId) {
    let (grace, max_waiting) = (Period(Duration::from_secs(2)), ByteSize(max_waiting));
    let config = EnrichConfig { grace, max_waiting, ..EnrichConfig::default() };
    let shared = Shared::new(&config).unwrap();
    (Gate::new(&config, shared.clone()), shared, PartitionId::new("in", 0))
}

fn know(shared: &Shared, uid: &str) {
    let object = Object::new(Kind::Pod, "shop", "cart-1", uid);
    let key = ObjectKey::new("eu", Kind::Pod, uid).unwrap().to_string();
    shared.write().apply(key.as_bytes(), Some(&object.encode().unwrap())).unwrap();
}

fn numbers(gate: &mut Gate<Parcel>, partition: &PartitionId, stream_time_ms: i64) -> Vec<u64> {
    std::iter::from_fn(|| gate.pop(partition, stream_time_ms)).map(|parcel| parcel.number).collect()
}

#[tokio::test(start_paused = true)]
async fn a_record_waits_for_its_pod_and_what_is_behind_it_waits_with_it() {
    let (mut gate, shared, partition) = gate(10_000);
    know(&shared, "known");
    for (number, uid) in [(1, "known"), (2, "new"), (3, "known")] {
        gate.push(&partition, parcel(number, uid), 0);
    }
    let other = PartitionId::new("in", 1);
    gate.push(&other, parcel(4, "known"), 0);
    assert_eq!(numbers(&mut gate, &partition, 0), [1]);
    assert_eq!(numbers(&mut gate, &other, 0), [4], "other partitions do not wait");
    assert_eq!((gate.is_empty(), gate.partitions()), (false, vec![partition.clone()]));
    know(&shared, "new");
    assert_eq!(numbers(&mut gate, &partition, 0), [2, 3]);
    assert!(gate.is_empty() && gate.bytes == 0);
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_by_the_times_of_records_and_is_not_begun_again_for_a_while() {
    let (mut gate, shared, partition) = gate(10_000);
    gate.push(&partition, parcel(0, "never"), 5_000);
    assert_eq!(numbers(&mut gate, &partition, 5_000), [0], "of the cluster nothing is known");
    know(&shared, "known");
    gate.push(&partition, parcel(1, "never"), 5_000);
    gate.push(&partition, parcel(2, "late"), 6_000);
    assert_eq!(numbers(&mut gate, &partition, 6_999), [0; 0]);
    assert_eq!(numbers(&mut gate, &partition, 7_000), [1]);
    assert_eq!(numbers(&mut gate, &partition, 8_000), [2]);
    gate.push(&partition, parcel(3, "never"), 8_000);
    assert_eq!(numbers(&mut gate, &partition, 8_000), [3], "it has been waited for");
    tokio::time::advance(FORGIVEN_FOR + Duration::from_millis(1)).await;
    gate.push(&partition, parcel(4, "never"), 8_000);
    assert_eq!(numbers(&mut gate, &partition, 8_000), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_by_the_clock_where_no_records_come_and_where_too_much_waits() {
    let (mut gate, shared, partition) = gate(250);
    know(&shared, "known");
    gate.push(&partition, parcel(1, "a"), 0);
    tokio::time::advance(Duration::from_millis(1_999)).await;
    assert_eq!(numbers(&mut gate, &partition, 0), [0; 0]);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(numbers(&mut gate, &partition, 0), [1]);
    for number in 2..6 {
        gate.push(&partition, parcel(number, &format!("b{number}")), 0);
    }
    assert_eq!(numbers(&mut gate, &partition, 0), [2, 3], "down to what may wait");
    gate.revoked(&partition);
    assert!(gate.is_empty() && gate.bytes == 0);
}
