//! Writes results to standard output, and progress and notes to standard error.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Replaces control characters, except line breaks and tabs, by escapes such as `\u{1b}`. Text from a file could
/// otherwise change what a terminal shows, or its settings.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    let is_raw = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(is_raw) {
        return text.into();
    }
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if is_raw(c) { visible.extend(c.escape_unicode()) } else { visible.push(c) }
    }
    visible.into()
}

/// Writes text with its control characters escaped, as [`visible`] does. A character must be written at once.
pub(super) struct Visible<W>(pub(super) W);

impl<W: io::Write> io::Write for Visible<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(visible(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Prints text. The error for a closed reader can be recognized with [`is_broken_pipe`].
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(visible(text).as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

/// Prints a line to standard error; write errors are ignored.
pub(super) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{}", visible(text));
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
    let json = serde_json::to_string_pretty(value)?;
    // JSON leaves the control characters from U+007F on as they are. They can only be in strings.
    let escape = |c: char| match c {
        '\u{7f}'..='\u{9f}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    let mut json = match json.contains(|c| matches!(c, '\u{7f}'..='\u{9f}')) {
        true => json.chars().map(escape).collect(),
        false => json,
    };
    json.push('\n');
    print(&json)
}

/// Formats an error and its causes in one line. A cause that the message so far contains is omitted; a cause
/// that begins with the message so far replaces it. A path is therefore named only once.
pub(super) fn causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line {
        line if line.is_empty() => cause,
        line if line.contains(&cause) => line,
        line if cause.starts_with(&line) => cause,
        line => format!("{line}: {cause}"),
    })
}

/// Returns whether the error is a closed output pipe, as in `microgpt ... | head`.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// Creates a progress bar on standard error, if that is a terminal. Its message can be changed while it runs.
pub(super) fn progress_bar(length: usize, unit: &str) -> ProgressBar {
    let template = format!("{{bar:32}} {{pos}}/{{len}} {unit}, {{elapsed}} (left {{eta}})  {{msg}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style)
}

/// Creates a spinner on standard error, for long work whose progress cannot be counted.
pub(super) fn spinner(message: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(message);
    spinner.enable_steady_tick(std::time::Duration::from_millis(120));
    spinner
}
