//! Prints texts while they are generated.

use anyhow::Result;

use crate::cli::output;

/// Prints texts as they are generated, one per line. If one of two neighbouring texts has several lines, a
/// separator is printed between them.
pub(super) struct TextPrinter {
    /// Whether a text may have several lines at all.
    may_break: bool,
    /// Number of texts printed.
    printed: usize,
    /// Whether the previous text had several lines.
    before_broke: bool,
    broke: bool,
    /// The beginning of a text, held back until it is known whether it has several lines.
    held: Option<String>,
}

/// Separates two texts of which one has several lines.
const SEPARATOR: &str = "---\n";

impl TextPrinter {
    pub(super) fn new(may_break: bool) -> Self {
        Self { may_break, printed: 0, before_broke: false, broke: false, held: None }
    }

    pub(super) fn begin(&mut self, prompt: &str) -> Result<()> {
        self.broke = false;
        if self.before_broke {
            output::print(SEPARATOR)?;
        } else if self.may_break && self.printed > 0 {
            self.held = Some(String::new());
        }
        self.add(prompt)
    }

    pub(super) fn add(&mut self, piece: &str) -> Result<()> {
        self.broke |= piece.contains('\n');
        match &mut self.held {
            Some(held) if !self.broke => held.push_str(piece),
            held => {
                if let Some(held) = held.take() {
                    output::print(SEPARATOR)?;
                    output::print(&held)?;
                }
                output::print(piece)?;
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<()> {
        if let Some(held) = self.held.take() {
            output::print(&held)?;
        }
        self.before_broke = self.broke;
        self.printed += 1;
        output::print("\n")
    }
}
