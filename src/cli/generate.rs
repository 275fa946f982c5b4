//! `microgpt generate`

use std::path::PathBuf;
use std::time::Instant;

use ane_runtime::{Decoder, FinishReason, Generation, LogitsSource, Sampler, Sampling, TextTokenizer};
use anyhow::{Result, ensure};
use clap::Args;
use microgpt_ane::BurnReference;
use microgpt_model::Backend;
use serde::Serialize;

use super::engine::EngineArgs;
use super::expected::{Expected, expect};
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
    /// Number of texts; if texts may have several lines, a line `---` separates two texts of which one has
    /// several
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

/// How tokens are chosen.
#[derive(Debug, Args)]
pub(super) struct SamplingArgs {
    /// Values below 1 make likely tokens likelier, values above 1 less likely; 0 always chooses the most
    /// likely token
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw from the K most likely tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the smallest set of most likely tokens whose total probability is at least P
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Seed; the same seed produces the same texts
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
        let mut sampler = Sampler::new(sampling, self.sampling.seed);
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
                ended: ended.iter().map(|reason| name_of(*reason)).collect(),
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

/// Explains that texts end because the context is full, not where the model would have ended them.
pub(super) fn context_is_full(texts: usize, of: usize, context_length: usize) -> String {
    let which = match (texts, of) {
        (1, 1) => "the text ends".to_owned(),
        (1, _) => format!("1 of {of} texts ends"),
        _ => format!("{texts} of {of} texts end"),
    };
    format!(
        "note: {which} because the context of {context_length} tokens is full, perhaps in mid-word; a model that is trained with \
         --block-size {} writes longer texts",
        2 * context_length
    )
}

fn name_of(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::EndOfDocument => "end",
        FinishReason::Limit => "limit",
        FinishReason::ContextFull => "context-full",
    }
}

/// Parses an integer of at least 1.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("there is nothing to do; give at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected an integer of at least 1".to_owned()),
    }
}

/// Prints texts as they are generated, one per line. If one of two neighbouring texts has several lines, a
/// separator is printed between them.
struct TextPrinter {
    /// Whether a text may have several lines at all.
    may_break: bool,
    /// Number of texts printed.
    printed: usize,
    /// Whether the previous text had several lines.
    before_broke: bool,
    broke: bool,
    /// The beginning of a text, held back until it is known whether it has several lines.
    held: Option<String>,
}

/// Separates two texts of which one has several lines.
const SEPARATOR: &str = "---\n";

impl TextPrinter {
    fn new(may_break: bool) -> Self {
        Self { may_break, printed: 0, before_broke: false, broke: false, held: None }
    }

    fn begin(&mut self, prompt: &str) -> Result<()> {
        self.broke = false;
        if self.before_broke {
            output::print(SEPARATOR)?;
        } else if self.may_break && self.printed > 0 {
            self.held = Some(String::new());
        }
        self.add(prompt)
    }

    fn add(&mut self, piece: &str) -> Result<()> {
        self.broke |= piece.contains('\n');
        match &mut self.held {
            Some(held) if !self.broke => held.push_str(piece),
            held => {
                if let Some(held) = held.take() {
                    output::print(SEPARATOR)?;
                    output::print(&held)?;
                }
                output::print(piece)?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if let Some(held) = self.held.take() {
            output::print(&held)?;
        }
        self.before_broke = self.broke;
        self.printed += 1;
        output::print("\n")
    }
}
