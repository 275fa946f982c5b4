//! Engine `mil-cpu`: executes an ML Program as it stands in the package, on any machine.

mod kernels;
mod numerics;
mod plan;

use std::sync::atomic::{AtomicU64, Ordering};

use mlpackage::mil::{NamedType, TensorType};
use mlpackage::{DType, Feature, Interface, Package};

use crate::engine::{Engine, LoadOptions, Model, State};
use crate::error::{Error, Result};
use crate::tensor::{Tensor, Tensors};
pub use numerics::Numerics;
use plan::Plan;

/// The engine.
#[derive(Clone, Copy, Debug)]
pub struct MilCpu {
    numerics: Numerics,
}

impl MilCpu {
    /// An engine that computes with `numerics`.
    pub fn new(numerics: Numerics) -> Self {
        Self { numerics }
    }
}

impl Engine for MilCpu {
    fn name(&self) -> &str {
        match self.numerics {
            Numerics::F32 => "mil-cpu (f32)",
            Numerics::F16 => "mil-cpu (f16)",
        }
    }

    fn load(&self, package: &Package, options: &LoadOptions) -> Result<Box<dyn Model>> {
        package.require_sound()?;
        let name = options.function.as_deref().unwrap_or(package.default_function());
        let function = package.function(name)?;
        let plan = Plan::lower(package, name, function, self)?;
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Ok(Box::new(LoadedModel {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            interface: Interface::of(function),
            plan,
        }))
    }
}

/// The shape of a type whose dimensions are all fixed: others are refused at load.
fn fixed(ty: &TensorType) -> mlpackage::Shape {
    ty.shape.known().expect("open dimensions are refused at load")
}

/// The tensor type of an operation's result: lists and dictionaries are refused at load.
fn tensor_of(result: &NamedType) -> &TensorType {
    result.ty.tensor().expect("what is no tensor is refused at load")
}

/// The tensor type of an input or state: the interface was made from the function's tensors.
fn tensor_of_feature(feature: &Feature) -> &TensorType {
    feature.tensor().expect("the interface of a program holds tensors")
}

struct LoadedModel {
    id: u64,
    interface: Interface,
    plan: Plan,
}

/// A [`State`] of this engine.
struct CpuState {
    model: u64,
    tensors: Vec<Tensor>,
}

impl Model for LoadedModel {
    fn describe(&self) -> &Interface {
        &self.interface
    }

    fn new_state(&self) -> State {
        let tensors =
            self.interface.states.iter().map(|s| Tensor::zeros(fixed(tensor_of_feature(s)))).collect();
        State(Box::new(CpuState { model: self.id, tensors }))
    }

    fn predict(&self, inputs: &[(&str, &Tensor)], state: &mut State) -> Result<Tensors> {
        let state =
            state.0.downcast_mut::<CpuState>().filter(|s| s.model == self.id).ok_or(Error::ForeignState)?;
        let bad = |name: &str, reason: String| Error::Input { name: name.to_owned(), reason };
        let mut ordered = Vec::with_capacity(self.interface.inputs.len());
        for feature in &self.interface.inputs {
            let (name, ty) = (&feature.name, tensor_of_feature(feature));
            let mut given = inputs.iter().filter(|(n, _)| n == name);
            let (_, tensor) = given.next().ok_or_else(|| bad(name, format!("missing, expected {ty}")))?;
            if given.next().is_some() {
                return Err(bad(name, "given twice".into()));
            }
            if ty.shape != *tensor.shape() {
                return Err(bad(name, format!("shape {}, expected {}", tensor.shape(), ty.shape)));
            }
            if tensor.as_f32().is_some() != ty.dtype.is_float() {
                return Err(bad(name, format!("its elements are not of the kind of {}", ty.dtype)));
            }
            let mut tensor = (*tensor).clone();
            if ty.dtype == DType::Fp16 {
                numerics::round_to_half(&mut tensor);
            }
            ordered.push(tensor);
        }
        if let Some((name, _)) =
            inputs.iter().find(|(n, _)| !self.interface.inputs.iter().any(|i| i.name == *n))
        {
            let known: Vec<_> = self.interface.inputs.iter().map(|i| i.name.as_str()).collect();
            return Err(bad(name, format!("the function takes {}", known.join(", "))));
        }
        let outputs = self.plan.run(ordered, &mut state.tensors);
        Ok(self.interface.outputs.iter().map(|o| o.name.clone()).zip(outputs).collect())
    }
}
