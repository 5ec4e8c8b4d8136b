//! Bad input and bounds.

use std::time::Duration;

use super::harness::*;
use crate::otlp::tests::bus::Mode;
use afflux_runtime::config::ByteSize;
use afflux_runtime::metrics::{ComponentLabels, ReasonLabels};

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_ten_megabytes_comes_in_pieces_and_the_next_one_whole() {
    let world = World::new();
    let long: String = (0..10_000_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    world.append("a.log", format!("first\n{long}\nlast\n"));
    let running = world.start(Mode::Ack);
    running.until("the last", |running| running.lines().iter().any(|line| line.body == "last")).await;
    let lines = running.lines();
    let pieces = &lines[1..lines.len() - 1];
    assert!(pieces.iter().all(|line| line.body.len() <= 256 << 10));
    assert!(pieces.windows(2).all(|pair| pair[0].offset < pair[1].offset), "each has an offset of its own");
    assert_eq!(pieces.iter().map(|line| line.body.as_str()).collect::<String>(), long);
    assert_eq!(running.changed("line_cut"), pieces.len() as u64);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_utf_8_is_replaced_and_counted() {
    let world = World::new();
    world.append("a.log", b"good\nb\xffd\n\0\n");
    let running = world.start(Mode::Ack);
    assert_eq!(bodies(&running.until_lines(3).await), ["good", "b\u{fffd}d", "\0"]);
    running.until("counted", |running| running.changed("invalid_utf8") == 1).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_waits_where_the_bus_does_not_answer() {
    let mut world = World::new();
    world.config.limits.in_flight_bytes = ByteSize(1 << 20);
    for name in ["a.log", "b.log"] {
        world.append(name, "0123456789abcdef0123456789abcdef\n".repeat(50_000));
    }
    let running = world.start(Mode::Hang);
    running.fake.begun(1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let read = running
        .metrics
        .file_bytes_read
        .get_or_create(&ComponentLabels { component: super::super::NAME, signal: "logs" })
        .get();
    assert!((100_000..1 << 20).contains(&read), "{read} of 3 MB");
    running.fake.set(Mode::Ack);
    assert_eq!(running.until_lines(100_000).await.len(), 100_000);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_a_rate_waits_in_its_file_or_is_left_out_and_counted() {
    use crate::files::config::FilesExcess;
    let mut world = World::new();
    (world.config.limits.file_rate, world.config.limits.over_rate) = (Some(100), FilesExcess::Drop);
    for name in ["a.log", "b.log"] {
        world.append(name, (0..1000).map(|n| format!("{n}\n")).collect::<String>());
    }
    let running = world.start(Mode::Ack);
    let dropped = |running: &Running| {
        let labels = ReasonLabels { component: super::super::NAME, reason: "rate_limited" };
        running.metrics.dropped_items.get_or_create(&labels).get()
    };
    running.until("dropped", |running| dropped(running) == 1800).await;
    assert_eq!(running.until_lines(200).await.len(), 200);
    running.stop().await;
    assert!(world.run_quietly().await.is_empty(), "what was left out is settled");

    let mut world = World::new();
    (world.config.limits.total_rate, world.config.limits.line_bytes) = (Some(1000), ByteSize(1024));
    world.append("a.log", "0123456789abcdef\n".repeat(40_000));
    let running = world.start(Mode::Ack);
    running.until_lines(1000).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lines = running.lines().len();
    // A turn reads 512 KiB, some 30,000 of these lines.
    assert!(lines < 35_000, "{lines} lines came at once");
    let labels = ReasonLabels { component: super::super::NAME, reason: "rate_limited" };
    assert!(running.metrics.retries.get_or_create(&labels).get() > 0);
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bus_finds_too_large_is_a_dead_letter_and_the_lines_around_it_arrive() {
    let world = World::new();
    let running = world.start(Mode::Ack);
    world.append("a.log", "zero\n");
    running.until_lines(1).await;
    // A topic that takes less than the bus says.
    running.fake.set(Mode::Limit(4096));
    world.append("a.log", format!("one\n{}\ntwo\n", "x".repeat(8000)));
    running.until("a dead letter", |running| running.dead("too_large") == 1).await;
    world.append("a.log", "three\n");
    running.until("three", |running| running.lines().iter().any(|line| line.body == "three")).await;
    assert_eq!(bodies(&running.stop().await), ["zero", "one", "two", "three"]);
    assert!(world.run_quietly().await.is_empty(), "its position has moved behind");
}
