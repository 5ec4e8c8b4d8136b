//! The Python environment of the suites: SDKs and independent readers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, bail, ensure};

/// Folder of the Python peers.
pub fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/python")
}

/// The interpreter of the environment that `peers/python/install.sh` makes, which is quick when it exists.
///
/// `None`, after a printed notice, where it cannot be made; an error instead under `CI=true`.
pub fn interpreter() -> anyhow::Result<Option<&'static Path>> {
    static INTERPRETER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match INTERPRETER.get_or_init(|| install(&peers().join("install.sh")).map_err(|e| format!("{e:#}"))) {
        Ok(path) => Ok(Some(path)),
        Err(missing) if std::env::var("CI").is_ok_and(|ci| ci == "true") => bail!("no Python peers: {missing}"),
        Err(missing) => {
            eprintln!("SKIPPED, no Python peers here: {missing}");
            Ok(None)
        }
    }
}

/// Runs a script of the peers' folder and returns what it printed.
pub fn run(interpreter: &Path, script: &str, args: &[&str]) -> anyhow::Result<String> {
    run_with(interpreter, script, args, &[])
}

/// As [`run`], with variables in the environment.
pub fn run_with(
    interpreter: &Path,
    script: &str,
    args: &[&str],
    environment: &[(&str, String)],
) -> anyhow::Result<String> {
    let mut command = Command::new(interpreter);
    command.arg(peers().join(script)).args(args).envs(environment.iter().cloned());
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{script} ended with {}\n{text}\n{errors}", output.status);
    Ok(text)
}

/// Runs an installing script; its last line is the path of what it installed.
pub(crate) fn install(script: &Path) -> anyhow::Result<PathBuf> {
    let output = Command::new("bash").arg(script).output().context("starting bash")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(PathBuf::from(text.lines().last().context("install.sh printed no path")?))
}
