//! Rotation, while the component runs and while it does not.

use std::fs;
use std::time::Duration;

use super::harness::*;
use crate::otlp::tests::bus::Mode;

fn cri(n: usize, partial: bool, text: &str) -> String {
    format!("2026-01-01T00:00:{:02}.{n:09}Z stdout {} {text}\n", n % 60, if partial { "P" } else { "F" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_file_is_read_to_its_end_and_then_the_new_one() {
    let world = World::new();
    let running = world.start(Mode::Ack);
    world.append("0.log", cri(1, false, "one"));
    running.until_lines(1).await;
    world.rename("0.log", "0.log.20260101-000000");
    world.append("0.log.20260101-000000", cri(2, false, "two, into the old inode"));
    running.until_lines(2).await;
    world.append("0.log", cri(3, false, "three"));
    world.append("0.log.20260101-000000", cri(4, false, "late"));
    let lines = running.until_lines(4).await;
    let paths: std::collections::BTreeSet<_> = lines.iter().map(|line| line.path.as_str()).collect();
    assert_eq!(paths.len(), 1, "one path, one stream: {paths:?}");
    let file = |body: &str| &lines.iter().find(|line| line.body.starts_with(body)).unwrap().fingerprint;
    assert!(file("one") == file("two") && file("two") == file("late") && file("two") != file("three"));
    running.until("closed", |running| running.open_files() == 1).await;
    assert_eq!(running.stop().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_line_are_joined_across_a_rotation_also_after_a_crash() {
    let mut world = World::new();
    world.config.flush_after.0 = Duration::from_secs(60);
    let running = world.start(Mode::Ack);
    world.append("0.log", cri(1, false, "one") + &cri(2, true, "part "));
    running.until_lines(1).await;
    world.rename("0.log", "0.log.20260101-000000");
    world.append("0.log", cri(3, true, "of a "));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(running.kill().await.len(), 1);
    let running = world.start(Mode::Ack);
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.append("0.log", cri(4, false, "line") + &cri(5, false, "two"));
    assert_eq!(bodies(&running.until_lines(2).await), ["part of a line", "two"]);
    running.stop().await;
    assert!(world.run_quietly().await.is_empty(), "all of it is settled");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rotated_while_nobody_looked_is_read_and_what_was_before_is_not() {
    let world = World::new();
    world.append("0.log.20250101-000000", cri(0, false, "before our time"));
    world.append("0.log", cri(1, false, "one"));
    age(&world.path("0.log.20250101-000000"));
    assert_eq!(bodies(&world.run(|lines| lines.len() == 1).await), ["one"]);
    world.append("0.log", cri(2, false, "two"));
    world.rename("0.log", "0.log.20260101-000000");
    world.append("0.log.20260102-000000", cri(3, false, "three"));
    world.append("0.log", cri(4, false, "four"));
    assert_eq!(bodies(&world.run(|lines| lines.len() == 3).await), ["two", "three", "four"]);
    assert!(world.run_quietly().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_truncated_is_another_one_even_where_it_grows_past_what_was_read() {
    let world = World::new();
    let running = world.start(Mode::Ack);
    world.append("a.log", "header\none\n");
    running.until_lines(2).await;
    fs::write(world.path("a.log"), "header\n1\n").unwrap();
    running.until_lines(4).await;
    // Written over at once, and longer.
    fs::write(world.path("a.log"), "header\nanother\nand more than before\n").unwrap();
    let lines = running.until_lines(7).await;
    assert_eq!(bodies(&lines)[4..], ["header", "another", "and more than before"]);
    running.stop().await;
    fs::write(world.path("a.log"), "header\nyet another text, while nobody looked, that is longer\n").unwrap();
    let lines = world.run(|lines| lines.len() == 2).await;
    assert_eq!(lines[0].offset, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_a_copy_and_not_read_before_the_truncation_is_read_from_the_copy() {
    let world = World::new();
    let running = world.start(Mode::Ack);
    world.append("a.log", "one\n");
    let first = running.until_lines(1).await.remove(0);
    running.stop().await;
    world.append("a.log", "two\n");
    copy_truncate(&world.path("a.log"), &world.path("a.log.1"));
    world.append("a.log", "three\n");
    let lines = world.run(|lines| lines.len() == 2).await;
    assert_eq!(bodies(&lines), ["two", "three"]);
    assert_eq!((&lines[0].fingerprint, lines[0].offset), (&first.fingerprint, 4), "of the file that was copied");
    // And while it runs, also where several texts came and went before they were looked at.
    let running = world.start(Mode::Ack);
    world.append("a.log", "3a\n");
    running.until_lines(1).await;
    world.append("a.log", "3b\n");
    copy_truncate(&world.path("a.log"), &world.path("a.log.7"));
    world.append("a.log", "3c\n");
    copy_truncate(&world.path("a.log"), &world.path("a.log.8"));
    world.append("a.log", "3d\n");
    let mut lines = running.until_lines(4).await;
    lines.sort_by(|a, b| a.body.cmp(&b.body));
    assert_eq!(bodies(&lines), ["3a", "3b", "3c", "3d"]);
    running.kill().await;
    // With a copy that is matched as well.
    let mut world = world;
    for copy in ["a.log.1", "a.log.7", "a.log.8"] {
        fs::remove_file(world.path(copy)).unwrap();
    }
    fs::remove_file(world.path("a.log")).unwrap();
    world.config.paths = vec![format!("{}*", world.path("a.log").display())];
    let running = world.start(Mode::Ack);
    world.append("a.log", "four\n");
    running.until_lines(1).await;
    fs::copy(world.path("a.log"), world.path("a.log.2")).unwrap();
    fs::File::options().write(true).truncate(true).open(world.path("a.log")).unwrap();
    world.append("a.log", "five\n");
    running.until_lines(2).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(bodies(&running.stop().await), ["four", "five"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_that_begins_as_the_old_one_did_is_read_whole() {
    let world = World::new();
    let running = world.start(Mode::Ack);
    world.append("a.log", "starting\n");
    running.until_lines(1).await;
    world.rename("a.log", "a.log.1");
    world.append("a.log", "starting\n");
    let lines = running.until_lines(2).await;
    assert_ne!(lines[0].fingerprint, lines[1].fingerprint);
    running.stop().await;
    fs::remove_file(world.path("a.log.1")).unwrap();
    fs::remove_file(world.path("a.log")).unwrap();
    world.append("a.log", "starting\n");
    assert_eq!(bodies(&world.run(|lines| lines.len() == 1).await), ["starting"], "whatever its inode");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_file_is_read_where_it_was_missed_and_from_where_it_was_left_and_not_where_it_was_read() {
    let world = World::new();
    world.append("0.log.20250101-000000", cri(0, false, "before our time"));
    age(&world.path("0.log.20250101-000000"));
    let running = world.start(Mode::Ack);
    world.append("0.log", cri(1, false, "one"));
    running.until_lines(1).await;
    world.rename("0.log", "0.log.20260101-000001");
    compress(&world.path("0.log.20250101-000000"));
    world.append("0.log", cri(2, false, "two"));
    running.until_lines(2).await;
    running.until("closed", |running| running.open_files() == 1).await;
    compress(&world.path("0.log.20260101-000001"));
    world.rename("0.log", "0.log.20260101-000002");
    world.append("0.log", cri(3, false, "three"));
    assert_eq!(bodies(&running.until_lines(3).await), ["one", "two", "three"]);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let first = running.stop().await;
    assert_eq!(first.len(), 3, "nothing is read again from what was compressed");

    world.append("0.log", cri(4, false, "four"));
    world.rename("0.log", "0.log.20260101-000003");
    compress(&world.path("0.log.20260101-000003"));
    world.append("0.log.20260101-000004", cri(5, false, "five"));
    compress(&world.path("0.log.20260101-000004"));
    world.append("0.log", cri(6, false, "six"));
    let lines = world.run(|lines| lines.len() == 3).await;
    assert_eq!(bodies(&lines), ["four", "five", "six"]);
    assert_eq!(lines[0].fingerprint, first[2].fingerprint, "known by its beginning");
    assert!(world.run_quietly().await.is_empty());
    fs::write(world.path("0.log.20260101-000005.gz"), "no such thing").unwrap();
    world.append("0.log", cri(7, false, "seven"));
    assert_eq!(bodies(&world.run(|lines| lines.len() == 1).await), ["seven"]);
}
