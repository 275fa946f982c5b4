//! Arguments, exit codes, and the commands, each in a module of its own.

mod bench;
mod chart;
mod chat;
mod engine;
mod expected;
mod export;
mod field_report;
mod floor;
mod generate;
mod generation;
mod inspect;
mod open;
mod out_file;
mod output;
mod path_kind;
mod peak_memory;
mod run;
mod settle;
#[cfg(test)]
mod test_bundle;
mod train;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Train a small GPT, export it for Apple's Neural Engine, predict where it will run, and run it anywhere.
#[derive(Debug, Parser)]
#[command(name = "microgpt", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 success; 1 a gate failed (verify, floor --require or --baseline, inspect --check, run --hazards) or training diverged; 2 bad usage or input; 130 training was stopped, and can be resumed."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<train::Train>),
    Export(export::Export),
    Floor(floor::Floor),
    Verify(verify::Verify),
    Generate(generate::Generate),
    Chat(chat::Chat),
    Bench(bench::Bench),
    Inspect(inspect::Inspect),
    Run(run::Run),
    Settle(settle::Settle),
    FieldReport(field_report::FieldReport),
}

/// The outcome of a command that did not fail with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Done; if there was a gate, it passed.
    Done,
    /// The gate failed.
    GateFailed,
    /// The user asked the command to stop, and it did.
    Stopped,
}

impl Exit {
    fn of(pass: bool) -> Self {
        if pass { Self::Done } else { Self::GateFailed }
    }
}

/// Parses the arguments and runs the command.
pub(crate) fn run() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    let result = match Cli::parse().command {
        Command::Train(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Floor(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Chat(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Settle(command) => command.run(),
        Command::FieldReport(command) => command.run(),
    };
    match result {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::GateFailed) => ExitCode::from(1),
        // The exit code that a shell reports for SIGINT.
        Ok(Exit::Stopped) => ExitCode::from(130),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::tell(&format!("error: {}", output::causes(&error)));
            ExitCode::from(2)
        }
    }
}
