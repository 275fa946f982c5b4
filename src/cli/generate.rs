//! `microgpt generate`

use std::path::PathBuf;
use std::time::Instant;

use ane_runtime::{Decoder, Generation, LogitsSource, Sampler, Sampling, TextTokenizer};
use anyhow::{Result, ensure};
use clap::Args;
use microgpt_ane::reference::BurnReference;
use microgpt_model::Backend;
use serde::Serialize;

use super::engine::EngineArgs;
use super::{Outcome, folder, output};

/// Complete a prompt with a bundle, or with burn's reference if a checkpoint is given.
#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// A bundle, or a checkpoint to run with burn
    #[arg(value_name = "BUNDLE|CKPT")]
    model: PathBuf,
    /// The beginning of each text
    #[arg(long, default_value = "")]
    prompt: String,
    /// How many texts
    #[arg(short, default_value_t = 5)]
    n: usize,
    /// At most so many tokens are added to each prompt [default: what the context holds]
    #[arg(long)]
    max_tokens: Option<usize>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Print a JSON object: the texts, the number of tokens, tokens/s
    #[arg(long)]
    json: bool,
}

/// How tokens are chosen.
#[derive(Debug, Args)]
pub(super) struct SamplingArgs {
    /// Sharper below 1, wilder above; 0 takes the most likely token every time
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw from the K most likely tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the fewest most likely tokens that together have at least probability P
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Seed: the same one gives the same texts
    #[arg(long, default_value_t = 42)]
    pub(super) seed: u64,
}

impl SamplingArgs {
    pub(super) fn sampling(&self) -> ane_runtime::Result<Sampling> {
        Sampling::from_options(self.temperature, self.top_k, self.top_p)
    }
}

#[derive(Serialize)]
struct Generated {
    engine: String,
    texts: Vec<String>,
    tokens: usize,
    seconds: f64,
    tokens_per_second: f64,
}

impl Generate {
    pub(crate) fn run(self) -> Result<Outcome> {
        let sampling = self.sampling.sampling()?;
        let (mut source, tokenizer) = self.open()?;
        let mut sampler = Sampler::new(sampling, self.sampling.seed);
        let limit = self.max_tokens.unwrap_or(usize::MAX);
        let started = Instant::now();
        let (mut texts, mut tokens) = (Vec::new(), 0);
        for _ in 0..self.n {
            let mut generation =
                Generation::new(source.as_mut(), &tokenizer, &mut sampler, &self.prompt, limit)?;
            let mut text = self.prompt.clone();
            if !self.json {
                output::print(&self.prompt)?;
            }
            for piece in generation.by_ref() {
                let piece = piece?;
                if !self.json {
                    output::print(&piece)?;
                }
                text.push_str(&piece);
            }
            tokens += generation.tokens();
            if self.json {
                texts.push(text);
            } else {
                output::print("\n")?;
            }
        }
        if self.json {
            let seconds = started.elapsed().as_secs_f64();
            let tokens_per_second = tokens as f64 / seconds;
            output::print_json(&Generated {
                engine: source.name(),
                texts,
                tokens,
                seconds,
                tokens_per_second,
            })?;
        }
        Ok(Outcome::Done)
    }

    fn open(&self) -> Result<(Box<dyn LogitsSource>, TextTokenizer)> {
        if folder::is_checkpoint(&self.model) {
            ensure!(
                !self.engine.given(),
                "{} is a checkpoint, which burn runs: engines are for bundles",
                self.model.display()
            );
            let checkpoint = folder::checkpoint(&self.model)?;
            let tokenizer =
                TextTokenizer::from_json(&checkpoint.tokenizer().to_json(), checkpoint.tokenizer().bos())?;
            return Ok((
                Box::new(BurnReference::from_checkpoint(&checkpoint, Backend::default())?),
                tokenizer,
            ));
        }
        let bundle = folder::bundle(&self.model)?;
        let decoder = Decoder::load(&bundle, &*self.engine.decoding()?.engine()?)?;
        Ok((Box::new(decoder), TextTokenizer::from_bundle(&bundle)?))
    }
}
