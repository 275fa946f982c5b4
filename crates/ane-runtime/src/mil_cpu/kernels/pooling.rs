//! Pooling: one number for each window.

use super::conv::Window;
use super::elementwise::larger;
use super::{Lowered, Node};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    if !["avg_pool", "max_pool", "l2_pool"].contains(&node.op) {
        return Ok(None);
    }
    let x = node.shape("x")?;
    let spatial = x.rank() - 2;
    let kernel = node.args.extents("kernel_sizes", spatial, 1, 1)?;
    let window = Window::of(node, &kernel)?;
    let behind = behind(node, spatial)?;
    let exclude = node.op == "avg_pool" && node.args.bool_or("exclude_padding_from_average", false)?;
    let pool = match node.op {
        "max_pool" => Pool::Max,
        "l2_pool" => Pool::L2,
        _ => Pool::Average { exclude, behind },
    };
    Ok(Some(Lowered::new(&["x"], move |call| {
        let x = call.f32(0);
        let (inputs, places) = (window.inputs(), window.places());
        for (x, out) in x.chunks_exact(inputs).zip(call.out_f32().chunks_exact_mut(places)) {
            for (place, out) in out.iter_mut().enumerate() {
                let [_, height, width] = window.output;
                let at = [place / (height * width), place / width % height, place % width];
                *out = pool.of(x, &window, at);
            }
        }
    })))
}

/// Padding behind each spatial axis; as much as it takes where the padding is `same`.
fn behind(node: &Node<'_>, spatial: usize) -> Result<[usize; 3], String> {
    let pad = match node.args.string("pad_type")?.unwrap_or("valid") {
        "valid" => vec![0; 2 * spatial],
        "custom" => node.args.extents("pad", 2 * spatial, 0, 0)?,
        _ => vec![usize::MAX / 4; 2 * spatial],
    };
    let missing = 3 - spatial;
    Ok(std::array::from_fn(|i| if i < missing { 0 } else { pad[2 * (i - missing) + 1] }))
}

enum Pool {
    Max,
    L2,
    /// Padding counts, unless it is excluded; what a window of `ceil_mode` has beyond the padding never does.
    Average {
        exclude: bool,
        behind: [usize; 3],
    },
}

impl Pool {
    fn of(&self, x: &[f32], window: &Window, at: [usize; 3]) -> f32 {
        let [_, height, width] = window.input;
        let (mut seen, mut total, mut max) = (0usize, 0.0f32, f32::NEG_INFINITY);
        for z in window.taps_on(0, at[0]) {
            let Some(z) = window.on(0, at[0], z) else { continue };
            for y in window.taps_on(1, at[1]) {
                let Some(y) = window.on(1, at[1], y) else { continue };
                for i in window.taps_on(2, at[2]) {
                    let Some(i) = window.on(2, at[2], i) else { continue };
                    let value = x[(z * height + y) * width + i];
                    seen += 1;
                    total += if matches!(self, Self::L2) { value * value } else { value };
                    max = larger(value, max);
                }
            }
        }
        match self {
            Self::Max => max,
            Self::L2 => total.sqrt(),
            Self::Average { exclude: true, .. } => total / seen as f32,
            Self::Average { exclude: false, behind } => {
                let covered = |axis: usize| {
                    let begin = at[axis] * window.stride[axis];
                    let end = window.before[axis] + window.input[axis] + behind[axis];
                    window.kernel[axis].min(end - begin)
                };
                total / (covered(0) * covered(1) * covered(2)) as f32
            }
        }
    }
}
