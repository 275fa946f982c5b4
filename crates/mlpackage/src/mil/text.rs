//! MIL as text, in the manner of the `model.mil` that Core ML's compiler writes.

use std::fmt;

use half::f16;

use super::program::{Binding, Function, Operation, Program};
use super::value::{Literal, Value, ValueData};
use crate::dtype::DType;

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program(1.0)\n{{")?;
        for (name, function) in &self.functions {
            write_function(f, name, function)?;
        }
        writeln!(f, "}}")
    }
}

fn write_function(f: &mut fmt::Formatter<'_>, name: &str, function: &Function) -> fmt::Result {
    write!(f, "    func {name}<{}>(", function.opset.text_name())?;
    for (i, input) in function.inputs.iter().enumerate() {
        write!(f, "{}{} {}", if i > 0 { ", " } else { "" }, input.ty, input.name)?;
    }
    writeln!(f, ") {{")?;
    for operation in &function.block.operations {
        writeln!(f, "            {operation};")?;
    }
    writeln!(f, "        }} -> ({});", function.block.outputs.join(", "))
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, output) in self.outputs.iter().enumerate() {
            write!(f, "{}{} {}", if i > 0 { ", " } else { "" }, output.ty, output.name)?;
        }
        if !self.outputs.is_empty() {
            f.write_str(" = ")?;
        }
        write!(f, "{}(", self.op)?;
        for (i, (param, bindings)) in self.inputs.iter().enumerate() {
            write!(f, "{}{param} = ", if i > 0 { ", " } else { "" })?;
            match bindings.as_slice() {
                [one] => write!(f, "{one}")?,
                many => {
                    f.write_str("(")?;
                    for (j, binding) in many.iter().enumerate() {
                        write!(f, "{}{binding}", if j > 0 { ", " } else { "" })?;
                    }
                    f.write_str(")")?;
                }
            }
        }
        f.write_str(")[")?;
        for (i, (name, value)) in self.attributes.iter().enumerate() {
            write!(f, "{}{name} = {value}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
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
        if self.ty.shape.rank() == 0 {
            write!(f, "{}(", self.ty.dtype)?;
        } else {
            write!(f, "{}(", self.ty)?;
        }
        match &self.data {
            ValueData::Blob(blob) => {
                write!(f, "BLOBFILE(path = string({:?}), offset = uint64({}))", blob.file, blob.offset)?
            }
            ValueData::Immediate(literal) => {
                let elements = elements(literal, self.ty.dtype);
                match elements.as_slice() {
                    [one] if self.ty.shape.rank() == 0 => f.write_str(one)?,
                    many => write!(f, "[{}]", many.join(", "))?,
                }
            }
        }
        f.write_str(")")
    }
}

fn elements(literal: &Literal, dtype: DType) -> Vec<String> {
    match literal {
        Literal::Floats(v) => v.iter().map(|x| format!("{x:?}")).collect(),
        Literal::Doubles(v) => v.iter().map(|x| format!("{x:?}")).collect(),
        Literal::Ints(v) => v.iter().map(ToString::to_string).collect(),
        Literal::LongInts(v) => v.iter().map(ToString::to_string).collect(),
        Literal::Bools(v) => v.iter().map(ToString::to_string).collect(),
        Literal::Strings(v) => v.iter().map(|s| format!("{s:?}")).collect(),
        Literal::Bytes(v) => match dtype {
            DType::Fp16 => v
                .chunks_exact(2)
                .map(|b| format!("{:?}", f16::from_le_bytes([b[0], b[1]]).to_f32()))
                .collect(),
            DType::Int8 => v.iter().map(|&b| (b as i8).to_string()).collect(),
            DType::Uint8 => v.iter().map(ToString::to_string).collect(),
            _ => v.iter().map(|b| format!("{b:#04x}")).collect(),
        },
    }
}
