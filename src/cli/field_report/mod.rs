//! `microgpt field-report`

mod first_run;
mod page;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use mlpackage::counted;

use self::first_run::FirstRun;
use super::{Exit, out_file, output};

/// Create a page from the results that scripts/first-run-on-a-mac.sh wrote to a folder
#[derive(Debug, Args)]
pub(crate) struct FieldReport {
    /// The folder
    folder: PathBuf,
    /// Where to write the page [default: index.html in the folder]
    #[arg(long, value_name = "PAGE.html")]
    html: Option<PathBuf>,
}

impl FieldReport {
    pub(crate) fn run(self) -> Result<Exit> {
        let page = self.html.unwrap_or_else(|| self.folder.join("index.html"));
        ensure!(
            !["steps", "results", "system.txt"]
                .iter()
                .any(|read| out_file::is_within(&page, &self.folder.join(read))),
            "--html {}: it is among the results that the page shows: name another file",
            page.display()
        );
        let report = FirstRun::read(&self.folder)?;
        out_file::check("--html", &page, &[])?;
        atomic_output::write_file(&page, page::page(&report))?;
        output::print(&format!(
            "{}: {}, {}, {}\n",
            page.display(),
            counted(report.steps.len(), "step"),
            counted(report.variants.len(), "variant"),
            counted(report.sweeps.len(), "sweep")
        ))?;
        Ok(Exit::Done)
    }
}
