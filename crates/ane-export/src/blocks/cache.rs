//! The KV cache: states, and how a new key or value enters them.

use mlpackage::mil::Value;
use mlpackage::mil::builder::{FunctionBuilder, StateVar, Var};
use mlpackage::{DType, Result};

use crate::options::CacheUpdate;

/// What every layer's cache needs of the inputs.
#[derive(Clone, Debug)]
pub(crate) enum CacheInputs {
    /// One-hot over positions, a column a token, `[1, 1, S, T]`, and 1 where no column has one, `[1, 1, S, 1]`.
    OneHot { write: Var, keep: Var, tokens: usize },
}

impl CacheInputs {
    /// Prepares the update from the one-hot input.
    ///
    /// # Errors
    ///
    /// If a name is taken.
    pub(crate) fn new(
        f: &mut FunctionBuilder<'_>,
        update: CacheUpdate,
        write: &Var,
        tokens: usize,
    ) -> Result<Self> {
        match update {
            CacheUpdate::OneHot => {
                let one = f.value("one", Value::fp16(1.0))?;
                let written = match tokens {
                    1 => write.clone(),
                    _ => f
                        .op("reduce_sum", "kv_written")
                        .arg("x", write)
                        .value("axes", Value::ints([1], [3]))
                        .value("keep_dims", Value::bool(true))
                        .one()?,
                };
                let keep = f.op("sub", "kv_keep").arg("x", &one).arg("y", &written).one()?;
                Ok(Self::OneHot { write: write.clone(), keep, tokens })
            }
        }
    }
}

/// One state, `[1, H, S, D]`.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    state: StateVar,
}

impl Cache {
    /// Declares the state.
    ///
    /// # Errors
    ///
    /// If `name` is taken.
    pub(crate) fn new(f: &mut FunctionBuilder<'_>, name: &str, shape: [usize; 4]) -> Result<Self> {
        Ok(Self { state: f.state(name, DType::Fp16, shape)? })
    }

    /// Puts `new [1, H, T, D]` in its place and returns the whole, `[1, H, S, D]`. One read and one write a state.
    ///
    /// # Errors
    ///
    /// If a name is taken.
    pub(crate) fn update(&self, f: &mut FunctionBuilder<'_>, inputs: &CacheInputs, new: &Var) -> Result<Var> {
        let name = self.state.name().to_owned();
        let part = |part: &str| format!("{name}_{part}");
        let CacheInputs::OneHot { write, keep, tokens } = inputs;
        let old = f.read_state(&part("read"), &self.state)?;
        let kept = f.op("mul", &part("kept")).arg("x", &old).arg("y", keep).one()?;
        // One token is spread over all positions; of several, each position takes the one that is its own.
        let placed = match tokens {
            1 => f.op("mul", &part("placed")).arg("x", new).arg("y", write).one()?,
            _ => f.op("matmul", &part("placed")).arg("x", write).arg("y", new).one()?,
        };
        let updated = f.op("add", &part("updated")).arg("x", &kept).arg("y", &placed).one()?;
        f.write_state(&self.state, &updated)?;
        Ok(updated)
    }
}
