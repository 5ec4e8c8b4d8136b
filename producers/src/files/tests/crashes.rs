//! D3: what is not acknowledged is read again, and known again.

use std::fs;

use super::harness::*;
use crate::otlp::tests::bus::Mode;
use afflux_bus::BusError;
use afflux_runtime::admin::State;

impl World {
    /// What a run brings that has nothing to do.
    pub(super) async fn run_quietly(&self) -> Vec<Line> {
        let running = self.start(Mode::Ack);
        running.until("ready", |running| running.state() == State::Ready).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        running.stop().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_moves_only_after_the_ack_and_what_is_read_again_is_known_by_file_and_offset() {
    let world = World::new();
    world.append("a.log", "one\ntwo\n");
    let running = world.start(Mode::Hang);
    running.fake.begun(1).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(world.positions().len(), 0);
    running.kill().await;

    let full = Mode::Fail(|| BusError::Full { reason: "disk".into() });
    let running = world.start(full);
    running.until("failing", |running| matches!(running.state(), State::Failing(why) if why.contains("disk"))).await;
    assert_eq!(world.positions().len(), 0);
    running.fake.set(Mode::Ack);
    let first = running.until_lines(2).await;
    running.until("saved", |_| world.positions().into_values().eq([8])).await;
    running.kill().await;
    assert!(world.run_quietly().await.is_empty());

    fs::remove_file(&world.config.positions).unwrap();
    let again = world.run(|lines| lines.len() == 2).await;
    let identity =
        |lines: &[Line]| lines.iter().map(|line| (line.fingerprint.clone(), line.offset)).collect::<Vec<_>>();
    assert_eq!(identity(&again), identity(&first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_bus_and_gives_up_where_it_takes_nothing() {
    let world = World::new();
    world.append("a.log", "one\n");
    let running = world.start(Mode::Fail(|| BusError::Full { reason: "disk".into() }));
    running.fake.begun(2).await;
    assert!(running.stop().await.is_empty());
    assert_eq!(bodies(&world.run(|lines| lines.len() == 1).await), ["one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_positions_are_put_aside_and_everything_is_read_again() {
    let mut world = World::new();
    world.config.start_at = crate::files::config::FilesStart::End;
    let running = world.start(Mode::Ack);
    running.until("ready", |running| running.state() == State::Ready).await;
    world.append("a.log", "one\n");
    running.until_lines(1).await;
    running.stop().await;
    let mut bytes = fs::read(&world.config.positions).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&world.config.positions, bytes).unwrap();
    assert_eq!(bodies(&world.run(|lines| lines.len() == 1).await), ["one"]);
    assert!(world.config.positions.with_extension("damaged").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_of_another_machine_do_not_fit_any_file_and_leave_nothing_out() {
    let (here, there) = (World::new(), World::new());
    there.append("a.log", "a line of the other machine\nand another\n");
    assert_eq!(there.run(|lines| lines.len() == 2).await.len(), 2);
    // Their paths and inodes are made those of this one, as a disk image or chance may.
    here.append("a.log", "a line of this machine\nand another, and more\n");
    let key = crate::files::identity::FileKey::of(&fs::metadata(here.path("a.log")).unwrap());
    let (mut positions, _) = crate::files::positions::Positions::load(&there.config.positions, 0).unwrap();
    let stranger = positions.of_path(&there.path("a.log"));
    let mut strangers: Vec<_> = stranger.cloned().collect();
    assert_eq!(strangers.len(), 1);
    (strangers[0].key, strangers[0].path) = (key, here.path("a.log"));
    strangers.into_iter().for_each(|position| positions.known(position));
    positions.save(u64::MAX / 2_000_000).unwrap();
    fs::create_dir_all(here.config.positions.parent().unwrap()).unwrap();
    fs::copy(&there.config.positions, &here.config.positions).unwrap();
    assert_eq!(here.run(|lines| lines.len() == 2).await.len(), 2);
}
