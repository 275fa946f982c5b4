//! `microgpt floor --measure`: what Core ML plans, beside what laws say.

use std::fs::File;
use std::path::{Path, PathBuf};

use ane_floor::corpus::{Corpus, Placement};
use ane_floor::measured::{RecordedPlan, record};
use ane_floor::{Comparison, PlacementReport};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use mlpackage::Package;

use super::super::output;

/// Where a measurement comes from, and where it goes.
#[derive(Debug, Args)]
pub(super) struct MeasuredArgs {
    /// Have Core ML plan it, on a Mac; show that beside the prediction, operation by operation; and add a row to the corpus of --rows.
    /// The other options are then about what was measured
    #[arg(long, conflicts_with = "measured")]
    measure: bool,
    /// The same from a plan that --save-plan recorded, on any machine
    #[arg(long, value_name = "PLAN.json", conflicts_with_all = ["measure", "measured"])]
    plan: Option<PathBuf>,
    /// Keep Core ML's plan as JSON
    #[arg(long, value_name = "PLAN.json", requires = "measure")]
    save_plan: Option<PathBuf>,
    /// Where the row goes; one of the same program and machine is replaced [default: measured.jsonl]
    #[arg(long, value_name = "ROWS.jsonl")]
    rows: Option<PathBuf>,
}

/// Reports that were measured.
pub(super) struct Measured {
    pub(super) reports: Vec<PlacementReport>,
    rows: Vec<Placement>,
    file: PathBuf,
}

impl MeasuredArgs {
    /// Measures packages, or takes the recorded plans of them; `None` if neither was asked for.
    pub(super) fn measure(&self, packages: &[Package]) -> Result<Option<Measured>> {
        ensure!(
            self.measure || self.save_plan.is_none(),
            "--save-plan keeps what is measured: give --measure"
        );
        let plans = match &self.plan {
            None if !self.measure => {
                ensure!(self.rows.is_none(), "--rows is where measurements go: give --measure or --plan");
                return Ok(None);
            }
            None => packages.iter().map(record).collect::<Result<Vec<_>, _>>()?,
            Some(file) => {
                let name = file.display();
                RecordedPlan::from_json(&super::read_text(file)?).with_context(|| name.to_string())?
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
        let file = self.rows.clone().unwrap_or_else(|| "measured.jsonl".into());
        let measured = Measured { reports, rows, file };
        // What would be refused is refused before anything is printed.
        measured.joined()?;
        Ok(Some(measured))
    }
}

impl Measured {
    /// The corpus that the user named, with the rows.
    fn joined(&self) -> Result<Corpus> {
        let Self { rows, file, .. } = self;
        let name = file.display();
        let mut corpus = match file.metadata() {
            Ok(found) if found.is_file() => read_corpus(file)?,
            Ok(_) => bail!("{name}: it is no file"),
            Err(_) => Corpus::from_jsonl(&name.to_string(), "")?,
        };
        for row in rows {
            corpus = corpus.with(row.clone())?;
        }
        Ok(corpus)
    }

    /// Adds the rows to the corpus that the user named. Of processes that do so at once, each waits for the one before.
    pub(super) fn add_rows(self) -> Result<()> {
        let name = self.file.display();
        let folder = self.file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The folder, as the file is replaced by another. Where folders have no locks, nobody waits.
        let alone = File::open(folder).ok();
        if let Some(folder) = &alone {
            let _ = folder.lock();
        }
        let corpus = self.joined()?;
        atomic_output::write_file(&self.file, &corpus.to_jsonl())?;
        drop(alone);
        let (new, all) = (self.rows.len(), corpus.rows().len());
        output::tell(&format!(
            "{new} of {all} rows in {name} are of this measurement; the laws meet them with \
             `microgpt floor accuracy --with {name}`"
        ));
        Ok(())
    }
}

fn read_corpus(file: &Path) -> Result<Corpus> {
    Ok(Corpus::from_jsonl(&file.display().to_string(), &super::read_text(file)?)?)
}

/// Both, operation by operation.
pub(super) fn side_by_side(predicted: &[PlacementReport], measured: &[PlacementReport]) -> String {
    predicted.iter().zip(measured).map(|(p, m)| Comparison::of(p, m).to_string()).collect()
}
