//! Where there is no inotify.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::Changes;

/// Tells nothing.
#[derive(Debug)]
pub(in crate::files) struct Watcher;

impl Watcher {
    pub(in crate::files) fn new() -> std::io::Result<Arc<Self>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    pub(in crate::files) fn watch(&self, _: &BTreeSet<PathBuf>) -> std::io::Result<()> {
        Ok(())
    }

    pub(in crate::files) async fn next(&self) -> std::io::Result<Changes> {
        std::future::pending().await
    }
}
