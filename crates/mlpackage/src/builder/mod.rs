//! Function builder, which checks every operation and infers its types as it is added.
//!
//! ```
//! use mlpackage::{BlobWriter, DType, builder::FunctionBuilder, mil::{Opset, Value}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let mut weights = BlobWriter::create(&dir.path().join("weight.bin"))?;
//! let mut f = FunctionBuilder::new("main", Opset::CoreML8, &mut weights);
//! let x = f.input("x", DType::Fp16, [1, 8, 1, 1])?;
//! let half = f.value("half", Value::fp16(0.5))?;
//! let y = f.op("mul", "y").arg("x", &x).arg("y", &half).one()?;
//! f.output(&y);
//! let function = f.finish();
//! assert_eq!(function.block.operations.len(), 2); // the constant and the product
//! # Ok(())
//! # }
//! ```

mod operation;
mod var;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::blob::{BlobWriter, WEIGHT_BLOB_NAME};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::finding::{Finding, Rule};
use crate::mil::{
    BlobRef, Block, Container, Dims, Function, NamedType, Operation, Opset, TensorType, Value, ValueData,
    ValueType, is_identifier,
};

pub use operation::OpBuilder;
pub use var::{StateVar, Var};

/// Builds one function. Weights are written directly to the package's weight file.
#[derive(Debug)]
pub struct FunctionBuilder<'w> {
    name: String,
    opset: Opset,
    inputs: Vec<NamedType>,
    block: Block,
    names: HashSet<String>,
    shared: HashMap<String, Var>,
    weights: &'w mut BlobWriter,
}

impl<'w> FunctionBuilder<'w> {
    /// Creates a builder for an empty function.
    pub fn new(name: &str, opset: Opset, weights: &'w mut BlobWriter) -> Self {
        Self {
            name: name.to_owned(),
            opset,
            inputs: Vec::new(),
            block: Block::default(),
            names: HashSet::new(),
            shared: HashMap::new(),
            weights,
        }
    }

    /// Adds a tensor input. Inputs must precede states.
    ///
    /// # Errors
    ///
    /// If the name is already used or is not an identifier.
    pub fn input(&mut self, name: &str, dtype: DType, shape: impl Into<Dims>) -> Result<Var> {
        let ty = TensorType::new(dtype, shape);
        self.claim(name)?;
        self.inputs.push(NamedType { name: name.to_owned(), ty: ValueType::Tensor(ty.clone()) });
        Ok(Var { name: name.to_owned(), ty, container: Container::Tensor, constant: false, value: None })
    }

    /// Adds a state.
    ///
    /// # Errors
    ///
    /// If the name is already used or is not an identifier, if the type is not fp16, the only type that Core
    /// ML supports for states, or if the opset is older than CoreML8.
    pub fn state(&mut self, name: &str, dtype: DType, shape: impl Into<Dims>) -> Result<StateVar> {
        if dtype != DType::Fp16 || self.opset < Opset::CoreML8 {
            return Err(
                self.error(Rule::StateType, format!("state {name}: states are fp16, from opset CoreML8 on"))
            );
        }
        let ty = TensorType::new(dtype, shape);
        self.claim(name)?;
        self.inputs.push(NamedType { name: name.to_owned(), ty: ValueType::State(ty.clone()) });
        Ok(StateVar { name: name.to_owned(), ty })
    }

    /// Adds a constant that is stored in the program. Equal constants are shared. The name is derived from
    /// `hint`.
    ///
    /// # Errors
    ///
    /// If the value does not match its type.
    pub fn value(&mut self, hint: &str, value: Value) -> Result<Var> {
        if let ValueData::Immediate(literal) = &value.data {
            let fits = match value.tensor_type() {
                Some(ty) => literal.fits(ty),
                None => Err(format!("immediate elements cannot be a {}", value.ty)),
            };
            fits.map_err(|e| self.error(Rule::Constant, format!("constant {hint}: {e}")))?;
        }
        let key = format!("{value:?}");
        if let Some(var) = self.shared.get(&key) {
            return Ok(var.clone());
        }
        let var = self.constant(self.constant_name(hint), value)?;
        self.shared.insert(key, var.clone());
        Ok(var)
    }

    /// Adds a constant that is stored in the weight file. `data` holds the packed elements as little-endian
    /// bytes.
    ///
    /// # Errors
    ///
    /// If the size of `data` does not match the type, or the file cannot be written.
    pub fn weight(&mut self, name: &str, ty: TensorType, data: &[u8]) -> Result<Var> {
        let needed = ty.shape.elements().and_then(|elements| ty.dtype.packed_bytes(elements));
        if needed.is_some_and(|needed| needed != data.len()) {
            let reason =
                format!("%{name} is {ty} and needs {} B, {} B given", needed.unwrap_or(0), data.len());
            return Err(self.error(Rule::Constant, reason));
        }
        let value = self.blob(ty, data)?;
        self.constant(name.to_owned(), value)
    }

    /// Adds a constant of fp16 elements that is stored in the weight file.
    ///
    /// # Errors
    ///
    /// As [`weight`](Self::weight).
    pub fn weight_fp16(&mut self, name: &str, shape: impl Into<Dims>, values: &[half::f16]) -> Result<Var> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.weight(name, TensorType::new(DType::Fp16, shape), &bytes)
    }

    /// Adds a constant of fp32 elements that is stored in the weight file.
    ///
    /// # Errors
    ///
    /// As [`weight`](Self::weight).
    pub fn weight_fp32(&mut self, name: &str, shape: impl Into<Dims>, values: &[f32]) -> Result<Var> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.weight(name, TensorType::new(DType::Fp32, shape), &bytes)
    }

    /// Writes `data` to the weight file and returns a value that refers to it, for use as an argument of a
    /// `constexpr` operation.
    ///
    /// # Errors
    ///
    /// As [`weight`](Self::weight).
    pub fn blob(&mut self, ty: TensorType, data: &[u8]) -> Result<Value> {
        let elements = ty.shape.elements();
        let elements = elements
            .ok_or_else(|| self.error(Rule::Constant, format!("{ty} cannot be the type of a constant")))?;
        let offset = self.weights.write(ty.dtype, elements, data)?;
        let at = BlobRef { file: WEIGHT_BLOB_NAME.to_owned(), offset };
        self.weights.ints.insert(&at, &ty, data);
        Ok(Value::blob(ty, at))
    }

    /// Creates an fp16 tensor that is stored in the program if it has fewer than ten elements, and in the
    /// weight file otherwise. coremltools uses the same limit.
    ///
    /// # Errors
    ///
    /// As [`blob`](Self::blob).
    pub fn fp16_array(&mut self, shape: impl Into<Dims>, values: &[half::f16]) -> Result<Value> {
        if values.len() < IMMEDIATE_LIMIT {
            return Ok(Value::fp16s(shape, values));
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.blob(TensorType::new(DType::Fp16, shape), &bytes)
    }

    /// Begins an operation of type `op` whose first result is called `name`.
    pub fn op<'b>(&'b mut self, op: &str, name: &str) -> OpBuilder<'b, 'w> {
        OpBuilder::new(self, op, name)
    }

    /// Reads a state.
    ///
    /// # Errors
    ///
    /// If the name is already used.
    pub fn read_state(&mut self, name: &str, state: &StateVar) -> Result<Var> {
        self.op("read_state", name).state(state).one()
    }

    /// Writes a state.
    ///
    /// # Errors
    ///
    /// If the type of `data` is not the state's.
    pub fn write_state(&mut self, state: &StateVar, data: &Var) -> Result<()> {
        // Two operations of a function must not have one name.
        let first = format!("{}_write", state.name);
        let further = (2usize..).map(|n| format!("{first}_{n}"));
        let name = std::iter::once(first.clone()).chain(further).find(|name| !self.names.contains(name));
        let name = name.expect("there are more integers than names");
        self.names.insert(name.clone());
        self.op("write_state", &name).arg("data", data).state(state).many(&[]).map(|_| ())
    }

    /// Appends `var` to the function's outputs.
    pub fn output(&mut self, var: &Var) {
        self.block.outputs.push(var.name.clone());
    }

    /// Returns the finished function.
    pub fn finish(self) -> Function {
        Function { inputs: self.inputs, opset: self.opset, block: self.block, attributes: BTreeMap::new() }
    }

    fn constant(&mut self, name: String, value: Value) -> Result<Var> {
        let ty = value.tensor_type().cloned();
        let ty = ty.ok_or_else(|| self.error(Rule::Constant, format!("constant %{name} is not a tensor")))?;
        self.claim(&name)?;
        self.block.operations.push(Operation {
            op: "const".into(),
            inputs: BTreeMap::new(),
            outputs: vec![NamedType { name: name.clone(), ty: ValueType::Tensor(ty.clone()) }],
            attributes: BTreeMap::from([
                ("name".to_owned(), Value::string(name.clone())),
                ("val".to_owned(), value.clone()),
            ]),
            blocks: Vec::new(),
        });
        let value = self.weights.ints.stated(&value).clone();
        Ok(Var { name, ty, container: Container::Tensor, constant: true, value: Some(value) })
    }

    /// Returns `const_`, the hint and the first free number, a name that callers are unlikely to choose.
    fn constant_name(&self, hint: &str) -> String {
        let taken = |name: &String| self.names.contains(name);
        (0usize..)
            .map(|n| format!("const_{hint}_{n}"))
            .find(|name| !taken(name))
            .expect("there are more integers than names")
    }

    fn claim(&mut self, name: &str) -> Result<()> {
        if !is_identifier(name) {
            return Err(self.error(Rule::Identifier, format!("%{name} is not an identifier")));
        }
        if !self.names.insert(name.to_owned()) {
            return Err(self.error(Rule::DefinedTwice, format!("%{name} is defined twice")));
        }
        Ok(())
    }

    /// Returns an error about the function, for code that adds operations and checks more than the builder.
    pub fn error(&self, rule: Rule, reason: impl Into<String>) -> Error {
        Finding::function(rule, &self.name, reason).into()
    }
}

/// coremltools writes arrays of at least this many elements to the weight file.
const IMMEDIATE_LIMIT: usize = 10;
