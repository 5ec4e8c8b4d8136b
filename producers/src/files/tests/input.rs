//! What is read of files: formats, joining, patterns.

use std::fs;

use super::harness::*;
use crate::files::config::{FilesStart, FilesWatch};
use crate::otlp::tests::bus::Mode;

const SECOND: u64 = 1_767_225_600_000_000_000; // 2026-01-01T00:00:00Z

#[tokio::test(flavor = "multi_thread")]
async fn each_file_is_read_in_the_format_of_its_first_line() {
    let world = World::new();
    world.append("cri.log", "2026-01-01T00:00:00.000000001Z stdout P hel\n2026-01-01T00:00:01Z stderr F level=error\n");
    world.append("cri.log", "2026-01-01T00:00:02Z stdout F lo\nnot wrapped\n");
    world.append("docker.log", "{\"log\":\"a\\tb\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-01T00:00:03Z\"}\n");
    world.append("plain.log", "2026-01-01T00:00:04Z INFO started\r\nsecond\n");
    let mut lines = world.run(|lines| lines.len() == 6).await;
    lines.sort();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| (line.body.as_str(), line.iostream.as_str(), line.time, line.severity, line.offset))
        .collect();
    let expected = [
        ("hello", "stdout", SECOND + 1, 0, 0),
        ("level=error", "stderr", SECOND + 1_000_000_000, 17, 44),
        ("not wrapped", "", 0, 0, 119),
        ("a\tb", "stderr", SECOND + 3_000_000_000, 0, 0),
        ("2026-01-01T00:00:04Z INFO started", "", SECOND + 4_000_000_000, 9, 0),
        ("second", "", 0, 0, 35),
    ];
    for line in expected {
        assert!(seen.contains(&line), "{line:?} is not in {seen:#?}");
    }
    let fingerprints: std::collections::BTreeSet<_> = lines.iter().map(|line| &line.fingerprint).collect();
    assert_eq!(fingerprints.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_stack_trace_are_one_record_and_the_last_comes_without_a_next() {
    let mut world = World::new();
    world.config.multiline.continuation = Some(r"^(\s|Caused by:)".into());
    let running = world.start(Mode::Ack);
    world.append("a.log", "java.lang.Exception: x\n\tat a\nCaused by: y\n\tat b\nnext\n");
    let lines = running.until_lines(2).await;
    assert_eq!(bodies(&lines), ["java.lang.Exception: x\n\tat a\nCaused by: y\n\tat b", "next"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_an_end_is_waited_for_and_then_given_out_and_its_late_end_is_no_line() {
    let world = World::new();
    let running = world.start(Mode::Ack);
    world.append("a.log", "whole\nhalf");
    assert_eq!(bodies(&running.until_lines(2).await), ["whole", "half"]);
    world.append("a.log", "\nnext\n");
    assert_eq!(bodies(&running.until_lines(3).await), ["whole", "half", "next"]);
    assert_eq!(running.stop().await.len(), 3);
    assert_eq!(world.positions().into_values().collect::<Vec<_>>(), [16]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_appear_and_vanish_and_links_are_read_once() {
    for watch in [FilesWatch::Auto, FilesWatch::Poll] {
        let mut world = World::new();
        world.config.watch = watch;
        let running = world.start(Mode::Ack);
        running.until("ready", |running| running.state() == afflux_runtime::admin::State::Ready).await;
        world.append("a.log", "a1\n");
        fs::create_dir(world.dir.path().join("elsewhere")).unwrap();
        let target = world.dir.path().join("elsewhere/target");
        fs::write(&target, "l1\n").unwrap();
        std::os::unix::fs::symlink(&target, world.path("link.log")).unwrap();
        std::os::unix::fs::symlink(world.path("a.log"), world.path("b.log")).unwrap();
        running.until_lines(2).await;
        fs::write(&target, "l1\nl2\n").unwrap();
        world.append("a.log", "a2\n");
        let lines = running.until_lines(4).await;
        let mut seen = bodies(&lines);
        seen.sort_unstable();
        assert_eq!(seen, ["a1", "a2", "l1", "l2"], "{watch:?}");
        fs::remove_file(world.path("a.log")).unwrap();
        fs::remove_file(world.path("b.log")).unwrap();
        running.until("closed", |running| running.open_files() == 1).await;
        world.append("a.log", "a1\n");
        assert_eq!(running.until_lines(5).await.last().unwrap().body, "a1", "it is another file");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_at_the_first_start_may_be_left_out_and_what_comes_later_is_not() {
    let mut world = World::new();
    world.config.start_at = FilesStart::End;
    world.append("a.log", "old\nhal");
    let running = world.start(Mode::Ack);
    running.until("open", |running| running.open_files() == 1).await;
    world.append("a.log", "f\nnew\n");
    world.append("b.log", "whole\n");
    let lines = running.until_lines(3).await;
    let mut seen = bodies(&lines);
    seen.sort_unstable();
    assert_eq!(seen, ["half", "new", "whole"]);
    running.stop().await;
    world.append("a.log", "down\n");
    world.append("c.log", "down too\n");
    let mut again = world.run(|lines| lines.len() == 2).await;
    again.sort_by(|a, b| a.body.cmp(&b.body));
    assert_eq!(bodies(&again), ["down", "down too"]);
}
