//! The KV cache: states, and how a new key or value enters them.

use mlpackage::mil::Value;
use mlpackage::mil::builder::{FunctionBuilder, StateVar, Var};
use mlpackage::{DType, Result};

use crate::options::CacheUpdate;

/// What every layer's cache needs of the inputs.
#[derive(Clone, Debug)]
pub(crate) enum CacheInputs {
    /// One-hot over positions, and 1 minus it, both `[1, 1, S, 1]`.
    OneHot { write: Var, keep: Var },
}

impl CacheInputs {
    /// Prepares the update from the one-hot input.
    ///
    /// # Errors
    ///
    /// If a name is taken.
    pub(crate) fn new(f: &mut FunctionBuilder<'_>, update: CacheUpdate, write: &Var) -> Result<Self> {
        match update {
            CacheUpdate::OneHot => {
                let one = f.value("one", Value::fp16(1.0))?;
                let keep = f.op("sub", "kv_keep").arg("x", &one).arg("y", write).one()?;
                Ok(Self::OneHot { write: write.clone(), keep })
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

    /// Puts `new [1, H, 1, D]` in its place and returns the whole, `[1, H, S, D]`. One read and one write a state.
    ///
    /// # Errors
    ///
    /// If a name is taken.
    pub(crate) fn update(&self, f: &mut FunctionBuilder<'_>, inputs: &CacheInputs, new: &Var) -> Result<Var> {
        let name = self.state.name().to_owned();
        let part = |part: &str| format!("{name}_{part}");
        let CacheInputs::OneHot { write, keep } = inputs;
        let old = f.read_state(&part("read"), &self.state)?;
        let kept = f.op("mul", &part("kept")).arg("x", &old).arg("y", keep).one()?;
        let placed = f.op("mul", &part("placed")).arg("x", new).arg("y", write).one()?;
        let updated = f.op("add", &part("updated")).arg("x", &kept).arg("y", &placed).one()?;
        f.write_state(&self.state, &updated)?;
        Ok(updated)
    }
}
