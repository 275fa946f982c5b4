//! Writes results to standard output, and progress and notes to standard error.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Prints text. The error for a closed reader can be recognised with [`is_broken_pipe`].
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

/// Prints a line to standard error; write errors are ignored.
pub(super) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Suggests the next command, on standard error, so that standard output holds only the result.
pub(super) fn next(command: &str) {
    tell(&format!("next: {command}"));
}

/// Quotes an argument for a shell, if necessary.
pub(super) fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-=,:+@".contains(c);
    match !argument.is_empty() && argument.chars().all(plain) {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', "'\\''")),
    }
}

/// Quotes a path for a shell, if necessary.
pub(super) fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_string_pretty(value)?;
    json.push('\n');
    print(&json)
}

/// An error and its causes, in one line. A cause that the message so far contains is omitted; a cause that begins
/// with the message so far replaces it. A path is therefore named only once.
pub(super) fn causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line {
        line if line.is_empty() => cause,
        line if line.contains(&cause) => line,
        line if cause.starts_with(&line) => cause,
        line => format!("{line}: {cause}"),
    })
}

/// Whether the error is a closed output pipe, as in `microgpt ... | head`.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// A progress bar on standard error, if that is a terminal. Its message can be changed while it runs.
pub(super) fn progress_bar(length: usize, unit: &str) -> ProgressBar {
    let template = format!("{{bar:32}} {{pos}}/{{len}} {unit}, {{elapsed}} (left {{eta}})  {{msg}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style)
}

/// A spinner on standard error, for long work whose progress cannot be counted.
pub(super) fn spinner(message: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(message);
    spinner.enable_steady_tick(std::time::Duration::from_millis(120));
    spinner
}
