//! A disk in memory that fails on demand and forgets at a power loss what was not synced.
//!
//! What mutates: [`Disk::fail_write`], [`Disk::fail_sync`], [`Disk::limit`], [`Disk::die_after`],
//! [`Disk::power_loss`], [`Disk::flip`], [`Disk::spoil`]. What inspects: [`Disk::used`], [`Disk::syncs`],
//! [`Disk::has_struck`], [`Disk::is_dead`].
//!
//! After a power loss, sectors of 512 bytes are old or new in any mixture; those never synced may hold garbage. Sizes
//! and names not synced may be lost one by one. After a failed sync the process sees what the disk will never have.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::local::files::{Dir, File};

const SECTOR: usize = 512;

#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<Inner>>);

struct Inner {
    rng: SmallRng,
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    /// Names that a power loss leaves.
    synced_names: BTreeMap<String, usize>,
    name_changes: Vec<(String, Option<usize>)>,
    fail_write: bool,
    fail_sync: bool,
    limit: u64,
    /// Operations until everything fails.
    life: Option<u32>,
    syncs: u64,
    struck: bool,
}

#[derive(Default)]
struct Node {
    /// What the process sees.
    seen: Vec<u8>,
    /// What a power loss leaves for certain.
    synced: Vec<u8>,
    /// Sectors that hold synced data.
    solid: BTreeSet<usize>,
    changes: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

fn write_to(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

fn sectors(at: usize, len: usize) -> impl Iterator<Item = usize> {
    at / SECTOR..(at + len).div_ceil(SECTOR)
}

impl Node {
    /// Makes one change durable.
    fn settle(&mut self, change: &Change) {
        match change {
            Change::Write(at, new) => {
                write_to(&mut self.synced, *at, new);
                self.solid.extend(sectors(*at, new.len()));
            }
            Change::Resize(len) => {
                self.synced.resize(*len, 0);
                self.solid.retain(|sector| sector * SECTOR < *len);
            }
        }
    }

    /// What the disk makes of a change that was not synced: each sector old, new or, where there is nothing to
    /// keep, garbage.
    fn tear(&mut self, change: &Change, rng: &mut SmallRng, keep: f64) {
        let Change::Write(at, new) = change else {
            if rng.random_bool(keep) {
                self.settle(change);
            }
            return;
        };
        for sector in sectors(*at, new.len()) {
            let from = (sector * SECTOR).max(*at);
            let to = ((sector + 1) * SECTOR).min(at + new.len());
            if rng.random_bool(keep) {
                write_to(&mut self.synced, from, &new[from - at..to - at]);
                self.solid.insert(sector);
            } else if !self.solid.contains(&sector) && rng.random_bool(0.2) {
                let garbage: Vec<u8> = (from..to).map(|_| rng.random()).collect();
                write_to(&mut self.synced, from, &garbage);
            }
        }
    }
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            rng: SmallRng::seed_from_u64(seed),
            nodes: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            name_changes: Vec::new(),
            fail_write: false,
            fail_sync: false,
            limit: u64::MAX,
            life: None,
            syncs: 0,
            struck: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next write fails half way.
    pub(super) fn fail_write(&self) {
        self.lock().fail_write = true;
    }

    /// The next sync of a file fails; the process goes on seeing what was not written.
    pub(super) fn fail_sync(&self) {
        self.lock().fail_sync = true;
    }

    /// Takes back faults, those that have not struck included.
    pub(super) fn heal(&self) {
        let mut inner = self.lock();
        (inner.fail_write, inner.fail_sync, inner.life, inner.struck) = (false, false, None, false);
    }

    /// Whether a write or sync has failed for another reason than a lack of space.
    pub(super) fn has_struck(&self) -> bool {
        let inner = self.lock();
        inner.struck || inner.life == Some(0)
    }

    /// Bytes of all files at most.
    pub(super) fn limit(&self, bytes: u64) {
        self.lock().limit = bytes;
    }

    /// Syncs of files so far.
    pub(super) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    pub(super) fn used(&self) -> u64 {
        self.lock().used()
    }

    /// After so many more operations everything fails, that operation half way.
    pub(super) fn die_after(&self, operations: u32) {
        self.lock().life = Some(operations);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().life == Some(0)
    }

    /// Forgets what was not synced, or some of it.
    pub(super) fn power_loss(&self) {
        let mut inner = self.lock();
        let Inner { rng, nodes, names, synced_names, name_changes, .. } = &mut *inner;
        // Nothing, something or everything of it may have reached the disk.
        let keep = [0.0, 0.3, 0.7, 0.95, 1.0][rng.random_range(0..5)];
        for node in nodes.iter_mut() {
            for change in std::mem::take(&mut node.changes) {
                node.tear(&change, rng, keep);
            }
            node.seen = node.synced.clone();
        }
        for (name, node) in name_changes.drain(..) {
            if rng.random_bool(keep) {
                rename(synced_names, name, node);
            }
        }
        *names = synced_names.clone();
    }

    /// Spoils one synced byte of a file; `false` where there is no such byte.
    pub(super) fn flip(&self, name: &str, at: usize) -> bool {
        let mut inner = self.lock();
        let Some(node) = inner.names.get(name).copied() else { return false };
        let bit = 1 << inner.rng.random_range(0..8);
        let node = &mut inner.nodes[node];
        for bytes in [&mut node.seen, &mut node.synced] {
            let Some(byte) = bytes.get_mut(at) else { return false };
            *byte ^= bit;
        }
        true
    }

    /// Removes, shortens or spoils a file that is not needed.
    pub(super) fn spoil(&self, name: &str) {
        let mut inner = self.lock();
        let Some(node) = inner.names.get(name).copied() else { return };
        match inner.rng.random_range(0..3) {
            0 => drop(inner.names.remove(name)),
            1 => inner.nodes[node].seen.truncate(20),
            _ => {
                let len = inner.nodes[node].seen.len().max(1);
                let at = inner.rng.random_range(0..len);
                inner.nodes[node].seen.get_mut(at).into_iter().for_each(|byte| *byte ^= 0x10);
            }
        }
    }
}

fn rename(names: &mut BTreeMap<String, usize>, name: String, node: Option<usize>) {
    match node {
        Some(node) => drop(names.insert(name, node)),
        None => drop(names.remove(&name)),
    }
}

fn error(kind: io::ErrorKind) -> io::Error {
    io::Error::from(kind)
}

fn broken() -> io::Error {
    io::Error::other("injected")
}

impl Inner {
    fn used(&self) -> u64 {
        self.names.values().map(|node| self.nodes[*node].seen.len() as u64).sum()
    }

    /// Counts a mutating operation. `Err` where it is not to be done at all, `Ok(false)` where half of it is.
    fn live(&mut self) -> io::Result<bool> {
        match &mut self.life {
            None => Ok(true),
            Some(0) => Err(broken()),
            Some(life) => {
                *life -= 1;
                Ok(*life > 0)
            }
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.life == Some(0) { Err(broken()) } else { Ok(()) }
    }

    fn change(&mut self, node: usize, change: Change) {
        let node = &mut self.nodes[node];
        match &change {
            Change::Write(at, new) => write_to(&mut node.seen, *at, new),
            Change::Resize(len) => node.seen.resize(*len, 0),
        }
        node.changes.push(change);
    }
}

struct Handle(Disk, usize);

impl Dir for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        let inner = self.lock();
        inner.alive()?;
        Ok(inner.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut inner = self.lock();
        if !inner.live()? && inner.rng.random_bool(0.5) {
            return Err(broken());
        }
        let node = match inner.names.get(name).copied() {
            Some(node) => {
                inner.change(node, Change::Resize(0));
                node
            }
            None => {
                let node = inner.nodes.len();
                inner.nodes.push(Node::default());
                inner.names.insert(name.to_owned(), node);
                inner.name_changes.push((name.to_owned(), Some(node)));
                node
            }
        };
        inner.alive()?;
        drop(inner);
        Ok(Arc::new(Handle(self.clone(), node)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let inner = self.lock();
        inner.alive()?;
        let node = inner.names.get(name).copied().ok_or_else(|| error(io::ErrorKind::NotFound))?;
        drop(inner);
        Ok(Arc::new(Handle(self.clone(), node)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.live()? || inner.rng.random_bool(0.5) {
            inner.names.remove(name).ok_or_else(|| error(io::ErrorKind::NotFound))?;
            inner.name_changes.push((name.to_owned(), None));
        }
        inner.alive()
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.live()? || inner.rng.random_bool(0.5) {
            let Inner { synced_names, name_changes, .. } = &mut *inner;
            name_changes.drain(..).for_each(|(name, node)| rename(synced_names, name, node));
        }
        inner.alive()
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/disk").join(name)
    }
}

impl File for Handle {
    fn len(&self) -> io::Result<u64> {
        let inner = self.0.lock();
        inner.alive()?;
        Ok(inner.nodes[self.1].seen.len() as u64)
    }

    fn read(&self, pos: u64, len: usize) -> io::Result<Vec<u8>> {
        let inner = self.0.lock();
        inner.alive()?;
        let seen = &inner.nodes[self.1].seen;
        let from = (pos as usize).min(seen.len());
        Ok(seen[from..seen.len().min(from + len)].to_vec())
    }

    fn write(&self, pos: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.0.lock();
        let whole = inner.live()? && !inner.fail_write;
        let grows = (pos as usize + bytes.len()).saturating_sub(inner.nodes[self.1].seen.len()) as u64;
        let full = grows > 0 && inner.used() + grows > inner.limit;
        let written = if whole && !full { bytes.len() } else { inner.rng.random_range(0..=bytes.len()) };
        if !full {
            inner.change(self.1, Change::Write(pos as usize, bytes[..written].to_vec()));
        }
        inner.alive()?;
        if std::mem::take(&mut inner.fail_write) {
            inner.struck = true;
            return Err(broken());
        }
        if full { Err(error(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut inner = self.0.lock();
        let live = inner.live()?;
        let grows = len.saturating_sub(inner.nodes[self.1].seen.len() as u64);
        if grows > 0 && inner.used() + grows > inner.limit {
            return Err(error(io::ErrorKind::StorageFull));
        }
        if grows > 0 && (live || inner.rng.random_bool(0.5)) {
            inner.change(self.1, Change::Resize(len as usize));
        }
        inner.alive()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut inner = self.0.lock();
        if inner.live()? || inner.rng.random_bool(0.5) {
            inner.change(self.1, Change::Resize(len as usize));
        }
        inner.alive()
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        // One that is cut short leaves everything to what comes next.
        let whole = inner.live()?;
        inner.syncs += 1;
        let fails = std::mem::take(&mut inner.fail_sync);
        inner.struck |= fails;
        let Inner { nodes, rng, .. } = &mut *inner;
        let node = &mut nodes[self.1];
        if fails || whole {
            for change in std::mem::take(&mut node.changes) {
                if fails { node.tear(&change, rng, 0.5) } else { node.settle(&change) }
            }
        }
        inner.alive()?;
        if fails { Err(broken()) } else { Ok(()) }
    }
}
