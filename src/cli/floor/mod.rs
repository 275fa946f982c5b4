//! `microgpt floor`

mod accuracy;
mod corpus;
mod discover;
mod laws;
mod measured;
mod refit;
mod report_file;

use std::path::{Path, PathBuf};

use ane_floor::{Basis, PlacementReport, Verdict};
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use microgpt_ane::predict_placement;
use mlpackage::Package;

use self::report_file::{read_measured, read_reports};
use super::expected::{Expected, expect};
use super::path_kind::PathKind;
use super::{Exit, open, out_file, output};

/// Predict where Core ML will run a bundle or package, by which law, and what would change it.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Floor {
    #[command(subcommand)]
    about: Option<About>,
    /// A bundle or a .mlpackage
    #[arg(value_name = "BUNDLE|PACKAGE", required_unless_present = "schema")]
    path: Option<PathBuf>,
    /// Exit with 1 unless everything is placed on this device
    #[arg(long, value_enum)]
    require: Option<Require>,
    /// Exit with 1 if anything is placed worse than in this earlier report, written with --json. Packages are
    /// matched by name; if both reports have only one, these two are compared
    #[arg(long, value_name = "REPORT.json")]
    baseline: Option<PathBuf>,
    /// Print the report as JSON: a list with one object per package
    #[arg(long)]
    json: bool,
    /// Write the report as a self-contained HTML page
    #[arg(long, value_name = "PAGE.html")]
    html: Option<PathBuf>,
    /// A report of the same package measured on a Mac, which the page shows beside the prediction
    #[arg(long, value_name = "REPORT.json", requires = "html")]
    measured: Option<PathBuf>,
    #[command(flatten)]
    measuring: measured::MeasuredArgs,
    /// Print the JSON Schema of an object that --json prints
    #[arg(long, conflicts_with_all = ["path", "require", "baseline", "json", "html", "measure", "plan"])]
    schema: bool,
}

#[derive(Debug, Subcommand)]
enum About {
    Corpus(corpus::ListCorpus),
    Laws(laws::ListLaws),
    Accuracy(accuracy::EvaluateLaws),
    Refit(refit::Refit),
    Discover(discover::Discover),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Require {
    /// The Neural Engine
    Ane,
}

/// Opens the packages of a bundle, or a single one, and predicts their placement.
fn predict(path: &Path) -> Result<(Vec<PlacementReport>, Vec<Package>)> {
    if expect(path, Expected::BundleOrPackage)? == PathKind::Bundle {
        let bundle = open::bundle(path)?;
        let shards = bundle.manifest().shards.iter();
        let packages = shards.map(|shard| bundle.package(shard)).collect::<Result<Vec<_>, _>>()?;
        return Ok((predict_placement(&bundle)?, packages));
    }
    let package = open::package(path)?;
    Ok((vec![PlacementReport::predict(&package, None)?], vec![package]))
}

impl Floor {
    pub(crate) fn run(self) -> Result<Exit> {
        match self.about {
            Some(About::Corpus(command)) => command.run(),
            Some(About::Laws(command)) => command.run(),
            Some(About::Accuracy(command)) => command.run(),
            Some(About::Refit(command)) => command.run(),
            Some(About::Discover(command)) => command.run(),
            None if self.schema => {
                output::print(&PlacementReport::schema())?;
                Ok(Exit::Done)
            }
            None => self.report(),
        }
    }

    /// Predicts or measures the placement, prints it, and applies the gates.
    fn report(self) -> Result<Exit> {
        let path = self.path.as_deref().context("a bundle or package is missing")?;
        self.check_outputs()?;
        // Read before anything is predicted: a gate without its baseline is no gate.
        let baseline = self.baseline.as_deref().map(read_reports).transpose()?;
        let beside = self.measured.as_deref().map(read_measured).transpose()?.unwrap_or_default();
        let (predicted, packages) = predict(path).with_context(|| path.display().to_string())?;
        let measured = self.measuring.measure(&packages)?;
        if let Some(page) = &self.html {
            let beside = measured.as_ref().map_or(&beside, |measured| &measured.reports);
            atomic_output::write_file(page, ane_floor::html::page(&predicted, beside))?;
        }
        // The reports to print as JSON and to apply the gates to.
        let reports = measured.as_ref().map_or(&predicted, |measured| &measured.reports).clone();
        if self.json {
            output::print_json(&reports)?;
        } else {
            let text: Vec<String> = predicted.iter().map(ToString::to_string).collect();
            output::print(&text.concat())?;
            if let Some(measured) = &measured {
                output::print(&format!("\n{}", measured::side_by_side(&predicted, &measured.reports)))?;
            }
        }
        if let Some(measured) = measured {
            measured.add_rows()?;
        }
        Ok(Exit::of(self.passes(&reports, baseline.as_deref())))
    }

    /// Applies the gates, and reports on standard error what fails them.
    fn passes(&self, reports: &[PlacementReport], baseline: Option<&[PlacementReport]>) -> bool {
        let mut passes = true;
        if self.require.is_some() && !reports.iter().all(|r| r.verdict == Verdict::Ane && r.pass) {
            let basis = reports.first().map_or(Basis::Predicted, |r| r.basis);
            output::tell(&format!("required: everything on the ANE; {basis} otherwise"));
            passes = false;
        }
        if let Some(baseline) = baseline {
            let worse = ane_floor::regressions(baseline, reports);
            worse.iter().for_each(|line| output::tell(&format!("worse than the baseline: {line}")));
            passes &= worse.is_empty();
        }
        passes
    }

    /// Checks the outputs before measuring, which may take minutes.
    fn check_outputs(&self) -> Result<()> {
        let measuring = &self.measuring;
        let read =
            [("--baseline", &self.baseline), ("--measured", &self.measured), ("--plan", &measuring.plan)];
        let mut named: Vec<(&str, &Path)> =
            read.into_iter().filter_map(|(option, path)| Some((option, path.as_deref()?))).collect();
        let rows = measuring.rows_file();
        let written = [("--html", &self.html), ("--save-plan", &measuring.save_plan), ("--rows", &rows)];
        for (option, path) in
            written.into_iter().filter_map(|(option, path)| Some((option, path.as_deref()?)))
        {
            out_file::check(option, path, &named)?;
            named.push((option, path));
        }
        Ok(())
    }
}
