//! `microgpt floor`

mod discover;
mod knowledge;
mod measured;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ane_floor::{Basis, PlacementReport, Verdict};
use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use microgpt_ane::placement;
use mlpackage::Package;

use super::file_kind::PathKind;
use super::unfit::{Expected, expect};
use super::{Outcome, folder, output};

/// Predict where Core ML will run a bundle or package, by which law, and what would change it.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Floor {
    #[command(subcommand)]
    about: Option<About>,
    /// A bundle or a .mlpackage
    #[arg(value_name = "BUNDLE|PACKAGE", required_unless_present = "schema")]
    path: Option<PathBuf>,
    /// Exit with 1 unless everything is placed there
    #[arg(long, value_enum)]
    require: Option<Require>,
    /// Exit with 1 if anything is placed worse than in this earlier report of --json. Packages are matched by
    /// name; if both reports have only one, these two are compared
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
    /// Print the JSON Schema of such an object
    #[arg(long, conflicts_with_all = ["path", "require", "baseline", "json", "html", "measure", "plan"])]
    schema: bool,
}

#[derive(Debug, Subcommand)]
enum About {
    Corpus(knowledge::Evidence),
    Laws(knowledge::Laws),
    Accuracy(knowledge::Record),
    Refit(knowledge::Refit),
    Discover(discover::Discover),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Require {
    /// The Neural Engine
    Ane,
}

/// Size limit of a report or corpus, in bytes.
const TEXT_LIMIT: u64 = 256 << 20;

/// Reads a text file that the user names, within the size limit.
fn read_text(path: &Path) -> Result<String> {
    let name = path.display();
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("open {name}"))?;
    file.take(TEXT_LIMIT + 1).read_to_string(&mut text).with_context(|| format!("read {name}"))?;
    ensure!(text.len() as u64 <= TEXT_LIMIT, "{name}: more than {TEXT_LIMIT} bytes");
    ensure!(!text.trim().is_empty(), "{name}: it is empty");
    Ok(text)
}

/// Reads reports that `--json` printed earlier: a list, or a single object.
fn read_reports(path: &Path) -> Result<Vec<PlacementReport>> {
    let text = read_text(path)?;
    let name = path.display();
    let found = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(&text).map(|one| vec![one]),
        false => serde_json::from_str(&text),
    };
    let reports: Vec<PlacementReport> =
        found.with_context(|| format!("{name}: not a report of `microgpt floor --json`"))?;
    ensure!(!reports.is_empty(), "{name}: it holds no report");
    for report in &reports {
        report.check().with_context(|| format!("{name}: the report of {}", report.package))?;
    }
    Ok(reports)
}

/// Opens the packages of a bundle, or a single one, and predicts their placement.
fn predict(path: &Path) -> Result<(Vec<PlacementReport>, Vec<Package>)> {
    if expect(path, Expected::BundleOrPackage)? == PathKind::Bundle {
        let bundle = folder::bundle(path)?;
        let shards = bundle.manifest().shards.iter();
        let packages = shards.map(|shard| bundle.package(shard)).collect::<Result<Vec<_>, _>>()?;
        return Ok((placement::of_bundle(&bundle)?, packages));
    }
    let package = folder::package(path)?;
    Ok((vec![PlacementReport::predict(&package, None)?], vec![package]))
}

impl Floor {
    pub(crate) fn run(self) -> Result<Outcome> {
        match self.about {
            Some(About::Corpus(evidence)) => return evidence.run(),
            Some(About::Laws(laws)) => return laws.run(),
            Some(About::Accuracy(record)) => return record.run(),
            Some(About::Refit(refit)) => return refit.run(),
            Some(About::Discover(discover)) => return discover.run(),
            None => {}
        }
        if self.schema {
            output::print(&PlacementReport::schema())?;
            return Ok(Outcome::Done);
        }
        let path = self.path.clone().context("a bundle or package is missing")?;
        self.check_outputs()?;
        // Read before anything is predicted: a gate without its baseline is no gate.
        let baseline = self.baseline.as_deref().map(read_reports).transpose()?;
        let beside = match &self.measured {
            None => Vec::new(),
            Some(file) => {
                let measured = read_reports(file)?;
                let name = file.display();
                if let Some(other) = measured.iter().find(|r| r.basis != Basis::Measured) {
                    bail!("{name}: the report of {} is {}, not measured", other.package, other.basis);
                }
                measured
            }
        };
        let (predicted, packages) = predict(&path).with_context(|| path.display().to_string())?;
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
        let mut passed = true;
        if self.require.is_some() && !reports.iter().all(|r| r.verdict == Verdict::Ane && r.pass) {
            let basis = reports.first().map_or(Basis::Predicted, |r| r.basis);
            output::tell(&format!("required: everything on the ANE; {basis} otherwise"));
            passed = false;
        }
        if let Some(baseline) = baseline {
            let worse = ane_floor::regressions(&baseline, &reports);
            worse.iter().for_each(|line| output::tell(&format!("worse than the baseline: {line}")));
            passed &= worse.is_empty();
        }
        Ok(Outcome::of(passed))
    }

    /// Checked before measuring, which may take minutes.
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
            folder::check_output(option, path, &named)?;
            named.push((option, path));
        }
        Ok(())
    }
}
