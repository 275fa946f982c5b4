//! The KV cache: where it is kept, and how new keys and values are written to it.

use mlpackage::builder::{FunctionBuilder, StateVar, Var};
use mlpackage::mil::Value;
use mlpackage::{DType, Result};

/// Where a cache is kept between calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CacheStorage<'a> {
    /// The model keeps it, in a state.
    State,
    /// The host keeps it. The cache is an input that is only read, and the new key or value is an output of
    /// this name.
    Host { new: &'a str },
}

/// The write position of the new keys and values, shared by the caches of all layers.
#[derive(Clone, Debug)]
pub(crate) enum CacheWrite {
    /// `write`: one-hot over positions, a column for each token, `[1, 1, S, T]`. `keep`: 1 at the positions
    /// that no column selects, `[1, 1, S, 1]`.
    OneHot { write: Var, keep: Var, tokens: usize },
    /// The corners of the box that the new values fill, int32 `[4]` each: the first element, and the end,
    /// which is exclusive. Only the axis of positions counts.
    Slice { begin: Var, end: Var },
}

impl CacheWrite {
    /// Creates the value from a one-hot input.
    ///
    /// # Errors
    ///
    /// Returns an error if a name is taken.
    pub(crate) fn one_hot(f: &mut FunctionBuilder<'_>, write: &Var, tokens: usize) -> Result<Self> {
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

    /// Creates the value from the position of the call's first token, int32 `[1]`.
    ///
    /// # Errors
    ///
    /// Returns an error if a name is taken.
    pub(crate) fn slice(f: &mut FunctionBuilder<'_>, position: &Var, tokens: usize) -> Result<Self> {
        let count = Value::ints([1], [tokens as i32]);
        let behind = f.op("add", "kv_behind").arg("x", position).value("y", count).one()?;
        let outer = f.value("outer", Value::ints([2], [0, 0]))?;
        let inner = f.value("inner", Value::ints([1], [0]))?;
        let mut corner = |name: &str, position: &Var| {
            f.op("concat", name)
                .args("values", &[&outer, position, &inner])
                .value("axis", Value::int(0))
                .one()
        };
        Ok(Self::Slice { begin: corner("kv_begin", position)?, end: corner("kv_end", &behind)? })
    }

    /// Writes `new [1, H, T, D]` into `old [1, H, S, D]`. The operations are called `{name}_...`.
    fn place(&self, f: &mut FunctionBuilder<'_>, name: &str, old: &Var, new: &Var) -> Result<Var> {
        let part = |part: &str| format!("{name}_{part}");
        match self {
            Self::OneHot { write, keep, tokens } => {
                let kept = f.op("mul", &part("kept")).arg("x", old).arg("y", keep).one()?;
                // A single token is spread over all positions. With several, each position selects its own
                // token.
                let placed = match tokens {
                    1 => f.op("mul", &part("placed")).arg("x", new).arg("y", write).one()?,
                    _ => f.op("matmul", &part("placed")).arg("x", write).arg("y", new).one()?,
                };
                f.op("add", &part("updated")).arg("x", &kept).arg("y", &placed).one()
            }
            Self::Slice { begin, end } => {
                // The box spans all heads and channels. Parameters that coremltools' converters always write
                // are written here as well, even where they have a default.
                let whole = || Value::bools([true, true, false, true]);
                f.op("slice_update", &part("updated"))
                    .arg("x", old)
                    .arg("update", new)
                    .arg("begin", begin)
                    .arg("end", end)
                    .value("stride", Value::ints([4], [1, 1, 1, 1]))
                    .value("begin_mask", whole())
                    .value("end_mask", whole())
                    .value("squeeze_mask", Value::bools([false; 4]))
                    .one()
            }
        }
    }
}

/// One cache, `[1, H, S, D]`.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    name: String,
    held: Held,
}

#[derive(Clone, Debug)]
enum Held {
    State(StateVar),
    Host { cache: Var, new: String },
}

impl Cache {
    /// Declares the state or input.
    ///
    /// # Errors
    ///
    /// Returns an error if `name` is taken.
    pub(crate) fn new(
        f: &mut FunctionBuilder<'_>,
        name: &str,
        shape: [usize; 4],
        keeper: CacheStorage<'_>,
    ) -> Result<Self> {
        let held = match keeper {
            CacheStorage::State => Held::State(f.state(name, DType::Fp16, shape)?),
            CacheStorage::Host { new } => {
                Held::Host { cache: f.input(name, DType::Fp16, shape)?, new: new.to_owned() }
            }
        };
        Ok(Self { name: name.to_owned(), held })
    }

    /// Returns the name that the new key or value must have if it is an output.
    pub(crate) fn new_name(&self) -> Option<&str> {
        match &self.held {
            Held::State(_) => None,
            Held::Host { new, .. } => Some(new),
        }
    }

    /// Returns the cache with `new [1, H, T, D]` written to it, `[1, H, S, D]`. A state is read once and
    /// written once; an input does not change.
    ///
    /// # Errors
    ///
    /// Returns an error if a name is taken.
    pub(crate) fn update(&self, f: &mut FunctionBuilder<'_>, write: &CacheWrite, new: &Var) -> Result<Var> {
        match &self.held {
            Held::State(state) => {
                let old = f.read_state(&format!("{}_read", self.name), state)?;
                let updated = write.place(f, &self.name, &old, new)?;
                f.write_state(state, &updated)?;
                Ok(updated)
            }
            Held::Host { cache, .. } => write.place(f, &self.name, cache, new),
        }
    }
}
