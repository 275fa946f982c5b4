//! Options of `microgpt train` that define a run, and the configurations that they make.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use microgpt_model::{Backend, Corpus, GptConfig, Preset, Schedule, Tokenizer, TrainingConfig};

/// Every option that defines a run, which a resumed run has stored already.
pub(super) const RUN_OPTIONS: &[&str] = &[
    "out",
    "preset",
    "init",
    "n_embd",
    "n_head",
    "n_layer",
    "block_size",
    "packed",
    "tokenizer",
    "vocab_size",
    "held_out",
    "no_shuffle",
    "seed",
    "batch_size",
    "accumulate",
    "learning_rate",
    "schedule",
    "warmup",
    "weight_decay",
    "dropout",
    "clip_norm",
    "evaluate_every",
    "keep_best",
    "patience",
    "init_std",
    "backend",
    "devices",
];

/// Options of the model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelOptions {
    /// Dimensions and recipe: original (16 dimensions, 1 layer), scaled (512, 6) or compact (128, 4)
    #[arg(long, value_enum, default_value = "original")]
    preset: PresetArg,
    /// Begin with the weights, dimensions and tokenizer of this checkpoint, this program's or PyTorch's,
    /// instead of random weights
    #[arg(long, value_name = "CKPT", conflicts_with_all = ["n_embd", "n_head", "n_layer", "block_size", "tokenizer", "vocab_size", "init_std"])]
    pub(super) init: Option<PathBuf>,
    /// Width, instead of the preset's
    #[arg(long)]
    n_embd: Option<usize>,
    /// Attention heads, instead of the preset's
    #[arg(long)]
    n_head: Option<usize>,
    /// Layers, instead of the preset's
    #[arg(long)]
    n_layer: Option<usize>,
    /// Context length in tokens [default: the preset's, or what the documents of --data need, up to 256; 128
    /// for running text]
    #[arg(long, value_name = "TOKENS")]
    pub(super) block_size: Option<usize>,
    /// Standard deviation of the initial weights [default: 0.08 for original, 0.02 for scaled and compact]
    #[arg(long, allow_negative_numbers = true)]
    init_std: Option<f32>,
}

/// Options of the training text.
#[derive(Debug, Args)]
#[command(next_help_heading = "Text")]
pub(super) struct DataOptions {
    /// A UTF-8 file with one document per line [default: the built-in corpus of given names]
    #[arg(long, value_name = "FILE")]
    pub(super) data: Option<PathBuf>,
    /// The file is running text: train on windows as long as the context
    #[arg(long, requires = "data")]
    pub(super) packed: bool,
    /// The unit of text that a token represents
    #[arg(long, value_enum, default_value = "characters")]
    tokenizer: TokenizerArg,
    /// Vocabulary size of a bpe tokenizer, at least 257 [default: 512]
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// Share of the text that is held out and never trained on
    #[arg(long, default_value_t = 0.1, allow_negative_numbers = true)]
    pub(super) held_out: f64,
    /// Use documents in the order of the file, in every epoch
    #[arg(long)]
    no_shuffle: bool,
}

/// Options of the recipe.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recipe")]
pub(super) struct RecipeOptions {
    /// Training steps [default: 1000, 5000 or 12000]
    #[arg(long)]
    pub(super) steps: Option<usize>,
    /// Seed of the weights, the order of documents, and dropout
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Documents, or windows of running text, per step [default: 1, 32 or 64]
    #[arg(long)]
    batch_size: Option<usize>,
    /// Compute a step's batch in this many parts: less memory and the same step, except for dropout
    #[arg(long, value_name = "PARTS", default_value_t = 1)]
    accumulate: usize,
    /// The highest learning rate [default: 0.01, 0.001 or 0.002]
    #[arg(long, allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// How the learning rate falls: linear, cosine or constant [default: linear; cosine for compact]
    #[arg(long)]
    schedule: Option<Schedule>,
    /// Steps over which the learning rate rises first [default: 0; 200 for compact]
    #[arg(long, value_name = "STEPS")]
    warmup: Option<usize>,
    /// Decoupled weight decay, as in AdamW [default: 0; 0.1 for compact]
    #[arg(long, allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// Dropout probability of activations [default: 0; 0.15 for compact]
    #[arg(long, allow_negative_numbers = true)]
    dropout: Option<f64>,
    /// Clip the norm of the gradients to this value; 0 never clips [default: 0; 1 for compact]
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    clip_norm: Option<f64>,
    /// Steps between evaluations of the held-out text; 0: only at the end [default: 0; 500 for compact]
    #[arg(long, value_name = "STEPS")]
    evaluate_every: Option<usize>,
    /// Keep the weights of the best evaluation instead of the last ones [default: yes for compact]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    keep_best: Option<bool>,
    /// Stop after this many evaluations without improvement; 0 never stops early [default: 0; 8 for compact]
    #[arg(long, value_name = "EVALUATIONS")]
    patience: Option<usize>,
    /// burn's backend; all but flex are build features
    #[arg(long, visible_alias = "device", default_value_t = Backend::default())]
    backend: Backend,
    /// Devices of the backend that share a step
    #[arg(long, default_value_t = 1)]
    devices: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PresetArg {
    Original,
    Scaled,
    Compact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TokenizerArg {
    /// Every character of the text
    Characters,
    /// Byte pairs learnt from the text: encodes every text, and needs fewer tokens for it
    Bpe,
}

impl From<PresetArg> for Preset {
    fn from(preset: PresetArg) -> Self {
        match preset {
            PresetArg::Original => Self::Original,
            PresetArg::Scaled => Self::Scaled,
            PresetArg::Compact => Self::Compact,
        }
    }
}

impl ModelOptions {
    /// Returns the dimensions of the model.
    pub(super) fn config(&self, vocab_size: usize) -> GptConfig {
        let preset = GptConfig::preset(self.preset.into(), vocab_size);
        GptConfig {
            n_embd: self.n_embd.unwrap_or(preset.n_embd),
            n_head: self.n_head.unwrap_or(preset.n_head),
            n_layer: self.n_layer.unwrap_or(preset.n_layer),
            block_size: self.block_size.unwrap_or(preset.block_size),
            ..preset
        }
    }
}

impl DataOptions {
    /// Returns the tokenizer for a text.
    pub(super) fn tokenizer(&self, corpus: &Corpus) -> Result<Tokenizer> {
        Ok(match (self.tokenizer, self.vocab_size) {
            (TokenizerArg::Characters, None) => Tokenizer::characters(corpus.documents()),
            (TokenizerArg::Characters, Some(_)) => {
                bail!("--vocab-size is for --tokenizer bpe: a tokenizer of characters has those of the text")
            }
            (TokenizerArg::Bpe, size) => Tokenizer::byte_pairs(corpus.documents(), size.unwrap_or(512))?,
        })
    }
}

impl RecipeOptions {
    /// Returns the recipe of a run with this model and text.
    pub(super) fn training(&self, model: &ModelOptions, data: &DataOptions) -> TrainingConfig {
        let preset = TrainingConfig::preset(model.preset.into());
        let evaluate_every = self.evaluate_every.unwrap_or(preset.evaluate_every);
        // Without evaluations there is no best one to keep, unless the user asks for it.
        let chooses = data.held_out > 0.0 && evaluate_every > 0;
        let keep_best = self.keep_best.unwrap_or(preset.keep_best && chooses);
        TrainingConfig {
            steps: self.steps.unwrap_or(preset.steps),
            batch_size: self.batch_size.unwrap_or(preset.batch_size),
            accumulate: self.accumulate,
            learning_rate: self.learning_rate.unwrap_or(preset.learning_rate),
            schedule: self.schedule.unwrap_or(preset.schedule),
            // A preset's warm-up must not be longer than a short run.
            warmup: self.warmup.unwrap_or(preset.warmup.min(self.steps.unwrap_or(preset.steps) / 10)),
            weight_decay: self.weight_decay.unwrap_or(preset.weight_decay),
            dropout: self.dropout.unwrap_or(preset.dropout),
            clip_norm: match self.clip_norm {
                Some(clip) => Some(clip).filter(|clip| *clip != 0.0),
                None => preset.clip_norm,
            },
            held_out: data.held_out,
            shuffle: !data.no_shuffle,
            evaluate_every,
            keep_best,
            patience: self.patience.unwrap_or(if keep_best { preset.patience } else { 0 }),
            init_std: model.init_std.unwrap_or(preset.init_std),
            seed: self.seed,
            backend: self.backend,
            devices: self.devices,
        }
    }
}
