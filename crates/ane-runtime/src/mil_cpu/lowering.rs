//! Compiles a function for inputs of given shapes into a plan: infers shapes, folds constants and resolves
//! views.

use std::collections::HashMap;

use mlpackage::mil::{Container, Dims, Function, Operation, TensorType, Value};
use mlpackage::ops::{Args, Inferred, OpSpec};
use mlpackage::{DType, Shape, ops};

use super::buffers::{self, Draft, DraftCompute, Drafts};
use super::constants::{self, Constant, Constants};
use super::fusion::{self, Target};
use super::hazards::{self, Watch, Watched};
use super::kernels::{self, Call, Lowered, Node, Operand};
use super::lists::is_list_operation;
use super::numerics::{Numerics, round_to_half};
use super::plan::{Plan, Precision, observe};
use super::results::{are_empty, as_declared, unfit};
use super::scope::{self, Bound};
use crate::engine::Limits;
use crate::hazard::Hazard;
use crate::inputs::{MAX_ELEMENTS, too_many};

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

/// Whether an operation only changes the axes of its operand, which needs no computation.
pub(super) fn is_view(op: &str) -> bool {
    ["identity", "reshape", "reshape_like", "flatten2d", "expand_dims", "squeeze"].contains(&op)
}

/// The parameter whose elements a view returns.
pub(super) const VIEWED: &str = "x";

/// Whether two calls with the same operands may return different results.
pub(super) fn is_random(op: &str) -> bool {
    op.starts_with("random_")
}

/// What the planner knows about a value.
#[derive(Clone)]
struct Known {
    ty: TensorType,
    /// The value itself, if it is constant and short.
    value: Option<Value>,
    place: Place,
}

/// Where a value is stored, before buffers are assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An input, or the result of a step.
    Value(usize),
    /// One of the plan's constants.
    Constant(usize),
    /// The contents of a state just before step `at`.
    State { state: usize, at: usize },
    /// A constant that the plan does not use yet, or that no kernel accepts, such as a string.
    Nowhere,
}

/// Plans `function` for inputs of `shapes`, and fuses operations if there is a target.
pub(super) fn plan(
    function: &Function,
    constants: &Constants,
    shapes: &[Shape],
    numerics: Numerics,
    limits: Limits,
    target: Option<&Target>,
) -> Result<Plan, NoPlan> {
    let mut lowering = Lowering {
        function,
        available: constants,
        numerics,
        known: HashMap::new(),
        placed: HashMap::new(),
        constants: Vec::new(),
        steps: Vec::new(),
        lens: Vec::new(),
        missing: Vec::new(),
        hazards: Vec::new(),
    };
    for ((name, ty), shape) in function.tensor_inputs().zip(shapes) {
        let place = lowering.new_value(shape);
        let ty = TensorType { dtype: ty.dtype, shape: shape.into() };
        lowering.known.insert(name, Known { ty, value: None, place });
    }
    let inputs = lowering.lens.len();
    for operation in &function.block.operations {
        lowering.operation(operation)?;
    }
    if !lowering.missing.is_empty() {
        return Err(NoPlan::Lacks(lowering.missing));
    }
    let plan = lowering.finish(inputs, target);
    match plan.memory().workspace {
        bytes if bytes <= limits.workspace => Ok(plan),
        bytes => {
            let most = limits.workspace;
            Err(NoPlan::Lacks(vec![format!(
                "room for {bytes} B of workspace, {most} B at most: give inputs of smaller shapes, or raise the workspace limit"
            )]))
        }
    }
}

struct Lowering<'a> {
    function: &'a Function,
    available: &'a Constants,
    numerics: Numerics,
    known: HashMap<&'a str, Known>,
    /// The index in `constants` of each constant of the package that the plan uses.
    placed: HashMap<&'a str, usize>,
    constants: Vec<Constant>,
    steps: Vec<Draft>,
    /// Number of elements of each value.
    lens: Vec<usize>,
    missing: Vec<String>,
    /// Hazards that are found before anything runs.
    hazards: Vec<Hazard>,
}

impl<'a> Lowering<'a> {
    fn new_value(&mut self, shape: &Shape) -> Place {
        self.lens.push(shape.elements());
        Place::Value(self.lens.len() - 1)
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
                let place = Place::State { state, at: self.steps.len() };
                self.define(operation, 0, Known { ty, value: None, place });
                return Ok(());
            }
            _ if operation.is_constexpr() => {
                for output in &operation.outputs {
                    if let Some(ty) = output.ty.tensor().cloned() {
                        self.known.insert(&output.name, Known { ty, value: None, place: Place::Nowhere });
                    }
                }
                return Ok(());
            }
            _ => {}
        }
        match self.lower(operation) {
            Ok(()) => Ok(()),
            Err(Lack::DependsOnValues) => Err(NoPlan::DependsOnValues(operation.label())),
            Err(Lack::Shapes(reason)) => {
                Err(NoPlan::Shapes(format!("operation {}: {reason}", operation.label())))
            }
            Err(Lack::Missing(what)) => {
                self.missing.push(what);
                // Continues with the declared types, to find everything that is missing.
                for output in &operation.outputs {
                    let ty = output.ty.tensor().filter(|ty| ty.shape.known().is_some()).cloned();
                    let Some(ty) = ty else { return Err(NoPlan::Lacks(std::mem::take(&mut self.missing))) };
                    let place = self.new_value(&ty.shape.known().unwrap_or_default());
                    self.known.insert(&output.name, Known { ty, value: None, place });
                }
                Ok(())
            }
        }
    }

    fn define(&mut self, operation: &'a Operation, output: usize, known: Known) {
        self.known.insert(&operation.outputs[output].name, known);
    }

    fn stated(&mut self, operation: &'a Operation) {
        let value = operation.attributes.get("val");
        let content = value.and_then(|value| value.ty.content());
        if let (Some(value), Some((ty, _))) = (value, content) {
            let value = constants::stated(self.available, &operation.outputs[0].name, value, ty);
            let known = Known { ty: ty.clone(), value: Some(value), place: Place::Nowhere };
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

    fn lower(&mut self, operation: &'a Operation) -> Result<(), Lack> {
        let function = self.function;
        let states: HashMap<&str, &TensorType> = function.states().collect();
        let find = |name: &str| match self.known.get(name) {
            Some(known) => Some(Bound {
                ty: &known.ty,
                container: container_of(known.value.as_ref()),
                constant: !matches!(known.place, Place::Value(_) | Place::State { .. }),
                value: known.value.as_ref(),
            }),
            None => states.get(name).map(|ty| Bound {
                ty,
                container: Container::State,
                constant: false,
                value: None,
            }),
        };
        let args = scope::args(operation, function.opset, find, Vec::new())?;
        let spec = ops::lookup(&operation.op).ok_or_else(|| Lack::Missing(operation.op.clone()))?;
        let inferred = results_of(spec, &args).map_err(|fault| Lack::Shapes(fault.to_string()))?;
        if operation.op == "write_state" {
            let data = args.get("data").and_then(|arg| arg.name.map(str::to_owned));
            let value = args.get("data").and_then(|arg| arg.value.cloned());
            let (state, _) = self.state(operation);
            let source = self.operand(data.as_deref(), value.as_ref(), true)?;
            self.steps.push(Draft::Store { state, source });
            return Ok(());
        }
        let mut results = Vec::with_capacity(inferred.len());
        for (ty, declared) in inferred.iter().zip(&operation.outputs) {
            let declared = declared.ty.tensor();
            let ty = as_declared(&operation.op, &args, ty, declared);
            results.push((ty.dtype, concrete(&operation.op, &ty, declared.map(|ty| &ty.shape))?));
        }
        if are_empty(&results) {
            for (i, (dtype, shape)) in results.into_iter().enumerate() {
                self.constants.push(Constant::Words(Vec::new().into()));
                let place = Place::Constant(self.constants.len() - 1);
                let value = constants::value_of(dtype, &shape, &[]);
                let ty = TensorType { dtype, shape: shape.into() };
                self.define(operation, i, Known { ty, value, place });
            }
            return Ok(());
        }
        for (dtype, shape) in &results {
            match shape.checked_elements() {
                Some(1..=MAX_ELEMENTS) if shape.rank() <= kernels::MAX_RANK => {}
                Some(0) => {
                    return Err(Lack::Missing(format!("way to compute with nothing: {dtype} {shape}")));
                }
                Some(1..=MAX_ELEMENTS) => {
                    return Err(Lack::Missing(format!(
                        "room for the {} axes of %{}, {dtype} {shape}: {} at most",
                        shape.rank(),
                        operation.outputs[0].name,
                        kernels::MAX_RANK
                    )));
                }
                _ => {
                    return Err(Lack::Missing(format!(
                        "room for %{}, {dtype} {shape}: {}",
                        operation.outputs[0].name,
                        too_many(shape.checked_elements())
                    )));
                }
            }
        }
        if let Some(reason) = unfit(&operation.op, &args) {
            return Err(Lack::Missing(reason));
        }
        if is_view(&operation.op) {
            let arg = args.get(VIEWED).ok_or_else(|| format!("{} of nothing", operation.op))?;
            let (name, value) = (arg.name.map(str::to_owned), arg.value.cloned());
            let place = self.operand(name.as_deref(), value.as_ref(), true)?;
            let (dtype, shape) = results.swap_remove(0);
            let value = value.and_then(|v| {
                let words = constants::immediate(&v, v.tensor_type()?)?;
                constants::value_of(dtype, &shape, &words)
            });
            let ty = TensorType { dtype, shape: shape.into() };
            self.define(operation, 0, Known { ty, value, place });
            return Ok(());
        }
        if results.iter().any(|(dtype, _)| Precision::of(*dtype, self.numerics) == Precision::Half) {
            self.hazards.extend(hazards::vanished_parameter(operation, spec, &args));
        }
        let node = Node { op: &operation.op, args, results };
        let lowered = kernels::lower(&node).map_err(Lack::Missing)?;
        let Node { args, results, .. } = node;
        let mut bound = Vec::new();
        for param in lowered.operands {
            for arg in args.many(param) {
                let keep = lowered.packed.contains(param);
                bound.push((arg.name.map(str::to_owned), arg.value.cloned(), keep, *param));
            }
        }
        let of_operands = || lowered.operands.iter().flat_map(|param| args.many(param).iter());
        let shapes = of_operands().map(|arg| arg.ty.shape.known().unwrap_or_default()).collect();
        let floats: Vec<bool> = of_operands().map(|arg| arg.ty.dtype.is_float()).collect();
        let params = args.iter().filter(|(param, _)| !lowered.operands.contains(param));
        let params =
            params.filter_map(|(param, args)| Some((param.to_owned(), args.first()?.value?.clone())));
        let params = params.collect();
        drop(args);
        let mut operands = Vec::with_capacity(bound.len());
        for (name, value, keep, param) in bound {
            operands.push((self.operand(name.as_deref(), value.as_ref(), keep)?, param));
        }
        let elements: usize = results.iter().map(|(_, shape)| shape.elements()).sum();
        let all_constant = operands.iter().all(|(place, _)| matches!(place, Place::Constant(_)));
        if all_constant && elements <= FOLD_UP_TO && !is_random(&operation.op) {
            return self.fold(operation, &lowered, &operands, &floats, results);
        }
        let mut places = Vec::with_capacity(results.len());
        for (i, (dtype, shape)) in results.into_iter().enumerate() {
            let place = self.new_value(&shape);
            places.push((self.lens.len() - 1, Precision::of(dtype, self.numerics)));
            let ty = TensorType { dtype, shape: shape.into() };
            self.define(operation, i, Known { ty, value: None, place });
        }
        self.steps.push(Draft::Compute(DraftCompute {
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

    /// Returns where an operand is stored, and adds it to the plan's constants if it is a new constant.
    fn operand(
        &mut self,
        name: Option<&str>,
        value: Option<&Value>,
        keep_packed: bool,
    ) -> Result<Place, String> {
        if let Some(name) = name {
            if let Some(known) = self.known.get(name)
                && known.place != Place::Nowhere
            {
                return Ok(self.unpack(known.place, keep_packed));
            }
            if let Some((name, constant)) = self.available.get_key_value(name) {
                let index = *self.placed.entry(name).or_insert_with(|| {
                    self.constants.push(constant.clone());
                    self.constants.len() - 1
                });
                return Ok(self.unpack(Place::Constant(index), keep_packed));
            }
        }
        let words = value.and_then(|v| constants::immediate(v, v.tensor_type()?));
        let words = words.ok_or_else(|| {
            format!("way to take operand {}, which is not numeric", name.unwrap_or("stated"))
        })?;
        self.constants.push(Constant::Words(words.into()));
        Ok(Place::Constant(self.constants.len() - 1))
    }

    /// Unpacks a packed constant, unless it may stay packed.
    fn unpack(&mut self, place: Place, keep_packed: bool) -> Place {
        let Place::Constant(index) = place else { return place };
        let Constant::Packed(packed) = &self.constants[index] else { return place };
        if keep_packed {
            return place;
        }
        let words = packed.unpack().into_iter().map(f32::to_bits).collect();
        self.constants.push(Constant::Words(words));
        Place::Constant(self.constants.len() - 1)
    }

    /// Computes an operation whose operands are all constants.
    fn fold(
        &mut self,
        operation: &'a Operation,
        lowered: &Lowered,
        operands: &[(Place, &'static str)],
        floats: &[bool],
        results: Vec<(DType, Shape)>,
    ) -> Result<(), Lack> {
        let mut bound = Vec::with_capacity(operands.len());
        for (place, _) in operands {
            let Place::Constant(index) = place else { continue };
            bound.push(match &self.constants[*index] {
                Constant::Words(words) => Operand::Words(words),
                Constant::Packed(packed) => Operand::Packed(packed),
            });
        }
        let watched = |((_, param), is_float): (&(Place, &'static str), &bool)| Watched {
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
            computed.map_err(|reason| Lack::Missing(format!("{}: {reason}", operation.label())))?;
        for (i, ((dtype, shape), words)) in results.into_iter().zip(computed).enumerate() {
            let value = constants::value_of(dtype, &shape, &words);
            self.constants.push(Constant::Words(words.into()));
            let place = Place::Constant(self.constants.len() - 1);
            let ty = TensorType { dtype, shape: shape.into() };
            self.define(operation, i, Known { ty, value, place });
        }
        Ok(())
    }

    fn finish(mut self, inputs: usize, target: Option<&Target>) -> Plan {
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
        let hazards = self.hazards;
        let mut drafts = Drafts {
            steps: self.steps,
            lens: self.lens,
            inputs,
            states: self.function.states().map(elements).collect(),
            outputs,
            constants: self.constants,
        };
        if let Some(target) = target {
            fusion::fuse(&mut drafts, target);
        }
        let plan = buffers::assign(drafts);
        plan.with_hazards(hazards)
    }
}

/// Returns the container of a constant's value. Anything else is a tensor.
pub(super) fn container_of(value: Option<&Value>) -> Container {
    value.and_then(|value| value.ty.content()).map_or(Container::Tensor, |(_, container)| container)
}

/// Infers the types of the tensors that the engine computes for an operation.
///
/// A classifier returns the index of the label, and the probabilities in the order of the labels.
pub(super) fn results_of(spec: &OpSpec, args: &Args<'_>) -> Inferred {
    if spec.name != "classify" {
        return spec.infer_tensors(args);
    }
    spec.infer(args)?;
    let probabilities = args.ty("probabilities")?;
    let classes = probabilities.shape.elements();
    let classes = classes.ok_or_else(|| format!("the number of elements of {probabilities} is not known"))?;
    Ok(vec![TensorType::new(DType::Int32, Dims::default()), TensorType::new(DType::Fp32, [classes])])
}

/// Why an operation cannot be planned.
enum Lack {
    DependsOnValues,
    Shapes(String),
    Missing(String),
}

impl From<String> for Lack {
    fn from(what: String) -> Self {
        Self::Missing(what)
    }
}

/// Returns the shape of a result. If it depends on values, returns the declared shape for operations whose
/// kernels check it when they run.
fn concrete(op: &str, inferred: &TensorType, declared: Option<&Dims>) -> Result<Shape, Lack> {
    if let Some(shape) = inferred.shape.known() {
        return Ok(shape);
    }
    let checks = ["slice_by_index", "slice_by_size"].contains(&op);
    let declared = declared.filter(|d| checks && d.may_be(&inferred.shape)).and_then(Dims::known);
    declared.ok_or(Lack::DependsOnValues)
}

/// A single operation that runs outside of a plan.
pub(super) struct Execution<'a, 'o> {
    pub(super) operation: &'a Operation,
    pub(super) lowered: &'a Lowered,
    pub(super) operands: &'a [Operand<'o>],
    pub(super) results: &'a [(DType, Shape)],
}

impl Execution<'_, '_> {
    /// Computes the results. A watch comes with what it knows about each operand.
    pub(super) fn run(
        &self,
        numerics: Numerics,
        mut watch: Option<(&mut Watch, &[Watched])>,
    ) -> Result<Vec<Vec<u32>>, String> {
        let Self { operation, lowered, operands, results } = *self;
        let mut computed: Vec<Vec<u32>> =
            results.iter().map(|(_, shape)| vec![0; shape.elements()]).collect();
        let mut scratch = vec![0.0; lowered.scratch];
        let mut slices: Vec<&mut [u32]> = computed.iter_mut().map(Vec::as_mut_slice).collect();
        let mut call = Call { operands, results: &mut slices, states: &mut [], scratch: &mut scratch };
        lowered.kernel.run(&mut call)?;
        for ((dtype, _), words) in results.iter().zip(&mut computed) {
            let precision = Precision::of(*dtype, numerics);
            let values: &mut [f32] = bytemuck::cast_slice_mut(words);
            let Some((watch, params)) = &mut watch else {
                if precision == Precision::Half {
                    round_to_half(values);
                }
                continue;
            };
            let Some((exact, rounded)) = observe(precision, values) else { continue };
            let named = params.iter().copied().zip(operands.iter().copied());
            let result = operation.outputs.first().map_or("", |o| o.name.as_str());
            watch.note(&operation.op, result, exact, rounded, named);
        }
        Ok(computed)
    }
}
