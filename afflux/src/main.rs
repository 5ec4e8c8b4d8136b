//! `afflux`: the command line, the table of components, and the wiring between them.

// The command line is what this crate is for.
#![allow(clippy::print_stdout)]

mod admin;
mod buses;
mod cli;
mod components;
mod config;
mod config_command;
mod dead_letters;
mod events;
mod generate;
mod health;
mod output;
mod process;
mod query;
mod replay;
mod shell;
mod status;
mod topics;
mod up;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

/// Several times faster than glibc's on many small allocations from many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::exit_code(Err(error.into())),
    };
    let result = runtime.block_on(dispatch(cli));
    // A thread stuck in a system call must not hold up the end.
    runtime.shutdown_background();
    output::exit_code(result)
}

async fn dispatch(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Up(args) => up::up(args).await,
        Command::Run(args) => process::run(args).await,
        Command::Query(args) => query::query(args).await,
        Command::Status(args) => status::status(args).await,
        Command::Health(args) => health::health(args).await,
        Command::Generate(args) => generate::generate(args).await,
        Command::Topics(args) => Box::pin(topics::topics(args)).await,
        Command::DeadLetters { command } => dead_letters::dead_letters(command).await,
        Command::Replay(args) => replay::replay(args).await,
        Command::Events(args) => events::events(args).await,
        Command::Config { command } => config_command::config(&command),
        Command::Completions { shell } => shell::completions(shell),
        Command::Man { to } => shell::man(&to),
    }
}
