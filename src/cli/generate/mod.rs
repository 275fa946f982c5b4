//! `microgpt generate`

mod text_printer;

use std::path::PathBuf;
use std::time::Instant;

use ane_runtime::{Decoder, FinishReason, Generation, LogitsSource, Sampler, TextTokenizer};
use anyhow::{Result, ensure};
use clap::Args;
use microgpt_ane::BurnReference;
use microgpt_model::Backend;
use serde::Serialize;

use self::text_printer::TextPrinter;
use super::engine::EngineArgs;
use super::expected::{Expected, expect};
use super::generation::{SamplingArgs, at_least_one, context_is_full};
use super::path_kind::PathKind;
use super::{Exit, open, output};

/// Complete a prompt with a bundle, or with burn's reference if the path is a checkpoint.
#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// A bundle, or a checkpoint to run with burn
    #[arg(value_name = "BUNDLE|CKPT")]
    model: PathBuf,
    /// The beginning of each text
    #[arg(long, default_value = "")]
    prompt: String,
    /// Number of texts; a line `---` separates two texts if one of them has several lines
    #[arg(short, default_value_t = 5, value_parser = at_least_one)]
    n: usize,
    /// Limit of the tokens added to each prompt [default: what the context holds]
    #[arg(long, value_parser = at_least_one)]
    max_tokens: Option<usize>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Print a JSON object: the texts, why each ended, the number of tokens, and tokens/s
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Generated {
    engine: String,
    texts: Vec<String>,
    /// Why each text ended.
    ended: Vec<&'static str>,
    tokens: usize,
    seconds: f64,
    tokens_per_second: f64,
}

impl Generate {
    pub(crate) fn run(self) -> Result<Exit> {
        let sampling = self.sampling.sampling()?;
        let (mut source, tokenizer) = self.open()?;
        let mut sampler = Sampler::new(sampling, self.sampling.seed)?;
        let limit = self.max_tokens.unwrap_or(usize::MAX);
        let started = Instant::now();
        let (mut texts, mut ended, mut tokens) = (Vec::new(), Vec::new(), 0);
        let mut printer = TextPrinter::new(tokenizer.encode("\n").is_ok());
        for _ in 0..self.n {
            let mut generation =
                Generation::new(source.as_mut(), &tokenizer, &mut sampler, &self.prompt, limit)?;
            let mut text = self.prompt.clone();
            if !self.json {
                printer.begin(&self.prompt)?;
            }
            for piece in generation.by_ref() {
                let piece = piece?;
                if !self.json {
                    printer.add(&piece)?;
                }
                text.push_str(&piece);
            }
            tokens += generation.tokens();
            ended.push(generation.finished().unwrap_or(FinishReason::Limit));
            if self.json {
                texts.push(text);
            } else {
                printer.end()?;
            }
        }
        if self.json {
            let seconds = started.elapsed().as_secs_f64();
            let tokens_per_second = tokens as f64 / seconds;
            output::print_json(&Generated {
                engine: source.name(),
                texts,
                ended: ended.iter().map(|reason| reason.name()).collect(),
                tokens,
                seconds,
                tokens_per_second,
            })?;
        }
        let full = ended.iter().filter(|reason| **reason == FinishReason::ContextFull).count();
        if full > 0 {
            output::tell(&context_is_full(full, self.n, source.context_length()));
        }
        Ok(Exit::Done)
    }

    fn open(&self) -> Result<(Box<dyn LogitsSource>, TextTokenizer)> {
        if expect(&self.model, Expected::BundleOrCheckpoint)? == PathKind::Checkpoint {
            ensure!(
                !self.engine.given(),
                "{} is a checkpoint, which burn runs: engines are for bundles",
                self.model.display()
            );
            let checkpoint = open::checkpoint(&self.model)?;
            let tokenizer =
                TextTokenizer::from_json(&checkpoint.tokenizer().to_json(), checkpoint.tokenizer().bos())?;
            return Ok((
                Box::new(BurnReference::from_checkpoint(&checkpoint, Backend::default())?),
                tokenizer,
            ));
        }
        let bundle = open::bundle(&self.model)?;
        let decoder = Decoder::load(&bundle, &*self.engine.decoding()?.engine()?)?;
        Ok((Box::new(decoder), TextTokenizer::from_bundle(&bundle)?))
    }
}
