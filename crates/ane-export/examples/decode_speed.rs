//! Measures how fast this machine decodes the scaled preset in INT8, with random weights: nothing is trained
//! or downloaded.
//!
//! ```text
//! cargo run --release -p ane-export --example decode_speed -- 2      # threads
//! ```
//!
//! Prints the median time per token over a whole context, for one sequence and for 16 at once. To compare two
//! builds, run them alternately.

use std::time::Instant;

use ane_bundle::Bundle;
use ane_export::{ExportOptions, Quantization, export};
use ane_runtime::{DecodeModel, MilCpu, Numerics, Sequence};
use microgpt_model::{Checkpoint, GptConfig, INIT_STD, Preset, Tokenizer, Weights};

/// Number of contexts that are timed.
const CONTEXTS: usize = 40;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(2), |threads| threads.parse())?;
    let dir = tempfile::tempdir()?;
    let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
    let config = GptConfig::preset(Preset::Scaled, tokenizer.vocab_size());
    let checkpoint = dir.path().join("checkpoint");
    Checkpoint::write(&checkpoint, &config, &tokenizer, &Weights::random(&config, INIT_STD, 1), None)?;
    let out = dir.path().join("bundle");
    let options = ExportOptions::default().with_quantization(Quantization::Int8PerChannel);
    export(&Checkpoint::open(&checkpoint)?, &out, &options)?.publish()?;
    let engine = MilCpu::new(Numerics::Fast).with_threads(threads);
    let model = DecodeModel::load(&Bundle::open(&out)?, &engine)?;
    for sequences in [1, 16] {
        let mut all: Vec<Sequence> = (0..sequences).map(|_| model.new_sequence()).collect();
        let mut times = Vec::new();
        for _ in 0..CONTEXTS.div_ceil(sequences) {
            all.iter_mut().for_each(|sequence| model.reset(sequence));
            let mut all: Vec<&mut Sequence> = all.iter_mut().collect();
            for position in 0..model.context_length() {
                let tokens = vec![(position % model.vocab_size()) as u32; sequences];
                let started = Instant::now();
                model.decode_batch(&tokens, &mut all)?;
                times.push(started.elapsed().as_secs_f64() * 1e6 / sequences as f64);
            }
        }
        times.sort_by(f64::total_cmp);
        println!("{sequences} sequences, {threads} threads: {:.1} us a token", times[times.len() / 2]);
    }
    Ok(())
}
