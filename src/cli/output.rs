//! Words and numbers to standard output, progress to standard error.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Prints text. A reader that has gone away is an error to be told from others by [`is_broken_pipe`].
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

/// A line on standard error; if nobody can read it, nothing is lost.
pub(super) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// What to do next, on standard error, so that the output stays what was asked for.
pub(super) fn next(command: &str) {
    tell(&format!("next: {command}"));
}

/// An argument as a shell takes it.
pub(super) fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-=,:+@".contains(c);
    match !argument.is_empty() && argument.chars().all(plain) {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', "'\\''")),
    }
}

/// A path as a shell takes it.
pub(super) fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_string_pretty(value)?;
    json.push('\n');
    print(&json)
}

/// An error and what caused it, in a line. Causes that an error's own words repeat are left out, and so are words that a cause
/// begins with: a path is named once.
pub(super) fn causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line {
        line if line.is_empty() => cause,
        line if line.contains(&cause) => line,
        line if cause.starts_with(&line) => cause,
        line => format!("{line}: {cause}"),
    })
}

/// Whether an error means that nobody reads the output any more, as in `microgpt ... | head`.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// A progress bar on standard error, if that is a terminal. `message` can be changed as it goes.
pub(super) fn progress_bar(length: usize, unit: &str) -> ProgressBar {
    let template = format!("{{bar:32}} {{pos}}/{{len}} {unit}, {{elapsed}} (left {{eta}})  {{msg}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style)
}

/// A spinner on standard error, for what takes a while and cannot be counted.
pub(super) fn spinner(message: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(message);
    spinner.enable_steady_tick(std::time::Duration::from_millis(120));
    spinner
}
