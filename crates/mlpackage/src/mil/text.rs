//! MIL as text, in the style of the `model.mil` that Core ML's compiler writes.

use std::collections::BTreeMap;
use std::fmt;

use super::program::{Binding, Function, Operation, Program};
use super::types::{NamedType, TensorType, ValueType};
use super::value::{Literal, Value, ValueData};
use crate::dtype::DType;
use crate::mil::elements;

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("program(1.0)\n")?;
        if !self.attributes.is_empty() {
            write_attributes(f, &self.attributes)?;
            f.write_str("\n")?;
        }
        f.write_str("{\n")?;
        for (name, function) in &self.functions {
            write_function(f, name, function)?;
        }
        writeln!(f, "}}")
    }
}

/// Indentation of an operation in a function's own block. Each nested block adds [`STEP`] spaces.
const MARGIN: usize = 12;
const STEP: usize = 4;

fn write_function(f: &mut fmt::Formatter<'_>, name: &str, function: &Function) -> fmt::Result {
    write!(f, "    func {name}<{}>(", function.opset.text_name())?;
    write_list(f, &function.inputs, write_named)?;
    f.write_str(")")?;
    if !function.attributes.is_empty() {
        f.write_str(" ")?;
        write_attributes(f, &function.attributes)?;
    }
    f.write_str(" {\n")?;
    for operation in &function.block.operations {
        write!(f, "{:MARGIN$}", "")?;
        write_operation(f, operation, MARGIN)?;
        f.write_str(";\n")?;
    }
    writeln!(f, "        }} -> ({});", function.block.outputs.join(", "))
}

/// Writes an operation and its nested blocks, without the end of the line.
fn write_operation(f: &mut fmt::Formatter<'_>, operation: &Operation, margin: usize) -> fmt::Result {
    write_list(f, &operation.outputs, write_named)?;
    if !operation.outputs.is_empty() {
        f.write_str(" = ")?;
    }
    write!(f, "{}(", operation.op)?;
    write_list(f, &operation.inputs, |f, (param, bindings)| match bindings.as_slice() {
        [one] => write!(f, "{param} = {one}"),
        many => {
            write!(f, "{param} = (")?;
            write_list(f, many, |f, binding| write!(f, "{binding}"))?;
            f.write_str(")")
        }
    })?;
    f.write_str(")")?;
    write_attributes(f, &operation.attributes)?;
    for block in &operation.blocks {
        f.write_str(" (")?;
        write_list(f, &block.inputs, write_named)?;
        f.write_str(") {\n")?;
        let inner = margin + STEP;
        for nested in &block.operations {
            write!(f, "{:inner$}", "")?;
            write_operation(f, nested, inner)?;
            f.write_str(";\n")?;
        }
        write!(f, "{:margin$}}} -> ({})", "", block.outputs.join(", "))?;
    }
    Ok(())
}

fn write_attributes(f: &mut fmt::Formatter<'_>, attributes: &BTreeMap<String, Value>) -> fmt::Result {
    f.write_str("[")?;
    write_list(f, attributes, |f, (name, value)| write!(f, "{name} = {value}"))?;
    f.write_str("]")
}

/// Writes a type followed by a name; a scalar is written without a shape.
fn write_named(f: &mut fmt::Formatter<'_>, named: &NamedType) -> fmt::Result {
    match &named.ty {
        ValueType::Tensor(ty) if ty.shape.rank() == 0 => write!(f, "{} {}", ty.dtype, named.name),
        ty => write!(f, "{ty} {}", named.name),
    }
}

/// Writes items, separated by commas.
fn write_list<T>(
    f: &mut fmt::Formatter<'_>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write(f, item)?;
    }
    Ok(())
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_operation(f, self, 0)
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Value(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ty {
            ValueType::Tensor(ty) if ty.shape.rank() == 0 => write!(f, "{}(", ty.dtype)?,
            ty => write!(f, "{ty}(")?,
        }
        match &self.data {
            ValueData::Blob(blob) => {
                write!(f, "BLOBFILE(path = string({:?}), offset = uint64({}))", blob.file, blob.offset)?
            }
            ValueData::Immediate(literal) => {
                let elements = self.tensor_type().map_or_else(Vec::new, |ty| elements(literal, ty));
                match elements.as_slice() {
                    [one] if self.tensor_type().is_some_and(|ty| ty.shape.rank() == 0) => f.write_str(one)?,
                    many => write!(f, "[{}]", many.join(", "))?,
                }
            }
            ValueData::List(values) | ValueData::Tuple(values) => {
                f.write_str("(")?;
                write_list(f, values, |f, value| value.fmt(f))?;
                f.write_str(")")?;
            }
            ValueData::Dictionary(pairs) => {
                f.write_str("{")?;
                write_list(f, pairs, |f, (key, value)| write!(f, "{key}: {value}"))?;
                f.write_str("}")?;
            }
        }
        f.write_str(")")
    }
}

fn elements(literal: &Literal, ty: &TensorType) -> Vec<String> {
    match literal {
        Literal::Floats(v) => v.iter().map(|x| format!("{x:?}")).collect(),
        Literal::Doubles(v) => v.iter().map(|x| format!("{x:?}")).collect(),
        Literal::Ints(v) => v.iter().map(ToString::to_string).collect(),
        Literal::LongInts(v) => v.iter().map(ToString::to_string).collect(),
        Literal::Bools(v) => v.iter().map(ToString::to_string).collect(),
        Literal::Strings(v) => v.iter().map(|s| format!("{s:?}")).collect(),
        // f32 represents every packed type without loss, except large uint32 values.
        Literal::Bytes(v) => match elements::literal_to_f32(literal, ty) {
            Some(values) if ty.dtype.is_float() => values.iter().map(|x| format!("{x:?}")).collect(),
            Some(values) if ty.dtype != DType::Uint32 => values.iter().map(ToString::to_string).collect(),
            _ if ty.dtype == DType::Uint32 => {
                v.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]).to_string()).collect()
            }
            _ => v.iter().map(|b| format!("{b:#04x}")).collect(),
        },
    }
}
