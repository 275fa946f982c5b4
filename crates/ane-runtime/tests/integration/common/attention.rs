//! The attention of a decoder's layer, for tests of its fusion and of the threads that share it.

use ane_runtime::Tensor;
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::{TensorType, Value};
use mlpackage::{DType, Result};

use super::tensor;

/// The size of an attention over a cache.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) channels: usize,
    pub(crate) heads: usize,
    /// Number of positions in the cache.
    pub(crate) context: usize,
    /// The factor of the queries.
    pub(crate) scale: f32,
}

/// The inputs of an attention other than its row.
pub(crate) struct Masks {
    mask: Var,
    write: Var,
    keep: Var,
}

/// The values of an attention.
pub(crate) struct Attended {
    /// The heads' outputs, merged, `[1, C, 1, 1]`.
    pub(crate) merged: Var,
    /// The updated cache of the keys.
    pub(crate) keys: Var,
    /// The cache of the values before its update.
    pub(crate) old_values: Var,
}

/// A cache before and after its update.
struct Cache {
    old: Var,
    new: Var,
}

impl Attention {
    fn width(self) -> usize {
        self.channels / self.heads
    }

    /// Declares the attention mask and the write mask, and adds the complement of the latter.
    pub(crate) fn masks(self, f: &mut FunctionBuilder<'_>) -> Result<Masks> {
        let mask = f.input("mask", DType::Fp16, [1, 1, 1, self.context])?;
        let write = f.input("write", DType::Fp16, [1, 1, self.context, 1])?;
        let one = f.value("one", Value::fp16(1.0))?;
        let keep = f.op("sub", "keep").arg("x", &one).arg("y", &write).one()?;
        Ok(Masks { mask, write, keep })
    }

    /// Adds the projections of `x [1, C, 1, 1]` to a query, a key and a value, and attention over the caches.
    pub(crate) fn attend(self, f: &mut FunctionBuilder<'_>, x: &Var, masks: &Masks) -> Result<Attended> {
        let query = self.project(f, "query", x)?;
        let scale = Value::fp16(self.scale);
        let query = f.op("mul", "query_scaled").arg("x", &query).value("y", scale).one()?;
        let [keys, values] = [self.cache(f, "keys", x, masks)?, self.cache(f, "values", x, masks)?];
        let matmul = |f: &mut FunctionBuilder<'_>, name: &str, x: &Var, y: &Var, transposed: bool| {
            f.op("matmul", name).arg("x", x).arg("y", y).value("transpose_y", Value::bool(transposed)).one()
        };
        let scores = matmul(f, "scores", &query, &keys.new, true)?;
        let masked = f.op("add", "masked").arg("x", &scores).arg("y", &masks.mask).one()?;
        let weights = f.op("softmax", "weights").arg("x", &masked).value("axis", Value::int(-1)).one()?;
        let mixed = matmul(f, "mixed", &weights, &values.new, false)?;
        let merged = Value::ints([4], [1, self.channels as i32, 1, 1]);
        let merged = f.op("reshape", "merged").arg("x", &mixed).value("shape", merged).one()?;
        Ok(Attended { merged, keys: keys.new, old_values: values.old })
    }

    /// Adds a projection, divided into heads.
    fn project(self, f: &mut FunctionBuilder<'_>, name: &str, x: &Var) -> Result<Var> {
        let flat = projection(f, name, x, self.channels)?;
        let shape = Value::ints([4], [1, self.heads as i32, 1, self.width() as i32]);
        f.op("reshape", &format!("{name}_heads")).arg("x", &flat).value("shape", shape).one()
    }

    /// Adds a cache in which a projection replaces a row.
    fn cache(self, f: &mut FunctionBuilder<'_>, name: &str, x: &Var, masks: &Masks) -> Result<Cache> {
        let new = self.project(f, name, x)?;
        let shape = [1, self.heads, self.context, self.width()];
        let state = f.state(&format!("{name}_cache"), DType::Fp16, shape)?;
        let read = f.read_state(&format!("{name}_read"), &state)?;
        let kept = f.op("mul", &format!("{name}_kept")).arg("x", &read).arg("y", &masks.keep).one()?;
        let placed = f.op("mul", &format!("{name}_placed")).arg("x", &new).arg("y", &masks.write).one()?;
        let updated = f.op("add", &format!("{name}_updated")).arg("x", &kept).arg("y", &placed).one()?;
        f.write_state(&state, &updated)?;
        Ok(Cache { old: read, new: updated })
    }

    /// Returns the inputs of a step: a row, the attention mask, and a write mask with the value `write` at
    /// `position`.
    pub(crate) fn inputs(self, position: usize, sequence: usize, write: f32) -> [Tensor; 3] {
        let element = |i: usize| ((i * 37 + position * 101 + sequence * 53) % 89) as f32 / 22.0 - 2.0;
        let row: Vec<f32> = (0..self.channels).map(element).collect();
        let visible: Vec<f32> = (0..self.context).map(|i| if i <= position { 0.0 } else { -1e4 }).collect();
        let place: Vec<f32> = (0..self.context).map(|i| if i == position { write } else { 0.0 }).collect();
        [
            tensor(&[1, self.channels, 1, 1], &row),
            tensor(&[1, 1, 1, self.context], &visible),
            tensor(&[1, 1, self.context, 1], &place),
        ]
    }
}

/// Adds a 1x1 convolution with INT8 weights and a scale per channel.
pub(crate) fn projection(f: &mut FunctionBuilder<'_>, name: &str, x: &Var, d_out: usize) -> Result<Var> {
    let d_in = x.dims()[1].known().unwrap();
    let numbers: Vec<u8> = (0..d_out * d_in).map(|i| ((i * 7919 + name.len() * 31) % 251) as u8).collect();
    let scales: Vec<u8> = (0..d_out)
        .flat_map(|i| {
            half::f16::from_f32((1.0 + (i % 5) as f32) / (700.0 * (d_in as f32).sqrt())).to_le_bytes()
        })
        .collect();
    let data = f.blob(TensorType::new(DType::Int8, [d_out, d_in, 1, 1]), &numbers)?;
    let scale = f.blob(TensorType::new(DType::Fp16, [d_out, 1, 1, 1]), &scales)?;
    let weight = f.op("constexpr_blockwise_shift_scale", &format!("{name}_weight"));
    let weight = weight.inline("data", data).inline("scale", scale).one()?;
    f.op("conv", name).arg("x", x).arg("weight", &weight).one()
}
