//! `microgpt field-report`

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use microgpt_ane::mac_report::{self, FieldReport};
use mlpackage::counted;

use super::{Outcome, out_file, output};

/// Make a page of the results that scripts/first-run-on-a-mac.sh wrote to a folder
#[derive(Debug, Args)]
pub(crate) struct MakeFieldReport {
    /// The folder
    folder: PathBuf,
    /// Where to write the page [default: index.html in the folder]
    #[arg(long, value_name = "PAGE.html")]
    html: Option<PathBuf>,
}

impl MakeFieldReport {
    pub(crate) fn run(self) -> Result<Outcome> {
        let page = self.html.unwrap_or_else(|| self.folder.join("index.html"));
        ensure!(
            !["steps", "results", "system.txt"]
                .iter()
                .any(|read| out_file::is_within(&page, &self.folder.join(read))),
            "--html {}: it is among the results that the page shows: name another file",
            page.display()
        );
        let report = FieldReport::read(&self.folder)?;
        out_file::check("--html", &page, &[])?;
        atomic_output::write_file(&page, mac_report::page(&report))?;
        output::print(&format!(
            "{}: {}, {}, {}\n",
            page.display(),
            counted(report.steps.len(), "step"),
            counted(report.variants.len(), "variant"),
            counted(report.sweeps.len(), "sweep")
        ))?;
        Ok(Outcome::Done)
    }
}
