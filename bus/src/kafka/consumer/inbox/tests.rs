use bytes::Bytes;

use super::*;
use crate::record::{Generation, Headers};

const RECORD: usize = 1000;

fn p(partition: u32) -> PartitionId {
    PartitionId::new("t", partition)
}

fn at(partition: u32, position: u64) -> Start {
    Start { partition: p(partition), position, from: position }
}

fn record(partition: u32, offset: u64) -> Received {
    Received {
        from: p(partition),
        generation: Generation(0),
        offset,
        timestamp_ms: 0,
        key: None,
        value: Some(Bytes::from(vec![0; RECORD - std::mem::size_of::<Received>()])),
        headers: Headers::new(),
    }
}

fn inbox_with(records_of_room: usize, partitions: &[u32]) -> Inbox {
    let inbox = Inbox::new(records_of_room * RECORD);
    inbox.assign(partitions.iter().map(|n| at(*n, 0)).collect());
    assert!(matches!(inbox.take(), Some(Ok(Event::Assigned(_)))));
    inbox.flow(false);
    inbox
}

fn poll(inbox: &Inbox) -> Option<Event> {
    inbox.begin_poll();
    inbox.take().map(|event| event.expect("an event"))
}

fn offsets_of(event: Option<Event>) -> Vec<(u32, u64)> {
    match event {
        Some(Event::Records(records)) => records.iter().map(|r| (r.from.partition, r.offset)).collect(),
        other => panic!("records expected, got {other:?}"),
    }
}

fn offset(partition: u32, generation: u64) -> Offset {
    Offset { partition: p(partition), generation: Generation(generation), next: 1 }
}

#[test]
fn a_poll_returns_no_more_than_its_bytes_and_a_larger_record_alone() {
    let inbox = inbox_with(3, &[0]);
    inbox.push((0..4).map(|n| record(0, n)).collect());
    assert_eq!(offsets_of(poll(&inbox)), [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(offsets_of(poll(&inbox)), [(0, 3)]);
    let mut large = record(0, 4);
    large.value = Some(Bytes::from(vec![0; 10 * RECORD]));
    inbox.push(vec![large, record(0, 5)]);
    assert_eq!(offsets_of(poll(&inbox)), [(0, 4)]);
    assert_eq!(offsets_of(poll(&inbox)), [(0, 5)]);
    assert_eq!(inbox.room(), 3 * RECORD / 2);
}

#[test]
fn a_paused_partition_keeps_its_records_back_and_in_order() {
    let inbox = inbox_with(10, &[0, 1]);
    inbox.push(vec![record(0, 0), record(1, 0), record(0, 1)]);
    inbox.set_paused(&p(0), true).unwrap();
    assert_eq!(inbox.flow(false).pause, [p(0)]);
    inbox.push(vec![record(0, 2), record(1, 1)]);
    assert_eq!(offsets_of(poll(&inbox)), [(1, 0), (1, 1)]);
    assert_eq!(poll(&inbox), None);
    inbox.set_paused(&p(0), false).unwrap();
    assert_eq!(inbox.flow(false), Flow { resume: vec![p(0)], ..Flow::default() });
    inbox.push(vec![record(0, 3)]);
    assert_eq!(offsets_of(poll(&inbox)), [(0, 0), (0, 1), (0, 2), (0, 3)]);
}

#[test]
fn paused_records_over_the_limit_are_dropped_and_fetched_again() {
    let inbox = inbox_with(4, &[0, 1]);
    inbox.set_paused(&p(0), true).unwrap();
    inbox.push((0..5).map(|n| record(0, n)).collect());
    inbox.push(vec![record(0, 5), record(1, 0)]);
    assert_eq!(lock(&inbox.state).held_bytes, 0);
    assert_eq!(offsets_of(poll(&inbox)), [(1, 0)]);
    inbox.flow(false);
    inbox.set_paused(&p(0), false).unwrap();
    assert_eq!(inbox.flow(false), Flow { resume: vec![p(0)], rewind: vec![(p(0), 0)], ..Flow::default() });
    inbox.push((0..2).map(|n| record(0, n)).collect());
    assert_eq!(offsets_of(poll(&inbox)), [(0, 0), (0, 1)]);
}

#[test]
fn a_stalled_caller_stops_every_partition_and_new_ones_too() {
    let inbox = inbox_with(4, &[0]);
    assert_eq!(inbox.flow(true).pause, [p(0)]);
    inbox.assign(vec![at(1, 0)]);
    assert_eq!(inbox.flow(true), Flow::default(), "a new partition has not been started yet");
    assert_eq!(inbox.flow(false).resume, [p(0), p(1)]);
}

#[test]
fn generations_rise_and_offsets_of_an_older_one_are_refused_as_a_whole() {
    let inbox = inbox_with(4, &[0, 1]);
    inbox.check(&[offset(0, 1), offset(1, 1)]).unwrap();
    inbox.revoke(vec![p(0)]);
    assert_eq!(poll(&inbox), Some(Event::Revoked(vec![p(0)])));
    inbox.check(&[offset(0, 1)]).expect("still ours until the next poll");
    assert!(!inbox.is_released());
    assert_eq!(poll(&inbox), None);
    assert!(inbox.is_released());
    inbox.finish_revocation();
    inbox.assign(vec![at(0, 7)]);
    let Some(Event::Assigned(assigned)) = poll(&inbox) else { panic!("an assignment") };
    assert_eq!((assigned[0].generation, assigned[0].position), (Generation(2), 7));
    assert!(matches!(inbox.check(&[offset(1, 1), offset(0, 1)]), Err(BusError::Fenced { .. })));
    inbox.check(&[offset(1, 1), offset(0, 2)]).unwrap();
}

#[test]
fn nothing_of_a_revoked_partition_is_delivered_and_the_others_go_on() {
    let inbox = inbox_with(10, &[0, 1]);
    inbox.push(vec![record(0, 0), record(1, 0)]);
    inbox.revoke(vec![p(0)]);
    assert_eq!(poll(&inbox), Some(Event::Revoked(vec![p(0)])));
    assert_eq!(offsets_of(poll(&inbox)), [(1, 0)]);
}

#[test]
fn a_revocation_that_nobody_answers_ends_the_generation() {
    let inbox = inbox_with(10, &[0]);
    inbox.revoke(vec![p(0)]);
    inbox.expire_revocation();
    assert!(inbox.is_released());
    assert!(matches!(inbox.check(&[offset(0, 1)]), Err(BusError::Fenced { .. })));
    inbox.finish_revocation();
    assert_eq!(poll(&inbox), Some(Event::Revoked(vec![p(0)])), "the caller learns of it all the same");
}

#[test]
fn polling_before_being_told_of_a_revocation_does_not_answer_it() {
    let inbox = inbox_with(10, &[0]);
    inbox.revoke(vec![p(0)]);
    inbox.begin_poll();
    assert!(!inbox.is_released());
    inbox.check(&[offset(0, 1)]).unwrap();
}

#[test]
fn a_restart_revokes_everything_and_assigns_it_anew() {
    let inbox = inbox_with(10, &[0, 1]);
    inbox.push(vec![record(0, 0)]);
    inbox.restart();
    assert!(matches!(inbox.check(&[offset(0, 1)]), Err(BusError::Fenced { .. })));
    assert_eq!(poll(&inbox), Some(Event::Revoked(vec![p(0), p(1)])));
    assert_eq!(poll(&inbox), None);
    assert_eq!(inbox.restarting(), Some(vec![p(0), p(1)]));
    inbox.push(vec![record(0, 1)]);
    assert_eq!(poll(&inbox), None, "what was under way is dropped");
    inbox.finish_restart(vec![at(0, 0), at(1, 5)]);
    let Some(Event::Assigned(assigned)) = poll(&inbox) else { panic!("an assignment") };
    assert_eq!(assigned.iter().map(|a| (a.generation.0, a.position)).collect::<Vec<_>>(), [(2, 0), (2, 5)]);
    assert_eq!(inbox.restarting(), None);
}

#[test]
fn a_second_restart_before_the_first_is_done_forgets_no_partition() {
    let inbox = inbox_with(10, &[0]);
    inbox.restart();
    inbox.restart();
    assert_eq!(inbox.restarting(), Some(vec![p(0)]));
}

#[test]
fn a_partition_revoked_during_a_restart_is_not_assigned_by_it() {
    let inbox = inbox_with(10, &[0, 1]);
    inbox.restart();
    inbox.revoke(vec![p(1)]);
    assert!(inbox.is_released(), "the caller has been told already");
    inbox.finish_revocation();
    inbox.finish_restart(vec![at(0, 0), at(1, 0)]);
    assert_eq!(poll(&inbox), Some(Event::Revoked(vec![p(0), p(1)])));
    let Some(Event::Assigned(assigned)) = poll(&inbox) else { panic!("an assignment") };
    assert_eq!(assigned.len(), 1);
    assert_eq!(assigned[0].partition, p(0));
}

#[test]
fn a_restart_while_a_revocation_is_pending_lets_go_at_once() {
    let inbox = inbox_with(10, &[0]);
    inbox.revoke(vec![p(0)]);
    assert_eq!(poll(&inbox), Some(Event::Revoked(vec![p(0)])));
    inbox.restart();
    assert!(inbox.is_released());
    assert_eq!(inbox.restarting(), Some(vec![]));
    assert_eq!(poll(&inbox), None, "it has been told once");
}

#[test]
fn a_partition_that_goes_back_is_a_new_generation() {
    let inbox = inbox_with(10, &[0]);
    inbox.push(vec![record(0, 7), record(0, 9), record(0, 0), record(0, 1)]);
    assert_eq!(poll(&inbox), Some(Event::Revoked(vec![p(0)])));
    let Some(Event::Assigned(assigned)) = poll(&inbox) else { panic!("an assignment") };
    assert_eq!((assigned[0].generation, assigned[0].position), (Generation(2), 0));
    assert_eq!(offsets_of(poll(&inbox)), [(0, 0), (0, 1)]);
}

#[test]
fn a_closed_inbox_says_so_to_everyone() {
    let inbox = inbox_with(10, &[0]);
    inbox.push(vec![record(0, 0)]);
    inbox.close();
    assert!(matches!(inbox.take(), Some(Err(BusError::Closed))));
    assert!(matches!(inbox.check(&[offset(0, 1)]), Err(BusError::Closed)));
    assert!(matches!(inbox.set_paused(&p(0), true), Err(BusError::Closed)));
    inbox.push(vec![record(0, 1)]);
    assert!(matches!(inbox.take(), Some(Err(BusError::Closed))));
}

#[test]
fn a_restart_does_not_take_back_that_partitions_are_released() {
    let inbox = inbox_with(10, &[0, 1]);
    inbox.revoke(vec![p(0)]);
    assert_eq!(poll(&inbox), Some(Event::Revoked(vec![p(0)])));
    assert_eq!(poll(&inbox), None);
    assert!(inbox.is_released());
    inbox.restart();
    assert!(inbox.is_released(), "librdkafka waits for nothing any more");
}
