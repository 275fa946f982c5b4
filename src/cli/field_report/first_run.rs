//! Reads the results that `scripts/first-run-on-a-mac.sh` wrote to a folder, and makes one page of them.
//!
//! ```text
//! system.txt                          description of the machine
//! steps/ORDER                         names of the steps, in the order in which they ran
//! steps/NAME.state                    done, failed or would-run; NAME.command and NAME.log beside it
//! results/VARIANT/floor.json          measured placement; predicted.json beside it
//! results/VARIANT/verify.json         Core ML compared with mil-cpu
//! results/VARIANT/bench-ENGINE.json   speed
//! results/settle-UNITS.json           forms of programs, and epsilons
//! results/conformance-UNITS.json      the conformance suite
//! results/discover-NAME/boundary.txt  a sweep, with boundary.svg
//! ```
//!
//! Files may be missing: a run that stopped halfway has a page as well.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use ane_floor::{Basis, PlacementReport};
use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Lines of a failed step's log that the page shows.
const LOG_LINES: usize = 12;
/// Bytes at the end of a log that are searched for these lines.
const LOG_END: usize = 16 << 10;
/// Size limits of one of these files, and of all of them together, in bytes.
const LIMIT: u64 = 4 << 20;
const TOTAL: u64 = 256 << 20;

/// The contents of a folder.
#[derive(Debug, Default)]
pub(crate) struct FirstRun {
    /// The machine.
    pub(crate) system: String,
    /// Steps in the order in which they ran.
    pub(crate) steps: Vec<Step>,
    /// Exported variants, by name.
    pub(crate) variants: Vec<Variant>,
    /// Answers of `microgpt settle`, by compute units.
    pub(crate) settled: Vec<(String, Value)>,
    /// Results of the conformance suite, by compute units.
    pub(crate) conformance: Vec<(String, Value)>,
    /// Sweeps over the sizes of decoders.
    pub(crate) sweeps: Vec<Sweep>,
    /// Files that could not be read, with the reason.
    pub(crate) unread: Vec<String>,
    /// Remaining bytes of the total size limit.
    left: u64,
}

/// A step of the script.
#[derive(Debug)]
pub(crate) struct Step {
    /// Name of the step.
    pub(crate) name: String,
    /// `done`, `failed` or `would-run`, and the time that it took.
    pub(crate) state: String,
    /// The command.
    pub(crate) command: String,
    /// The end of the log, if it failed.
    pub(crate) log: String,
}

/// A sweep of `microgpt floor discover`.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// Such as `floor`.
    pub(crate) name: String,
    /// The boundary as text.
    pub(crate) table: String,
    /// The boundary as SVG.
    pub(crate) picture: Option<String>,
}

/// One exported bundle.
#[derive(Debug, Default)]
pub(crate) struct Variant {
    /// Such as `int8-per-tensor.one-hot.separate.max-scaled`.
    pub(crate) name: String,
    /// The laws' prediction.
    pub(crate) predicted: Option<PlacementReport>,
    /// Core ML's plan.
    pub(crate) measured: Option<PlacementReport>,
    /// `microgpt verify --json`.
    pub(crate) verify: Option<Value>,
    /// `microgpt bench --json`, by engine.
    pub(crate) benches: Vec<(String, Value)>,
}

impl FirstRun {
    /// Reads a folder.
    ///
    /// # Errors
    ///
    /// If the script did not make the folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let steps = folder.join("steps");
        ensure!(steps.is_dir(), "{}: no first run is there (steps/)", folder.display());
        let mut report = Self { left: TOTAL, ..Self::default() };
        report.system = report.text(&folder.join("system.txt")).unwrap_or_default();
        let order = report.text(&steps.join("ORDER")).unwrap_or_default();
        let mut known = HashSet::new();
        for name in order.lines() {
            // Each name once, and no path out of the folder.
            if name.contains(['/', '\\']) || !known.insert(name) {
                continue;
            }
            let mut beside =
                |end: &str| report.text(&steps.join(format!("{name}.{end}"))).unwrap_or_default();
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
            let found: Option<Value> = self.json(path);
            let fits = |found: &Value| {
                found["packages"].is_number() && found["failures"].is_array() && found["refused"].is_array()
            };
            match found {
                Some(found) if fits(&found) => self.conformance.push((units.to_owned(), found)),
                Some(_) => self.unread.push(format!("{}: not a result of the suite", path.display())),
                None => {}
            }
        } else if let Some(sweep) = name.strip_prefix("discover-") {
            let picture = self.text(&path.join("boundary.svg"));
            if let Some(table) = self.text(&path.join("boundary.txt")) {
                self.sweeps.push(Sweep { name: sweep.to_owned(), table, picture });
            }
        } else if path.is_dir() {
            let mut variant = Variant {
                predicted: self.report(&path.join("predicted.json"), Basis::Predicted),
                measured: self.report(&path.join("floor.json"), Basis::Measured),
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

    /// Reads a report, which may be missing; it must have this basis and be consistent.
    fn report(&mut self, path: &Path, basis: Basis) -> Option<PlacementReport> {
        let report = self.json::<Vec<PlacementReport>>(path)?.into_iter().next()?;
        let wrong = match report.check() {
            Ok(()) if report.basis == basis => return Some(report),
            Ok(()) => format!("it is {}, not {basis}", report.basis),
            Err(error) => error.to_string(),
        };
        self.unread.push(format!("{}: {wrong}", path.display()));
        None
    }

    /// Reads a regular file of this folder within the size limits. Links are not followed: the page is made
    /// to be sent.
    fn text(&mut self, path: &Path) -> Option<String> {
        let found = path.symlink_metadata().ok().filter(fs::Metadata::is_file)?;
        if found.len() > LIMIT.min(self.left) {
            self.unread.push(format!("{}: {} bytes are too many", path.display(), found.len()));
            return None;
        }
        self.left -= found.len();
        fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads a JSON file, which may be missing. A file of another format is listed as unread.
    fn json<T: DeserializeOwned>(&mut self, path: &Path) -> Option<T> {
        let found = self.text(path)?;
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

/// Returns the paths in a folder, sorted by name.
fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the last lines of a log.
fn tail(log: &str) -> String {
    let mut from = log.len().saturating_sub(LOG_END);
    while !log.is_char_boundary(from) {
        from += 1;
    }
    let lines: Vec<&str> = log[from..].lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
