//! What the system tells of changes, where it does: inotify.

#[cfg(target_os = "linux")]
mod inotify;
#[cfg(target_os = "linux")]
pub(super) use inotify::Watcher;

#[cfg(not(target_os = "linux"))]
mod none;
#[cfg(not(target_os = "linux"))]
pub(super) use none::Watcher;

use std::path::PathBuf;

/// What changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Files that were written to.
    pub(super) written: Vec<PathBuf>,
    /// Whether files came, went or were renamed.
    pub(super) names: bool,
    /// Whether more changed than could be told.
    pub(super) overflow: bool,
}
