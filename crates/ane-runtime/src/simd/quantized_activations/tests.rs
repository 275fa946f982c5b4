//! Attempts to break the bound that [`Fixed`] states, compared with double precision.

use proptest::prelude::*;

use super::super::fixed_point::LARGEST;
use super::super::{Matrix, Vector};
use super::*;

/// Returns the bound of each element, as the documentation of [`Fixed`] states it.
fn bounds(x: &[f32]) -> Vec<f64> {
    let of_block = |x: &[f32]| {
        let mut magnitudes: Vec<f64> = x.iter().map(|v| f64::from(v.abs())).filter(|v| *v > 0.0).collect();
        magnitudes.sort_by(|a, b| b.total_cmp(a));
        let (Some(largest), half) = (magnitudes.first(), magnitudes.len().div_ceil(2)) else {
            return vec![0.0; x.len()];
        };
        let bound = (magnitudes[half - 1] * 2f64.powi(-11)).max(largest * 2f64.powi(-44));
        vec![bound.max(2f64.powi(-126)); x.len()]
    };
    x.chunks(BLOCK).flat_map(of_block).collect()
}

/// Returns the exact sums of the terms.
fn elements(fixed: &Fixed<'_>) -> Vec<f64> {
    let mut elements = vec![0.0; fixed.len];
    for (block, out) in elements.chunks_mut(BLOCK).enumerate() {
        for (term, step) in fixed.steps(block).enumerate() {
            for (i, out) in out.iter_mut().enumerate() {
                let number = match fixed.numbers {
                    Numbers::Whole(_) => i32::from(fixed.whole(block, term)[i]),
                    Numbers::Limbs(..) => {
                        let limbs = fixed.limbs(block, term);
                        128 * i32::from(limbs.high[i]) + i32::from(limbs.low[i])
                    }
                };
                assert!(number.abs() <= LARGEST as i32);
                *out += f64::from(step) * f64::from(number);
            }
        }
    }
    elements
}

/// Runs `f` on `x` in fixed point, with each instruction set.
fn with_each(x: &[f32], mut f: impl FnMut(Isa, Fixed<'_>)) {
    for isa in Isa::all() {
        let mut memory = vec![f32::NAN; FixedBuffer::words(x.len())];
        f(isa, FixedBuffer::new(&mut memory, x.len()).round(isa, x));
    }
}

/// Returns the number of terms of each block.
fn terms(x: &[f32]) -> Vec<usize> {
    let mut all = Vec::new();
    with_each(x, |isa, fixed| {
        let terms: Vec<usize> = (0..blocks(x.len())).map(|block| fixed.steps(block).count()).collect();
        assert!(all.is_empty() || all == terms, "{isa:?}: {terms:?}, before {all:?}");
        all = terms;
    });
    all
}

/// Returns values from -1 to 1.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The kind of most elements of a block.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Zero,
    Noise,
    /// Half of the elements are zero, as after ReLU.
    Rectified,
    AlternatingSigns,
    /// Random powers of two, over a range of `2^40`.
    PowersOfTwo,
    /// Products of three values: many are small.
    HeavyTailed,
}

/// Generates a block with elements of about `2^exponent`, and outliers of any size at any position.
fn block(len: usize, exponents: std::ops::Range<i32>) -> impl Strategy<Value = Vec<f32>> {
    let kinds = [
        Kind::Zero,
        Kind::Noise,
        Kind::Rectified,
        Kind::AlternatingSigns,
        Kind::PowersOfTwo,
        Kind::HeavyTailed,
    ];
    let outlier = (0..len, exponents.clone(), any::<bool>());
    // Mostly a few, sometimes more than half of the block.
    let outliers = prop_oneof![
        4 => prop::collection::vec(outlier.clone(), 0..4),
        1 => prop::collection::vec(outlier, 0..2 * len),
    ];
    (prop::sample::select(kinds.to_vec()), exponents.clone(), any::<u64>(), outliers).prop_map(
        move |(kind, exponent, seed, outliers)| {
            let size = 2f64.powi(exponent);
            let [a, b, c] = [1, 2, 3].map(|i| noise(len, seed.wrapping_add(i)));
            let element = |i: usize| match kind {
                Kind::Zero => 0.0,
                Kind::Noise => f64::from(a[i]),
                Kind::Rectified => f64::from(a[i].max(0.0)),
                Kind::AlternatingSigns => 1.0 - 2.0 * (i % 2) as f64,
                Kind::PowersOfTwo => 2f64.powi(-((f64::from(a[i] + 1.0) * 20.0) as i32)),
                Kind::HeavyTailed => f64::from(a[i]) * f64::from(b[i]) * f64::from(c[i]),
            };
            let mut x: Vec<f32> = (0..len).map(|i| (size * element(i)) as f32).collect();
            for (at, exponent, negative) in outliers {
                let sign = if negative { -1.0 } else { 1.0 };
                x[at] = (sign * (1.0 + f64::from(b[at].abs())) * 2f64.powi(exponent)) as f32;
            }
            x
        },
    )
}

/// Generates up to two whole independent blocks, and part of another.
fn vectors_of(exponents: std::ops::Range<i32>) -> impl Strategy<Value = Vec<f32>> {
    let whole = prop::collection::vec(block(BLOCK, exponents.clone()), 0..3);
    let part = (1usize..BLOCK).prop_flat_map(move |len| block(len, exponents.clone()));
    (whole, part).prop_map(|(whole, part)| whole.into_iter().flatten().chain(part).collect())
}

/// Kinds of weights.
#[derive(Clone, Copy, Debug)]
enum Weights {
    Any,
    /// 0 for the larger half of the elements of a block, so that only the others count.
    ZeroAtOutliers,
    /// 0 for all but the smallest.
    SmallestOnly,
    /// The largest weights, with the signs of the elements, so that no products cancel.
    Largest,
}

fn weights(kind: Weights, x: &[f32], seed: u64) -> Vec<i8> {
    let random: Vec<i8> = noise(x.len(), seed).iter().map(|v| (v * 128.0) as i8).collect();
    let rows = x.chunks(BLOCK).zip(random.chunks(BLOCK)).flat_map(|(x, random)| {
        let mut magnitudes: Vec<f32> = x.iter().map(|v| v.abs()).filter(|v| *v > 0.0).collect();
        magnitudes.sort_by(f32::total_cmp);
        let smallest = magnitudes.first().copied().unwrap_or(0.0);
        let middle = magnitudes.get(magnitudes.len() / 2).copied().unwrap_or(0.0);
        let weight = move |(x, random): (&f32, &i8)| match kind {
            Weights::Any => *random,
            Weights::ZeroAtOutliers => {
                if x.abs() > middle {
                    0
                } else {
                    *random
                }
            }
            Weights::SmallestOnly => {
                if x.abs() > smallest {
                    0
                } else {
                    *random
                }
            }
            Weights::Largest => {
                if *x < 0.0 {
                    -128
                } else {
                    127
                }
            }
        };
        x.iter().zip(random).map(weight).collect::<Vec<i8>>()
    });
    rows.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Every element keeps its bound, from the smallest f32 to 2^127, and all instruction sets compute the same
    /// terms.
    #[test]
    fn elements_keep_their_bound(x in vectors_of(-150..128)) {
        // Beyond, a step times an integer may be infinite.
        let most = 2f32.powi(127).next_down();
        let x: Vec<f32> = x.iter().map(|v| v.clamp(-most, most)).collect();
        let bounds = bounds(&x);
        let mut before: Option<Vec<f64>> = None;
        with_each(&x, |isa, fixed| {
            let found = elements(&fixed);
            for (i, (found, x)) in found.iter().zip(&x).enumerate() {
                let error = (found - f64::from(*x)).abs();
                assert!(error <= bounds[i], "{isa:?}, element {i}: {found:e} for {x:e}, {error:e} > {:e}", bounds[i]);
            }
            if let Some(before) = &before {
                assert_eq!(before, &found, "{isa:?}");
            }
            before = Some(found);
        });
    }

    /// Every product with a row of weights keeps its bound, whatever the weights are. One vector, several
    /// vectors and all instruction sets return the same bits.
    #[test]
    fn products_keep_their_bound(
        // Limited so that no sum of products leaves the range of f32.
        x in vectors_of(-150..105),
        y in vectors_of(-10..10),
        kinds in prop::collection::vec(prop::sample::select(
            vec![Weights::Any, Weights::ZeroAtOutliers, Weights::SmallestOnly, Weights::Largest]), 1..7),
        seed in any::<u64>(),
    ) {
        let len = x.len();
        let y: Vec<f32> = y.into_iter().cycle().take(len).collect();
        let rows: Vec<Vec<i8>> = kinds.iter().zip(seed..).map(|(kind, seed)| weights(*kind, &x, seed)).collect();
        let matrix = rows.concat();
        let bounds = bounds(&x);
        let mut before: Option<Vec<f32>> = None;
        for isa in Isa::all() {
            let mut memory = vec![vec![f32::NAN; FixedBuffer::words(len)]; 2];
            let [of_x, of_y] = memory.as_mut_slice() else { unreachable!() };
            let fixed = FixedBuffer::new(of_x, len).round(isa, &x);
            let other = FixedBuffer::new(of_y, len).round(isa, &y);
            let times = |fixed| {
                let mut out = vec![f32::NAN; rows.len()];
                Matrix::Int8(&matrix).matvec(isa, 0, Vector::Fixed(fixed), &mut out);
                out
            };
            let out = times(fixed);
            for ((out, row), kind) in out.iter().zip(&rows).zip(&kinds) {
                let products = || row.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                let (exact, sum): (f64, f64) = (products().sum(), products().map(f64::abs).sum());
                let bound: f64 = row.iter().zip(&bounds).map(|(w, bound)| f64::from(*w).abs() * bound).sum();
                // Each term is rounded to f32, multiplied and added; f64 sums up to 3,000 products.
                let terms = (TERMS * blocks(len)) as f64;
                let rounding = (terms + 2.0) * 2f64.powi(-24) * (sum + bound) + 2f64.powi(-140);
                let error = (f64::from(*out) - exact).abs();
                prop_assert!(error <= bound + rounding, "{:?} {:?}: {} for {}, {} > {} + {}", isa, kind, out, exact, error, bound, rounding);
            }
            let vectors = [fixed, other, fixed, fixed, other].map(Vector::Fixed);
            let mut many = vec![vec![f32::NAN; rows.len()]; vectors.len()];
            let mut slices: Vec<&mut [f32]> = many.iter_mut().map(Vec::as_mut_slice).collect();
            Matrix::Int8(&matrix).matvec_all(isa, 0, &vectors, &mut slices);
            let alone = times(other);
            prop_assert_eq!(&many, &[&out, &alone, &out, &out, &alone].map(Vec::clone));
            if let Some(before) = before.replace(out.clone()) {
                prop_assert_eq!(before, out, "{:?}", isa);
            }
        }
    }

    /// The remainder of a term is exact, so later terms see every bit of the element.
    #[test]
    fn what_a_term_leaves_is_exact(x in vectors_of(-150..127)) {
        let x = &x[..x.len().min(BLOCK)];
        for isa in Isa::all() {
            let mut memory = vec![0i16; padded(x.len())];
            let mut terms = Terms { isa, len: x.len(), numbers: Unfilled::Whole(&mut memory) };
            let step = terms.round(0, 0, x);
            let mut left = x.to_vec();
            terms.subtract(0, 0, step, &mut left);
            let Unfilled::Whole(numbers) = terms.numbers else { unreachable!() };
            for ((left, number), x) in left.iter().zip(&*numbers).zip(x) {
                prop_assert_eq!(f64::from(*left), f64::from(*x) - f64::from(step) * f64::from(*number));
            }
        }
    }
}

/// Blocks without outliers, as models usually have them, need one term. There are vectors of 40 sizes, from
/// 64 to 1,000 elements.
#[test]
fn ordinary_blocks_have_one_term() {
    for seed in 0..40u64 {
        let len = 64 + 24 * seed as usize;
        let uniform = [0, 1, 2, 3, 4, 5].map(|i| noise(len, 6 * seed + i));
        // The sum of six uniform values is nearly normal.
        let normal: Vec<f32> = (0..len).map(|i| uniform.iter().map(|u| u[i]).sum()).collect();
        let rectified: Vec<f32> = normal.iter().map(|v| v.max(0.0)).collect();
        let exponential: Vec<f32> = uniform[0].iter().map(|u| -((u.abs()).max(1e-7)).ln()).collect();
        for x in [&uniform[0], &normal, &rectified, &exponential] {
            assert_eq!(terms(x), [1], "{len}: {x:?}");
        }
    }
}

/// One outlier among elements of up to 1: the larger it is, the more terms there are.
#[test]
fn outliers_take_more_terms() {
    for (outlier, expected) in [(4.0, 1), (300.0, 2), (30_000.0, 2), (-3e7, 3), (1e30, 3)] {
        for at in [0, 255, 1023] {
            let mut x = noise(BLOCK, 1);
            x[at] = outlier;
            assert_eq!(terms(&x), [expected], "{outlier}");
        }
    }
    // Blocks are independent, and an outlier among zeros needs no second term.
    let mut x = noise(3 * BLOCK, 2);
    x[BLOCK] = 300.0;
    x[2 * BLOCK..].fill(0.0);
    x[2 * BLOCK + 7] = 3e4;
    assert_eq!(terms(&x), [1, 2, 1]);
}

/// The largest sum that 32 bits have to hold: a whole block of the largest weights and integers. The step is
/// 1.
#[test]
fn a_block_of_the_largest_numbers_does_not_overflow() {
    for sign in [1.0f32, -1.0] {
        with_each(&[LARGEST * sign; BLOCK], |isa, fixed| {
            let mut out = [0.0];
            Matrix::Int8(&[-128; BLOCK]).matvec(isa, 0, Vector::Fixed(fixed), &mut out);
            // 1024 * -128 * 16256, which is 127 * 2^24.
            assert_eq!(out, [-2_130_706_432.0 * sign], "{isa:?}");
        });
    }
}

#[test]
fn nan_and_infinite_elements_make_the_result_nan() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (len, at) in [(70, 66), (70, 0), (1_500, 1_200)] {
            // With and without an outlier next to it.
            for outlier in [1.0, 1e9] {
                let mut x = vec![1.0; len];
                x[at] = bad;
                x[at / 2 + 3] = outlier;
                with_each(&x, |isa, fixed| {
                    let mut out = [0.0];
                    Matrix::Int8(&vec![1; len]).matvec(isa, 0, Vector::Fixed(fixed), &mut out);
                    assert!(out[0].is_nan(), "{isa:?} {bad}: {out:?}");
                });
            }
        }
    }
    with_each(&[0.0; 5], |isa, fixed| {
        let mut out = [f32::NAN];
        Matrix::Int8(&[7; 5]).matvec(isa, 0, Vector::Fixed(fixed), &mut out);
        assert_eq!(out, [0.0]);
    });
}
