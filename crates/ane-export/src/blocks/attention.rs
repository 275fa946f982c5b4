//! Causal attention of new tokens over the KV cache.

use mlpackage::Result;
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::Value;

use super::cache::{Cache, CacheWrite};

/// How channels split into heads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Number of heads (H).
    pub(crate) count: usize,
    /// Width of a head (D).
    pub(crate) width: usize,
    /// Number of new tokens per call (T).
    pub(crate) tokens: usize,
}

/// One layer's attention, without its projections.
#[derive(Debug)]
pub(crate) struct Attention<'a> {
    pub(crate) heads: Heads,
    pub(crate) keys: &'a Cache,
    pub(crate) values: &'a Cache,
    pub(crate) write: &'a CacheWrite,
    /// 0, or -1e4 where attention is masked; `[1, 1, T, S]`.
    pub(crate) mask: &'a Var,
}

/// Results of [`Attention::attend`].
#[derive(Clone, Debug)]
pub(crate) struct Attended {
    /// The heads' outputs, merged, `[1, C, 1, T]`.
    pub(crate) mixed: Var,
    /// The new keys and values that were written to the caches, `[1, H, T, D]` each.
    pub(crate) new: [Var; 2],
}

impl Attention<'_> {
    /// Adds `softmax(q k^T / sqrt(D) + mask) v` of `q`, `k` and `v`, each `[1, C, 1, T]`.
    ///
    /// # Errors
    ///
    /// Returns an error if a name is taken.
    pub(crate) fn attend(
        &self,
        f: &mut FunctionBuilder<'_>,
        name: &str,
        [q, k, v]: [&Var; 3],
    ) -> Result<Attended> {
        let Heads { width: d, .. } = self.heads;
        let part = |part: &str| format!("{name}_{part}");
        let entering = |cache: &Cache, own: &str| cache.new_name().map_or_else(|| part(own), str::to_owned);
        let mut heads = |x: &Var, part: String| self.heads.split(f, part, x);
        let q = heads(q, part("q_heads"))?;
        let k = heads(k, entering(self.keys, "k_heads"))?;
        let v = heads(v, entering(self.values, "v_heads"))?;
        // Scaled before the product rather than after it: the scores keep a factor of sqrt(D) more headroom
        // in fp16.
        let scale = Value::fp16(1.0 / (d as f32).sqrt());
        let q = f.op("mul", &part("q_scaled")).arg("x", &q).value("y", scale).one()?;
        let keys = self.keys.update(f, self.write, &k)?;
        let values = self.values.update(f, self.write, &v)?;
        let scores = f
            .op("matmul", &part("scores"))
            .arg("x", &q)
            .arg("y", &keys)
            .value("transpose_y", Value::bool(true))
            .one()?; // [1, H, T, S]
        let scores = f.op("add", &part("masked")).arg("x", &scores).arg("y", self.mask).one()?;
        let weights = f.op("softmax", &part("weights")).arg("x", &scores).one()?;
        let mixed = f.op("matmul", &part("mixed")).arg("x", &weights).arg("y", &values).one()?; // [1, H, T, D]
        Ok(Attended { mixed: self.heads.merge(f, part("merged"), &mixed)?, new: [k, v] })
    }
}

impl Heads {
    /// Reshapes `[1, C, 1, T]` to `[1, H, T, D]`. With several tokens a transpose is needed, because the
    /// channels of a head are T elements apart.
    fn split(self, f: &mut FunctionBuilder<'_>, name: String, x: &Var) -> Result<Var> {
        let Self { count: h, width: d, tokens: t } = self;
        match t {
            1 => reshape(f, name, x, [1, h, 1, d]),
            _ => {
                let columns = reshape(f, format!("{name}_columns"), x, [1, h, d, t])?;
                swap_last(f, &name, &columns)
            }
        }
    }

    /// Reshapes `[1, H, T, D]` to `[1, C, 1, T]`.
    fn merge(self, f: &mut FunctionBuilder<'_>, name: String, x: &Var) -> Result<Var> {
        let Self { count: h, width: d, tokens: t } = self;
        match t {
            1 => reshape(f, name, x, [1, h * d, 1, 1]),
            _ => {
                let columns = swap_last(f, &format!("{name}_columns"), x)?;
                reshape(f, name, &columns, [1, h * d, 1, t])
            }
        }
    }
}

fn swap_last(f: &mut FunctionBuilder<'_>, name: &str, x: &Var) -> Result<Var> {
    f.op("transpose", name).arg("x", x).value("perm", Value::ints([4], [0, 1, 3, 2])).one()
}

fn reshape(f: &mut FunctionBuilder<'_>, name: String, x: &Var, shape: [usize; 4]) -> Result<Var> {
    let shape: Vec<i32> = shape.iter().map(|&d| d as i32).collect();
    f.op("reshape", &name).arg("x", x).value("shape", Value::ints([4], shape)).one()
}
