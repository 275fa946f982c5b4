//! The constants of a function: those that the program states, and compressed weights.

use std::collections::HashMap;
use std::sync::Arc;

use mlpackage::mil::{Block, Container, Function, Literal, Operation, TensorType, Value, ValueData};
use mlpackage::{DType, Package, Shape};

use super::args;
use super::compressed::{self, Packed};
use super::constexpr::{CompressedWeights, ConstexprResult, NotRead, Pair};

/// A constant that can be an operand.
#[derive(Clone, Debug)]
pub(super) enum Constant {
    /// One element in each word.
    Words(Arc<[u32]>),
    /// Floats as the package stores them.
    Packed(Arc<Packed>),
}

impl Constant {
    /// Returns the bytes that are mapped from the package, and the bytes that are held in memory.
    pub(super) fn bytes(&self) -> (u64, u64) {
        match self {
            Self::Words(words) => (0, 4 * words.len() as u64),
            Self::Packed(packed) => packed.bytes(),
        }
    }
}

/// Returns a constant as type inference reads it: with its elements if they are few, even if they are in a
/// weight file.
pub(super) fn stated(constants: &Constants, name: &str, value: &Value, ty: &TensorType) -> Value {
    let read = match constants.get(name) {
        Some(Constant::Words(words)) => ty.shape.known().and_then(|s| value_of(ty.dtype, &s, words)),
        _ => None,
    };
    read.unwrap_or_else(|| value.clone())
}

/// Constants of at most this many floats are unpacked at load. They are scales, biases and gains, too small
/// to be worth keeping packed.
const UNPACK_UP_TO: usize = 4096;

/// Constants, by the name of the value.
pub(super) type Constants = HashMap<String, Constant>;

/// Reads every constant of a function, including those of nested blocks. Adds to `missing` what the engine
/// lacks.
pub(super) fn read(
    package: &Package,
    function: &Function,
    missing: &mut Vec<String>,
) -> mlpackage::Result<Constants> {
    let mut reading = Reading { package, function, constants: HashMap::new(), pairs: HashMap::new() };
    reading.block(&function.block, missing)?;
    Ok(reading.constants)
}

struct Reading<'a> {
    package: &'a Package,
    function: &'a Function,
    constants: Constants,
    pairs: HashMap<String, Pair>,
}

impl Reading<'_> {
    fn block(&mut self, block: &Block, missing: &mut Vec<String>) -> mlpackage::Result<()> {
        for operation in &block.operations {
            for nested in &operation.blocks {
                self.block(nested, missing)?;
            }
            if operation.op == "const" {
                self.stated(operation)?;
            } else if operation.is_constexpr() {
                match self.dequantize(operation, &block.operations) {
                    Ok(()) => {}
                    Err(NotRead::Lacks(lack)) => missing.push(lack),
                    Err(NotRead::Package(error)) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn stated(&mut self, operation: &Operation) -> mlpackage::Result<()> {
        let (Some(value), [output]) = (operation.attributes.get("val"), operation.outputs.as_slice()) else {
            return Ok(());
        };
        let Some(ty) = value.tensor_type() else { return Ok(()) };
        let packed = match ty.dtype.is_float() {
            true => compressed::stated(self.package, value, ty.dtype)?,
            false => None,
        };
        let constant = match packed {
            Some(packed) => keep(packed),
            None => match words_of(self.package, value, ty)? {
                Some(words) => Constant::Words(words.into()),
                None => return Ok(()),
            },
        };
        self.constants.insert(output.name.clone(), constant);
        Ok(())
    }

    fn dequantize(&mut self, operation: &Operation, siblings: &[Operation]) -> Result<(), NotRead> {
        let results: Option<Vec<(DType, Shape)>> = operation
            .outputs
            .iter()
            .map(|o| o.ty.tensor().and_then(|ty| Some((ty.dtype, ty.shape.known()?))))
            .collect();
        let results = results.filter(|r| !r.is_empty());
        let results = results.ok_or_else(|| format!("{} of open shape", operation.op))?;
        // Arguments are stated constants or results of other constexpr operations in the same block.
        let find = |name: &str| {
            let defining = siblings.iter().find(|o| o.outputs.iter().any(|v| v.name == name))?;
            let output = defining.outputs.iter().find(|v| v.name == name)?;
            let value = defining.attributes.get("val").filter(|_| defining.op == "const");
            Some(args::Bound { ty: output.ty.tensor()?, container: Container::Tensor, constant: true, value })
        };
        let args = args::bind(operation, self.function.opset, find, Vec::new())?;
        let weights = CompressedWeights { package: self.package, args: &args, results: &results };
        let constants = &self.constants;
        let is_integer = |name: &str| {
            let mut outputs = siblings.iter().flat_map(|o| &o.outputs);
            let ty = outputs.find(|v| v.name == name).and_then(|v| v.ty.tensor());
            ty.is_some_and(|ty| !ty.dtype.is_float())
        };
        let values_of = |name: &str| match constants.get(name)? {
            Constant::Words(words) if is_integer(name) => {
                Some(words.iter().map(|word| *word as i32 as f32).collect())
            }
            Constant::Words(words) => Some(bytemuck::cast_slice(words).to_vec()),
            Constant::Packed(packed) => Some(packed.unpack()),
        };
        let pairs = &mut self.pairs;
        match weights.dequantize(&operation.op, &values_of, &mut |name| pairs.remove(name))? {
            ConstexprResult::Dense(packed) => {
                self.constants.insert(operation.outputs[0].name.clone(), keep(packed));
            }
            ConstexprResult::Pair(pair) => {
                let values = &operation.outputs[operation.outputs.len() - 1];
                self.pairs.insert(values.name.clone(), pair);
            }
        }
        Ok(())
    }
}

/// Keeps a large constant packed, and unpacks any other.
///
/// Integers, such as the entries of a table that are scaled later, are always unpacked: packed constants are
/// floats.
fn keep(packed: Packed) -> Constant {
    if !packed.dtype.is_float() {
        Constant::Words(packed.unpack().into_iter().map(|number| number as i32 as u32).collect())
    } else if packed.elements() <= UNPACK_UP_TO {
        Constant::Words(packed.unpack().into_iter().map(f32::to_bits).collect())
    } else {
        Constant::Packed(Arc::new(packed))
    }
}

/// Returns the elements of a constant as words; `None` for strings.
pub(super) fn words_of(
    package: &Package,
    value: &Value,
    ty: &TensorType,
) -> mlpackage::Result<Option<Vec<u32>>> {
    Ok(match &value.data {
        _ if ty.dtype == DType::String => None,
        ValueData::Immediate(_) => immediate(value, ty),
        // An f32 cannot hold every integer of 32 bits.
        ValueData::Blob(_) if matches!(ty.dtype, DType::Int32 | DType::Uint32) => {
            let blob = package.blob_of(value)?;
            blob.map(|b| b.data.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect())
        }
        _ => {
            let values = package.floats(value)?;
            Some(values.into_iter().map(|v| word(ty.dtype, v)).collect())
        }
    })
}

/// Returns the elements of a constant that is stored in the program itself, as words.
pub(super) fn immediate(value: &Value, ty: &TensorType) -> Option<Vec<u32>> {
    match &value.data {
        ValueData::Immediate(Literal::Bools(v)) => Some(v.iter().map(|b| u32::from(*b)).collect()),
        ValueData::Immediate(Literal::Ints(v)) => Some(v.iter().map(|v| *v as u32).collect()),
        // All other numeric types of up to 32 bits. Most often this is fp16, which is stored as bytes.
        ValueData::Immediate(literal) if ty.dtype.is_number() => {
            let values = literal.to_f32(ty)?;
            Some(values.into_iter().map(|v| word(ty.dtype, v)).collect())
        }
        _ => None,
    }
}

/// Converts a value to a word of its type.
fn word(dtype: DType, value: f32) -> u32 {
    if dtype.is_float() { value.to_bits() } else { value as i64 as u32 }
}

/// Returns words as a constant that type inference can read; `None` if there are many. Shapes, bounds and the
/// like are short.
pub(super) fn value_of(dtype: DType, shape: &Shape, words: &[u32]) -> Option<Value> {
    if words.len() > 1024 {
        return None;
    }
    let ints: &[i32] = bytemuck::cast_slice(words);
    match dtype {
        DType::Bool => {
            let bools = words.iter().map(|w| *w != 0).collect();
            Some(Value::immediate(dtype, shape.clone(), Literal::Bools(bools)))
        }
        DType::Int32 | DType::Int16 | DType::Uint16 => {
            Some(Value::immediate(dtype, shape.clone(), Literal::Ints(ints.to_vec())))
        }
        DType::Int8 | DType::Uint8 => {
            let bytes = words.iter().map(|w| *w as u8).collect();
            Some(Value::immediate(dtype, shape.clone(), Literal::Bytes(bytes)))
        }
        DType::Uint32 => {
            let bytes = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            Some(Value::immediate(dtype, shape.clone(), Literal::Bytes(bytes)))
        }
        DType::Fp32 => Some(Value::fp32s(shape.clone(), bytemuck::cast_slice::<u32, f32>(words).to_vec())),
        DType::Fp16 => {
            let halves: Vec<half::f16> =
                words.iter().map(|w| half::f16::from_f32(f32::from_bits(*w))).collect();
            Some(Value::fp16s(shape.clone(), &halves))
        }
        _ => None,
    }
}
