//! The `microgpt` command: arguments in, crates called, words out.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
