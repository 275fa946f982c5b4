//! Operations that create tensors from shapes and values.

use mlpackage::DType;
use mlpackage::mil::Value;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{Lowered, Node, pairs};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    Ok(Some(match node.op {
        "shape" => {
            let dims = node.shape("x")?;
            Lowered::new(&[], move |call| {
                pairs(call.out_i32(), dims.dims()).for_each(|(out, d)| *out = *d as i32);
            })
        }
        "fill" | "fill_like" => {
            let word = word_of(node, "value", 0.0)?;
            Lowered::new(&[], move |call| call.out().fill(word))
        }
        "range_1d" => range_1d(node)?,
        "one_hot" => one_hot(node)?,
        "band_part" => band_part(node)?,
        "non_zero" => non_zero(node)?,
        "random_bernoulli" => {
            let prob = node.args.float_or("prob", 0.5)?;
            random(node, move |rng| f32::from(u8::from(rng.random::<f32>() < prob)))?
        }
        "random_normal" => {
            let (mean, stddev) = (node.args.float_or("mean", 0.0)?, node.args.float_or("stddev", 1.0)?);
            random(node, move |rng| mean + stddev * normal(rng))?
        }
        "random_uniform" => {
            let (low, high) = (node.args.float_or("low", 0.0)?, node.args.float_or("high", 1.0)?);
            let below = largest_below(high, node.results[0].0);
            // Rounding may raise the sum to the upper bound, which is exclusive.
            random(node, move |rng| {
                let drawn = low + (high - low) * rng.random::<f32>();
                if low < high && drawn > below { below } else { drawn }
            })?
        }
        "random_categorical" => random_categorical(node)?,
        _ => return Ok(None),
    }))
}

/// Returns a scalar argument of the result's type as a word.
fn word_of(node: &Node<'_>, name: &str, default: f32) -> Result<u32, String> {
    let Some(value) = node.args.get(name).map(|arg| arg.value) else {
        return Ok(if node.results[0].0.is_float() { default.to_bits() } else { default as i32 as u32 });
    };
    let value = value.ok_or_else(|| format!("{} with a computed {name}", node.op))?;
    word(value).ok_or_else(|| format!("{} of {}", node.op, value.ty))
}

/// Returns the first element of a constant as a word.
fn word(value: &Value) -> Option<u32> {
    let bool = value.as_bools().and_then(|b| b.first()).map(|b| u32::from(*b));
    let int = value.to_ints().and_then(|v| v.first().copied()).map(|v| v as u32);
    bool.or(int).or_else(|| value.as_float().map(f32::to_bits))
}

fn range_1d(node: &Node<'_>) -> Result<Lowered, String> {
    let is_float = node.results[0].0.is_float();
    Ok(Lowered::new(&["start", "step"], move |call| {
        if is_float {
            let (start, step) = (call.f32(0)[0], call.f32(1)[0]);
            call.out_f32().iter_mut().enumerate().for_each(|(i, out)| *out = start + i as f32 * step);
        } else {
            let (start, step) = (call.i32(0)[0], call.i32(1)[0]);
            let value = |i: usize| start.wrapping_add(step.wrapping_mul(i as i32));
            call.out_i32().iter_mut().enumerate().for_each(|(i, out)| *out = value(i));
        }
    }))
}

/// Lowers `one_hot`. An index out of range selects no element: all of them are `off_value`.
fn one_hot(node: &Node<'_>) -> Result<Lowered, String> {
    let shape = node.result();
    let axis = node.axis("axis", &shape, -1)?;
    let inner: usize = shape.dims()[axis + 1..].iter().product();
    let size = shape.dims()[axis];
    let (on, off) = (word_of(node, "on_value", 1.0)?, word_of(node, "off_value", 0.0)?);
    Ok(Lowered::new(&["indices"], move |call| {
        let indices = call.i32(0);
        let out = call.out();
        out.fill(off);
        for (i, &index) in indices.iter().enumerate() {
            if let Some(at) = usize::try_from(index).ok().filter(|at| *at < size) {
                out[(i / inner * size + at) * inner + i % inner] = on;
            }
        }
    }))
}

/// Lowers `band_part`: zeros outside of a band around the diagonal of the last two axes. A negative bound
/// keeps everything on its side.
fn band_part(node: &Node<'_>) -> Result<Lowered, String> {
    let x = node.shape("x")?;
    let [rows, columns] = [x.dims()[x.rank() - 2], x.dims()[x.rank() - 1]];
    let lower = node.args.int("lower")?.unwrap_or(-1);
    let upper = node.args.int("upper")?.unwrap_or(-1);
    Ok(Lowered::new(&["x"], move |call| {
        let x = call.words(0);
        for (i, (out, x)) in pairs(call.out(), x).enumerate() {
            let (row, column) = ((i / columns % rows) as i64, (i % columns) as i64);
            let inside = (lower < 0 || row - column <= i64::from(lower))
                && (upper < 0 || column - row <= i64::from(upper));
            *out = if inside { *x } else { 0 };
        }
    }))
}

/// Lowers `non_zero`: the positions of all non-zero elements, `[count, rank]`. The caller has counted them.
fn non_zero(node: &Node<'_>) -> Result<Lowered, String> {
    let x = node.shape("x")?;
    let is_float = node.dtype("x")?.is_float();
    Ok(Lowered::new(&["x"], move |call| {
        let words = call.words(0);
        let mut places = call.out_i32().chunks_exact_mut(x.rank().max(1));
        for (i, _) in words.iter().enumerate().filter(|(_, word)| is_non_zero(**word, is_float)) {
            let Some(place) = places.next() else { break };
            let mut rest = i;
            for axis in (0..x.rank()).rev() {
                place[axis] = (rest % x.dims()[axis]) as i32;
                rest /= x.dims()[axis];
            }
        }
    }))
}

/// Returns whether an element is non-zero. Negative zero is zero.
pub(in crate::mil_cpu) fn is_non_zero(word: u32, is_float: bool) -> bool {
    if is_float { f32::from_bits(word) != 0.0 } else { word != 0 }
}

/// Fills the result with random values, the same in every call for a seed, and different ones for -1. They
/// differ from Core ML's.
fn random(
    node: &Node<'_>,
    draw: impl Fn(&mut ChaCha8Rng) -> f32 + Send + Sync + 'static,
) -> Result<Lowered, String> {
    let seed = u64::try_from(node.args.int("seed")?.unwrap_or(-1)).ok();
    debug_assert!(matches!(node.results[0].0, DType::Fp16 | DType::Fp32));
    Ok(Lowered::new(&[], move |call| {
        let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        call.out_f32().iter_mut().for_each(|out| *out = draw(&mut rng));
    }))
}

/// Returns the largest value below `bound` that an element type can hold.
fn largest_below(bound: f32, dtype: DType) -> f32 {
    if dtype != DType::Fp16 {
        return bound.next_down();
    }
    // The bits of fp16 values are ordered by magnitude.
    let half = half::f16::from_f32(bound);
    if half.to_f32() < bound {
        return half.to_f32();
    }
    let bits = half.to_bits();
    let bits = match bits {
        0 | 0x8000 => 0x8001,
        bits if bits & 0x8000 == 0 => bits - 1,
        bits => bits + 1,
    };
    half::f16::from_bits(bits).to_f32()
}

/// Draws indices along the last axis of `x`, each in proportion to its share: the exponential of a logit, or
/// the probability itself. Draws the first index if no share is positive.
fn random_categorical(node: &Node<'_>) -> Result<Lowered, String> {
    let seed = u64::try_from(node.args.int("seed")?.unwrap_or(-1)).ok();
    let logits = node.args.string("mode")?.unwrap_or("logits") == "logits";
    let (x, result) = (node.shape("x")?, node.result());
    let last = |shape: &mlpackage::Shape| shape.dims()[shape.rank() - 1];
    let (classes, draws) = (last(&x), last(&result));
    let lowered = Lowered::new(&["x"], move |call| {
        let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let x = call.f32(0);
        let scratch = std::mem::take(&mut call.scratch);
        for (x, out) in x.chunks_exact(classes).zip(call.out_f32().chunks_exact_mut(draws)) {
            let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut total = 0.0;
            // Cumulative sums of the shares.
            for (sum, x) in scratch.iter_mut().zip(x) {
                let share = if logits { (x - largest).exp() } else { *x };
                total += if share > 0.0 { share } else { 0.0 };
                *sum = total;
            }
            let sums = &scratch[..classes];
            for out in out {
                let at = rng.random::<f32>() * total;
                // The last index with a share, in case rounding raises the product to the total.
                let last = sums.partition_point(|sum| *sum < total);
                *out = sums.partition_point(|sum| *sum <= at).min(last) as f32;
            }
        }
    });
    Ok(lowered.scratch(classes))
}

/// Returns a standard normal value, by the Box-Muller transform.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v) = (1.0 - rng.random::<f32>(), rng.random::<f32>());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}
