//! From MIL's protobuf messages to typed data. Whatever cannot be represented is refused by name.

use std::collections::BTreeMap;

use super::dims::{Dim, Dims};
use super::opset::Opset;
use super::program::{Binding, Block, Function, Operation, Program};
use super::types::{NamedType, TensorType, ValueType};
use super::value::{BlobRef, Literal, Value, ValueData};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::proto;

/// The reason why a message is refused, to be located by the caller.
type Reason<T> = std::result::Result<T, String>;

/// More axes than any operation of MIL takes; a larger rank is damage.
const MAX_RANK: usize = 16;

pub(crate) fn program_from_proto(program: proto::Program) -> Result<Program> {
    if program.version != 1 {
        return Err(Error::Function {
            function: "*".into(),
            reason: format!("program version {}, expected 1", program.version),
        });
    }
    let functions = program.functions.into_iter().map(|(name, f)| {
        let f = function(&name, f)?;
        Ok((name, f))
    });
    Ok(Program { functions: functions.collect::<Result<_>>()? })
}

fn function(name: &str, mut f: proto::Function) -> Result<Function> {
    let bad = |reason: String| Error::Function { function: name.to_owned(), reason };
    let opset = Opset::from_name(&f.opset)
        .ok_or_else(|| bad(format!("unknown opset {:?}, expected CoreML5 to CoreML9", f.opset)))?;
    let block = f
        .block_specializations
        .remove(&f.opset)
        .ok_or_else(|| bad(format!("it has no block for its opset {opset}")))?;
    let inputs = f.inputs.into_iter().map(|i| {
        let input = i.name.clone();
        named_type(i).map_err(|e| bad(format!("input %{input}: {e}")))
    });
    let inputs = inputs.collect::<Result<_>>()?;
    let operations = block.operations.into_iter().map(|o| {
        let first = o.outputs.first().map_or_else(String::new, |v| format!(" -> %{}", v.name));
        let label = format!("{}{first}", o.r#type);
        operation(o).map_err(|reason| Error::Operation {
            function: name.to_owned(),
            operation: label,
            reason,
        })
    });
    let operations = operations.collect::<Result<_>>()?;
    Ok(Function { inputs, opset, block: Block { operations, outputs: block.outputs } })
}

fn operation(o: proto::Operation) -> Reason<Operation> {
    if !o.blocks.is_empty() {
        return Err("nested blocks (cond, while_loop) are not supported".into());
    }
    let inputs = o.inputs.into_iter().map(|(name, argument)| {
        let bindings = argument.arguments.into_iter().map(binding).collect::<Reason<Vec<_>>>();
        let bindings = bindings.map_err(|e| format!("argument {name}: {e}"))?;
        Ok((name, bindings))
    });
    let attributes = o.attributes.into_iter().map(|(name, v)| {
        let v = value(v).map_err(|e| format!("attribute {name}: {e}"))?;
        Ok((name, v))
    });
    Ok(Operation {
        op: o.r#type,
        inputs: inputs.collect::<Reason<BTreeMap<_, _>>>()?,
        outputs: o.outputs.into_iter().map(named_type).collect::<Reason<_>>()?,
        attributes: attributes.collect::<Reason<BTreeMap<_, _>>>()?,
    })
}

fn binding(b: proto::Binding) -> Reason<Binding> {
    match b.binding.ok_or("a binding holds neither a name nor a value")? {
        proto::binding::Binding::Name(name) => Ok(Binding::Name(name)),
        proto::binding::Binding::Value(v) => Ok(Binding::Value(value(v)?)),
    }
}

fn named_type(n: proto::NamedValueType) -> Reason<NamedType> {
    let ty = value_type(n.r#type).map_err(|e| format!("%{}: {e}", n.name))?;
    Ok(NamedType { name: n.name, ty })
}

fn value_type(ty: Option<proto::ValueType>) -> Reason<ValueType> {
    use proto::value_type::Type;
    match ty.and_then(|t| t.r#type).ok_or("it has no type")? {
        Type::Tensor(t) => Ok(ValueType::Tensor(tensor_type(&t)?)),
        Type::State(s) => match s.wrapped_type.and_then(|w| w.r#type) {
            Some(Type::Tensor(t)) => Ok(ValueType::State(tensor_type(&t)?)),
            _ => Err("a state must hold a tensor".into()),
        },
        Type::List(_) => Err("list types are not supported".into()),
        Type::Tuple(_) => Err("tuple types are not supported".into()),
        Type::Dictionary(_) => Err("dictionary types are not supported".into()),
    }
}

fn tensor_type(t: &proto::TensorType) -> Reason<TensorType> {
    let dtype =
        DType::from_mil_number(t.data_type).ok_or_else(|| format!("unknown data type {}", t.data_type))?;
    if t.rank != t.dimensions.len() as i64 || t.dimensions.len() > MAX_RANK {
        return Err(format!("rank {} with {} dimensions, at most {MAX_RANK}", t.rank, t.dimensions.len()));
    }
    let dims = t.dimensions.iter().map(|d| match d.dimension {
        Some(proto::dimension::Dimension::Constant(c)) => {
            usize::try_from(c.size).map(Dim::Known).map_err(|_| format!("extent {} does not fit", c.size))
        }
        Some(proto::dimension::Dimension::Unknown(_)) => Ok(Dim::Unknown),
        None => Err("an extent is neither constant nor unknown".into()),
    });
    let shape = dims.collect::<Reason<Dims>>()?;
    // Every size that is computed from a shape later on fits, sixteen bytes an element included.
    shape
        .least_elements()
        .and_then(|n| n.checked_mul(16))
        .ok_or_else(|| format!("{shape} has too many elements"))?;
    Ok(TensorType { dtype, shape })
}

fn value(v: proto::Value) -> Reason<Value> {
    let ty = match value_type(v.r#type)? {
        ValueType::Tensor(ty) => ty,
        ValueType::State(_) => return Err("a constant cannot be a state".into()),
    };
    let data = match v.value.ok_or("a constant holds nothing")? {
        proto::value::Value::BlobFile(blob) => {
            ValueData::Blob(BlobRef { file: blob.file_name, offset: blob.offset })
        }
        proto::value::Value::Immediate(i) => match i.value {
            Some(proto::immediate_value::Value::Tensor(t)) => {
                let literal = literal(t)?;
                literal.fits(&ty)?;
                ValueData::Immediate(literal)
            }
            _ => return Err("only tensors are supported as immediate values".into()),
        },
    };
    Ok(Value { ty, data })
}

fn literal(t: proto::TensorValue) -> Reason<Literal> {
    use proto::tensor_value::Value as V;
    Ok(match t.value.ok_or("an immediate tensor holds nothing")? {
        V::Floats(v) => Literal::Floats(v.values),
        V::Ints(v) => Literal::Ints(v.values),
        V::Bools(v) => Literal::Bools(v.values),
        V::Strings(v) => Literal::Strings(v.values),
        V::LongInts(v) => Literal::LongInts(v.values),
        V::Doubles(v) => Literal::Doubles(v.values),
        V::Bytes(v) => Literal::Bytes(v.values),
    })
}
