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

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::blob::{BlobWriter, WEIGHT_BLOB_NAME};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::finding::{Fault, Finding, Rule};
use crate::mil::{
    Binding, BlobRef, Block, Container, Dims, Function, NamedType, Operation, Opset, TensorType, Value,
    ValueData, ValueType, attributes_are_arguments, is_identifier,
};
use crate::ops::{self, Arg, Args};

/// A tensor or a list of the function under construction, or the result of [`classify`](crate::ops).
#[derive(Clone, Debug)]
pub struct Var {
    name: String,
    ty: TensorType,
    container: Container,
    constant: bool,
    value: Option<Value>,
}

impl Var {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the tensor type; for a list or dictionary, the type of its contents.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// Returns the type, including the container.
    pub fn value_type(&self) -> ValueType {
        ValueType::new(self.ty.clone(), self.container)
    }

    /// Returns the dimensions.
    pub fn dims(&self) -> &Dims {
        &self.ty.shape
    }
}

/// A state of the function under construction.
#[derive(Clone, Debug)]
pub struct StateVar {
    name: String,
    ty: TensorType,
}

impl StateVar {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the type of the state's tensor.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }
}

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
                self.bad(Rule::StateType, format!("state {name}: states are fp16, from opset CoreML8 on"))
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
            fits.map_err(|e| self.bad(Rule::Constant, format!("constant {hint}: {e}")))?;
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
            return Err(self.bad(Rule::Constant, reason));
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
            .ok_or_else(|| self.bad(Rule::Constant, format!("{ty} cannot be the type of a constant")))?;
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
        OpBuilder {
            builder: self,
            op: op.to_owned(),
            name: name.to_owned(),
            args: BTreeMap::new(),
            state: None,
            error: None,
        }
    }

    /// Reads a state.
    ///
    /// # Errors
    ///
    /// If the name is already used.
    pub fn read_state(&mut self, name: &str, state: &StateVar) -> Result<Var> {
        let mut op = self.op("read_state", name);
        op.state = Some(state.clone());
        op.one()
    }

    /// Writes a state.
    ///
    /// # Errors
    ///
    /// If the type of `data` is not the state's.
    pub fn write_state(&mut self, state: &StateVar, data: &Var) -> Result<()> {
        let name = format!("{}_write", state.name);
        let mut op = self.op("write_state", &name).arg("data", data);
        op.state = Some(state.clone());
        op.many(&[]).map(|_| ())
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
        let ty = ty.ok_or_else(|| self.bad(Rule::Constant, format!("constant %{name} is not a tensor")))?;
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
            return Err(self.bad(Rule::Identifier, format!("%{name} is not an identifier")));
        }
        if !self.names.insert(name.to_owned()) {
            return Err(self.bad(Rule::DefinedTwice, format!("%{name} is defined twice")));
        }
        Ok(())
    }

    fn bad(&self, rule: Rule, reason: String) -> Error {
        Finding::function(rule, &self.name, reason).into()
    }
}

/// coremltools writes arrays of at least this many elements to the weight file.
const IMMEDIATE_LIMIT: usize = 10;

/// Collects the arguments of one operation.
#[derive(Debug)]
pub struct OpBuilder<'b, 'w> {
    builder: &'b mut FunctionBuilder<'w>,
    op: String,
    name: String,
    args: BTreeMap<String, Vec<BoundVar>>,
    state: Option<StateVar>,
    error: Option<Error>,
}

/// A binding, with the information that inference needs.
#[derive(Debug)]
struct BoundVar {
    /// `None` if the value is bound directly.
    name: Option<String>,
    ty: TensorType,
    container: Container,
    constant: bool,
    value: Option<Value>,
}

impl From<&Var> for BoundVar {
    fn from(var: &Var) -> Self {
        Self {
            name: Some(var.name.clone()),
            ty: var.ty.clone(),
            container: var.container,
            constant: var.constant,
            value: var.value.clone(),
        }
    }
}

impl OpBuilder<'_, '_> {
    /// Binds a parameter to an earlier result.
    pub fn arg(mut self, param: &str, var: &Var) -> Self {
        self.args.insert(param.to_owned(), vec![var.into()]);
        self
    }

    /// Binds a variadic parameter.
    pub fn args(mut self, param: &str, vars: &[&Var]) -> Self {
        self.args.insert(param.to_owned(), vars.iter().map(|v| BoundVar::from(*v)).collect());
        self
    }

    /// Binds a parameter to a shared constant.
    pub fn value(mut self, param: &str, value: Value) -> Self {
        match self.builder.value(param, value) {
            Ok(var) => self.arg(param, &var),
            Err(e) => {
                self.error.get_or_insert(e);
                self
            }
        }
    }

    /// Binds a parameter directly to a constant, as `constexpr` operations and `classify` require.
    pub fn inline(mut self, param: &str, value: Value) -> Self {
        let content = value.ty.content().map(|(ty, container)| (ty.clone(), container));
        if let Some((ty, container)) = content {
            let bound = BoundVar { name: None, ty, container, constant: true, value: Some(value) };
            self.args.insert(param.to_owned(), vec![bound]);
        } else {
            let reason =
                format!("argument {param} of {} is {}, expected a tensor or a list", self.op, value.ty);
            self.error.get_or_insert(self.builder.bad(Rule::ArgumentType, reason));
        }
        self
    }

    /// Binds the unbound parameters of a convolution that have one element for each spatial axis. Their
    /// defaults depend on the rank, so the operation table does not state them. Core ML is reported to refuse
    /// a convolution without them.
    fn bind_window(&mut self) -> Result<()> {
        if !["conv", "conv_transpose"].contains(&self.op.as_str()) {
            return Ok(());
        }
        let bound = |param: &str| self.args.get(param).and_then(|bound| bound.first());
        let Some(spatial) = bound("x").and_then(|x| x.ty.shape.rank().checked_sub(2)) else { return Ok(()) };
        // Custom padding has no default.
        let custom = bound("pad_type").and_then(|p| p.value.as_ref()?.as_str()) == Some("custom");
        for (param, count, element) in
            [("strides", spatial, 1), ("pad", 2 * spatial, 0), ("dilations", spatial, 1)]
        {
            if self.args.contains_key(param) || (param == "pad" && custom) {
                continue;
            }
            let var = self.builder.value(param, Value::ints([count], vec![element; count]))?;
            self.args.insert(param.to_owned(), vec![(&var).into()]);
        }
        Ok(())
    }

    /// Adds an operation with one result.
    ///
    /// # Errors
    ///
    /// If the arguments break a rule of the operation.
    pub fn one(self) -> Result<Var> {
        let name = self.name.clone();
        let mut vars = self.many(&[&name])?;
        Ok(vars.remove(0))
    }

    /// Adds an operation with results called `names`.
    ///
    /// # Errors
    ///
    /// If the arguments break a rule of the operation, or the number of results differs.
    pub fn many(mut self, names: &[&str]) -> Result<Vec<Var>> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.bind_window()?;
        let label = || format!("{} -> %{}", self.op, self.name);
        let function = self.builder.name.clone();
        let bad = |fault: Fault| Error::from(Finding::operation(&function, label(), fault));
        let spec = ops::lookup(&self.op).ok_or_else(|| bad(ops::unknown(&self.op)))?;
        if spec.since > self.builder.opset {
            let reason = format!("it requires opset {}, the function has {}", spec.since, self.builder.opset);
            return Err(bad(Fault::new(Rule::OperationTooNew, reason)));
        }
        let returned = self.args.get("return_indices").and_then(|bound| bound.first()?.value.as_ref());
        let no_indices = returned.and_then(Value::as_bools) == Some(&[false]);
        for param in spec.params_of(self.builder.opset) {
            if no_indices && param.is_of_indices() {
                continue;
            }
            if let (Some(default), false) = (param.default, self.args.contains_key(param.name)) {
                let mut mates = spec
                    .params_of(self.builder.opset)
                    .filter(|p| p.domain.is_some() && p.domain == param.domain);
                let mate = mates.find_map(|p| self.args.get(p.name)?.first());
                let var = self.builder.value(param.name, default.value(mate.map(|m| m.ty.dtype)))?;
                self.args.insert(param.name.to_owned(), vec![(&var).into()]);
            }
        }
        let types = self.infer(spec).map_err(&bad)?;
        if types.len() != names.len() {
            let reason = format!("it has {} results, {} names given", types.len(), names.len());
            return Err(bad(Fault::new(Rule::ResultCount, reason)));
        }
        for name in names {
            self.builder.claim(name)?;
        }
        let constant = self.op.starts_with("constexpr_");
        let var = |(name, ty): (&&str, ValueType)| {
            let (ty, container) = ty.content().map(|(ty, container)| (ty.clone(), container))?;
            Some(Var { name: (*name).to_owned(), ty, container, constant, value: None })
        };
        let vars: Vec<Var> = names.iter().zip(types).filter_map(var).collect();
        let mut inputs: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
        let mut attributes = BTreeMap::from([("name".to_owned(), Value::string(self.name))]);
        let as_attributes = attributes_are_arguments(&self.op, self.builder.opset);
        for (param, mut bound) in self.args {
            if let (true, [BoundVar { name: None, value, .. }]) = (as_attributes, bound.as_mut_slice()) {
                attributes.extend(value.take().map(|value| (param, value)));
                continue;
            }
            let bindings = bound.into_iter().map(|b| match (b.name, b.value) {
                (None, Some(value)) => Binding::Value(value),
                (name, _) => Binding::Name(name.unwrap_or_default()),
            });
            inputs.insert(param, bindings.collect());
        }
        if let Some(state) = self.state {
            inputs.insert("input".into(), vec![Binding::Name(state.name)]);
        }
        self.builder.block.operations.push(Operation {
            op: self.op,
            inputs,
            outputs: vars.iter().map(|v| NamedType { name: v.name.clone(), ty: v.value_type() }).collect(),
            attributes,
            blocks: Vec::new(),
        });
        Ok(vars)
    }

    fn infer(&self, spec: &ops::OpSpec) -> ops::InferredValues {
        let mut bound: BTreeMap<&str, Vec<Arg<'_>>> = BTreeMap::new();
        for (param, vars) in &self.args {
            let args = vars.iter().map(|v| Arg {
                name: v.name.as_deref(),
                ty: &v.ty,
                container: v.container,
                constant: v.constant,
                value: v.value.as_ref(),
            });
            bound.insert(param, args.collect());
        }
        if let Some(state) = &self.state {
            let arg = Arg {
                name: Some(&state.name),
                ty: &state.ty,
                container: Container::State,
                constant: false,
                value: None,
            };
            bound.insert("input", vec![arg]);
        }
        let args = Args::new(self.builder.opset, bound, Vec::new());
        spec.check(&args)?;
        spec.infer(&args)
    }
}
