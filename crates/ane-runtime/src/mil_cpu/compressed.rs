//! Constants as the package stores them, unpacked a chunk at a time.

use mlpackage::{DType, Package, StoredBlob};

use super::numerics::round_to_half;
use crate::simd::{Lut, Matrix};

/// A constant as it is stored.
#[derive(Debug)]
pub(super) struct Packed {
    /// Element type. Elements of type fp16 are rounded to fp16 when they are unpacked.
    pub(super) dtype: DType,
    pub(super) elements: usize,
    pub(super) form: Encoding,
}

#[derive(Debug)]
pub(super) enum Encoding {
    /// The elements themselves.
    Plain(Numbers),
    /// `scale * (number - offset)`.
    Scaled { numbers: Numbers, scales: Scales },
    /// Each number is an index into a table.
    Table { numbers: Numbers, table: Table },
    /// Zero, except where a bit of the mask is set.
    Sparse(Box<Sparse>),
}

/// Values or indices as they are stored.
#[derive(Debug)]
pub(super) enum Numbers {
    Stored(StoredBlob),
    /// Stated in the program, or computed from another constant.
    Stated(Vec<f32>),
    /// Packed into bytes without gaps, with at most 8 bits each.
    Bits {
        bytes: StoredBytes,
        dtype: DType,
        elements: usize,
    },
}

#[derive(Debug)]
pub(super) enum StoredBytes {
    Blob(StoredBlob),
    Stated(Vec<u8>),
}

impl Numbers {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Stored(blob) => blob.blob().elements,
            Self::Stated(values) => values.len(),
            Self::Bits { elements, .. } => *elements,
        }
    }

    pub(super) fn read(&self, start: usize, out: &mut [f32]) {
        match self {
            Self::Stored(blob) => blob.blob().read(start, out),
            Self::Stated(values) => out.copy_from_slice(&values[start..start + out.len()]),
            Self::Bits { bytes, dtype, elements } => {
                let data = match bytes {
                    StoredBytes::Blob(blob) => blob.blob().data,
                    StoredBytes::Stated(bytes) => bytes,
                };
                mlpackage::Blob { dtype: *dtype, elements: *elements, data }.read(start, out);
            }
        }
    }

    fn bytes(&self) -> (u64, u64) {
        match self {
            Self::Stored(blob) => (blob.blob().data.len() as u64, 0),
            Self::Stated(values) => (0, 4 * values.len() as u64),
            Self::Bits { bytes: StoredBytes::Blob(blob), .. } => (blob.blob().data.len() as u64, 0),
            Self::Bits { bytes: StoredBytes::Stated(bytes), .. } => (0, bytes.len() as u64),
        }
    }
}

/// A tensor that is divided into `counts` blocks on each axis. Blocks are numbered in row-major order.
#[derive(Debug)]
pub(super) struct Blocks {
    dims: Vec<usize>,
    counts: Vec<usize>,
    /// Number of consecutive elements that are in the same block.
    run: usize,
}

impl Blocks {
    pub(super) fn new(dims: &[usize], counts: &[usize]) -> Self {
        let mut run = 1;
        for (&d, &c) in dims.iter().zip(counts).rev() {
            run *= d / c;
            if c != 1 {
                break;
            }
        }
        Self { dims: dims.to_vec(), counts: counts.to_vec(), run: run.max(1) }
    }

    /// Returns the number of the block that contains an element.
    pub(super) fn of(&self, element: usize) -> usize {
        let (mut rest, mut block, mut step) = (element, 0, 1);
        for (&d, &c) in self.dims.iter().zip(&self.counts).rev() {
            block += rest % d / (d / c) * step;
            step *= c;
            rest /= d;
        }
        block
    }

    /// Divides `out`, which starts at element `start`, into chunks that are in one block each, and calls `f`
    /// with the block and the chunk.
    fn runs(&self, start: usize, out: &mut [f32], mut f: impl FnMut(usize, &mut [f32])) {
        let (mut at, mut out) = (start, out);
        while !out.is_empty() {
            let len = (self.run - at % self.run).min(out.len());
            let (head, tail) = out.split_at_mut(len);
            f(self.of(at), head);
            at += len;
            out = tail;
        }
    }
}

#[derive(Debug)]
pub(super) struct Scales {
    pub(super) blocks: Blocks,
    pub(super) scale: Vec<f32>,
    pub(super) offset: Option<Vec<f32>>,
}

impl Scales {
    fn apply(&self, block: usize, number: f32) -> f32 {
        self.scale[block] * (number - self.offset.as_ref().map_or(0.0, |o| o[block]))
    }

    fn bytes(&self) -> u64 {
        4 * (self.scale.len() + self.offset.as_ref().map_or(0, Vec::len)) as u64
    }
}

/// A table of vectors for each block.
#[derive(Debug)]
pub(super) struct Table {
    /// The blocks of the tensor of indices.
    pub(super) blocks: Blocks,
    pub(super) values: Vec<f32>,
    pub(super) entries: usize,
    /// Number of components of an entry.
    pub(super) vector: usize,
    /// Product of the sizes of the axes after the vector axis, in the tensor of indices.
    pub(super) inner: usize,
}

impl Table {
    pub(super) fn value(&self, block: usize, index: f32, component: usize) -> f32 {
        self.values[(block * self.entries + index as usize) * self.vector + component]
    }
}

#[derive(Debug)]
pub(super) struct Sparse {
    mask: Numbers,
    /// Number of bits that are set before each chunk of [`CHUNK`] elements.
    before: Vec<u32>,
    values: Values,
}

/// The values at the set bits of a mask.
#[derive(Debug)]
pub(super) enum Values {
    Plain(Numbers),
    /// Scaled by the factors of the block that contains their element.
    Scaled(Box<Values>, Scales, DType),
    /// Indices into the table of that block.
    Table(Numbers, Table, DType),
}

const CHUNK: usize = 256;

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Plain(numbers) | Self::Table(numbers, ..) => numbers.len(),
            Self::Scaled(values, ..) => values.len(),
        }
    }

    /// Returns value `number`, which is that of element `element`.
    fn value(&self, number: usize, element: usize) -> f32 {
        let one = |numbers: &Numbers| {
            let mut out = [0.0];
            numbers.read(number, &mut out);
            out[0]
        };
        let (value, dtype) = match self {
            Self::Plain(numbers) => return one(numbers),
            Self::Scaled(values, scales, dtype) => {
                (scales.apply(scales.blocks.of(element), values.value(number, element)), *dtype)
            }
            Self::Table(numbers, table, dtype) => {
                (table.value(table.blocks.of(element), one(numbers), 0), *dtype)
            }
        };
        let mut value = [value];
        if dtype == DType::Fp16 {
            round_to_half(&mut value);
        }
        value[0]
    }

    fn bytes(&self) -> (u64, u64) {
        match self {
            Self::Plain(numbers) => numbers.bytes(),
            Self::Scaled(values, scales, _) => (values.bytes().0, values.bytes().1 + scales.bytes()),
            Self::Table(numbers, table, _) => {
                (numbers.bytes().0, numbers.bytes().1 + 4 * table.values.len() as u64)
            }
        }
    }
}

/// The factors of the rows of a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) enum RowScales<'a> {
    One(f32),
    Each(&'a [f32]),
}

impl Packed {
    /// Returns the constant as a matrix of `rows` rows and the scales of the rows; `None` if it has no form
    /// with its own kernel.
    ///
    /// A constant with several tables is divided into as many groups of rows, each with its own table.
    pub(super) fn rows(&self, rows: usize) -> Option<(Matrix<'_>, RowScales<'_>)> {
        const UNSCALED: RowScales<'static> = RowScales::One(1.0);
        match &self.form {
            Encoding::Plain(Numbers::Stored(blob)) => {
                let blob = blob.blob();
                if blob.elements != self.elements {
                    return None;
                }
                match blob.dtype {
                    // Kernels read elements as they are stored and do not round them to a narrower type.
                    DType::Fp32 if self.dtype != DType::Fp32 => None,
                    DType::Fp16 => Some((Matrix::Half(blob.data), UNSCALED)),
                    DType::Fp32 => {
                        Some((Matrix::Single(bytemuck::try_cast_slice(blob.data).ok()?), UNSCALED))
                    }
                    _ => None,
                }
            }
            Encoding::Scaled {
                numbers: Numbers::Stored(blob),
                scales: Scales { blocks, scale, offset: None },
            } => {
                let blob = blob.blob();
                let scales = match scale.as_slice() {
                    &[one] => RowScales::One(one),
                    each if each.len() == rows && blocks.counts.first() == Some(&rows) => {
                        RowScales::Each(each)
                    }
                    _ => return None,
                };
                let whole = blob.dtype == DType::Int8 && blob.elements == self.elements;
                whole.then(|| (Matrix::Int8(bytemuck::cast_slice(blob.data)), scales))
            }
            Encoding::Table { numbers, table } if table.vector == 1 && self.dtype == DType::Fp16 => {
                let (indices, dtype) = match numbers {
                    Numbers::Stored(blob) => (blob.blob().data, blob.blob().dtype),
                    Numbers::Bits { bytes: StoredBytes::Blob(blob), dtype, .. } => (blob.blob().data, *dtype),
                    Numbers::Bits { bytes: StoredBytes::Stated(bytes), dtype, .. } => {
                        (bytes.as_slice(), *dtype)
                    }
                    Numbers::Stated(_) => return None,
                };
                let bits = dtype.bits();
                let groups = table.blocks.counts.first().copied().unwrap_or(1);
                let by_rows = table.blocks.counts.iter().skip(1).all(|count| *count == 1)
                    && rows.is_multiple_of(groups);
                let row_bits = self.elements / rows * bits;
                let whole = numbers.len() == self.elements && self.elements.is_multiple_of(rows);
                let fits = whole
                    && [4, 6, 8].contains(&bits)
                    && table.entries == 1 << bits
                    && row_bits.is_multiple_of(8);
                let lut = Lut { bits, indices, table: &table.values, rows_per_table: rows / groups };
                (by_rows && fits).then_some((Matrix::Lut(lut), UNSCALED))
            }
            _ => None,
        }
    }

    /// Returns the number of elements.
    pub(super) fn elements(&self) -> usize {
        self.elements
    }

    /// Returns the bytes that are mapped from the package, and the bytes that are held in memory.
    pub(super) fn bytes(&self) -> (u64, u64) {
        match &self.form {
            Encoding::Plain(numbers) => numbers.bytes(),
            Encoding::Scaled { numbers, scales } => (numbers.bytes().0, numbers.bytes().1 + scales.bytes()),
            Encoding::Table { numbers, table } => {
                (numbers.bytes().0, numbers.bytes().1 + 4 * table.values.len() as u64)
            }
            Encoding::Sparse(sparse) => {
                let (mask, values) = (sparse.mask.bytes(), sparse.values.bytes());
                (mask.0 + values.0, mask.1 + values.1 + 4 * sparse.before.len() as u64)
            }
        }
    }

    /// Unpacks the elements from `start` into `out`.
    pub(super) fn read(&self, start: usize, out: &mut [f32]) {
        match &self.form {
            Encoding::Plain(numbers) => return numbers.read(start, out),
            Encoding::Scaled { numbers, scales } => {
                numbers.read(start, out);
                scales.blocks.runs(start, out, |block, out| {
                    out.iter_mut().for_each(|v| *v = scales.apply(block, *v));
                });
            }
            Encoding::Table { numbers, table } if table.vector == 1 => {
                numbers.read(start, out);
                table.blocks.runs(start, out, |block, out| {
                    out.iter_mut().for_each(|v| *v = table.value(block, *v, 0));
                });
            }
            Encoding::Table { numbers, table } => {
                for (i, out) in out.iter_mut().enumerate() {
                    // Along the vector axis, all components of one vector precede those of the next.
                    let at = start + i;
                    let (outer, inner) = (at / table.inner, at % table.inner);
                    let index = outer / table.vector * table.inner + inner;
                    let mut number = [0.0];
                    numbers.read(index, &mut number);
                    *out = table.value(table.blocks.of(index), number[0], outer % table.vector);
                }
            }
            Encoding::Sparse(sparse) => sparse.read(start, out),
        }
        if self.dtype == DType::Fp16 {
            round_to_half(out);
        }
    }

    /// Unpacks all elements.
    pub(super) fn unpack(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.elements];
        self.read(0, &mut values);
        values
    }
}

impl Sparse {
    /// Creates a sparse tensor with one value for each set bit of the mask.
    ///
    /// # Errors
    ///
    /// Returns an error if the number of values differs from the number of set bits.
    pub(super) fn new(mask: Numbers, elements: usize, values: Values) -> Result<Self, String> {
        let mut before = Vec::with_capacity(elements.div_ceil(CHUNK));
        let mut count = 0;
        for start in (0..elements).step_by(CHUNK) {
            before.push(count);
            let mut bits = [0.0; CHUNK];
            let bits = &mut bits[..CHUNK.min(elements - start)];
            mask.read(start, bits);
            count += bits.iter().filter(|b| **b != 0.0).count() as u32;
        }
        if count as usize == values.len() {
            Ok(Self { mask, before, values })
        } else {
            Err(format!("{count} bits of the mask are set, there are {} values", values.len()))
        }
    }

    fn read(&self, start: usize, out: &mut [f32]) {
        let first = start / CHUNK * CHUNK;
        let mut number = self.before.get(start / CHUNK).map_or(0, |n| *n as usize);
        let mut bits = [0.0; CHUNK];
        let end = start + out.len();
        let mut at = first;
        while at < end {
            let bits = &mut bits[..CHUNK.min(end - at)];
            self.mask.read(at, bits);
            for bit in bits.iter() {
                let set = *bit != 0.0;
                if at >= start {
                    out[at - start] = if set { self.values.value(number, at) } else { 0.0 };
                }
                number += usize::from(set);
                at += 1;
            }
        }
    }
}

/// Returns a constant of the program as it is stored; `None` if it is not in a weight file.
pub(super) fn stated(
    package: &Package,
    value: &mlpackage::mil::Value,
    dtype: DType,
) -> mlpackage::Result<Option<Packed>> {
    let blob = package.stored_blob_of(value)?;
    Ok(blob.map(|blob| Packed {
        dtype,
        elements: blob.blob().elements,
        form: Encoding::Plain(Numbers::Stored(blob)),
    }))
}
