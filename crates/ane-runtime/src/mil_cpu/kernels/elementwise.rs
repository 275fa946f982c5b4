//! Elementwise operations.

use std::cmp::Ordering;

use mlpackage::{DType, Shape};

use super::strided::{Strided, broadcast_strides};
use super::{Call, Lowered, Node, pairs};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    Ok(match node.op {
        "logical_not" => Some(Lowered::new(&["x"], |call| {
            let x = call.words(0);
            pairs(call.out(), x).for_each(|(out, x)| *out = u32::from(*x == 0));
        })),
        "cast" => Some(cast(node)?),
        "select" => Some(select(node)?),
        _ => match unary(node)? {
            Some(lowered) => Some(lowered),
            None => binary(node)?,
        },
    })
}

/// Applies `f` to each float.
pub(super) fn map(f: impl Fn(f32) -> f32 + Send + Sync + 'static) -> Lowered {
    Lowered::new(&["x"], move |call| {
        let x = call.f32(0);
        pairs(call.out_f32(), x).for_each(|(out, x)| *out = f(*x));
    })
}

fn map_i32(f: impl Fn(i32) -> i32 + Send + Sync + 'static) -> Lowered {
    Lowered::new(&["x"], move |call| {
        let x = call.i32(0);
        pairs(call.out_i32(), x).for_each(|(out, x)| *out = f(*x));
    })
}

fn takes_floats(node: &Node<'_>) -> bool {
    node.args.get("x").is_some_and(|x| x.ty.dtype.is_float())
}

fn unary(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    if node.op == "identity" {
        return Ok(Some(Lowered::new(&["x"], |call| {
            let x = call.words(0);
            call.out().copy_from_slice(x);
        })));
    }
    if !takes_floats(node) {
        return unary_of_integers(node);
    }
    let epsilon = |default: f32| node.args.float_or("epsilon", default);
    Ok(Some(match node.op {
        "abs" => map(f32::abs),
        "acos" => map(f32::acos),
        "asin" => map(f32::asin),
        "atan" => map(f32::atan),
        "atanh" => map(f32::atanh),
        "ceil" => map(f32::ceil),
        "cos" => map(f32::cos),
        "cosh" => map(f32::cosh),
        "erf" => map(libm::erff),
        "exp" => map(f32::exp),
        "exp2" => map(f32::exp2),
        "floor" => map(f32::floor),
        // Rounds ties to even, as NumPy and PyTorch do.
        "round" => map(f32::round_ties_even),
        "sign" => map(sign),
        "sin" => map(f32::sin),
        "sinh" => map(f32::sinh),
        "sqrt" => map(f32::sqrt),
        "square" => map(|x| x * x),
        "tan" => map(f32::tan),
        "tanh" => map(f32::tanh),
        "rsqrt" => {
            let epsilon = epsilon(1e-12)?;
            map(move |x| 1.0 / (x + epsilon).sqrt())
        }
        "inverse" => {
            let epsilon = epsilon(1e-4)?;
            map(move |x| 1.0 / (x + epsilon))
        }
        "log" => {
            let epsilon = epsilon(1e-45)?;
            map(move |x| (x + epsilon).ln())
        }
        "clip" => {
            let (low, high) = (node.args.float_or("alpha", f32::MIN)?, node.args.float_or("beta", f32::MAX)?);
            // Keeps NaN, which compares with nothing. If the bounds are not in order, the upper one counts.
            map(move |x| {
                let raised = if x < low { low } else { x };
                if raised > high { high } else { raised }
            })
        }
        "threshold" => {
            let alpha = node.args.float_or("alpha", 0.0)?;
            map(move |x| if x < alpha { alpha } else { x })
        }
        _ => return Ok(None),
    }))
}

fn unary_of_integers(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    Ok(match node.op {
        "abs" => Some(map_i32(i32::wrapping_abs)),
        "exp2" => Some(map_i32(|x| u32::try_from(x).map_or(0, |x| 1i32.checked_shl(x).unwrap_or(0)))),
        "sign" => Some(map_i32(i32::signum)),
        "square" => Some(map_i32(|x| x.wrapping_mul(x))),
        "threshold" => {
            let alpha = node.args.int("alpha")?.ok_or("threshold without alpha")?;
            Some(map_i32(move |x| x.max(alpha)))
        }
        _ => None,
    })
}

/// Returns the sign of `x` as -1 or 1. Zero and NaN are returned unchanged.
fn sign(x: f32) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        x
    }
}

/// Two operands that are broadcast to one shape.
struct Pairs {
    walk: Strided<2>,
}

impl Pairs {
    fn of(node: &Node<'_>) -> Result<Self, String> {
        let (x, y, shape) = (node.shape("x")?, node.shape("y")?, node.result());
        let strides = [&x, &y].map(|from: &Shape| broadcast_strides(from.dims(), shape.dims()));
        Ok(Self { walk: Strided::new(shape.dims(), [&strides[0], &strides[1]], [0, 0]) })
    }

    fn zip<T: Copy, R>(&self, x: &[T], y: &[T], out: &mut [R], f: impl Fn(T, T) -> R) {
        let mut written = 0;
        self.walk.rows(|[i, j], n, strides| {
            let out = &mut out[written..written + n];
            written += n;
            match strides {
                [1, 1] => {
                    let pairs = x[i..i + n].iter().zip(&y[j..j + n]);
                    out.iter_mut().zip(pairs).for_each(|(out, (x, y))| *out = f(*x, *y));
                }
                [1, 0] => out.iter_mut().zip(&x[i..i + n]).for_each(|(out, x)| *out = f(*x, y[j])),
                [0, 1] => out.iter_mut().zip(&y[j..j + n]).for_each(|(out, y)| *out = f(x[i], *y)),
                [dx, dy] => {
                    for (k, out) in out.iter_mut().enumerate() {
                        let k = k as isize;
                        *out = f(x[(i as isize + k * dx) as usize], y[(j as isize + k * dy) as usize]);
                    }
                }
            }
        });
    }
}

fn binary(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    for lower in [arithmetic, comparison, logical] {
        if let Some(lowered) = lower(node)? {
            return Ok(Some(lowered));
        }
    }
    Ok(None)
}

fn arithmetic(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    type Floats = fn(f32, f32) -> f32;
    type Ints = fn(i32, i32) -> i32;
    let (floats, ints): (Floats, Ints) = match node.op {
        "add" => (|x, y| x + y, i32::wrapping_add),
        "sub" => (|x, y| x - y, i32::wrapping_sub),
        "mul" => (|x, y| x * y, i32::wrapping_mul),
        "real_div" => (|x, y| x / y, |x, y| if y == 0 { 0 } else { x.wrapping_div(y) }),
        "floor_div" => (|x, y| (x / y).floor(), floor_div),
        "mod" => (modulo, |x, y| x.wrapping_sub(floor_div(x, y).wrapping_mul(y))),
        "maximum" => (larger, i32::max),
        "minimum" => (|x, y| -larger(-x, -y), i32::min),
        "pow" => (f32::powf, power),
        _ => return Ok(None),
    };
    let pairs = Pairs::of(node)?;
    Ok(Some(if takes_floats(node) {
        Lowered::new(&["x", "y"], move |call| {
            let (x, y) = (call.f32(0), call.f32(1));
            pairs.zip(x, y, call.out_f32(), floats);
        })
    } else {
        Lowered::new(&["x", "y"], move |call| {
            let (x, y) = (call.i32(0), call.i32(1));
            pairs.zip(x, y, call.out_i32(), ints);
        })
    }))
}

fn comparison(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    // The order of two floats is `None` if one of them is NaN.
    let holds: fn(Option<Ordering>) -> bool = match node.op {
        "equal" => |order| order.is_some_and(Ordering::is_eq),
        "not_equal" => |order| order.is_none_or(Ordering::is_ne),
        "less" => |order| order.is_some_and(Ordering::is_lt),
        "less_equal" => |order| order.is_some_and(Ordering::is_le),
        "greater" => |order| order.is_some_and(Ordering::is_gt),
        "greater_equal" => |order| order.is_some_and(Ordering::is_ge),
        _ => return Ok(None),
    };
    let (pairs, floats) = (Pairs::of(node)?, takes_floats(node));
    Ok(Some(Lowered::new(&["x", "y"], move |call: &mut Call<'_, '_>| {
        if floats {
            let (x, y) = (call.f32(0), call.f32(1));
            pairs.zip(x, y, call.out(), |x, y| u32::from(holds(x.partial_cmp(&y))));
        } else {
            let (x, y) = (call.i32(0), call.i32(1));
            pairs.zip(x, y, call.out(), |x, y| u32::from(holds(Some(x.cmp(&y)))));
        }
    })))
}

fn logical(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    let f: fn(u32, u32) -> u32 = match node.op {
        "logical_and" => |x, y| x & y,
        "logical_or" => |x, y| x | y,
        "logical_xor" => |x, y| x ^ y,
        _ => return Ok(None),
    };
    let pairs = Pairs::of(node)?;
    Ok(Some(Lowered::new(&["x", "y"], move |call| {
        let (x, y) = (call.words(0), call.words(1));
        pairs.zip(x, y, call.out(), f);
    })))
}

/// Returns the larger of two values, or NaN if one of them is NaN.
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// Returns `x - floor(x / y) * y`, which has the sign of `y`.
fn modulo(x: f32, y: f32) -> f32 {
    let rest = x % y;
    if rest != 0.0 && (rest < 0.0) != (y < 0.0) { rest + y } else { rest }
}

/// Divides and rounds towards negative infinity; 0 if `y` is 0. The smallest integer divided by -1 wraps
/// around to itself, as in NumPy.
fn floor_div(x: i32, y: i32) -> i32 {
    if y == 0 {
        return 0;
    }
    let (quotient, rest) = (x.wrapping_div(y), x.wrapping_rem(y));
    if rest != 0 && (rest < 0) != (y < 0) { quotient - 1 } else { quotient }
}

/// Raises `x` to the power `y`. Overflow wraps around; a negative power returns the truncated quotient.
fn power(x: i32, y: i32) -> i32 {
    match (u32::try_from(y), x) {
        (Ok(y), _) => x.wrapping_pow(y),
        (Err(_), 1) => 1,
        (Err(_), -1) => {
            if y % 2 == 0 {
                1
            } else {
                -1
            }
        }
        (Err(_), _) => 0,
    }
}

/// Returns the bounds of an integer type that is narrower than 32 bits.
fn bounds(dtype: DType) -> Option<(i32, i32)> {
    match dtype {
        DType::Int8 => Some((-128, 127)),
        DType::Uint8 => Some((0, 255)),
        DType::Int16 => Some((-32_768, 32_767)),
        DType::Uint16 => Some((0, 65_535)),
        _ => None,
    }
}

/// Lowers `cast`. Floats that become integers are truncated towards zero, values are limited to the range of
/// an integer type, and NaN becomes the integer 0.
fn cast(node: &Node<'_>) -> Result<Lowered, String> {
    let (from, to) = (node.dtype("x")?, node.results[0].0);
    if [from, to].contains(&DType::String) {
        return Err("cast of strings".into());
    }
    let (low, high) = bounds(to).unwrap_or((i32::MIN, i32::MAX));
    // Every result is rounded elsewhere if the numerics round to fp16, but a cast to fp16 rounds under all
    // numerics.
    let half = to == DType::Fp16;
    Ok(Lowered::new(&["x"], move |call| {
        let x = call.words(0);
        match (from.is_float(), to.is_float()) {
            (true, true) => call.out().copy_from_slice(x),
            (true, false) if to == DType::Bool => {
                let x = call.f32(0);
                pairs(call.out(), x).for_each(|(out, x)| *out = u32::from(*x != 0.0));
            }
            (true, false) => {
                let x = call.f32(0);
                pairs(call.out_i32(), x).for_each(|(out, x)| *out = (*x as i32).clamp(low, high));
            }
            (false, true) => {
                let x = call.i32(0);
                pairs(call.out_f32(), x).for_each(|(out, x)| *out = *x as f32);
            }
            (false, false) if to == DType::Bool => {
                pairs(call.out(), x).for_each(|(out, x)| *out = u32::from(*x != 0));
            }
            (false, false) => {
                let x = call.i32(0);
                pairs(call.out_i32(), x).for_each(|(out, x)| *out = (*x).clamp(low, high));
            }
        }
        if half {
            crate::mil_cpu::numerics::round_to_half(call.out_f32());
        }
    }))
}

fn select(node: &Node<'_>) -> Result<Lowered, String> {
    let shape = node.result();
    let strides = |name: &str| Ok::<_, String>(broadcast_strides(node.shape(name)?.dims(), shape.dims()));
    let strides = [strides("cond")?, strides("a")?, strides("b")?];
    let walk = Strided::new(shape.dims(), [&strides[0], &strides[1], &strides[2]], [0; 3]);
    Ok(Lowered::new(&["cond", "a", "b"], move |call| {
        let (cond, a, b) = (call.words(0), call.words(1), call.words(2));
        let out = call.out();
        let mut written = 0;
        walk.rows(|at, n, strides| {
            for k in 0..n {
                let [c, i, j] = std::array::from_fn(|t| (at[t] as isize + k as isize * strides[t]) as usize);
                out[written] = if cond[c] != 0 { a[i] } else { b[j] };
                written += 1;
            }
        });
    }))
}
