//! Core ML's own meaning of running a model, as traits: load a package, make a state, run a function on named tensors.

use std::any::Any;

use mlpackage::{Interface, Package};

use crate::error::Result;
use crate::tensor::{Tensor, Tensors};

/// Something that runs ML Programs.
pub trait Engine: Send + Sync {
    /// Its name, such as `mil-cpu (f16)`.
    fn name(&self) -> &str;

    /// Loads a function of a package. Whatever the engine cannot run is refused here, never half-way through a call.
    ///
    /// # Errors
    ///
    /// [`Error::Package`](crate::Error::Package) if the package breaks a rule of MIL,
    /// [`Error::Unsupported`](crate::Error::Unsupported) with everything that the engine lacks.
    fn load(&self, package: &Package, options: &LoadOptions) -> Result<Box<dyn Model>>;
}

/// How to load a package.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The function to run; the package's default one if `None`.
    pub function: Option<String>,
}

/// A function that was loaded. It can be shared between threads; what changes is in the [`State`].
pub trait Model: Send + Sync {
    /// Its inputs, outputs and states.
    fn describe(&self) -> &Interface;

    /// A fresh state, all zeros: one for each sequence.
    fn new_state(&self) -> State;

    /// Runs the function once on tensors by name and updates `state`. Float inputs are rounded to their declared type, as
    /// a host that hands them over in that type would.
    ///
    /// # Errors
    ///
    /// [`Error::Input`](crate::Error::Input) for inputs that are missing, unknown or of the wrong shape,
    /// [`Error::ForeignState`](crate::Error::ForeignState) for the state of another model. The state is then unchanged.
    fn predict(&self, inputs: &[(&str, &Tensor)], state: &mut State) -> Result<Tensors>;
}

/// What a model remembers between calls. Only the engine that made it can look inside.
pub struct State(pub(crate) Box<dyn Any + Send>);

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}
