//! The Node.js application of the suites.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{bail, ensure};

use crate::python::install;

/// The application that `peers/node/install.sh` installs, which is quick when it is there.
///
/// `None`, after a printed notice, where it cannot be installed; an error instead under `CI=true`.
pub fn app() -> anyhow::Result<Option<&'static Path>> {
    static APP: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/node/install.sh");
    match APP.get_or_init(|| install(&script).map_err(|e| format!("{e:#}"))) {
        Ok(path) => Ok(Some(path)),
        Err(missing) if std::env::var("CI").is_ok_and(|ci| ci == "true") => bail!("no Node.js peer: {missing}"),
        Err(missing) => {
            eprintln!("SKIPPED, no Node.js peer here: {missing}");
            Ok(None)
        }
    }
}

/// Runs the application to its end.
pub fn run(app: &Path, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("node").arg(app).args(args).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the Node.js application ended with {}\n{errors}", output.status);
    Ok(())
}
