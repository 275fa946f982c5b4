//! The results of `microgpt bench`.

use std::fmt;

use mlpackage::counted;
use serde::Serialize;

use super::energy::EnergyReport;

/// Tokens/s of Experiment 27: 500 names of the scaled preset, decoded through Core ML on the Neural Engine of
/// an M4 Max.
const EXPERIMENT_27: f64 = 1_535.0;

/// The results.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Benchmark {
    /// Name of the engine.
    pub(crate) engine: String,
    /// Instruction set and threads that the bounds are measured with.
    pub(crate) machine: String,
    /// Bytes that a token needs: the weights in their stored form.
    pub(crate) weight_bytes: u64,
    /// Multiply-adds of weights per token.
    pub(crate) multiply_adds_a_token: u64,
    /// Milliseconds from opening the bundle to the logits of the first token, with its files in the system's
    /// cache.
    pub(crate) load_ms: f64,
    /// Milliseconds to read the weights once, at best: the memory-bandwidth bound.
    pub(crate) stream_floor_ms: f64,
    /// 8-bit multiply-adds of the machine per second.
    pub(crate) byte_products_a_second: f64,
    /// One sequence, token by token over the whole context.
    pub(crate) decode: DecodeSpeed,
    /// Several sequences at once.
    pub(crate) batch: BatchSpeed,
    /// The run of Experiment 27.
    pub(crate) names: Option<NamesSpeed>,
    /// Energy per token, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) energy: Option<EnergyReport>,
    /// Peak memory of the process in bytes, where the system reports it.
    pub(crate) peak_memory_bytes: Option<u64>,
}

/// One sequence.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DecodeSpeed {
    /// Tokens per second: the median over whole contexts.
    pub(crate) tokens_per_second: f64,
    /// Median time per token in milliseconds.
    pub(crate) p50_ms: f64,
    /// 90th percentile of the time per token in milliseconds.
    pub(crate) p90_ms: f64,
    /// 99th percentile of the time per token in milliseconds.
    pub(crate) p99_ms: f64,
    /// Median time per token over whole contexts, relative to the memory-bandwidth bound.
    pub(crate) times_stream_floor: f64,
}

/// Several sequences.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BatchSpeed {
    /// Number of sequences.
    pub(crate) sequences: usize,
    /// Tokens per second of all sequences together.
    pub(crate) tokens_per_second: f64,
    /// The same, relative to one sequence.
    pub(crate) times_one: f64,
    /// Tokens per second if the machine only multiplied: two 8-bit products per weight.
    pub(crate) arithmetic_bound: f64,
}

/// Generated names.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NamesSpeed {
    /// Number of names.
    pub(crate) names: usize,
    /// Tokens that the model was run on.
    pub(crate) tokens: usize,
    /// Seconds, including sampling and text.
    pub(crate) seconds: f64,
    /// Tokens per second.
    pub(crate) tokens_per_second: f64,
}

impl fmt::Display for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        writeln!(f, "engine        {}", self.engine)?;
        writeln!(
            f,
            "machine       {}: {:.0} G 8-bit products per second",
            self.machine,
            self.byte_products_a_second / 1e9
        )?;
        writeln!(
            f,
            "stream floor  {:.4} ms to read {:.3} MB of weights",
            self.stream_floor_ms,
            mega(self.weight_bytes)
        )?;
        writeln!(f, "load          {:.1} ms to the first token", self.load_ms)?;
        let DecodeSpeed { tokens_per_second, p50_ms, p90_ms, p99_ms, times_stream_floor } = &self.decode;
        writeln!(
            f,
            "decode        {tokens_per_second:.0} tokens/s, {times_stream_floor:.2} x the stream floor"
        )?;
        writeln!(f, "              {p50_ms:.4} ms (median), {p90_ms:.4} (90 %), {p99_ms:.4} (99 %)")?;
        let BatchSpeed { sequences, tokens_per_second, times_one, arithmetic_bound } = &self.batch;
        writeln!(
            f,
            "batch         {}: {tokens_per_second:.0} tokens/s, {times_one:.2} x one; the machine's \
             products would allow {arithmetic_bound:.0}",
            counted(*sequences, "sequence")
        )?;
        if let Some(NamesSpeed { names, tokens, seconds, tokens_per_second }) = &self.names {
            writeln!(
                f,
                "names         {}, {}, {seconds:.2} s: {tokens_per_second:.0} tokens/s \
                 (Experiment 27, scaled, on an M4 Max's ANE: {EXPERIMENT_27})",
                counted(*names, "name"),
                counted(*tokens, "token")
            )?;
        }
        if let Some(energy) = &self.energy {
            writeln!(f, "energy        {energy}")?;
        }
        if let Some(peak) = self.peak_memory_bytes {
            writeln!(f, "memory        {:.1} MB at most", mega(peak))?;
        }
        Ok(())
    }
}
