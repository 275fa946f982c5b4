//! Operations that read or write elements at the positions that a tensor of indices names. A negative index
//! counts from the end, unless `validate_indices` is set. An index out of range is an error.

use super::{Lowered, Node, Operand, pairs};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    Ok(Some(match node.op {
        "gather" => gather(node)?,
        "gather_along_axis" => gather_along_axis(node)?,
        "gather_nd" => gather_nd(node)?,
        "scatter" => scatter(node)?,
        "scatter_along_axis" => scatter_along_axis(node)?,
        "scatter_nd" => scatter_nd(node)?,
        _ => return Ok(None),
    }))
}

/// How indices are interpreted.
#[derive(Clone, Copy)]
struct Indexing {
    /// Whether a negative index is out of range instead of counting from the end.
    validate: bool,
}

impl Indexing {
    fn of(node: &Node<'_>) -> Result<Self, String> {
        Ok(Self { validate: node.args.bool_or("validate_indices", false)? })
    }

    /// Returns the position that an index names on an axis of size `extent`.
    fn place(self, index: i32, extent: usize) -> Result<usize, String> {
        let from_end = index < 0 && !self.validate;
        let at = if from_end { i64::from(index) + extent as i64 } else { i64::from(index) };
        let at = usize::try_from(at).ok().filter(|at| *at < extent);
        at.ok_or_else(|| format!("index {index} is outside of an axis of {extent}"))
    }

    /// Returns the number of the slice that `index` names. `dims` are the sizes of the axes that it indexes.
    fn slice_at(self, index: &[i32], dims: &[usize]) -> Result<usize, String> {
        let mut pairs = index.iter().zip(dims);
        pairs.try_fold(0, |at, (index, extent)| Ok(at * extent + self.place(*index, *extent)?))
    }
}

fn axis_of(node: &Node<'_>, name: &str) -> Result<usize, String> {
    node.axis("axis", &node.shape(name)?, 0)
}

/// Lowers `gather`: `x [batch.., outer.., axis, inner..]`, `indices [batch.., I..]` →
/// `[batch.., outer.., I.., inner..]`. Unpacks only the requested rows of a packed `x`.
fn gather(node: &Node<'_>) -> Result<Lowered, String> {
    let (x, indices) = (node.shape("x")?, node.shape("indices")?);
    let axis = axis_of(node, "x")?;
    let batch_dims = node.args.int("batch_dims")?.unwrap_or(0) as usize;
    let batch: usize = x.dims()[..batch_dims].iter().product();
    let outer: usize = x.dims()[batch_dims..axis].iter().product();
    let (extent, inner) = (x.dims()[axis], x.dims()[axis + 1..].iter().product::<usize>());
    let count: usize = indices.dims()[batch_dims..].iter().product();
    let indexing = Indexing::of(node)?;
    let lowered = Lowered::fallible(&["x", "indices"], move |call| {
        let (x, indices) = (call.operands[0], call.i32(1));
        let out = call.out();
        assert_eq!(out.len(), batch * outer * count * inner, "a row for each index");
        let mut rows = out.chunks_exact_mut(inner);
        for b in 0..batch {
            for o in 0..outer {
                for index in &indices[b * count..(b + 1) * count] {
                    let at = ((b * outer + o) * extent + indexing.place(*index, extent)?) * inner;
                    let Some(row) = rows.next() else { break };
                    match x {
                        Operand::Words(words) => row.copy_from_slice(&words[at..at + inner]),
                        Operand::Packed(packed) => packed.read(at, bytemuck::cast_slice_mut(row)),
                    }
                }
            }
        }
        Ok(())
    });
    Ok(lowered.packed(&["x"]))
}

/// Returns the product of the sizes before an axis, its size, and the product of the sizes after it.
fn around(dims: &[usize], axis: usize) -> (usize, usize, usize) {
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}

fn gather_along_axis(node: &Node<'_>) -> Result<Lowered, String> {
    let axis = axis_of(node, "x")?;
    let (_, extent, inner) = around(node.shape("x")?.dims(), axis);
    let count = node.shape("indices")?.dims()[axis];
    let indexing = Indexing::of(node)?;
    Ok(Lowered::fallible(&["x", "indices"], move |call| {
        let (x, indices) = (call.words(0), call.i32(1));
        for (i, (out, index)) in pairs(call.out(), indices).enumerate() {
            let (outer, within) = (i / (count * inner), i % inner);
            *out = x[(outer * extent + indexing.place(*index, extent)?) * inner + within];
        }
        Ok(())
    }))
}

fn gather_nd(node: &Node<'_>) -> Result<Lowered, String> {
    let (x, indices) = (node.shape("x")?, node.shape("indices")?);
    let batch_dims = node.args.int("batch_dims")?.unwrap_or(0) as usize;
    let depth = *indices.dims().last().unwrap_or(&0);
    let named = x.dims()[batch_dims..batch_dims + depth].to_vec();
    let inner: usize = x.dims()[batch_dims + depth..].iter().product();
    let per_batch: usize = named.iter().product();
    let batch: usize = x.dims()[..batch_dims].iter().product();
    let count = indices.elements() / depth.max(1) / batch.max(1);
    let indexing = Indexing::of(node)?;
    Ok(Lowered::fallible(&["x", "indices"], move |call| {
        let (x, indices) = (call.words(0), call.i32(1));
        for (i, out) in call.out().chunks_exact_mut(inner).enumerate() {
            let at =
                i / count * per_batch + indexing.slice_at(&indices[i * depth..(i + 1) * depth], &named)?;
            out.copy_from_slice(&x[at * inner..(at + 1) * inner]);
        }
        Ok(())
    }))
}

/// How an update changes an element.
#[derive(Clone, Copy)]
enum Mode {
    Update,
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

impl Mode {
    fn of(node: &Node<'_>) -> Result<Self, String> {
        Ok(match node.args.string("mode")?.unwrap_or("add") {
            "update" => Self::Update,
            "add" => Self::Add,
            "sub" => Self::Sub,
            "mul" => Self::Mul,
            "div" => Self::Div,
            "max" => Self::Max,
            "min" => Self::Min,
            other => return Err(format!("scatter of mode {other}")),
        })
    }

    fn apply(self, is_float: bool, old: u32, new: u32) -> u32 {
        if is_float {
            let (a, b) = (f32::from_bits(old), f32::from_bits(new));
            let value = match self {
                Self::Update => b,
                Self::Add => a + b,
                Self::Sub => a - b,
                Self::Mul => a * b,
                Self::Div => a / b,
                Self::Max => a.max(b),
                Self::Min => a.min(b),
            };
            return value.to_bits();
        }
        let (a, b) = (old as i32, new as i32);
        let value = match self {
            Self::Update => b,
            Self::Add => a.wrapping_add(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Mul => a.wrapping_mul(b),
            Self::Div => a.checked_div(b).unwrap_or(0),
            Self::Max => a.max(b),
            Self::Min => a.min(b),
        };
        value as u32
    }

    fn apply_all(self, is_float: bool, old: &mut [u32], new: &[u32]) {
        pairs(old, new).for_each(|(old, new)| *old = self.apply(is_float, *old, *new));
    }
}

const SCATTER: &[&str] = &["data", "indices", "updates"];

/// Applies `updates [outer.., I.., inner..]` to `data [outer.., axis, inner..]`.
fn scatter(node: &Node<'_>) -> Result<Lowered, String> {
    let (outer, extent, inner) = around(node.shape("data")?.dims(), axis_of(node, "data")?);
    let (mode, is_float) = (Mode::of(node)?, node.dtype("data")?.is_float());
    let indexing = Indexing::of(node)?;
    Ok(Lowered::fallible(SCATTER, move |call| {
        let (data, indices, updates) = (call.words(0), call.i32(1), call.words(2));
        let out = call.out();
        out.copy_from_slice(data);
        assert_eq!(updates.len(), outer * indices.len() * inner, "an update for each index");
        let mut updates = updates.chunks_exact(inner);
        for o in 0..outer {
            for index in indices {
                let at = (o * extent + indexing.place(*index, extent)?) * inner;
                if let Some(update) = updates.next() {
                    mode.apply_all(is_float, &mut out[at..at + inner], update);
                }
            }
        }
        Ok(())
    }))
}

fn scatter_along_axis(node: &Node<'_>) -> Result<Lowered, String> {
    let axis = axis_of(node, "data")?;
    let (_, extent, inner) = around(node.shape("data")?.dims(), axis);
    let count = node.shape("indices")?.dims()[axis];
    let (mode, is_float) = (Mode::of(node)?, node.dtype("data")?.is_float());
    let indexing = Indexing::of(node)?;
    Ok(Lowered::fallible(SCATTER, move |call| {
        let (data, indices, updates) = (call.words(0), call.i32(1), call.words(2));
        let out = call.out();
        out.copy_from_slice(data);
        assert_eq!(updates.len(), indices.len(), "an update for each index");
        for (i, (index, update)) in indices.iter().zip(updates).enumerate() {
            let (outer, within) = (i / (count * inner), i % inner);
            let at = (outer * extent + indexing.place(*index, extent)?) * inner + within;
            out[at] = mode.apply(is_float, out[at], *update);
        }
        Ok(())
    }))
}

fn scatter_nd(node: &Node<'_>) -> Result<Lowered, String> {
    let (data, indices) = (node.shape("data")?, node.shape("indices")?);
    let depth = *indices.dims().last().unwrap_or(&0);
    let named = data.dims()[..depth].to_vec();
    let inner: usize = data.dims()[depth..].iter().product();
    let (mode, is_float) = (Mode::of(node)?, node.dtype("data")?.is_float());
    let indexing = Indexing::of(node)?;
    Ok(Lowered::fallible(SCATTER, move |call| {
        let (data, indices, updates) = (call.words(0), call.i32(1), call.words(2));
        let out = call.out();
        out.copy_from_slice(data);
        assert_eq!(updates.len() * depth, indices.len() * inner, "an update for each index");
        for (i, update) in updates.chunks_exact(inner).enumerate() {
            let at = indexing.slice_at(&indices[i * depth..(i + 1) * depth], &named)? * inner;
            mode.apply_all(is_float, &mut out[at..at + inner], update);
        }
        Ok(())
    }))
}
