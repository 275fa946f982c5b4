//! A loaded function: its interface, its plans, and how a call runs.

use std::collections::{HashSet, TryReserveError};
use std::sync::{Arc, PoisonError, RwLock};

use mlpackage::mil::{self, TensorType};
use mlpackage::{Feature, Interface, Package, Shape, ops};

use super::compile::compile;
use super::constants::{self, Constants};
use super::cpu_state::{CpuState, state_bytes};
use super::fusion::Target;
use super::hazards::Watch;
use super::interpreter::{self, Given};
use super::lowering::NoPlan;
use super::numerics::Numerics;
use super::plan::Plan;
use super::run_plan::{SequenceBuffers, copy_out};
use crate::classes::Classes;
use crate::engine::{Limits, LoadOptions, Memory, ModelFunction, State, StateParts};
use crate::error::{Error, Result};
use crate::hazard::Hazard;
use crate::inputs::{self, Input, Inputs, MAX_ELEMENTS};
use crate::tensor::{Tensor, TensorView, Tensors};

/// Number of plans that are kept for shapes other than the default ones. Another plan replaces the oldest.
const KEPT_PLANS: usize = 16;

pub(super) struct LoadedFunction {
    /// Identifies the model that the function belongs to.
    pub(super) id: u64,
    /// Index among the model's functions.
    pub(super) index: usize,
    hazards: bool,
    limits: Limits,
    /// What fused operations run on; `None` if nothing is fused.
    target: Option<Target>,
    name: String,
    interface: Interface,
    function: mil::Function,
    classes: Option<Classes>,
    constants: Constants,
    numerics: Numerics,
    /// For each state of the function, its index among the model's states.
    states: Vec<usize>,
    state_bytes: u64,
    /// The default shape of each input; `None` if an input has none.
    default_shapes: Option<Vec<Shape>>,
    /// The plan for the default shapes, or why the function is interpreted.
    plan: Result<Arc<Plan>, String>,
    /// Plans for other shapes of flexible inputs.
    others: RwLock<Vec<Specialized>>,
}

/// What all functions of a model are loaded with.
pub(super) struct Loading<'a> {
    pub(super) package: &'a Package,
    pub(super) numerics: Numerics,
    pub(super) options: &'a LoadOptions,
    pub(super) target: Option<&'a Target>,
}

/// Shapes of the inputs, and the plan for them; `None` if such calls are interpreted.
type Specialized = (Vec<Shape>, Option<Arc<Plan>>);

impl LoadedFunction {
    pub(super) fn load(
        loading: &Loading<'_>,
        name: &str,
        function: &mil::Function,
        states: &[&str],
        missing: &mut Vec<String>,
    ) -> Result<Self> {
        let Loading { package, numerics, options, target } = *loading;
        let interface = package.interface(name).cloned().unwrap_or_else(|| Interface::of(function));
        unsupported(function, &interface, missing);
        let constants = constants::read(package, function, missing)?;
        let place = |(state, _): (&str, &TensorType)| states.iter().position(|known| *known == state);
        // Results are identified by name, so a value that is returned twice is one result.
        let mut returned = function.clone();
        let mut seen = HashSet::new();
        returned.block.outputs.retain(|name| seen.insert(name.clone()));
        let mut loaded = Self {
            id: 0,
            index: 0,
            hazards: options.hazards,
            limits: options.limits,
            target: target.cloned(),
            name: name.to_owned(),
            interface,
            classes: Classes::of(function),
            function: returned,
            constants,
            numerics,
            states: function.states().filter_map(place).collect(),
            state_bytes: state_bytes(function.states().map(|(_, ty)| ty)),
            default_shapes: None,
            plan: Err("an input has no default shape".into()),
            others: RwLock::new(Vec::new()),
        };
        if missing.is_empty() {
            loaded.default_shapes =
                function.tensor_inputs().map(|(name, ty)| loaded.default_shape(name, ty)).collect();
            match loaded.default_shapes.as_ref().map(|shapes| loaded.compile(shapes)) {
                Some(Ok(plan)) => loaded.plan = Ok(Arc::new(plan)),
                Some(Err(NoPlan::Lacks(lacks))) => missing.extend(lacks),
                Some(Err(NoPlan::DependsOnValues(operation))) => {
                    loaded.plan = Err(format!("shapes or control flow of {operation} depend on values"));
                }
                Some(Err(NoPlan::Shapes(reason))) => {
                    loaded.plan = Err(format!("the default shapes of its inputs are incompatible: {reason}"));
                }
                None => {}
            }
        }
        Ok(loaded)
    }

    fn compile(&self, shapes: &[Shape]) -> Result<Plan, NoPlan> {
        compile(&self.function, &self.constants, shapes, self.numerics, self.limits, self.target.as_ref())
    }

    fn feature(&self, name: &str) -> Option<&Feature> {
        self.interface.inputs.iter().find(|f| f.name == name)
    }

    /// Returns the default shape of an input: its declared shape, or the default of its feature.
    fn default_shape(&self, name: &str, ty: &TensorType) -> Option<Shape> {
        ty.shape.known().or_else(|| self.feature(name)?.default_shape())
    }

    fn describe_plan(&self, plan: Option<&Plan>) -> String {
        match (plan, &self.plan) {
            (Some(plan), _) => plan.to_string(),
            (None, Err(reason)) => format!("interpreted: {reason}\n"),
            (None, Ok(_)) => "interpreted: shapes or control flow depend on values\n".into(),
        }
    }

    fn memory_of(&self, plan: &Plan) -> Memory {
        Memory { state: self.state_bytes, ..plan.memory() }
    }

    /// Returns the plan for inputs of these shapes; `None` if the call has to be interpreted.
    fn plan_of(&self, inputs: &[Input<'_>]) -> Result<Option<Arc<Plan>>> {
        let same = |shapes: &[Shape]| shapes.iter().zip(inputs).all(|(s, input)| s.dims() == input.shape());
        if self.default_shapes.as_ref().is_some_and(|shapes| same(shapes)) {
            return Ok(self.plan.as_ref().ok().cloned());
        }
        let kept = self.others.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, plan)) = kept.iter().find(|(shapes, _)| same(shapes)) {
            return Ok(plan.clone());
        }
        drop(kept);
        let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape().into()).collect();
        let plan = match self.compile(&shapes) {
            Ok(plan) => Some(Arc::new(plan)),
            Err(NoPlan::DependsOnValues(_)) => None,
            Err(NoPlan::Shapes(reason)) => {
                return Err(Error::Execution { operation: self.name.clone(), reason });
            }
            Err(NoPlan::Lacks(lacks)) => {
                let shapes: Vec<String> = shapes.iter().map(ToString::to_string).collect();
                let operation = format!("{} of inputs {}", self.name, shapes.join(", "));
                return Err(Error::Execution {
                    operation,
                    reason: format!("mil-cpu has no {}", lacks.join("; no ")),
                });
            }
        };
        let mut kept = self.others.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_PLANS {
            kept.remove(0);
        }
        kept.push((shapes, plan.clone()));
        Ok(plan)
    }

    fn interpret(
        &self,
        inputs: &[Input<'_>],
        states: &mut [Vec<u32>],
        watch: Option<&mut Watch>,
    ) -> Result<Vec<Given>> {
        let mut given = Vec::with_capacity(inputs.len());
        for ((name, ty), input) in self.function.tensor_inputs().zip(inputs) {
            let shape = Shape::from(input.shape());
            let mut words = vec![0; shape.elements()];
            input.write(name, ty.dtype, self.numerics, &mut words)?;
            given.push(Given { dtype: ty.dtype, shape, words: words.into() });
        }
        let Self { function, constants, numerics, limits, .. } = self;
        interpreter::Interpreter::new(function, constants, *numerics, *limits, watch).run(given, states)
    }

    /// Creates the named outputs on the first call; later calls reuse them.
    fn name_outputs(&self, outputs: &mut Tensors) {
        if outputs.len() != self.function.block.outputs.len() {
            let names = self.function.block.outputs.iter();
            *outputs = names.map(|name| (name.clone(), Tensor::zeros([0]))).collect();
        }
    }

    /// Runs one or several sequences, as a batch if their inputs have the same shapes.
    fn run(&self, given: &[&[(&str, TensorView<'_>)]], states: &mut [&mut State]) -> Result<()> {
        if given.is_empty() {
            return Ok(());
        }
        let mut ordered: smallvec::SmallVec<[Inputs<'_>; 1]> = smallvec::SmallVec::new();
        for inputs in given {
            ordered.push(inputs::order(&self.function, &self.interface, inputs)?);
        }
        let shapes_agree =
            ordered.windows(2).all(|pair| pair[0].iter().zip(&pair[1]).all(|(a, b)| a.shape() == b.shape()));
        let plan = match (ordered.first(), shapes_agree) {
            (Some(first), true) => self.plan_of(first)?,
            _ => None,
        };
        if given.len() > 1 && plan.is_none() {
            // Sequences of different shapes, and interpreted ones, run one by one.
            return given.iter().zip(states).try_for_each(|(g, state)| self.run(&[g], &mut [state]));
        }
        let mut calls: smallvec::SmallVec<[CallState<'_>; 1]> = smallvec::SmallVec::new();
        for state in states.iter_mut() {
            let StateParts { memory, outputs, hazards } =
                state.begin(self.index, |memory: &CpuState| memory.model == self.id)?;
            if memory.is_running {
                let reason = "an earlier call with this state panicked and left it incomplete: reset the state, or \
                              make another one";
                return Err(Error::Execution { operation: self.name.clone(), reason: reason.into() });
            }
            calls.push(CallState { memory, outputs, hazards, watch: None });
        }
        // Nothing is changed before all states are known to be usable.
        for CallState { memory, outputs, hazards, watch } in &mut calls {
            memory.is_running = true;
            self.name_outputs(outputs);
            *watch = self.hazards.then(|| {
                let mut watch = Watch { call: memory.calls, found: std::mem::take(*hazards) };
                plan.iter().flat_map(|plan| plan.hazards()).for_each(|hazard| watch.add(hazard));
                watch
            });
        }
        let outcome = match &plan {
            Some(plan) => self.run_plan(plan, &ordered, &mut calls),
            None => self.run_interpreted(&ordered[0], &mut calls[0]),
        };
        for CallState { memory, hazards, watch, .. } in calls {
            memory.calls += 1;
            memory.is_running = false;
            if let Some(watch) = watch {
                *hazards = watch.found;
            }
        }
        outcome
    }

    fn run_plan(&self, plan: &Plan, ordered: &[Inputs<'_>], calls: &mut [CallState<'_>]) -> Result<()> {
        for (inputs, CallState { memory, .. }) in ordered.iter().zip(calls.iter_mut()) {
            let workspace = &mut memory.workspaces[self.index];
            let buffers = plan.prepare(workspace).map_err(|e| self.out_of_memory(plan, &e))?;
            for (((name, ty), input), buffer) in self.function.tensor_inputs().zip(inputs).zip(buffers) {
                input.write(name, ty.dtype, self.numerics, buffer)?;
            }
        }
        calls.iter_mut().for_each(|call| call.memory.lend(&self.states));
        let outcome = {
            let mut sequences: smallvec::SmallVec<[SequenceBuffers<'_>; 1]> = calls
                .iter_mut()
                .map(|CallState { memory, outputs, watch, .. }| SequenceBuffers {
                    workspace: &mut memory.workspaces[self.index],
                    states: &mut memory.lent,
                    outputs,
                    watch: watch.as_mut(),
                })
                .collect();
            plan.run(&mut sequences)
        };
        calls.iter_mut().for_each(|call| call.memory.take_back(&self.states));
        outcome
    }

    fn out_of_memory(&self, plan: &Plan, error: &TryReserveError) -> Error {
        let bytes = plan.memory().workspace;
        let reason = format!(
            "the system cannot allocate the {bytes} B of workspace that a call needs ({error}): free memory, or give \
             inputs of smaller shapes"
        );
        Error::Execution { operation: self.name.clone(), reason }
    }

    fn run_interpreted(&self, inputs: &[Input<'_>], call: &mut CallState<'_>) -> Result<()> {
        call.memory.lend(&self.states);
        let results = self.interpret(inputs, &mut call.memory.lent, call.watch.as_mut());
        call.memory.take_back(&self.states);
        for (i, result) in results?.into_iter().enumerate() {
            let tensor = call.outputs.at_mut(i);
            tensor.reset(result.dtype, &result.shape);
            copy_out(&result.words, tensor.data_mut());
        }
        Ok(())
    }
}

/// The parts of a state that a call uses.
struct CallState<'s> {
    memory: &'s mut CpuState,
    outputs: &'s mut Tensors,
    hazards: &'s mut Vec<Hazard>,
    watch: Option<Watch>,
}

/// Adds to `missing` what the engine lacks to run a function, whatever the shapes of its inputs.
fn unsupported(function: &mil::Function, interface: &Interface, missing: &mut Vec<String>) {
    for feature in &interface.inputs {
        if feature.array().is_none() && feature.image().is_none() {
            let Feature { name, ty, .. } = feature;
            missing.push(format!(
                "way to take input {name}, which is of type {ty}: expected a tensor or an image"
            ));
        }
    }
    for (name, ty) in function.tensor_inputs() {
        match ty.shape.known().map(|shape| shape.checked_elements()) {
            Some(Some(0)) => missing.push(format!("way to take input {name}, {ty}, which has no elements")),
            Some(n) if n.is_none_or(|n| n > MAX_ELEMENTS) => {
                missing.push(format!("room for input {name}, {ty}: {}", inputs::too_many(n)));
            }
            _ => {}
        }
    }
    for operation in function.block.all_operations() {
        if operation.op != "const" && ops::lookup(&operation.op).is_none() {
            missing.push(operation.op.clone());
            continue;
        }
        for output in operation.outputs.iter().filter(|_| operation.op != "const") {
            if output.ty.content().is_none() {
                missing
                    .push(format!("values other than tensors and lists: %{} is {}", output.name, output.ty));
            }
        }
    }
}

impl ModelFunction for LoadedFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> &Interface {
        &self.interface
    }

    fn classes(&self) -> Option<&Classes> {
        self.classes.as_ref()
    }

    fn predict<'s>(&self, inputs: &[(&str, TensorView<'_>)], state: &'s mut State) -> Result<&'s Tensors> {
        self.run(&[inputs], &mut [&mut *state])?;
        Ok(state.outputs())
    }

    fn predict_batch(&self, inputs: &[&[(&str, TensorView<'_>)]], states: &mut [&mut State]) -> Result<()> {
        assert_eq!(inputs.len(), states.len(), "a state for each sequence");
        self.run(inputs, states)
    }

    fn plan(&self) -> String {
        self.describe_plan(self.plan.as_ref().ok().map(AsRef::as_ref))
    }

    fn plan_for(&self, inputs: &[(&str, TensorView<'_>)]) -> Result<String> {
        let inputs = inputs::order(&self.function, &self.interface, inputs)?;
        Ok(self.describe_plan(self.plan_of(&inputs)?.as_deref()))
    }

    fn memory(&self) -> Option<Memory> {
        self.plan.as_ref().ok().map(|plan| self.memory_of(plan))
    }

    fn memory_for(&self, inputs: &[(&str, TensorView<'_>)]) -> Result<Option<Memory>> {
        let inputs = inputs::order(&self.function, &self.interface, inputs)?;
        Ok(self.plan_of(&inputs)?.map(|plan| self.memory_of(&plan)))
    }
}

#[cfg(test)]
mod tests {
    use mlpackage::builder::FunctionBuilder;
    use mlpackage::mil::{Opset, Program};
    use mlpackage::{DType, Metadata, PackageWriter};

    use super::*;
    use crate::engine::{Engine as _, Model};
    use crate::mil_cpu::MilCpu;

    fn counter() -> Box<dyn Model> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.mlpackage");
        let mut writer = PackageWriter::create(&path).unwrap();
        let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
        let x = f.input("x", DType::Fp32, [1]).unwrap();
        let total = f.state("total", DType::Fp16, [1]).unwrap();
        let before = f.read_state("before", &total).unwrap();
        let after = f.op("add", "after").arg("x", &before).arg("y", &before).one().unwrap();
        f.write_state(&total, &after).unwrap();
        let y = f.op("relu", "y").arg("x", &x).one().unwrap();
        f.output(&y);
        let program = Program::new([("main", f.finish())]);
        writer.finish(&program, &Metadata::default()).unwrap();
        let package = Package::open(&path).unwrap();
        MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).unwrap()
    }

    /// A call that panics takes what it has moved out of the state with it. Later calls with that state are errors
    /// until it is reset.
    #[test]
    fn a_state_whose_call_panicked_is_refused_until_it_is_reset() {
        let model = counter();
        let mut state = model.new_state();
        let x = Tensor::new([1], vec![3.0]).unwrap();
        assert!(model.predict(&[("x", x.view())], &mut state).is_ok());
        // What a panic within a kernel leaves.
        let memory = state.memory_mut::<CpuState>().unwrap();
        memory.is_running = true;
        memory.states[0].clear();
        let error = model.predict(&[("x", x.view())], &mut state).unwrap_err().to_string();
        assert_eq!(
            error,
            "main: an earlier call with this state panicked and left it incomplete: reset the state, or make another \
             one"
        );
        model.reset(&mut state);
        let outputs = model.predict(&[("x", x.view())], &mut state).unwrap();
        assert_eq!(outputs["y"].as_f32(), Some(&[3.0][..]));
    }
}
