//! `microgpt floor discover`: repeats the experiment over many sizes.

mod boundary_picture;
mod probe_folder;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ane_export::{ExportOptions, Quantization, write_probe};
use ane_floor::PlacementReport;
use ane_floor::discovery::{Configuration, Discovery, Sweep, search};
use ane_floor::laws::{AnchorAndWork, Floor, Law as _};
use ane_floor::measured::measure;
use anyhow::{Context as _, Result, ensure};
use atomic_output::AtomicFile;
use clap::{Args, ValueEnum};
use microgpt_model::{GptConfig, MODEL_TYPE};
use mlpackage::{Package, counted};

use self::probe_folder::ROWS;
use crate::cli::{Exit, out_file, output};

/// Search for the floor: export decoders of many sizes, place each, and find the boundary between CPU and
/// Neural Engine
#[derive(Debug, Args)]
pub(super) struct Discover {
    /// Folder for the rows, the table and the picture; with --write-only, for the probes
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// What determines where a package is placed
    #[arg(long, value_enum, default_value = "predicted")]
    oracle: Oracle,
    /// Use the verdict of one law instead of the combined one: floor or anchor-and-work, which apply to
    /// decoders of any size
    #[arg(long, value_name = "LAW", conflicts_with = "write_only")]
    law: Option<String>,
    /// Write the packages and a script that measures them on a Mac; place nothing
    #[arg(long, requires = "out", conflicts_with_all = ["exhaustive", "oracle"])]
    write_only: bool,
    /// On a Mac, measure the probes that --write-only wrote to this folder, and write their rows there
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["out", "oracle", "law", "write_only", "exhaustive", "n_layer", "n_embd", "tokens", "quantize", "block_size", "vocab_size"])]
    measure: Option<PathBuf>,
    /// Probe every width instead of bisecting
    #[arg(long)]
    exhaustive: bool,
    /// Layers
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,3,4,6,8")]
    n_layer: Vec<usize>,
    /// Widths [default: every multiple of 32 up to 1536; with --write-only, eight widths from 64 to 1024]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    n_embd: Vec<usize>,
    /// Tokens per call
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,4,16,64")]
    tokens: Vec<usize>,
    /// Forms of the weights
    #[arg(
        long,
        value_name = "FORM,...",
        value_delimiter = ',',
        default_value = "none,int8-per-tensor,int8-per-channel"
    )]
    quantize: Vec<String>,
    /// Positions of the context
    #[arg(long, value_name = "N", default_value_t = 64)]
    block_size: usize,
    /// Tokens of the vocabulary
    #[arg(long, value_name = "N", default_value_t = 27)]
    vocab_size: usize,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Oracle {
    /// The laws, on any machine
    Predicted,
    /// Core ML's MLComputePlan, on a Mac
    Measured,
}

/// Removes duplicates; keeps the order.
fn distinct<T: Clone + PartialEq>(values: &[T]) -> Vec<T> {
    let mut found: Vec<T> = Vec::new();
    values.iter().for_each(|value| {
        if !found.contains(value) {
            found.push(value.clone());
        }
    });
    found
}

impl Discover {
    fn sweep(&self) -> Result<Sweep> {
        let mut n_embd = match (self.n_embd.as_slice(), self.write_only) {
            ([], false) => (1..=48).map(|i| 32 * i).collect(),
            ([], true) => vec![64, 128, 256, 384, 512, 640, 768, 1024],
            (given, _) => given.to_vec(),
        };
        n_embd.sort_unstable();
        n_embd.dedup();
        for name in &self.quantize {
            name.parse::<Quantization>()?;
        }
        let sweep = Sweep {
            n_embd,
            n_layer: distinct(&self.n_layer),
            tokens: distinct(&self.tokens),
            quantization: distinct(&self.quantize),
        };
        for configuration in sweep.configurations() {
            self.config(&configuration).validate().with_context(|| configuration.to_string())?;
            let tokens = configuration.tokens;
            let block_size = self.block_size;
            ensure!(
                (1..=block_size).contains(&tokens),
                "{} per call, expected 1 to the {block_size} of the context: --block-size allows more",
                counted(tokens, "token")
            );
        }
        Ok(sweep)
    }

    fn config(&self, configuration: &Configuration) -> GptConfig {
        let n_embd = configuration.n_embd;
        // Heads as wide as those of Experiment 27's scaled shard, if the width allows.
        let head_dim = [64, 32, 16].into_iter().find(|d| n_embd.is_multiple_of(*d)).unwrap_or(n_embd.max(1));
        GptConfig {
            model_type: MODEL_TYPE.to_owned(),
            vocab_size: self.vocab_size,
            n_embd,
            n_head: (n_embd / head_dim).max(1),
            n_layer: configuration.n_layer,
            block_size: self.block_size,
            rms_norm_eps: 1e-5,
        }
    }

    fn write_probe(&self, configuration: &Configuration, path: &Path) -> Result<()> {
        let options = ExportOptions::default().with_quantization(configuration.quantization.parse()?);
        write_probe(&self.config(configuration), &options, configuration.tokens, path)
            .with_context(|| configuration.to_string())
    }

    pub(super) fn run(self) -> Result<Exit> {
        if let Some(folder) = &self.measure {
            return self.measure_folder(folder);
        }
        let sweep = self.sweep()?;
        ensure!(
            sweep.configurations().next().is_some(),
            "nothing to sweep: give layers, widths, tokens and forms"
        );
        if let Some(law) = &self.law {
            let known = [Floor::OF_SHARDS.card().name, AnchorAndWork::NAME];
            ensure!(known.contains(&law.as_str()), "--law {law}: expected one of {}", known.join(", "));
        }
        if self.oracle == Oracle::Measured && !cfg!(target_os = "macos") {
            return Err(ane_floor::Error::NeedsMac { what: "MLComputePlan" }.into());
        }
        if let Some(out) = &self.out {
            out_file::check_outside_models("--out", &out.join(ROWS))?;
            fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
        }
        if self.write_only {
            let out = self.out.as_deref().context("--write-only needs --out")?;
            return self.write_only(&sweep, out);
        }
        let begun = Instant::now();
        let dir = tempfile::tempdir().context("make a temporary folder for the probes")?;
        let path = dir.path().join("probe.mlpackage");
        let lines = sweep.lines().count();
        let bar = output::progress_bar(0, "packages");
        let found = search(
            &sweep,
            self.exhaustive,
            self.law.as_deref(),
            |configuration| -> Result<PlacementReport> {
                bar.inc(1);
                bar.set_message(configuration.to_string());
                self.write_probe(configuration, &path)?;
                let package = Package::open(&path)?;
                match self.oracle {
                    Oracle::Predicted => Ok(PlacementReport::predict(&package, None)?),
                    Oracle::Measured => Ok(measure(&package)?),
                }
            },
        )?;
        bar.finish_and_clear();
        self.publish(&found, self.out.as_deref(), "rows.jsonl")?;
        output::tell(&format!("{}, {:.1} s", counted(lines, "line"), begun.elapsed().as_secs_f64()));
        Ok(Exit::Done)
    }

    /// Prints the result, and writes rows, table and picture to a folder.
    fn publish(&self, found: &Discovery, out: Option<&Path>, rows: &str) -> Result<()> {
        let table = found.to_string();
        if let Some(out) = out {
            let mut json = serde_json::to_string_pretty(found)?;
            json.push('\n');
            let svg = boundary_picture::draw(found).map_err(|e| anyhow::anyhow!("draw the boundary: {e}"))?;
            let (text, svg) = (found.rows(), svg.as_str());
            let files = [
                (rows, text.as_str()),
                ("boundary.txt", &table),
                ("discovery.json", &json),
                ("boundary.svg", svg),
            ];
            write_set(out, &files)?;
        }
        match self.json {
            true => output::print_json(found),
            false => output::print(&table),
        }
    }
}

/// Writes files that belong together into a folder.
fn write_set(folder: &Path, files: &[(&str, &str)]) -> Result<()> {
    let staged: Result<Vec<AtomicFile>> = files
        .iter()
        .map(|(name, text)| {
            let path = folder.join(name);
            let mut file = AtomicFile::create(&path)?;
            file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))?;
            Ok(file)
        })
        .collect();
    Ok(atomic_output::commit_all(staged?)?)
}
