//! Conversion of MIL's protobuf messages to typed data. Anything that cannot be represented is left out and
//! reported once.

use std::collections::BTreeMap;

use super::dims::{Dim, Dims};
use super::opset::Opset;
use super::program::{Argument, Binding, Block, Function, Operation, Program};
use super::types::{NamedType, TensorType, ValueType};
use super::value::{BlobRef, Literal, Value, ValueData};
use crate::dtype::DType;
use crate::finding::{Fault, Finding, Rule};
use crate::proto;

/// The error states why a message is refused; the caller adds the location.
type Decoded<T> = Result<T, Fault>;

/// Limit on the rank. No operation of MIL accepts more axes, so a larger rank indicates a damaged file.
const MAX_RANK: usize = 16;

/// Decodes a program; the findings name what is left out because it cannot be represented.
pub(crate) fn program_from_proto(program: proto::Program) -> (Program, Vec<Finding>) {
    let mut decoder = Decoder { function: String::new(), findings: Vec::new() };
    if program.version != 1 {
        let reason = format!("the program has version {}, expected 1", program.version);
        decoder.findings.push(Finding::package(Rule::ProgramVersion, reason));
    }
    let mut functions = BTreeMap::new();
    for (name, f) in program.functions {
        decoder.function.clone_from(&name);
        if let Some(f) = decoder.function(f) {
            functions.insert(name, f);
        }
    }
    let attributes = program.attributes.into_iter().filter_map(|(name, v)| match value(v) {
        Ok(v) => Some((name, v)),
        Err(fault) => {
            let reason = format!("the program's attribute {name}: {fault}");
            decoder.findings.push(Finding::package(fault.rule, reason));
            None
        }
    });
    let attributes = attributes.collect();
    (Program { functions, attributes, doc: program.doc_string }, decoder.findings)
}

struct Decoder {
    /// The function being read.
    function: String,
    findings: Vec<Finding>,
}

impl Decoder {
    fn report(&mut self, rule: Rule, reason: String) {
        self.findings.push(Finding::function(rule, &self.function, reason));
    }

    fn function(&mut self, mut f: proto::Function) -> Option<Function> {
        let Some(opset) = Opset::from_name(&f.opset) else {
            self.report(Rule::Opset, format!("it has opset {:?}, expected CoreML5 to CoreML9", f.opset));
            return None;
        };
        let Some(block) = f.block_specializations.remove(&f.opset) else {
            self.report(Rule::Block, format!("it has no block for its opset {opset}"));
            return None;
        };
        for other in f.block_specializations.keys() {
            self.report(
                Rule::Block,
                format!("it has a block for {other} in addition to the one for its opset {opset}"),
            );
        }
        let inputs = self.named_types(f.inputs, "input");
        let attributes = self.attributes(f.attributes);
        let block = self.block(block);
        Some(Function { inputs, opset, block, attributes })
    }

    fn block(&mut self, block: proto::Block) -> Block {
        let inputs = self.named_types(block.inputs, "a block's input");
        let attributes = self.attributes(block.attributes);
        let mut operations = Vec::with_capacity(block.operations.len());
        for mut o in block.operations {
            let first = o.outputs.first().map_or_else(String::new, |v| format!(" -> %{}", v.name));
            let label = format!("{}{first}", o.r#type);
            let blocks = std::mem::take(&mut o.blocks).into_iter().map(|b| self.block(b)).collect();
            match operation(o, blocks) {
                Ok(operation) => operations.push(operation),
                Err(fault) => self.findings.push(Finding::operation(&self.function, label, fault)),
            }
        }
        Block { inputs, operations, outputs: block.outputs, attributes }
    }

    fn named_types(&mut self, types: Vec<proto::NamedValueType>, what: &str) -> Vec<NamedType> {
        let mut decoded = Vec::with_capacity(types.len());
        for ty in types {
            match named_type(ty) {
                Ok(ty) => decoded.push(ty),
                Err(fault) => self.report(fault.rule, format!("{what} {fault}")),
            }
        }
        decoded
    }

    fn attributes(&mut self, attributes: BTreeMap<String, proto::Value>) -> BTreeMap<String, Value> {
        let mut decoded = BTreeMap::new();
        for (name, v) in attributes {
            match value(v) {
                Ok(v) => drop(decoded.insert(name, v)),
                Err(fault) => self.report(fault.rule, format!("attribute {name}: {fault}")),
            }
        }
        decoded
    }
}

fn operation(o: proto::Operation, blocks: Vec<Block>) -> Decoded<Operation> {
    let at = |name: &str, fault: Fault| Fault::at(fault.rule, name, format!("cannot be read: {fault}"));
    let inputs = o.inputs.into_iter().map(|(name, argument)| {
        let bindings = argument.arguments.into_iter().map(binding).collect::<Decoded<Argument>>();
        let bindings = bindings.map_err(|fault| at(&name, fault))?;
        Ok((name, bindings))
    });
    let attributes = o.attributes.into_iter().map(|(name, v)| {
        let v = value(v).map_err(|fault| at(&name, fault))?;
        Ok((name, v))
    });
    Ok(Operation {
        op: o.r#type,
        inputs: inputs.collect::<Decoded<BTreeMap<_, _>>>()?,
        attributes: attributes.collect::<Decoded<BTreeMap<_, _>>>()?,
        outputs: o.outputs.into_iter().map(named_type).collect::<Decoded<_>>()?,
        blocks,
    })
}

fn binding(b: proto::Binding) -> Decoded<Binding> {
    match b.binding {
        None => Err(Fault::new(Rule::ArgumentCount, "a binding holds neither a name nor a value")),
        Some(proto::binding::Binding::Name(name)) => Ok(Binding::Name(name)),
        Some(proto::binding::Binding::Value(v)) => Ok(Binding::Value(value(v)?)),
    }
}

fn bad_type(reason: impl Into<String>) -> Fault {
    Fault::new(Rule::Type, reason)
}

fn bad_constant(reason: impl Into<String>) -> Fault {
    Fault::new(Rule::Constant, reason)
}

fn named_type(n: proto::NamedValueType) -> Decoded<NamedType> {
    let ty = value_type(n.r#type).map_err(|fault| bad_type(format!("%{}: {fault}", n.name)))?;
    Ok(NamedType { name: n.name, ty })
}

fn value_type(ty: Option<proto::ValueType>) -> Decoded<ValueType> {
    use proto::value_type::Type;
    match ty.and_then(|t| t.r#type).ok_or_else(|| bad_type("it has no type"))? {
        Type::Tensor(t) => Ok(ValueType::Tensor(tensor_type(&t)?)),
        Type::State(s) => match s.wrapped_type.and_then(|w| w.r#type) {
            Some(Type::Tensor(t)) => Ok(ValueType::State(tensor_type(&t)?)),
            _ => Err(bad_type("a state must hold a tensor")),
        },
        Type::List(l) => Ok(ValueType::List {
            element: Box::new(value_type(l.r#type.map(|t| *t))?),
            length: l.length.map(|d| dim(&d)).transpose()?,
        }),
        Type::Tuple(t) => {
            t.types.into_iter().map(|t| value_type(Some(t))).collect::<Decoded<_>>().map(ValueType::Tuple)
        }
        Type::Dictionary(d) => Ok(ValueType::Dictionary {
            key: Box::new(value_type(d.key_type.map(|t| *t))?),
            value: Box::new(value_type(d.value_type.map(|t| *t))?),
        }),
    }
}

fn dim(d: &proto::Dimension) -> Decoded<Dim> {
    match d.dimension {
        Some(proto::dimension::Dimension::Constant(c)) => {
            let size = usize::try_from(c.size);
            size.map(Dim::Known).map_err(|_| bad_type(format!("dimension {} does not fit", c.size)))
        }
        Some(proto::dimension::Dimension::Unknown(_)) => Ok(Dim::Unknown),
        None => Err(bad_type("a dimension is neither constant nor unknown")),
    }
}

fn tensor_type(t: &proto::TensorType) -> Decoded<TensorType> {
    let dtype = DType::from_mil_number(t.data_type)
        .ok_or_else(|| bad_type(format!("unknown data type {}", t.data_type)))?;
    if t.rank != t.dimensions.len() as i64 || t.dimensions.len() > MAX_RANK {
        let found = t.dimensions.len();
        return Err(bad_type(format!(
            "rank {} with {found} dimensions, expected equal numbers of at most {MAX_RANK}",
            t.rank
        )));
    }
    let is_variadic = |d: &proto::Dimension| {
        matches!(
            d.dimension,
            Some(proto::dimension::Dimension::Unknown(proto::UnknownDimension { variadic: true }))
        )
    };
    let shape = match t.dimensions.iter().any(is_variadic) {
        true => Dims::of_any_rank(),
        false => t.dimensions.iter().map(dim).collect::<Decoded<Dims>>()?,
    };
    // Ensures that every size that is later computed from the shape fits, even at sixteen bytes per element.
    shape
        .least_elements()
        .and_then(|n| n.checked_mul(16))
        .ok_or_else(|| bad_type(format!("{shape} has too many elements")))?;
    Ok(TensorType { dtype, shape })
}

fn value(v: proto::Value) -> Decoded<Value> {
    use proto::immediate_value::Value as Immediate;
    use proto::value::Value as Held;
    let ty = value_type(v.r#type)?;
    let held = v.value.ok_or_else(|| bad_constant("a constant holds nothing"))?;
    let data = match (&ty, held) {
        (ValueType::Tensor(_), Held::BlobFile(blob)) => {
            ValueData::Blob(BlobRef { file: blob.file_name, offset: blob.offset })
        }
        (_, Held::BlobFile(_)) => return Err(bad_constant(format!("a blob cannot hold {ty}"))),
        (_, Held::Immediate(held)) => match (&ty, held.value) {
            (ValueType::Tensor(tensor), Some(Immediate::Tensor(t))) => {
                let literal = literal(t)?;
                literal.fits(tensor).map_err(bad_constant)?;
                ValueData::Immediate(literal)
            }
            (ValueType::List { .. }, Some(Immediate::List(l))) => ValueData::List(values(l.values)?),
            (ValueType::Tuple(_), Some(Immediate::Tuple(t))) => ValueData::Tuple(values(t.values)?),
            (ValueType::Dictionary { .. }, Some(Immediate::Dictionary(d))) => {
                let half =
                    |v: Option<proto::Value>| value(v.ok_or_else(|| bad_constant("a pair is incomplete"))?);
                let pairs = d.values.into_iter().map(|pair| Ok((half(pair.key)?, half(pair.value)?)));
                ValueData::Dictionary(pairs.collect::<Decoded<_>>()?)
            }
            (_, None) => return Err(bad_constant(format!("a constant of {ty} holds nothing"))),
            _ => return Err(bad_constant(format!("a constant of {ty} holds a value of another kind"))),
        },
    };
    Ok(Value { ty, data })
}

fn values(values: Vec<proto::Value>) -> Decoded<Vec<Value>> {
    values.into_iter().map(value).collect()
}

fn literal(t: proto::TensorValue) -> Decoded<Literal> {
    use proto::tensor_value::Value as V;
    Ok(match t.value.ok_or_else(|| bad_constant("an immediate tensor holds nothing"))? {
        V::Floats(v) => Literal::Floats(v.values),
        V::Ints(v) => Literal::Ints(v.values),
        V::Bools(v) => Literal::Bools(v.values),
        V::Strings(v) => Literal::Strings(v.values),
        V::LongInts(v) => Literal::LongInts(v.values),
        V::Doubles(v) => Literal::Doubles(v.values),
        V::Bytes(v) => Literal::Bytes(v.values),
    })
}
