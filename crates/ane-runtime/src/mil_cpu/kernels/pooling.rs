//! Pooling: one result for each window.
//!
//! The part of a window beyond the elements of `x` is padding, whether `pad` states it, `same` needs it, or
//! `ceil_mode` lets the last window overhang. `max_pool` and `l2_pool` skip padding; `avg_pool` counts it as
//! zeros, unless `exclude_padding_from_average` is true. PyTorch differs: it excludes from the divisor the
//! part that `ceil_mode` adds. Core ML was measured not to: issue 2772 and pull request 2844 of
//! apple/coremltools.

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
    let exclude = node.op == "avg_pool" && node.args.bool_or("exclude_padding_from_average", false)?;
    let pool = match node.op {
        "max_pool" => Pool::Max,
        "l2_pool" => Pool::L2,
        _ if exclude => Pool::AverageOfElements,
        _ => Pool::AverageOfWindow,
    };
    Ok(Some(Lowered::new(&["x"], move |call| {
        let x = call.f32(0);
        let (inputs, places) = (window.inputs(), window.places());
        assert_eq!(x.len() * places, call.results[0].len() * inputs, "as many planes as results");
        for (x, out) in x.chunks_exact(inputs).zip(call.out_f32().chunks_exact_mut(places)) {
            for (place, out) in out.iter_mut().enumerate() {
                let [_, height, width] = window.output;
                let at = [place / (height * width), place / width % height, place % width];
                *out = pool.of(x, &window, at);
            }
        }
    })))
}

enum Pool {
    Max,
    L2,
    /// Padding counts as zeros.
    AverageOfWindow,
    /// Padding does not count. A window of only padding results in 0 / 0.
    AverageOfElements,
}

impl Pool {
    fn of(&self, x: &[f32], window: &Window, at: [usize; 3]) -> f32 {
        let [_, height, width] = window.input;
        let (mut seen, mut total, mut max) = (0usize, 0.0f64, f32::NEG_INFINITY);
        for z in window.taps_on(0, at[0]) {
            let Some(z) = window.on(0, at[0], z) else { continue };
            for y in window.taps_on(1, at[1]) {
                let Some(y) = window.on(1, at[1], y) else { continue };
                for i in window.taps_on(2, at[2]) {
                    let Some(i) = window.on(2, at[2], i) else { continue };
                    let value = x[(z * height + y) * width + i];
                    seen += 1;
                    let wide = f64::from(value);
                    total += if matches!(self, Self::L2) { wide * wide } else { wide };
                    max = larger(value, max);
                }
            }
        }
        match self {
            Self::Max => max,
            Self::L2 => total.sqrt() as f32,
            Self::AverageOfWindow => {
                (total / window.kernel.iter().map(|extent| *extent as f64).product::<f64>()) as f32
            }
            Self::AverageOfElements => (total / seen as f64) as f32,
        }
    }
}
