//! Ends a peer whose owner died without dropping it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context as _;

/// A shell that waits for its standard input to close and then ends one process and removes one directory.
///
/// Statics are never dropped and a killed test drops nothing; the pipe closes in either case.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    pipe: ChildStdin,
}

impl Watchdog {
    pub(crate) fn of(peer: &Child, dir: &Path) -> anyhow::Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", r#"trap '' INT; read -r _ || { kill -9 "$1"; rm -rf "$2"; }"#, "watchdog"])
            .arg(peer.id().to_string())
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting sh")?;
        let pipe = shell.stdin.take().context("pipe to sh")?;
        Ok(Self { shell, pipe })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // A line in place of the end of the input: the owner has ended the peer itself.
        let _ = self.pipe.write_all(b"done\n");
        let _ = self.shell.wait();
    }
}
