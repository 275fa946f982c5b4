//! Reads the reports and corpora that the user names.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ane_floor::{Basis, PlacementReport};
use anyhow::{Context as _, Result, bail, ensure};

/// Size limit of a report or corpus, in bytes.
const LIMIT: u64 = 256 << 20;

/// Reads a text file that the user names, within the size limit.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let name = path.display();
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("open {name}"))?;
    file.take(LIMIT + 1).read_to_string(&mut text).with_context(|| format!("read {name}"))?;
    ensure!(text.len() as u64 <= LIMIT, "{name}: more than {LIMIT} bytes");
    ensure!(!text.trim().is_empty(), "{name}: it is empty");
    Ok(text)
}

/// Reads reports that `--json` printed earlier: a list, or a single object.
pub(super) fn read_reports(path: &Path) -> Result<Vec<PlacementReport>> {
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

/// Reads the reports of a measurement.
pub(super) fn read_measured(path: &Path) -> Result<Vec<PlacementReport>> {
    let measured = read_reports(path)?;
    let name = path.display();
    if let Some(other) = measured.iter().find(|report| report.basis != Basis::Measured) {
        bail!("{name}: the report of {} is {}, not measured", other.package, other.basis);
    }
    Ok(measured)
}
