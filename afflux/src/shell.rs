//! `afflux completions` and `afflux man`: what packages of the program bring along, made from its arguments.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::output::print;

pub(crate) fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "afflux", &mut script);
    Ok(print(&String::from_utf8(script)?)?)
}

pub(crate) fn man(to: &Path) -> anyhow::Result<()> {
    clap_mangen::generate_to(Cli::command(), to).with_context(|| format!("cannot write to {}", to.display()))
}
