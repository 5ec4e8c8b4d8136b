//! Files that are, or seem to be, copies of others.

use std::fs;
use std::time::Duration;

use super::harness::*;
use crate::otlp::tests::bus::Mode;

fn cri(n: usize, partial: bool, text: &str) -> String {
    format!("2026-01-01T00:00:{:02}.{n:09}Z stdout {} {text}\n", n % 60, if partial { "P" } else { "F" })
}

fn truncate(path: &std::path::Path) {
    fs::File::options().write(true).truncate(true).open(path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_less_than_was_read_brings_nothing_also_compressed_or_with_a_name_that_matches() {
    let mut world = World::new();
    world.config.paths = vec![format!("{}*", world.path("a.log").display())];
    let running = world.start(Mode::Ack);
    // Longer than what a file is known by.
    let one = "one".repeat(1000);
    world.append("a.log", cri(1, false, &one));
    running.until_lines(1).await;
    fs::copy(world.path("a.log"), world.path("a.log.1")).unwrap();
    world.append("a.log", cri(2, false, "two"));
    running.until_lines(2).await;
    truncate(&world.path("a.log"));
    compress(&world.path("a.log.1"));
    world.append("a.log", cri(3, false, "three"));
    running.until_lines(3).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(bodies(&running.stop().await), [&one, "two", "three"]);
    assert!(world.run_quietly().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_matches_carries_the_fingerprint_of_what_was_copied() {
    let mut world = World::new();
    world.config.paths = vec![format!("{}*", world.path("a.log").display())];
    world.append("a.log", cri(0, false, "zero"));
    let running = world.start(Mode::Ack);
    running.until_lines(1).await;
    running.stop().await;
    truncate(&world.path("a.log"));
    world.append("a.log", cri(1, false, "one"));
    let first = world.run(|lines| lines.len() == 1).await.remove(0);
    // As if the process had been killed before it could write that position.
    fs::remove_file(&world.config.positions).unwrap();
    copy_truncate(&world.path("a.log"), &world.path("a.log.1"));
    world.append("a.log", cri(2, false, "two"));
    let lines = world.run(|lines| lines.len() == 2).await;
    let again = lines.iter().find(|line| line.body == "one").unwrap();
    assert_eq!((&again.fingerprint, again.offset), (&first.fingerprint, first.offset));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_only_begins_as_another_one_did_is_read_whole() {
    let world = World::new();
    world.append("a.log", "starting\n");
    assert_eq!(world.run(|lines| lines.len() == 1).await.len(), 1);
    world.rename("a.log", "a.log.2");
    world.append("a.log.1", "starting\n");
    world.append("a.log", "starting\nagain\n");
    let lines = world.run(|lines| lines.len() == 3).await;
    assert_eq!(bodies(&lines), ["starting", "starting", "again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_stood_unread_at_the_first_start_is_no_history() {
    let world = World::new();
    world.append("a.log", "an old line\n");
    age(&world.path("a.log"));
    let running = world.start(Mode::Hang);
    running.fake.begun(1).await;
    running.kill().await;
    world.rename("a.log", "a.log.1");
    world.append("a.log", "a new line\n");
    let lines = world.run(|lines| lines.len() == 2).await;
    assert_eq!(bodies(&lines), ["an old line", "a new line"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_excluded_later_is_read_no_more_and_what_is_no_archive_is_left_alone() {
    let mut world = World::new();
    world.append("a.log", "one\n");
    assert_eq!(world.run(|lines| lines.len() == 1).await.len(), 1);
    fs::write(world.path("a.log.3.gz"), "no such thing").unwrap();
    world.append("b.log", "other\n");
    world.append("a.log", "two\n");
    world.rename("a.log", "a.log.1");
    world.config.exclude = vec![world.path("a.log").display().to_string()];
    assert_eq!(bodies(&world.run(|lines| !lines.is_empty()).await), ["other"]);
    world.config.exclude.clear();
    assert_eq!(bodies(&world.run(|lines| !lines.is_empty()).await), ["two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrapping_of_a_file_is_known_after_a_restart_in_the_middle_of_a_line() {
    let world = World::new();
    let line = cri(2, false, "cut in the middle");
    let running = world.start(Mode::Ack);
    world.append("a.log", cri(1, false, "one") + &line[..45]);
    running.until_lines(2).await;
    running.stop().await;
    world.append("a.log", line[45..].to_owned() + &cri(3, false, "three"));
    let lines = world.run(|lines| lines.len() == 2).await;
    assert_eq!((lines[1].body.as_str(), lines[1].iostream.as_str()), ("three", "stdout"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_that_of_history_says_nothing_of_the_next_file() {
    let world = World::new();
    world.append("a.log.1", "before our time\n");
    age(&world.path("a.log.1"));
    let running = world.start(Mode::Ack);
    world.append("a.log", "one\n");
    running.until_lines(1).await;
    running.fake.set(Mode::Hang);
    world.append("a.log", "two\n");
    fs::remove_file(world.path("a.log.1")).unwrap();
    world.rename("a.log", "a.log.1");
    world.append("a.log", "three\n");
    tokio::time::sleep(Duration::from_millis(800)).await;
    compress(&world.path("a.log.1"));
    tokio::time::sleep(Duration::from_millis(800)).await;
    running.kill().await;
    let lines = world.run(|lines| lines.len() == 2).await;
    assert_eq!(bodies(&lines), ["two", "three"]);
}
