//! Products of a matrix, as a package stores it, with vectors.

use super::fixed_point::BLOCK;
use super::{Fixed, Isa, products};

/// A matrix whose rows are consecutive, unless a variant states otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Matrix<'a> {
    /// Integers of 8 bits, multiplied with vectors in fixed point.
    Int8(&'a [i8]),
    /// fp16, two bytes each.
    Half(&'a [u8]),
    /// fp32.
    Single(&'a [f32]),
    /// fp32, sixteen rows side by side: their first elements, then their second ones, and so on. The last
    /// group is padded with zeros. This suits short rows, whose products would otherwise spend their time on
    /// adding up lanes.
    Interleaved(&'a [[f32; 16]]),
    /// Indices into a table.
    Lut(Lut<'a>),
}

/// Packed indices of 4, 6 or 8 bits into a table of fp16 values. Every row starts at a byte boundary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lut<'a> {
    /// Bits of an index.
    pub(crate) bits: usize,
    /// The packed indices.
    pub(crate) indices: &'a [u8],
    /// The tables, one after the other, of `2^bits` entries each.
    pub(crate) table: &'a [f32],
    /// Number of consecutive rows that share a table.
    pub(crate) rows_per_table: usize,
}

/// A vector that rows are multiplied with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Vector<'a> {
    /// In fixed point, for [`Matrix::Int8`].
    Fixed(Fixed<'a>),
    /// In f32, for all other rows.
    Plain(&'a [f32]),
}

impl Vector<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Fixed(fixed) => fixed.len,
            Self::Plain(values) => values.len(),
        }
    }
}

impl Matrix<'_> {
    /// Multiplies `out.len()` rows, from row `first`, with `x`.
    pub(crate) fn matvec(&self, isa: Isa, first: usize, x: Vector<'_>, out: &mut [f32]) {
        let d_in = x.len();
        match (self, x) {
            (Self::Int8(weights), Vector::Fixed(x)) => {
                let weights = &weights[first * d_in..(first + out.len()) * d_in];
                int8(isa, weights, &[x], &mut [out]);
            }
            (Self::Half(bytes), Vector::Plain(x)) => {
                let rows = bytes[2 * first * d_in..2 * (first + out.len()) * d_in].chunks_exact(2 * d_in);
                rows.zip(out).for_each(|(row, out)| *out = dot_halves(isa, row, x));
            }
            (Self::Single(values), Vector::Plain(x)) => {
                let rows = values[first * d_in..(first + out.len()) * d_in].chunks_exact(d_in);
                rows.zip(out).for_each(|(row, out)| *out = products::dot(isa, row, x));
            }
            (Self::Interleaved(groups), Vector::Plain(x)) => {
                assert_eq!(first % 16, 0, "a group is whole");
                products::interleaved(isa, &groups[first / 16 * d_in..], x, out);
            }
            (Self::Lut(lut), Vector::Plain(x)) => lut.matvec(isa, first, x, out),
            _ => unreachable!("weights of 8 bits, and no others, need vectors in fixed point"),
        }
    }

    /// Does the same as [`matvec`](Self::matvec), for several vectors of the same length. The result of each
    /// vector is the same as by itself.
    pub(crate) fn matvec_all(&self, isa: Isa, first: usize, x: &[Vector<'_>], out: &mut [&mut [f32]]) {
        if let Self::Int8(weights) = self {
            let mut fixed: smallvec::SmallVec<[Fixed<'_>; 16]> = smallvec::SmallVec::new();
            fixed.extend(x.iter().filter_map(|x| match x {
                Vector::Fixed(x) => Some(*x),
                Vector::Plain(_) => None,
            }));
            assert_eq!(fixed.len(), out.len());
            let Some((d_in, rows)) = fixed.first().map(|x| x.len).zip(out.first().map(|o| o.len())) else {
                return;
            };
            return int8(isa, &weights[first * d_in..(first + rows) * d_in], &fixed, out);
        }
        assert_eq!(x.len(), out.len(), "a result for each vector");
        // A few rows stay in the cache while they are multiplied with every vector.
        const TILE: usize = 16;
        let rows = out.first().map_or(0, |out| out.len());
        for start in (0..rows).step_by(TILE) {
            let end = rows.min(start + TILE);
            for (x, out) in x.iter().zip(out.iter_mut()) {
                self.matvec(isa, first + start, *x, &mut out[start..end]);
            }
        }
    }
}

/// Arranges rows of `len` elements for [`Matrix::Interleaved`].
pub(crate) fn interleaved(rows: &[f32], len: usize) -> Vec<[f32; 16]> {
    let groups = rows.chunks(16 * len);
    let element =
        |group: &[f32], k: usize| std::array::from_fn(|r| group.get(r * len + k).copied().unwrap_or(0.0));
    groups.flat_map(|group| (0..len).map(move |k| element(group, k))).collect()
}

/// Multiplies each row of `weights` with each vector of `x`.
fn int8(isa: Isa, weights: &[i8], x: &[Fixed<'_>], out: &mut [&mut [f32]]) {
    const ROWS: usize = 4;
    let Some(d_in) = x.first().map(|x| x.len) else { return };
    let rows = weights.len() / d_in;
    for block in 0..d_in.div_ceil(BLOCK) {
        let start = block * BLOCK;
        let len = BLOCK.min(d_in - start);
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Avx512 {
            // SAFETY: `Isa` values exist only for instructions that the machine has.
            unsafe { super::avx512::matvec(&weights[start..], d_in, len, block, x, out) };
            continue;
        }
        let terms = terms_of(isa, block, x);
        let mut row = 0;
        while row < rows {
            let many = ROWS.min(rows - row);
            let weights = &weights[row * d_in + start..];
            for Term { vector, step, first, integers } in &terms {
                let totals = products(isa, weights, d_in, many, len, *integers);
                for (out, total) in out[*vector][row..row + many].iter_mut().zip(totals) {
                    let value = step * total as f32;
                    *out = if *first { value } else { *out + value };
                }
            }
            row += many;
        }
    }
}

/// A term of a vector's block, looked up once for all rows.
struct Term<'a> {
    /// Index of the vector, and of its result.
    vector: usize,
    step: f32,
    /// Whether this is the first term of the vector, which replaces the previous contents of the result.
    first: bool,
    integers: Integers<'a>,
}

/// The integers of a term, in the form that an [`Isa`] multiplies.
#[derive(Clone, Copy)]
enum Integers<'a> {
    Whole(&'a [i16]),
    #[cfg(target_arch = "aarch64")]
    Limbs(super::fixed_point::Limbs<'a>),
}

/// Returns the terms of a block of each vector, in the order in which they are added.
fn terms_of<'a>(isa: Isa, block: usize, x: &[Fixed<'a>]) -> smallvec::SmallVec<[Term<'a>; 16]> {
    let mut terms = smallvec::SmallVec::new();
    for (vector, x) in x.iter().enumerate() {
        terms.extend(x.steps(block).enumerate().map(|(term, step)| Term {
            vector,
            step,
            first: (block, term) == (0, 0),
            integers: match isa {
                #[cfg(target_arch = "aarch64")]
                Isa::NeonDot => Integers::Limbs(x.limbs(block, term)),
                _ => Integers::Whole(x.whole(block, term)),
            },
        }));
    }
    terms
}

/// Returns the products of up to four rows with the integers of a term.
#[inline(always)]
fn products(
    isa: Isa,
    weights: &[i8],
    stride: usize,
    rows: usize,
    len: usize,
    integers: Integers<'_>,
) -> [i32; 4] {
    /// Computes four rows at once, or fewer rows one by one.
    macro_rules! products {
        ($products:path, $($arg:expr),+) => {{
            use $products as products;
            // SAFETY: `Isa` values exist only for instructions that the machine has.
            unsafe {
                match rows {
                    4 => products::<4>(weights, stride, $($arg),+),
                    _ => std::array::from_fn(|r| match r < rows {
                        true => products::<1>(&weights[r * stride..], stride, $($arg),+)[0],
                        false => 0,
                    }),
                }
            }
        }};
    }
    match (isa, integers) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, _) => unreachable!("AVX-512 has its own loop"),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Integers::Whole(whole)) => products!(super::avx2::products, whole),
        #[cfg(target_arch = "aarch64")]
        (_, Integers::Limbs(limbs)) => products!(super::neon::products_of_limbs, len, limbs),
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon | Isa::NeonDot, Integers::Whole(whole)) => products!(super::neon::products, whole),
        (Isa::Portable, Integers::Whole(whole)) => {
            let mut totals = [0; 4];
            for (total, row) in totals[..rows].iter_mut().zip(weights.chunks(stride)) {
                *total = super::portable::product(&row[..len], whole);
            }
            totals
        }
    }
}

/// Returns the dot product of a row of fp16 elements with `x`.
fn dot_halves(isa: Isa, row: &[u8], x: &[f32]) -> f32 {
    match isa {
        // SAFETY: `Isa` values exist only for instructions that the machine has.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { super::avx512::dot_halves(row, x) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { super::avx2::dot_halves(row, x) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot => unsafe { super::neon::dot_halves(row, x) },
        Isa::Portable => in_chunks(isa, x, |start, out| {
            super::portable::halves(&row[2 * start..2 * (start + out.len())], out);
        }),
    }
}

/// Returns the dot product of `x` with a vector that `make` computes a chunk at a time.
fn in_chunks(isa: Isa, x: &[f32], make: impl Fn(usize, &mut [f32])) -> f32 {
    const CHUNK: usize = 256;
    let mut buffer = [0.0; CHUNK];
    let chunks = x.chunks(CHUNK).enumerate();
    let sums = chunks.map(|(i, x)| {
        let buffer = &mut buffer[..x.len()];
        make(i * CHUNK, buffer);
        products::dot(isa, buffer, x)
    });
    sums.sum()
}

impl Lut<'_> {
    fn matvec(&self, isa: Isa, first: usize, x: &[f32], out: &mut [f32]) {
        assert!((x.len() * self.bits).is_multiple_of(8));
        let (mut row, mut out) = (first, out);
        while !out.is_empty() {
            let table = row / self.rows_per_table;
            let rows = ((table + 1) * self.rows_per_table - row).min(out.len());
            let (head, tail) = out.split_at_mut(rows);
            let entries = 1 << self.bits;
            self.with_table(isa, &self.table[table * entries..][..entries], row, x, head);
            (row, out) = (row + rows, tail);
        }
    }

    fn with_table(&self, isa: Isa, table: &[f32], first: usize, x: &[f32], out: &mut [f32]) {
        let row_bytes = x.len() * self.bits / 8;
        let rows = &self.indices[first * row_bytes..(first + out.len()) * row_bytes];
        let rows = rows.chunks_exact(row_bytes).zip(out);
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                let mut halves = [0u16; 256];
                for (half, entry) in halves.iter_mut().zip(table) {
                    *half = half::f16::from_f32(*entry).to_bits();
                }
                // SAFETY: `Isa` values exist only for instructions that the machine has.
                unsafe {
                    use super::avx512::{Table, dot_table};
                    let table = Table::new(&halves);
                    match self.bits {
                        4 => rows.for_each(|(row, out)| *out = dot_table::<4>(&table, row, x)),
                        6 => rows.for_each(|(row, out)| *out = dot_table::<6>(&table, row, x)),
                        _ => rows.for_each(|(row, out)| *out = dot_table::<8>(&table, row, x)),
                    }
                }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if self.bits == 8 => {
                let table: &[f32; 256] = table.try_into().expect("256 entries");
                // SAFETY: as above.
                rows.for_each(|(row, out)| *out = unsafe { super::avx2::dot_entries(table, row, x) });
            }
            _ => rows.for_each(|(row, out)| {
                *out = in_chunks(isa, x, |start, out| {
                    super::portable::entries(self.bits, row, start, table, out);
                });
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns values between -1 and 1 and some far larger ones, like activations.
    fn activations(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|i| next() * if i % 37 == 5 { 20.0 } else { 1.0 }).collect()
    }

    fn bytes(len: usize, seed: u64) -> Vec<u8> {
        activations(len, seed).iter().map(|v| (v * 1e4) as i32 as u8).collect()
    }

    /// Returns the products of all rows, in double precision.
    fn expected(rows: usize, x: &[f32], weight: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        (0..rows).map(|r| x.iter().enumerate().map(|(k, x)| weight(r, k) * f64::from(*x)).sum()).collect()
    }

    fn assert_within(isa: Isa, got: &[f32], expected: &[f64], bound: impl Fn(usize) -> f64) {
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            let error = (f64::from(*got) - expected).abs();
            assert!(
                error <= bound(i),
                "{isa:?}, row {i}: {got}, expected {expected}, {error} > {}",
                bound(i)
            );
        }
    }

    /// Generates shapes that are not a multiple of a vector, and shapes of a decoder.
    fn shapes() -> impl Strategy<Value = (usize, usize)> {
        let odd = (1usize..40, 1usize..1200);
        prop_oneof![4 => odd, 1 => Just((9, 512)), 1 => Just((5, 2048)), 1 => Just((3, 2500))]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// An f32 sum of n terms has at most n roundings, each of up to 2^-24 of the sum of magnitudes.
        #[test]
        fn float_rows((rows, d_in) in shapes(), seed in any::<u64>()) {
            let singles = activations(rows * d_in, seed);
            let halves: Vec<half::f16> = singles.iter().map(|v| half::f16::from_f32(*v)).collect();
            let half_bytes: Vec<u8> = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
            let x = activations(d_in, seed ^ 1);
            for isa in Isa::all() {
                let mut out = vec![f32::NAN; rows];
                Matrix::Single(&singles).matvec(isa, 0, Vector::Plain(&x), &mut out);
                let weight = |r: usize, k: usize| f64::from(singles[r * d_in + k]);
                let bound = |r: usize| {
                    let sum: f64 = x.iter().enumerate().map(|(k, x)| (weight(r, k) * f64::from(*x)).abs()).sum();
                    (d_in + 1) as f64 * 2f64.powi(-24) * sum * 1.01
                };
                assert_within(isa, &out, &expected(rows, &x, weight), bound);
                out.fill(f32::NAN);
                Matrix::Interleaved(&interleaved(&singles, d_in)).matvec(isa, 0, Vector::Plain(&x), &mut out);
                assert_within(isa, &out, &expected(rows, &x, weight), bound);
                Matrix::Half(&half_bytes).matvec(isa, 0, Vector::Plain(&x), &mut out);
                let weight = |r: usize, k: usize| halves[r * d_in + k].to_f64();
                assert_within(isa, &out, &expected(rows, &x, weight), bound);
            }
        }

        /// Tables of fp16 values, with indices of each width.
        #[test]
        fn lut_rows(rows in 1usize..20, eighths in 1usize..100, bits in prop::sample::select(vec![4, 6, 8]), seed in any::<u64>()) {
            // Every row starts at a byte boundary.
            let d_in = 8 * eighths;
            let indices = bytes(rows * d_in * bits / 8, seed);
            // Three rows share a table.
            let tables = rows.div_ceil(3);
            let table: Vec<f32> =
                activations(tables << bits, seed ^ 2).iter().map(|v| half::f16::from_f32(*v).to_f32()).collect();
            let x = activations(d_in, seed ^ 1);
            let index = |r: usize, k: usize| {
                let bit = |i: usize| usize::from(indices[i / 8] >> (i % 8) & 1);
                (0..bits).map(|b| bit((r * d_in + k) * bits + b) << b).sum::<usize>()
            };
            let weight = |r: usize, k: usize| f64::from(table[((r / 3) << bits) + index(r, k)]);
            for isa in Isa::all() {
                let mut out = vec![f32::NAN; rows];
                let lut = Lut { bits, indices: &indices, table: &table, rows_per_table: 3 };
                Matrix::Lut(lut).matvec(isa, 0, Vector::Plain(&x), &mut out);
                assert_within(isa, &out, &expected(rows, &x, weight), |r| {
                    let sum: f64 = x.iter().enumerate().map(|(k, x)| (weight(r, k) * f64::from(*x)).abs()).sum();
                    (d_in + 1) as f64 * 2f64.powi(-24) * sum * 1.01
                });
            }
        }
    }
}
