//! `microgpt floor --measure`: Core ML's plan beside the prediction.

use std::fs::File;
use std::path::{Path, PathBuf};

use ane_floor::corpus::{Placement, PlacementCorpus};
use ane_floor::measured::{RecordedPlan, record};
use ane_floor::{Comparison, PlacementReport};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use mlpackage::Package;

use super::corpus;
use super::report_file::read_text;
use crate::cli::output;

/// Where a measurement comes from, and where its rows are written.
#[derive(Debug, Args)]
pub(super) struct MeasuredArgs {
    /// On a Mac, have Core ML plan the package; show the plan beside the prediction, operation by operation;
    /// and add a row to the corpus of --rows. The other options then apply to the measurement
    #[arg(long, conflicts_with = "measured")]
    measure: bool,
    /// Use a plan that --save-plan recorded in place of --measure, on any machine
    #[arg(long, value_name = "PLAN.json", conflicts_with_all = ["measure", "measured"])]
    pub(super) plan: Option<PathBuf>,
    /// Save Core ML's plan as JSON
    #[arg(long, value_name = "PLAN.json", requires = "measure")]
    pub(super) save_plan: Option<PathBuf>,
    /// Where to write the row; it replaces one of the same program and machine [default: measured.jsonl]
    #[arg(long, value_name = "ROWS.jsonl")]
    rows: Option<PathBuf>,
}

/// Measured reports and their rows.
pub(super) struct Measured {
    pub(super) reports: Vec<PlacementReport>,
    rows: Vec<Placement>,
    file: PathBuf,
}

impl MeasuredArgs {
    /// Returns where the row is written; `None` if nothing is measured.
    pub(super) fn rows_file(&self) -> Option<PathBuf> {
        let measures = self.measure || self.plan.is_some();
        measures.then(|| self.rows.clone().unwrap_or_else(|| "measured.jsonl".into()))
    }

    /// Measures packages, or reads their recorded plans; `None` if neither was requested.
    pub(super) fn measure(&self, packages: &[Package]) -> Result<Option<Measured>> {
        ensure!(self.measure || self.save_plan.is_none(), "--save-plan saves a measurement: give --measure");
        let plans = match &self.plan {
            None if !self.measure => {
                ensure!(self.rows.is_none(), "--rows is for measurements: give --measure or --plan");
                return Ok(None);
            }
            None => packages.iter().map(record).collect::<Result<Vec<_>, _>>()?,
            Some(file) => {
                let name = file.display();
                RecordedPlan::from_json(&read_text(file)?).with_context(|| name.to_string())?
            }
        };
        if let Some(file) = &self.save_plan {
            let mut json = serde_json::to_string_pretty(&plans)?;
            json.push('\n');
            atomic_output::write_file(file, &json)?;
        }
        let (mut reports, mut rows) = (Vec::new(), Vec::new());
        for package in packages {
            let name = package.path().file_name().unwrap_or_default().to_string_lossy();
            let plan = match (packages, plans.as_slice()) {
                ([_], [one]) => one,
                _ => match plans.iter().find(|plan| plan.package == name) {
                    Some(plan) => plan,
                    None => bail!("there is no plan of {name}"),
                },
            };
            let report = plan.report(package).with_context(|| package.path().display().to_string())?;
            rows.push(plan.row(package, &report)?);
            reports.push(report);
        }
        let file = self.rows_file().context("nothing is measured")?;
        let measured = Measured { reports, rows, file };
        // Errors must be reported before anything is printed.
        measured.joined()?;
        Ok(Some(measured))
    }
}

impl Measured {
    /// Returns the user's corpus with the rows added.
    fn joined(&self) -> Result<PlacementCorpus> {
        let Self { rows, file, .. } = self;
        let name = file.display();
        let mut corpus = match file.metadata() {
            Ok(found) if found.is_file() => corpus::read(file)?,
            Ok(_) => bail!("{name}: it is not a file"),
            Err(_) => PlacementCorpus::from_jsonl(&name.to_string(), "")?,
        };
        for row in rows {
            corpus = corpus.with(row.clone())?;
        }
        Ok(corpus)
    }

    /// Adds the rows to the user's corpus. Concurrent processes take turns.
    pub(super) fn add_rows(self) -> Result<()> {
        let name = self.file.display();
        let folder = self.file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Locks the folder, because the file itself is replaced. Where folders cannot be locked, nobody waits.
        let alone = File::open(folder).ok();
        if let Some(folder) = &alone {
            let _ = folder.lock();
        }
        let corpus = self.joined()?;
        atomic_output::write_file(&self.file, corpus.to_jsonl())?;
        drop(alone);
        let (new, all) = (self.rows.len(), corpus.rows().len());
        output::tell(&format!(
            "{new} of {all} rows in {name} are of this measurement; evaluate the laws on them with \
             `microgpt floor accuracy --with {name}`"
        ));
        Ok(())
    }
}

/// Compares prediction and measurement, operation by operation.
pub(super) fn side_by_side(predicted: &[PlacementReport], measured: &[PlacementReport]) -> String {
    predicted.iter().zip(measured).map(|(p, m)| Comparison::of(p, m).to_string()).collect()
}
