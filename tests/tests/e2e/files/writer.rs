//! A container that writes its log, and what rotates it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// How the file is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotation {
    /// Renamed; the writer goes on into the old file for a while, as a runtime does that has not been told yet.
    Rename,
    /// Copied, then emptied, both between two lines. Nothing is written in between, which `copytruncate` cannot promise.
    CopyTruncate,
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) lines: Vec<String>,
    pub(super) rotations: usize,
}

/// Writes lines in the format of the CRI, in one to three parts, and some of the parts in two writes.
pub(super) struct Writer {
    name: usize,
    path: PathBuf,
    rotation: Rotation,
    file: File,
    random: StdRng,
    written: Written,
}

impl Writer {
    pub(super) fn new(logs: &Path, name: usize, rotation: Rotation, seed: u64) -> anyhow::Result<Self> {
        let dir = logs.join(format!("shop_cart-{name}_{name:08}-0000-4000-8000-000000000000/server"));
        fs::create_dir_all(&dir)?;
        let path = dir.join("0.log");
        let file = append(&path)?;
        Ok(Self { name, path, rotation, file, random: StdRng::seed_from_u64(seed), written: Written::default() })
    }

    pub(super) fn run(mut self, rotate_every: Duration, stop: &AtomicBool) -> anyhow::Result<Written> {
        let mut rotate = Instant::now() + self.random.random_range(Duration::ZERO..rotate_every);
        let mut reopen: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            self.line(&mut reopen)?;
            let now = Instant::now();
            if now >= rotate && reopen.is_none() {
                self.written.rotations += 1;
                rotate = now + rotate_every;
                let rotated = self.path.with_extension(format!("log.20260101-{:06}", self.written.rotations));
                match self.rotation {
                    Rotation::Rename => {
                        fs::rename(&self.path, rotated)?;
                        reopen = Some(now + self.random.random_range(Duration::ZERO..Duration::from_millis(20)));
                    }
                    Rotation::CopyTruncate => {
                        fs::copy(&self.path, rotated)?;
                        self.file.set_len(0)?;
                    }
                }
            }
            std::thread::sleep(self.random.random_range(Duration::ZERO..Duration::from_millis(10)));
        }
        Ok(self.written)
    }

    fn line(&mut self, reopen: &mut Option<Instant>) -> anyhow::Result<()> {
        let parts = self.random.random_range(1..=3);
        let mut line = String::new();
        for part in 1..=parts {
            // The runtime goes on in the new file between two parts as well as between two lines.
            if reopen.is_some_and(|at| at <= Instant::now()) {
                self.file = append(&self.path)?;
                *reopen = None;
            }
            let text = format!("file {} line {} part {part}/{parts};", self.name, self.written.lines.len());
            let tag = if part == parts { 'F' } else { 'P' };
            let time = humantime::format_rfc3339_nanos(std::time::SystemTime::now());
            let raw = format!("{time} stdout {tag} {text}\n");
            let cut = if self.random.random_bool(0.2) { self.random.random_range(0..raw.len()) } else { raw.len() };
            self.file.write_all(&raw.as_bytes()[..cut])?;
            if cut < raw.len() {
                std::thread::sleep(self.random.random_range(Duration::ZERO..Duration::from_millis(3)));
                self.file.write_all(&raw.as_bytes()[cut..])?;
            }
            line += &text;
        }
        self.written.lines.push(line);
        Ok(())
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
