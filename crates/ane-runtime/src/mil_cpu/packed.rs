//! Constants in the form in which the package stores them, unpacked a stretch at a time.

use mlpackage::{DType, Package, StoredBlob};

use super::numerics::round_to_half;
use crate::simd::{Lut, Rows};

/// A constant of floats as it is stored.
#[derive(Debug)]
pub(super) struct Packed {
    /// fp16 values are rounded to what fp16 can hold.
    pub(super) dtype: DType,
    pub(super) elements: usize,
    pub(super) form: Form,
}

#[derive(Debug)]
pub(super) enum Form {
    /// The elements themselves.
    Plain(Numbers),
    /// `scale (number - offset)`.
    Scaled { numbers: Numbers, scales: Scales },
    /// The entry of a table that each number names.
    Table { numbers: Numbers, table: Table },
    /// Zero but where a bit is set.
    Sparse(Box<Sparse>),
}

/// Numbers as they are stored.
#[derive(Debug)]
pub(super) enum Numbers {
    Stored(StoredBlob),
    /// Stated in the program, or unpacked from another constant.
    Stated(Vec<f32>),
    /// Less than a byte each, one behind the other, in bytes.
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

/// A tensor cut into blocks, as many on each axis as `counts` says, each of which has a number of its own.
#[derive(Debug)]
pub(super) struct Blocks {
    dims: Vec<usize>,
    counts: Vec<usize>,
    /// Elements that lie one behind the other in one block.
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

    /// The block that an element is in.
    pub(super) fn of(&self, element: usize) -> usize {
        let (mut rest, mut block, mut step) = (element, 0, 1);
        for (&d, &c) in self.dims.iter().zip(&self.counts).rev() {
            block += rest % d / (d / c) * step;
            step *= c;
            rest /= d;
        }
        block
    }

    /// Calls `f` with each stretch of `out`, whose first element is number `start`, that lies in one block.
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
    /// Blocks of the indices.
    pub(super) blocks: Blocks,
    pub(super) values: Vec<f32>,
    pub(super) entries: usize,
    /// Numbers of an entry.
    pub(super) vector: usize,
    /// Of the indices: elements behind the axis along which vectors are laid, for one index of it.
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
    /// Bits that are set before every [`STRETCH`]th element.
    before: Vec<u32>,
    values: Values,
}

/// The values behind a mask.
#[derive(Debug)]
pub(super) enum Values {
    Plain(Numbers),
    /// Scaled by the block of the place that they stand for.
    Scaled(Box<Values>, Scales, DType),
    /// Of the table of that block.
    Table(Numbers, Table, DType),
}

const STRETCH: usize = 256;

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Plain(numbers) | Self::Table(numbers, ..) => numbers.len(),
            Self::Scaled(values, ..) => values.len(),
        }
    }

    /// Value number `number`, which stands for element `element`.
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

/// What each row of a matrix is multiplied with.
#[derive(Clone, Copy, Debug)]
pub(super) enum RowScales<'a> {
    One(f32),
    Each(&'a [f32]),
}

impl Packed {
    /// The matrix of `rows` rows that it is, in a form that has a kernel of its own, and the scales of the rows; `None` if
    /// there is none. Tables are cut into as many groups of rows as they have, each with its own.
    pub(super) fn rows(&self, rows: usize) -> Option<(Rows<'_>, RowScales<'_>)> {
        const UNSCALED: RowScales<'static> = RowScales::One(1.0);
        match &self.form {
            Form::Plain(Numbers::Stored(blob)) => {
                let blob = blob.blob();
                if blob.elements != self.elements {
                    return None;
                }
                match blob.dtype {
                    // Read as they are stored, which is not enough where they become narrower.
                    DType::Fp32 if self.dtype != DType::Fp32 => None,
                    DType::Fp16 => Some((Rows::Half(blob.data), UNSCALED)),
                    DType::Fp32 => Some((Rows::Single(bytemuck::try_cast_slice(blob.data).ok()?), UNSCALED)),
                    _ => None,
                }
            }
            Form::Scaled {
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
                whole.then(|| (Rows::Int8(bytemuck::cast_slice(blob.data)), scales))
            }
            Form::Table { numbers, table } if table.vector == 1 && self.dtype == DType::Fp16 => {
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
                (by_rows && fits).then_some((Rows::Lut(lut), UNSCALED))
            }
            _ => None,
        }
    }

    /// Number of elements.
    pub(super) fn elements(&self) -> usize {
        self.elements
    }

    /// Bytes that are mapped from the package, and bytes that are kept beside.
    pub(super) fn bytes(&self) -> (u64, u64) {
        match &self.form {
            Form::Plain(numbers) => numbers.bytes(),
            Form::Scaled { numbers, scales } => (numbers.bytes().0, numbers.bytes().1 + scales.bytes()),
            Form::Table { numbers, table } => {
                (numbers.bytes().0, numbers.bytes().1 + 4 * table.values.len() as u64)
            }
            Form::Sparse(sparse) => {
                let (mask, values) = (sparse.mask.bytes(), sparse.values.bytes());
                (mask.0 + values.0, mask.1 + values.1 + 4 * sparse.before.len() as u64)
            }
        }
    }

    /// Unpacks elements from `start` on, as many as `out` has room for.
    pub(super) fn read(&self, start: usize, out: &mut [f32]) {
        match &self.form {
            Form::Plain(numbers) => return numbers.read(start, out),
            Form::Scaled { numbers, scales } => {
                numbers.read(start, out);
                scales.blocks.runs(start, out, |block, out| {
                    out.iter_mut().for_each(|v| *v = scales.apply(block, *v));
                });
            }
            Form::Table { numbers, table } if table.vector == 1 => {
                numbers.read(start, out);
                table.blocks.runs(start, out, |block, out| {
                    out.iter_mut().for_each(|v| *v = table.value(block, *v, 0));
                });
            }
            Form::Table { numbers, table } => {
                for (i, out) in out.iter_mut().enumerate() {
                    // Along the grown axis lie the components of one vector, then those of the next.
                    let at = start + i;
                    let (outer, inner) = (at / table.inner, at % table.inner);
                    let index = outer / table.vector * table.inner + inner;
                    let mut number = [0.0];
                    numbers.read(index, &mut number);
                    *out = table.value(table.blocks.of(index), number[0], outer % table.vector);
                }
            }
            Form::Sparse(sparse) => sparse.read(start, out),
        }
        if self.dtype == DType::Fp16 {
            round_to_half(out);
        }
    }

    /// All of it.
    pub(super) fn unpack(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.elements];
        self.read(0, &mut values);
        values
    }
}

impl Sparse {
    /// Values where a bit of the mask is set.
    ///
    /// # Errors
    ///
    /// If there are not as many values as bits that are set.
    pub(super) fn new(mask: Numbers, elements: usize, values: Values) -> Result<Self, String> {
        let mut before = Vec::with_capacity(elements.div_ceil(STRETCH));
        let mut count = 0;
        for start in (0..elements).step_by(STRETCH) {
            before.push(count);
            let mut bits = [0.0; STRETCH];
            let bits = &mut bits[..STRETCH.min(elements - start)];
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
        let first = start / STRETCH * STRETCH;
        let mut number = self.before.get(start / STRETCH).map_or(0, |n| *n as usize);
        let mut bits = [0.0; STRETCH];
        let end = start + out.len();
        let mut at = first;
        while at < end {
            let bits = &mut bits[..STRETCH.min(end - at)];
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

/// A constant that the program states, as it is stored.
pub(super) fn stated(
    package: &Package,
    value: &mlpackage::mil::Value,
    dtype: DType,
) -> mlpackage::Result<Option<Packed>> {
    let blob = package.stored_blob_of(value)?;
    Ok(blob.map(|blob| Packed {
        dtype,
        elements: blob.blob().elements,
        form: Form::Plain(Numbers::Stored(blob)),
    }))
}
