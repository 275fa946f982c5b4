//! Reads weights from `constexpr` operations, in the form in which they stay in memory.

use mlpackage::mil::Opset;
use mlpackage::ops::Args;
use mlpackage::{DType, Fault, Package, Shape};

use crate::inputs::MAX_ELEMENTS;

use super::compressed::{Blocks, Encoding, Numbers, Packed, Scales, Sparse, StoredBytes, Table, Values};

/// The result of a `constexpr` operation: a constant, or a mask and its values.
#[derive(Debug)]
pub(super) enum ConstexprResult {
    Dense(Packed),
    Pair(Pair),
}

/// A mask and the values at its set bits, which a later `constexpr_sparse_to_dense` combines.
#[derive(Debug)]
pub(super) struct Pair {
    mask: Mask,
    values: Values,
    dtype: DType,
}

#[derive(Debug)]
struct Mask {
    numbers: Numbers,
    shape: Shape,
}

/// Reads a `constexpr` operation.
pub(super) struct CompressedWeights<'a, 'v> {
    pub(super) package: &'a Package,
    pub(super) args: &'a Args<'v>,
    /// Type and shape of each result of the operation.
    pub(super) results: &'a [(DType, Shape)],
}

/// Why a constant cannot be read.
pub(super) enum NotRead {
    /// The package is damaged.
    Package(mlpackage::Error),
    /// The engine lacks this.
    Lacks(String),
}

impl From<mlpackage::Error> for NotRead {
    fn from(error: mlpackage::Error) -> Self {
        Self::Package(error)
    }
}

impl From<String> for NotRead {
    fn from(lack: String) -> Self {
        Self::Lacks(lack)
    }
}

impl From<Fault> for NotRead {
    fn from(fault: Fault) -> Self {
        Self::Lacks(fault.to_string())
    }
}

type Read<T> = Result<T, NotRead>;

/// Returns the values of an earlier constant, by name.
pub(super) type Before<'b> = dyn Fn(&str) -> Option<Vec<f32>> + 'b;

impl CompressedWeights<'_, '_> {
    /// Reads the operation. `values_of` returns the values of an earlier constant, by name; `take` removes
    /// and returns an earlier pair.
    pub(super) fn dequantize(
        &self,
        op: &str,
        values_of: &Before<'_>,
        take: &mut dyn FnMut(&str) -> Option<Pair>,
    ) -> Read<ConstexprResult> {
        let encoding = match op {
            "constexpr_cast" => Encoding::Plain(self.numbers("source_val")?),
            "constexpr_affine_dequantize" => self.affine(values_of)?,
            "constexpr_blockwise_shift_scale" => {
                let numbers = self.numbers_of("data", values_of)?;
                Encoding::Scaled { numbers, scales: self.scales(self.result_shape(), values_of)? }
            }
            "constexpr_lut_to_dense" => self.lut_to_dense(values_of)?,
            "constexpr_lut_to_sparse" => return self.lut_to_sparse(op, values_of).map(ConstexprResult::Pair),
            "constexpr_sparse_blockwise_shift_scale" => {
                return self.sparse_scaled(values_of, take).map(ConstexprResult::Pair);
            }
            "constexpr_sparse_to_dense" => self.sparse_to_dense(op, take)?,
            _ => return Err(op.to_owned().into()),
        };
        let elements = self.result_shape().elements();
        Ok(ConstexprResult::Dense(Packed { dtype: self.result_dtype(), elements, form: encoding }))
    }

    /// Returns the element type of the values.
    fn result_dtype(&self) -> DType {
        self.results[self.results.len() - 1].0
    }

    /// Returns the shape of the values; for a pair, that of the values at the set bits.
    fn result_shape(&self) -> &Shape {
        &self.results[self.results.len() - 1].1
    }

    /// Reads `constexpr_affine_dequantize`: a scale and a zero point for each index of an axis, or for all.
    fn affine(&self, values_of: &Before<'_>) -> Read<Encoding> {
        let shape = self.result_shape();
        let numbers = self.numbers("quantized_data")?;
        let axis = self.args.axis("axis", self.args.dims("quantized_data")?)?;
        let scale = self.values("scale", values_of)?;
        let offset = self.values("zero_point", values_of)?;
        let len = scale.len().max(offset.len());
        let mut counts = vec![1; shape.rank()];
        counts[axis] = len;
        // A single value may apply to the whole axis.
        let spread = |v: Vec<f32>| match *v.as_slice() {
            [one] => vec![one; len],
            _ => v,
        };
        let blocks = Blocks::new(shape.dims(), &counts);
        let scales = Scales { blocks, scale: spread(scale), offset: Some(spread(offset)) };
        Ok(Encoding::Scaled { numbers, scales })
    }

    /// Reads `constexpr_lut_to_dense`: an index into a table for each element, or for each vector of elements.
    fn lut_to_dense(&self, values_of: &Before<'_>) -> Read<Encoding> {
        let shape = self.result_shape();
        let numbers = match self.args.opset() < Opset::CoreML8 {
            true => self.bits("indices", shape.elements(), values_of)?,
            false => self.numbers("indices")?,
        };
        let indices = match self.args.opset() < Opset::CoreML8 {
            true => shape.clone(),
            false => self.shape("indices")?,
        };
        Ok(Encoding::Table { numbers, table: self.table(&indices, values_of)? })
    }

    /// Reads `constexpr_lut_to_sparse`: a mask, and an index into a table for each of its set bits.
    fn lut_to_sparse(&self, op: &str, values_of: &Before<'_>) -> Read<Pair> {
        let dtype = self.result_dtype();
        let mask = self.mask("indices_mask")?;
        let table = self.table(&mask.shape, values_of)?;
        if table.vector != 1 {
            let indices = self.numbers("indices_nonzero_data")?;
            let grown = self.results[0].1.clone();
            return sparse_vectors(mask, &indices, &table, (grown, dtype))
                .map_err(|reason| self.damaged(op, reason));
        }
        let values = Values::Table(self.numbers("indices_nonzero_data")?, table, dtype);
        Ok(Pair { mask, values, dtype })
    }

    /// Reads `constexpr_sparse_blockwise_shift_scale`: scales of the values of an earlier pair, or of a mask and
    /// values that the program states.
    fn sparse_scaled(
        &self,
        values_of: &Before<'_>,
        take: &mut dyn FnMut(&str) -> Option<Pair>,
    ) -> Read<Pair> {
        let dtype = self.result_dtype();
        let (mask, values) = match self.name("nonzero_data").and_then(|name| take(&name)) {
            Some(pair) => (pair.mask, pair.values),
            None => {
                let mask = self.mask("data_mask")?;
                (mask, Values::Plain(self.numbers("nonzero_data")?))
            }
        };
        let scales = self.scales(&mask.shape, values_of)?;
        let values = Values::Scaled(Box::new(values), scales, dtype);
        Ok(Pair { mask, values, dtype })
    }

    /// Reads `constexpr_sparse_to_dense`: an earlier pair, or a mask and values that the program states.
    fn sparse_to_dense(&self, op: &str, take: &mut dyn FnMut(&str) -> Option<Pair>) -> Read<Encoding> {
        let (dtype, shape) = (self.result_dtype(), self.result_shape());
        let elements = shape.elements();
        let pair = match self.name("nonzero_data").and_then(|name| take(&name)) {
            Some(pair) => pair,
            None => {
                let values = Values::Plain(self.numbers("nonzero_data")?);
                let numbers = match self.args.opset() < Opset::CoreML8 {
                    true => self.packed_bits("mask", elements, DType::Uint1)?,
                    false => self.numbers("mask")?,
                };
                let mask = Mask { numbers, shape: shape.clone() };
                Pair { mask, values, dtype }
            }
        };
        debug_assert_eq!(pair.dtype, dtype);
        let sparse = Sparse::new(pair.mask.numbers, elements, pair.values);
        Ok(Encoding::Sparse(Box::new(sparse.map_err(|reason| self.damaged(op, reason))?)))
    }

    /// Returns the error for values that contradict each other.
    fn damaged(&self, op: &str, reason: String) -> NotRead {
        let path = self.package.path().to_owned();
        NotRead::Package(mlpackage::Error::Model { path, reason: format!("{op}: {reason}"), source: None })
    }

    /// Returns the name of the value that a parameter is bound to.
    fn name(&self, param: &str) -> Option<String> {
        self.args.get(param)?.name.map(str::to_owned)
    }

    fn shape(&self, param: &str) -> Read<Shape> {
        Ok(self.args.shape(param)?)
    }

    /// Returns the elements of an argument that the program states.
    fn numbers(&self, param: &str) -> Read<Numbers> {
        self.numbers_of(param, &|_| None)
    }

    /// Returns the elements of an argument that the program states or an earlier operation has dequantized.
    fn numbers_of(&self, param: &str, values_of: &Before<'_>) -> Read<Numbers> {
        let arg = self.args.get(param).ok_or_else(|| format!("constexpr without {param}"))?;
        if let Some(value) = arg.value {
            return Ok(match self.package.stored_blob_of(value)? {
                Some(blob) => Numbers::Stored(blob),
                None => Numbers::Stated(self.package.floats(value)?),
            });
        }
        let values = arg.name.and_then(values_of).map(Numbers::Stated);
        Ok(values.ok_or_else(|| {
            format!("constexpr with a {param} that is neither stated nor dequantized by another constexpr")
        })?)
    }

    fn values(&self, param: &str, values_of: &Before<'_>) -> Read<Vec<f32>> {
        let numbers = self.numbers_of(param, values_of)?;
        Ok(match numbers {
            Numbers::Stated(values) => values,
            Numbers::Stored(blob) => {
                let mut values = vec![0.0; blob.blob().elements];
                blob.blob().read(0, &mut values);
                values
            }
            Numbers::Bits { .. } => Vec::new(),
        })
    }

    /// Returns bits that are packed into bytes, as the iOS 16 forms store masks.
    fn packed_bits(&self, param: &str, elements: usize, dtype: DType) -> Read<Numbers> {
        let value = self.args.get(param).and_then(|arg| arg.value);
        let value = value.ok_or_else(|| format!("constexpr with a computed {param}"))?;
        let bytes = match self.package.stored_blob_of(value)? {
            Some(blob) => StoredBytes::Blob(blob),
            None => StoredBytes::Stated(self.package.floats(value)?.iter().map(|b| *b as u8).collect()),
        };
        Ok(Numbers::Bits { bytes, dtype, elements })
    }

    /// Returns indices that are packed into bytes, as the iOS 16 form stores them: each has as many bits as
    /// the table needs.
    fn bits(&self, param: &str, elements: usize, values_of: &Before<'_>) -> Read<Numbers> {
        let entries = self.values("lut", values_of)?.len();
        let dtype = match entries {
            2 => DType::Uint1,
            4 => DType::Uint2,
            16 => DType::Uint4,
            64 => DType::Uint6,
            256 => DType::Uint8,
            _ => return Err(format!("constexpr_lut_to_dense with {entries} entries").into()),
        };
        self.packed_bits(param, elements, dtype)
    }

    fn mask(&self, param: &str) -> Read<Mask> {
        Ok(Mask { numbers: self.numbers(param)?, shape: self.shape(param)? })
    }

    fn scales(&self, shape: &Shape, values_of: &Before<'_>) -> Read<Scales> {
        let counts = self.shape("scale")?;
        let scale = self.values("scale", values_of)?;
        let offset = match self.args.get("offset") {
            Some(_) => Some(self.values("offset", values_of)?),
            None => None,
        };
        Ok(Scales { blocks: Blocks::new(shape.dims(), counts.dims()), scale, offset })
    }

    /// Returns the table for indices of `shape`.
    fn table(&self, shape: &Shape, values_of: &Before<'_>) -> Read<Table> {
        let lut = self.shape("lut")?;
        let values = self.values("lut", values_of)?;
        if self.args.opset() < Opset::CoreML8 {
            let blocks = Blocks::new(shape.dims(), &vec![1; shape.rank()]);
            let entries = values.len();
            return Ok(Table { blocks, values, entries, vector: 1, inner: 1 });
        }
        let rank = shape.rank();
        let (entries, vector) = (lut.dims()[rank], lut.dims()[rank + 1]);
        let blocks = Blocks::new(shape.dims(), &lut.dims()[..rank]);
        let inner = match self.args.get("vector_axis") {
            None => 1,
            Some(_) => {
                let axis = self.args.axis("vector_axis", &shape.into())?;
                shape.dims()[axis + 1..].iter().product()
            }
        };
        Ok(Table { blocks, values, entries, vector, inner })
    }
}

/// Expands a mask of indices and the vectors that they name into a mask of elements and their values.
///
/// The components of a vector are laid along the vector axis, which grows by the length of a vector. `shape`
/// is that of the expanded mask, `dtype` the type of the values.
fn sparse_vectors(
    mask: Mask,
    indices: &Numbers,
    table: &Table,
    (shape, dtype): (Shape, DType),
) -> Result<Pair, String> {
    let places = mask.shape.elements();
    let grown = places.checked_mul(table.vector).filter(|&n| n <= MAX_ELEMENTS);
    let grown = grown.ok_or_else(|| format!("{places} indices of vectors of {}", table.vector))?;
    let mut bits = vec![0.0; places];
    mask.numbers.read(0, &mut bits);
    // For each position, the number of set bits before it.
    let mut numbers = Vec::with_capacity(places);
    let mut count = 0;
    for bit in &bits {
        numbers.push(count);
        count += usize::from(*bit != 0.0);
    }
    if count != indices.len() {
        return Err(format!("{count} bits of the mask are set, there are {} indices", indices.len()));
    }
    let mut named = vec![0.0; count];
    indices.read(0, &mut named);
    let (mut grown_bits, mut values) = (Vec::with_capacity(grown), Vec::with_capacity(count * table.vector));
    for at in 0..grown {
        let (outer, inner) = (at / table.inner, at % table.inner);
        let place = outer / table.vector * table.inner + inner;
        grown_bits.push(bits[place]);
        if bits[place] != 0.0 {
            let (block, index) = (table.blocks.of(place), named[numbers[place]]);
            values.push(table.value(block, index, outer % table.vector));
        }
    }
    let mask = Mask { numbers: Numbers::Stated(grown_bits), shape };
    Ok(Pair { mask, values: Values::Plain(Numbers::Stated(values)), dtype })
}
