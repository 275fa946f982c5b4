//! Lowers a function for inputs of given shapes: infers shapes, folds constants and resolves views.

use std::collections::HashMap;

use mlpackage::mil::{Container, Function, Operation, TensorType, Value};
use mlpackage::ops::{Arg, Args};
use mlpackage::{DType, Shape, ops};

use super::args::{self, Bound};
use super::constants::{self, Constant, Constants};
use super::execute::Execution;
use super::hazards::{self, Watch, Watched};
use super::ir::{Ir, IrCompute, IrStep, ValueRef};
use super::kernels::{Lowered, Operand};
use super::lists::is_list_operation;
use super::numerics::Numerics;
use super::plan::Precision;
use super::resolve::{self, Resolved, Unresolved, VIEWED};
use crate::hazard::Hazard;

/// Results of at most this many elements are computed at load if their operands are constants.
const FOLD_UP_TO: usize = 1 << 20;

/// Why a function has no plan.
pub(super) enum NoPlan {
    /// A shape depends on values, or there is control flow. This operation is why the function is
    /// interpreted.
    DependsOnValues(String),
    /// The shapes of the inputs are incompatible, although the package may allow each of them.
    Shapes(String),
    /// The engine lacks these things.
    Lacks(Vec<String>),
}

/// What the planner knows about a value.
#[derive(Clone)]
struct ValueInfo {
    ty: TensorType,
    /// The value itself, if it is constant and short.
    value: Option<Value>,
    place: ValueRef,
}

/// Lowers `function` for inputs of `shapes`. Also returns the hazards that are known before anything runs.
pub(super) fn lower(
    function: &Function,
    constants: &Constants,
    shapes: &[Shape],
    numerics: Numerics,
) -> Result<(Ir, Vec<Hazard>), NoPlan> {
    let mut lowering = Lowering {
        function,
        available: constants,
        numerics,
        known: HashMap::new(),
        placed: HashMap::new(),
        constants: Vec::new(),
        steps: Vec::new(),
        lengths: Vec::new(),
        missing: Vec::new(),
        hazards: Vec::new(),
    };
    for ((name, ty), shape) in function.tensor_inputs().zip(shapes) {
        let place = lowering.new_value(shape);
        let ty = TensorType { dtype: ty.dtype, shape: shape.into() };
        lowering.known.insert(name, ValueInfo { ty, value: None, place });
    }
    let inputs = lowering.lengths.len();
    for operation in &function.block.operations {
        lowering.operation(operation)?;
    }
    if !lowering.missing.is_empty() {
        return Err(NoPlan::Lacks(lowering.missing));
    }
    Ok(lowering.finish(inputs))
}

/// What an argument is bound to: a value by name, or a constant.
#[derive(Default)]
struct Binding {
    name: Option<String>,
    value: Option<Value>,
}

impl Binding {
    fn of(arg: &Arg<'_>) -> Self {
        Self { name: arg.name.map(str::to_owned), value: arg.value.cloned() }
    }
}

/// The operands of a kernel in its order, and the constants that are not among them.
struct KernelOperands {
    /// Each operand, whether it may stay packed, and its parameter.
    bound: Vec<(Binding, bool, &'static str)>,
    shapes: Vec<Shape>,
    /// Whether the elements of each operand are floats.
    floats: Vec<bool>,
    params: Vec<(String, Value)>,
}

impl KernelOperands {
    fn of(args: &Args<'_>, lowered: &Lowered) -> Self {
        let mut bound = Vec::new();
        for &param in lowered.operands {
            let keep = lowered.packed.contains(&param);
            bound.extend(args.many(param).iter().map(|arg| (Binding::of(arg), keep, param)));
        }
        let of_operands = || lowered.operands.iter().flat_map(|param| args.many(param).iter());
        let others = args.iter().filter(|(param, _)| !lowered.operands.contains(param));
        Self {
            bound,
            shapes: of_operands().map(|arg| arg.ty.shape.known().unwrap_or_default()).collect(),
            floats: of_operands().map(|arg| arg.ty.dtype.is_float()).collect(),
            params: others
                .filter_map(|(param, args)| Some((param.to_owned(), args.first()?.value?.clone())))
                .collect(),
        }
    }
}

struct Lowering<'a> {
    function: &'a Function,
    available: &'a Constants,
    numerics: Numerics,
    known: HashMap<&'a str, ValueInfo>,
    /// The index in `constants` of each constant of the package that the plan uses.
    placed: HashMap<&'a str, usize>,
    constants: Vec<Constant>,
    steps: Vec<IrStep>,
    /// Number of elements of each value.
    lengths: Vec<usize>,
    missing: Vec<String>,
    /// Hazards that are found before anything runs.
    hazards: Vec<Hazard>,
}

impl<'a> Lowering<'a> {
    fn new_value(&mut self, shape: &Shape) -> ValueRef {
        self.lengths.push(shape.elements());
        ValueRef::Value(self.lengths.len() - 1)
    }

    fn operation(&mut self, operation: &'a Operation) -> Result<(), NoPlan> {
        match operation.op.as_str() {
            "const" => {
                self.stated(operation);
                return Ok(());
            }
            "cond" | "while_loop" => return Err(NoPlan::DependsOnValues(operation.label())),
            op if is_list_operation(op) => return Err(NoPlan::DependsOnValues(operation.label())),
            "read_state" => {
                let (state, ty) = self.state(operation);
                let place = ValueRef::State { state, at: self.steps.len() };
                self.define(operation, 0, ValueInfo { ty, value: None, place });
                return Ok(());
            }
            _ if operation.is_constexpr() => {
                for output in &operation.outputs {
                    if let Some(ty) = output.ty.tensor().cloned() {
                        self.known
                            .insert(&output.name, ValueInfo { ty, value: None, place: ValueRef::Nowhere });
                    }
                }
                return Ok(());
            }
            _ => {}
        }
        match self.lower(operation) {
            Ok(()) => Ok(()),
            Err(Unresolved::DependsOnValues(_)) => Err(NoPlan::DependsOnValues(operation.label())),
            Err(Unresolved::Shapes(reason)) => {
                Err(NoPlan::Shapes(format!("operation {}: {reason}", operation.label())))
            }
            Err(Unresolved::Missing(what)) => {
                self.missing.push(what);
                // Continues with the declared types, to find everything that is missing.
                for output in &operation.outputs {
                    let ty = output.ty.tensor().filter(|ty| ty.shape.known().is_some()).cloned();
                    let Some(ty) = ty else { return Err(NoPlan::Lacks(std::mem::take(&mut self.missing))) };
                    let place = self.new_value(&ty.shape.known().unwrap_or_default());
                    self.known.insert(&output.name, ValueInfo { ty, value: None, place });
                }
                Ok(())
            }
        }
    }

    fn define(&mut self, operation: &'a Operation, output: usize, known: ValueInfo) {
        self.known.insert(&operation.outputs[output].name, known);
    }

    fn stated(&mut self, operation: &'a Operation) {
        let value = operation.attributes.get("val");
        let content = value.and_then(|value| value.ty.content());
        if let (Some(value), Some((ty, _))) = (value, content) {
            let value = constants::stated(self.available, &operation.outputs[0].name, value, ty);
            let known = ValueInfo { ty: ty.clone(), value: Some(value), place: ValueRef::Nowhere };
            self.define(operation, 0, known);
        }
    }

    /// Returns the index and the type of the state that an operation names.
    fn state(&self, operation: &Operation) -> (usize, TensorType) {
        let name = operation.arguments(self.function.opset).find(|(param, _)| *param == "input");
        let name = name.and_then(|(_, bindings)| match bindings.as_slice() {
            [mlpackage::mil::BindingRef::Name(name)] => Some(*name),
            _ => None,
        });
        let mut states = self.function.states().enumerate();
        let found = states.find(|(_, (state, _))| Some(*state) == name);
        let (index, (_, ty)) = found.expect("states are bound by name, checked at load");
        (index, ty.clone())
    }

    fn lower(&mut self, operation: &'a Operation) -> Result<(), Unresolved> {
        let function = self.function;
        let states: HashMap<&str, &TensorType> = function.states().collect();
        let find = |name: &str| match self.known.get(name) {
            Some(known) => Some(Bound {
                ty: &known.ty,
                container: resolve::container_of(known.value.as_ref()),
                constant: !matches!(known.place, ValueRef::Value(_) | ValueRef::State { .. }),
                value: known.value.as_ref(),
            }),
            None => states.get(name).map(|ty| Bound {
                ty,
                container: Container::State,
                constant: false,
                value: None,
            }),
        };
        let args = args::bind(operation, function.opset, find, Vec::new())?;
        let spec = ops::lookup(&operation.op).ok_or_else(|| Unresolved::Missing(operation.op.clone()))?;
        let inferred = resolve::infer(spec, &args).map_err(|fault| Unresolved::Shapes(fault.to_string()))?;
        if operation.op == "write_state" {
            let data = args.get("data").map(Binding::of);
            return self.write_state(operation, data.unwrap_or_default());
        }
        let results = match resolve::resolve(operation, &args, &inferred)? {
            Resolved::Computed(results) => results,
            Resolved::Empty(results) => {
                drop(args);
                self.empty(operation, results);
                return Ok(());
            }
            Resolved::View(dtype, shape) => {
                let arg = args.get(VIEWED).ok_or_else(|| format!("{} of nothing", operation.op))?;
                let viewed = Binding::of(arg);
                return self.view(operation, viewed, dtype, shape);
            }
        };
        if let Some((dtype, shape)) = results.iter().find(|(_, shape)| shape.elements() == 0) {
            return Err(Unresolved::Missing(format!("way to compute with nothing: {dtype} {shape}")));
        }
        if results.iter().any(|(dtype, _)| Precision::of(*dtype, self.numerics) == Precision::Half) {
            self.hazards.extend(hazards::vanished_parameter(operation, spec, &args));
        }
        let lowered = resolve::kernel(&operation.op, &args, &results)?;
        let operands = KernelOperands::of(&args, &lowered);
        drop(args);
        self.compute(operation, lowered, operands, results)
    }

    fn write_state(&mut self, operation: &Operation, data: Binding) -> Result<(), Unresolved> {
        let (state, _) = self.state(operation);
        let source = self.operand(data.name.as_deref(), data.value.as_ref(), true)?;
        self.steps.push(IrStep::Store { state, source });
        Ok(())
    }

    /// Adds a step that computes an operation, or computes it now if all operands are constants.
    fn compute(
        &mut self,
        operation: &'a Operation,
        lowered: Lowered,
        operands: KernelOperands,
        results: Vec<(DType, Shape)>,
    ) -> Result<(), Unresolved> {
        let KernelOperands { bound, shapes, floats, params } = operands;
        let mut operands = Vec::with_capacity(bound.len());
        for (Binding { name, value }, keep, param) in bound {
            operands.push((self.operand(name.as_deref(), value.as_ref(), keep)?, param));
        }
        let elements: usize = results.iter().map(|(_, shape)| shape.elements()).sum();
        let all_constant = operands.iter().all(|(place, _)| matches!(place, ValueRef::Constant(_)));
        if all_constant && elements <= FOLD_UP_TO && !resolve::is_random(&operation.op) {
            return self.fold(operation, &lowered, &operands, &floats, results);
        }
        let mut places = Vec::with_capacity(results.len());
        for (i, (dtype, shape)) in results.into_iter().enumerate() {
            let place = self.new_value(&shape);
            places.push((self.lengths.len() - 1, Precision::of(dtype, self.numerics)));
            let ty = TensorType { dtype, shape: shape.into() };
            self.define(operation, i, ValueInfo { ty, value: None, place });
        }
        self.steps.push(IrStep::Compute(IrCompute {
            op: operation.op.clone(),
            result: operation.outputs.first().map(|o| o.name.clone()).unwrap_or_default(),
            operands,
            shapes,
            floats,
            states: Vec::new(),
            params,
            results: places,
            kernel: lowered.kernel,
            scratch: lowered.scratch,
            fallible: lowered.fallible,
        }));
        Ok(())
    }

    /// Defines results without elements.
    fn empty(&mut self, operation: &'a Operation, results: Vec<(DType, Shape)>) {
        for (i, (dtype, shape)) in results.into_iter().enumerate() {
            self.constants.push(Constant::Words(Vec::new().into()));
            let place = ValueRef::Constant(self.constants.len() - 1);
            let value = constants::value_of(dtype, &shape, &[]);
            let ty = TensorType { dtype, shape: shape.into() };
            self.define(operation, i, ValueInfo { ty, value, place });
        }
    }

    /// Defines a result that has the elements of an operand.
    fn view(
        &mut self,
        operation: &'a Operation,
        viewed: Binding,
        dtype: DType,
        shape: Shape,
    ) -> Result<(), Unresolved> {
        let Binding { name, value } = viewed;
        let place = self.operand(name.as_deref(), value.as_ref(), true)?;
        let value = value.and_then(|v| {
            let words = constants::immediate(&v, v.tensor_type()?)?;
            constants::value_of(dtype, &shape, &words)
        });
        let ty = TensorType { dtype, shape: shape.into() };
        self.define(operation, 0, ValueInfo { ty, value, place });
        Ok(())
    }

    /// Returns where an operand is stored, and adds it to the plan's constants if it is a new constant.
    fn operand(
        &mut self,
        name: Option<&str>,
        value: Option<&Value>,
        keep_packed: bool,
    ) -> Result<ValueRef, String> {
        if let Some(name) = name {
            if let Some(known) = self.known.get(name)
                && known.place != ValueRef::Nowhere
            {
                return Ok(self.unpack(known.place, keep_packed));
            }
            if let Some((name, constant)) = self.available.get_key_value(name) {
                let index = *self.placed.entry(name).or_insert_with(|| {
                    self.constants.push(constant.clone());
                    self.constants.len() - 1
                });
                return Ok(self.unpack(ValueRef::Constant(index), keep_packed));
            }
        }
        let words = value.and_then(|v| constants::immediate(v, v.tensor_type()?));
        let words = words.ok_or_else(|| {
            format!("way to take operand {}, which is not numeric", name.unwrap_or("stated"))
        })?;
        self.constants.push(Constant::Words(words.into()));
        Ok(ValueRef::Constant(self.constants.len() - 1))
    }

    /// Unpacks a packed constant, unless it may stay packed.
    fn unpack(&mut self, place: ValueRef, keep_packed: bool) -> ValueRef {
        let ValueRef::Constant(index) = place else { return place };
        let Constant::Packed(packed) = &self.constants[index] else { return place };
        if keep_packed {
            return place;
        }
        let words = packed.unpack().into_iter().map(f32::to_bits).collect();
        self.constants.push(Constant::Words(words));
        ValueRef::Constant(self.constants.len() - 1)
    }

    /// Computes an operation whose operands are all constants.
    fn fold(
        &mut self,
        operation: &'a Operation,
        lowered: &Lowered,
        operands: &[(ValueRef, &'static str)],
        floats: &[bool],
        results: Vec<(DType, Shape)>,
    ) -> Result<(), Unresolved> {
        let mut bound = Vec::with_capacity(operands.len());
        for (place, _) in operands {
            let ValueRef::Constant(index) = place else { continue };
            bound.push(match &self.constants[*index] {
                Constant::Words(words) => Operand::Words(words),
                Constant::Packed(packed) => Operand::Packed(packed),
            });
        }
        let watched = |((_, param), is_float): (&(ValueRef, &'static str), &bool)| Watched {
            param,
            constant: true,
            is_float: *is_float,
        };
        let params: Vec<_> = operands.iter().zip(floats).map(watched).collect();
        let mut watch = Watch { call: 0, found: std::mem::take(&mut self.hazards) };
        let computed = Execution { operation, lowered, operands: &bound, results: &results }
            .run(self.numerics, Some((&mut watch, &params)));
        self.hazards = watch.found;
        let computed =
            computed.map_err(|reason| Unresolved::Missing(format!("{}: {reason}", operation.label())))?;
        for (i, ((dtype, shape), words)) in results.into_iter().zip(computed).enumerate() {
            let value = constants::value_of(dtype, &shape, &words);
            self.constants.push(Constant::Words(words.into()));
            let place = ValueRef::Constant(self.constants.len() - 1);
            let ty = TensorType { dtype, shape: shape.into() };
            self.define(operation, i, ValueInfo { ty, value, place });
        }
        Ok(())
    }

    fn finish(mut self, inputs: usize) -> (Ir, Vec<Hazard>) {
        let mut outputs = Vec::new();
        for name in &self.function.block.outputs {
            let known = self.known.get(name.as_str()).cloned();
            let value = known.as_ref().and_then(|k| k.value.clone());
            let place = self.operand(Some(name), value.as_ref(), false);
            if let (Ok(place), Some(known)) = (place, known) {
                outputs.push((place, known.ty.dtype, known.ty.shape.known().unwrap_or_default()));
            }
        }
        let elements = |(_, ty): (&str, &TensorType)| ty.shape.elements().unwrap_or(0);
        let ir = Ir {
            steps: self.steps,
            lengths: self.lengths,
            inputs,
            states: self.function.states().map(elements).collect(),
            outputs,
            constants: self.constants,
        };
        (ir, self.hazards)
    }
}
