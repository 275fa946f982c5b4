//! What `scripts/first-run-on-a-mac.sh` left in a folder, as one page to read.
//!
//! ```text
//! system.txt                          the machine, in its own words
//! steps/ORDER                         names of the steps, in the order in which they ran
//! steps/NAME.state                    done, failed or would-run; NAME.command and NAME.log beside it
//! results/VARIANT/floor.json          measured placement; predicted.json beside it
//! results/VARIANT/verify.json         Core ML against mil-cpu
//! results/VARIANT/bench-ENGINE.json   speed
//! results/settle-UNITS.json           forms of programs, and epsilons
//! results/conformance-UNITS.json      the conformance suite
//! results/discover-NAME/boundary.txt  a sweep, with boundary.svg
//! ```
//!
//! Whatever is missing is said to be missing: a run that stopped halfway has a page as well.

mod page;

use std::fs;
use std::path::Path;

use ane_floor::PlacementReport;
use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use page::page;

/// Lines of a failed step's log that are shown.
const LOG_LINES: usize = 12;
/// More than any of these files has.
const LIMIT: u64 = 64 << 20;

/// Everything that was found in a folder.
#[derive(Debug, Default)]
pub struct FieldReport {
    /// The machine.
    pub system: String,
    /// Steps in the order in which they ran.
    pub steps: Vec<Step>,
    /// Exported variants, by name.
    pub variants: Vec<Variant>,
    /// Answers of `microgpt settle`, by compute units.
    pub settled: Vec<(String, Value)>,
    /// Outcomes of the conformance suite, by compute units.
    pub conformance: Vec<(String, Value)>,
    /// Sweeps: name, table, picture.
    pub sweeps: Vec<(String, String, Option<String>)>,
    /// Files that could not be read as what they should be.
    pub unread: Vec<String>,
}

/// A step of the script.
#[derive(Debug)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// `done`, `failed` or `would-run`, and how long it took.
    pub state: String,
    /// The command.
    pub command: String,
    /// The end of the log, if it failed.
    pub log: String,
}

/// One exported bundle.
#[derive(Debug, Default)]
pub struct Variant {
    /// Such as `int8-per-tensor.one-hot.separate.max-scaled`.
    pub name: String,
    /// What laws say.
    pub predicted: Option<PlacementReport>,
    /// What Core ML plans.
    pub measured: Option<PlacementReport>,
    /// `microgpt verify --json`.
    pub verify: Option<Value>,
    /// `microgpt bench --json`, by engine.
    pub benches: Vec<(String, Value)>,
}

impl FieldReport {
    /// Reads a folder.
    ///
    /// # Errors
    ///
    /// If it is none that the script made.
    pub fn read(folder: &Path) -> Result<Self> {
        let steps = folder.join("steps");
        ensure!(steps.is_dir(), "{}: no first run is there (steps/)", folder.display());
        let mut report =
            Self { system: text(&folder.join("system.txt")).unwrap_or_default(), ..Self::default() };
        for name in text(&steps.join("ORDER")).unwrap_or_default().lines() {
            // A name, and no way out of the folder.
            if name.contains(['/', '\\']) {
                continue;
            }
            let beside = |end: &str| text(&steps.join(format!("{name}.{end}"))).unwrap_or_default();
            let state = beside("state");
            let log = if state.starts_with("failed") { tail(&beside("log")) } else { String::new() };
            let command = beside("command").trim().to_owned();
            report.steps.push(Step { command, log, state: state.trim().to_owned(), name: name.to_owned() });
        }
        let results = folder.join("results");
        if results.is_dir() {
            for path in entries(&results)? {
                report.add(&path)?;
            }
        }
        Ok(report)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let name = file_name(path);
        let json = name.strip_suffix(".json");
        if let Some(units) = json.and_then(|name| name.strip_prefix("settle-")) {
            let found = self.json(path);
            self.settled.extend(found.map(|found| (units.to_owned(), found)));
        } else if let Some(units) = json.and_then(|name| name.strip_prefix("conformance-")) {
            let found = self.json(path);
            self.conformance.extend(found.map(|found| (units.to_owned(), found)));
        } else if let Some(sweep) = name.strip_prefix("discover-") {
            let picture = text(&path.join("boundary.svg"));
            if let Some(table) = text(&path.join("boundary.txt")) {
                self.sweeps.push((sweep.to_owned(), table, picture));
            }
        } else if path.is_dir() {
            let one = |reports: Vec<PlacementReport>| reports.into_iter().next();
            let mut variant = Variant {
                predicted: self.json(&path.join("predicted.json")).and_then(one),
                measured: self.json(&path.join("floor.json")).and_then(one),
                verify: self.json(&path.join("verify.json")),
                name: name.clone(),
                benches: Vec::new(),
            };
            for file in entries(path)? {
                let engine = file_name(&file);
                let engine = engine.strip_prefix("bench-").and_then(|name| name.strip_suffix(".json"));
                if let Some(engine) = engine {
                    variant.benches.extend(self.json(&file).map(|found| (engine.to_owned(), found)));
                }
            }
            self.variants.push(variant);
        }
        Ok(())
    }

    /// A JSON file that may not be there; one that is something else is kept in mind.
    fn json<T: DeserializeOwned>(&mut self, path: &Path) -> Option<T> {
        let found = text(path)?;
        // A step that failed leaves an empty file.
        if found.trim().is_empty() {
            return None;
        }
        match serde_json::from_str(&found) {
            Ok(value) => Some(value),
            Err(error) => {
                self.unread.push(format!("{}: {error}", path.display()));
                None
            }
        }
    }
}

/// Paths in a folder, in the order of their names.
fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The text of a file, if it is one, and not too large.
fn text(path: &Path) -> Option<String> {
    let found = path.metadata().ok().filter(|found| found.is_file() && found.len() <= LIMIT);
    found.and_then(|_| fs::read(path).ok()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
