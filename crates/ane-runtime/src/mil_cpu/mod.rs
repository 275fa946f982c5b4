//! Engine `mil-cpu`: executes an ML Program as it stands in the package, on any machine.

mod kernels;
mod numerics;
mod plan;

use std::sync::atomic::{AtomicU64, Ordering};

use mlpackage::{DType, Interface, Package};

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
        if let Some(error) = package.check().into_iter().next() {
            return Err(error.into());
        }
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
fn fixed(ty: &mlpackage::mil::TensorType) -> mlpackage::Shape {
    ty.shape.known().expect("open dimensions are refused at load")
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
        let tensors = self.interface.states.iter().map(|s| Tensor::zeros(fixed(&s.ty))).collect();
        State(Box::new(CpuState { model: self.id, tensors }))
    }

    fn predict(&self, inputs: &[(&str, &Tensor)], state: &mut State) -> Result<Tensors> {
        let state =
            state.0.downcast_mut::<CpuState>().filter(|s| s.model == self.id).ok_or(Error::ForeignState)?;
        let bad = |name: &str, reason: String| Error::Input { name: name.to_owned(), reason };
        let mut ordered = Vec::with_capacity(self.interface.inputs.len());
        for mlpackage::Feature { name, ty, .. } in &self.interface.inputs {
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
