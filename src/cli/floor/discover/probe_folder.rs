//! A folder of probes: written on any machine, and measured on a Mac.

use std::fs;
use std::path::Path;

use ane_export::Quantization;
use ane_floor::Basis;
use ane_floor::discovery::{Configuration, Discovery, Probe, Sweep};
use ane_floor::measured::measure;
use anyhow::{Context as _, Result, ensure};
use mlpackage::{Package, counted};

use super::super::report_file::read_text;
use super::Discover;
use crate::cli::{Exit, out_file, output};

/// All measured rows of a folder of probes.
pub(super) const ROWS: &str = "measured.jsonl";
/// The same while measuring is in progress: rows of an earlier measurement stay until the new one is complete.
const UNFINISHED_ROWS: &str = "measured.unfinished.jsonl";
/// The script that measures a folder of probes on a Mac.
const MEASURE: &str = include_str!("../measure.sh");
/// Limit of the size of a folder of probes, in bytes, unless the widths are given.
const PROBES_LIMIT: u64 = 8 << 30;

impl Discover {
    /// Measures every probe in a folder that `--write-only` wrote. After each probe the rows are written to a
    /// separate file until all are complete, so a crash costs only the current probe, and no rows of an
    /// earlier measurement. A probe that fails is reported and skipped.
    pub(super) fn measure_folder(&self, folder: &Path) -> Result<Exit> {
        out_file::check_outside_models("--measure", &folder.join(ROWS))?;
        let list = folder.join("probes.jsonl");
        let text = read_text(&list)?;
        let mut configurations: Vec<Configuration> = Vec::new();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let read = serde_json::from_str(line);
            configurations.push(read.with_context(|| format!("{}: line {}", list.display(), i + 1))?);
        }
        ensure!(!configurations.is_empty(), "{}: it lists no probe", list.display());
        let bar = output::progress_bar(configurations.len(), "packages");
        let mut probes = Vec::new();
        let mut failed = 0;
        for configuration in &configurations {
            bar.set_message(configuration.to_string());
            // The list is untrusted: only packages inside the folder may be read.
            configuration.quantization.parse::<Quantization>()?;
            let path = folder.join(format!("{}.mlpackage", configuration.id()));
            let package = Package::open(&path)?;
            match measure(&package) {
                Ok(report) => probes.push(Probe::new(configuration, &report, None)),
                Err(error @ ane_floor::Error::NeedsMac { .. }) => return Err(error.into()),
                Err(error) => {
                    failed += 1;
                    output::tell(&format!("{}: {error}", path.display()));
                }
            }
            let rows: String = probes.iter().map(Probe::row_text).collect();
            atomic_output::write_file(folder.join(UNFINISHED_ROWS), &rows)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.publish(&Discovery::of_probes(Basis::Measured, probes), Some(folder), ROWS)?;
        // The finished rows contain all of it, so a failure to remove it is harmless.
        let _ = fs::remove_file(folder.join(UNFINISHED_ROWS));
        Ok(Exit::of(failed == 0))
    }

    /// Writes every probe, a list of them, and the script.
    pub(super) fn write_only(&self, sweep: &Sweep, out: &Path) -> Result<Exit> {
        let mut entries = fs::read_dir(out).with_context(|| format!("read {}", out.display()))?;
        ensure!(
            entries.next().is_none(),
            "{}: the folder is not empty, and probes of another sweep would be mixed with these: name a new folder",
            out.display()
        );
        let configurations: Vec<Configuration> = sweep.configurations().collect();
        let bytes = |c: &Configuration| {
            let width = if c.quantization == Quantization::None.name() { 2 } else { 1 };
            self.config(c).parameters() * width
        };
        let total: u64 = configurations.iter().map(bytes).sum();
        ensure!(
            total <= PROBES_LIMIT || !self.n_embd.is_empty(),
            "the probes would take {:.1} GB: name fewer layers, tokens or forms, or give --n-embd",
            total as f64 / 1e9
        );
        let bar = output::progress_bar(configurations.len(), "packages");
        let mut list = String::new();
        for configuration in &configurations {
            bar.set_message(configuration.to_string());
            self.write_probe(configuration, &out.join(format!("{}.mlpackage", configuration.id())))?;
            list.push_str(&serde_json::to_string(configuration)?);
            list.push('\n');
            bar.inc(1);
        }
        bar.finish_and_clear();
        atomic_output::write_file(out.join("probes.jsonl"), &list)?;
        let script = out.join("measure.sh");
        atomic_output::write_file(&script, MEASURE)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("make {} executable", script.display()))?;
        }
        output::print(&format!(
            "{}, about {:.0} MB, in {}; on a Mac: {}\n",
            counted(configurations.len(), "package"),
            total as f64 / 1e6,
            out.display(),
            script.display()
        ))?;
        Ok(Exit::Done)
    }
}
