//! Trains a model, exports it, predicts where it would run, and chats with the exported program. No argument
//! is needed:
//!
//! ```text
//! cargo run --release --example chat
//! cargo run --release --example chat -- --bundle DIR
//! ```

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use indicatif::ProgressBar;
use microgpt_ane::ane_bundle::Bundle;
use microgpt_ane::ane_export::ExportOptions;
use microgpt_ane::ane_floor::PlacementReport;
use microgpt_ane::ane_runtime::chat::ChatSession;
use microgpt_ane::ane_runtime::core_ml::LoadObserver;
use microgpt_ane::ane_runtime::{
    Decoder, Engine, EngineKind, EngineOptions, LogitsSource as _, Sampler, Sampling, TextTokenizer,
};
use microgpt_ane::export;
use microgpt_ane::microgpt_model::{
    Backend, Checkpoint, Corpus, GptConfig, Preset, Progress, TrainingConfig, train,
};

/// Chat with a small GPT: type the beginning of a name.
#[derive(Parser)]
struct Args {
    /// Chat with this bundle instead of training one
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Engine: auto (Core ML on a Mac, mil-cpu elsewhere), coreml or mil-cpu
    #[arg(long, default_value_t)]
    engine: EngineKind,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let tell: LoadObserver = Arc::new(|step| eprintln!("{step}"));
    let engine = EngineOptions::default().with_kind(args.engine).with_observer(tell);
    // Created before training, because the engine may not exist on this machine.
    let made = engine.engine()?;
    let scratch = tempfile::tempdir()?;
    let path = match args.bundle {
        Some(path) => path,
        None => train_and_export(scratch.path())?,
    };

    let bundle = Bundle::open(&path)?;
    for shard in &bundle.manifest().shards {
        let architecture = &bundle.manifest().architecture;
        print!("{}", PlacementReport::predict(&bundle.package(shard)?, Some(architecture))?);
    }
    let tokenizer = TextTokenizer::from_bundle(&bundle)?;
    let mut decoder = match tried(&bundle, &*made) {
        Err(error) if args.engine == EngineKind::Auto => {
            eprintln!("{error}; running on mil-cpu instead");
            tried(&bundle, &engine.mil_cpu())?
        }
        decoder => decoder?,
    };
    println!("\nRunning on {}. Type the beginning of a name; /help for help, /quit to end.", decoder.name());
    let sampler = Sampler::new(Sampling::Temperature { temperature: 0.5 }, 42)?;
    let mut session = ChatSession::new(&mut decoder, &tokenizer, sampler, 3);
    let prompt = if io::stdin().is_terminal() { "> " } else { "" };
    let summary = session.run(io::stdin().lock(), io::stdout().lock(), prompt)?;
    if let Some(speed) = summary.tokens_per_second() {
        println!("{} completions, {} tokens, {speed:.0} tokens/s", summary.completions, summary.tokens);
    }
    Ok(())
}

/// Returns a decoder that has decoded a token: some models load, but then fail to run.
fn tried(bundle: &Bundle, engine: &dyn Engine) -> microgpt_ane::ane_runtime::Result<Decoder> {
    let mut decoder = Decoder::load(bundle, engine)?;
    decoder.step(0)?;
    decoder.reset();
    Ok(decoder)
}

/// Trains the original microGPT on the built-in corpus and exports it: a second or two.
fn train_and_export(folder: &Path) -> Result<PathBuf> {
    let corpus = Corpus::built_in();
    let training = TrainingConfig::preset(Preset::Original);
    println!("Training {} steps on {} names ...", training.steps, corpus.documents().len());
    let bar = ProgressBar::new(training.steps as u64);
    let trained = train(
        &corpus,
        |v| GptConfig::preset(Preset::Original, v),
        &training,
        |progress| {
            if let Progress::Step(metrics) = progress {
                bar.set_position(metrics.step as u64);
            }
        },
    )?;
    bar.finish_and_clear();
    let report = &trained.report;
    println!(
        "{} parameters, training loss {:.2}, held-out loss {:.2}, {:.1} s",
        trained.config.parameters(),
        report.train_loss,
        report.held_out_loss.unwrap_or(f32::NAN),
        report.seconds
    );

    let (checkpoint, bundle) = (folder.join("checkpoint"), folder.join("bundle"));
    Checkpoint::write(&checkpoint, &trained.config, &trained.tokenizer, &trained.weights, Some(report))?;
    let checkpoint = Checkpoint::open(&checkpoint)?;
    export(&checkpoint, &bundle, &ExportOptions::default(), Some(Backend::default()))?;
    Ok(bundle)
}
