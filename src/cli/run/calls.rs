//! Which functions are called, how often, and the source of each of their inputs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use ane_runtime::tensor_file::{Slice, TensorFile};
use ane_runtime::{Tensor, TensorView};
use anyhow::{Context as _, Result, bail, ensure};
use mlpackage::{Feature, Interface, Package};

use super::args::{FunctionArg, NamedFile};
use super::image_file::{self, Fit};
use crate::cli::output;
use crate::cli::path_kind::PathKind;

/// A function and how often it is called.
pub(super) struct Call {
    pub(super) function: String,
    pub(super) interface: Interface,
    /// Number of calls; each tensor then has a leading axis of this size. `None` calls the function once,
    /// without that axis.
    pub(super) steps: Option<usize>,
    sources: BTreeMap<String, Source>,
}

/// Where an input comes from.
enum Source {
    /// The tensor of this name in the file.
    Tensor(String),
    /// An image, the same in every step.
    Image(Tensor),
}

/// The inputs or the outputs of a function.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Input,
    Output,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }

    fn features(self, interface: &Interface) -> &[Feature] {
        match self {
            Self::Input => &interface.inputs,
            Self::Output => &interface.outputs,
        }
    }
}

/// The functions that a run calls, in order.
pub(super) struct Calls {
    pub(super) calls: Vec<Call>,
    file: Option<TensorFile>,
}

impl Calls {
    /// Returns the requested functions; by default the package's own, called once or for `steps`.
    pub(super) fn of(package: &Package, functions: &[FunctionArg], steps: Option<usize>) -> Result<Self> {
        ensure!(steps != Some(0), "--steps 0: there is nothing to run");
        let default = || FunctionArg { name: package.default_function().to_owned(), steps: None };
        let mut wanted = functions.to_vec();
        if wanted.is_empty() {
            wanted.push(default());
        }
        if let Some(steps) = steps {
            let [only] = wanted.as_mut_slice() else {
                bail!("--steps {steps} is for one function: write --function {}={steps},...", wanted[0].name)
            };
            ensure!(only.steps.is_none(), "--steps and --function {}=STEPS: give one of them", only.name);
            only.steps = Some(steps);
        }
        let mut calls: Vec<Call> = Vec::new();
        for FunctionArg { name, steps } in wanted {
            let function = package.function(&name)?;
            ensure!(calls.iter().all(|call| call.function != name), "--function: {name} is given twice");
            let interface = package.interface(&name).cloned().unwrap_or_else(|| Interface::of(function));
            calls.push(Call { function: name, interface, steps, sources: BTreeMap::new() });
        }
        Ok(Self { calls, file: None })
    }

    /// Returns the name of an input or output in files and on the command line: prefixed with the function's
    /// name if several functions are called.
    pub(super) fn full_name(&self, call: &Call, name: &str) -> String {
        if self.calls.len() == 1 { name.to_owned() } else { format!("{}/{name}", call.function) }
    }

    /// Finds the function that has an input or output of this name, which may be prefixed with the function's
    /// name. Returns the function's index and the feature.
    ///
    /// # Errors
    ///
    /// If no called function has it, or several have.
    pub(super) fn find(&self, side: Side, name: &str) -> Result<(usize, &Feature)> {
        let (function, rest) = match name.split_once('/') {
            Some((function, rest)) => (Some(function), rest),
            None => (None, name),
        };
        let calls = self.calls.iter().enumerate();
        let calls = calls.filter(|(_, call)| function.is_none_or(|function| call.function == function));
        let found: Vec<_> = calls
            .filter_map(|(index, call)| {
                let feature = side.features(&call.interface).iter().find(|f| f.name == rest)?;
                Some((index, feature))
            })
            .collect();
        match found.as_slice() {
            [only] => Ok(*only),
            [] => bail!("no called function has an {} of that name: {}", side.name(), self.known(side)),
            several => {
                let names =
                    several.iter().map(|(index, _)| format!("{}/{name}", self.calls[*index].function));
                let names: Vec<String> = names.collect();
                bail!("several functions have an {} of that name: write {}", side.name(), names.join(" or "))
            }
        }
    }

    /// Lists every input or output of the called functions, with its type.
    pub(super) fn known(&self, side: Side) -> String {
        let mut known = Vec::new();
        for call in &self.calls {
            for feature in side.features(&call.interface) {
                known.push(format!("{}, {}", self.full_name(call, &feature.name), feature.ty));
            }
        }
        match known.as_slice() {
            [] => format!("there is no {}", side.name()),
            [only] => format!("the only {} is {only}", side.name()),
            _ => format!("the {}s are {}", side.name(), known.join("; ")),
        }
    }

    /// Reads images and assigns a tensor of the file to each other input.
    ///
    /// # Errors
    ///
    /// If an input is missing, given twice or unknown, or a file cannot be used.
    pub(super) fn give(&mut self, inputs: Option<&Path>, images: &[NamedFile], fit: Fit) -> Result<()> {
        for NamedFile { name, path } in images {
            let (index, feature) = self.find(Side::Input, name).with_context(|| format!("--image {name}"))?;
            let (input, described) = (feature.name.clone(), feature.image());
            let Some(image) = described else {
                bail!("--image {name}: the input is {}, not an image: give it in --inputs", feature.ty)
            };
            let read = image_file::read(path, &image, fit).with_context(|| format!("--image {name}"))?;
            for note in read.notes {
                output::tell(&format!("note: {}: {note}", path.display()));
            }
            let before = self.calls[index].sources.insert(input, Source::Image(read.value));
            ensure!(before.is_none(), "--image {name}: it is given twice");
        }
        if let Some(path) = inputs {
            self.expect_safetensors(path)?;
            let file = TensorFile::open(path)?;
            for name in file.names()? {
                let context = || format!("{}: tensor {name}", path.display());
                let (index, feature) = self.find(Side::Input, &name).with_context(context)?;
                let (function, input) = (self.calls[index].function.clone(), feature.name.clone());
                match self.calls[index].sources.insert(input.clone(), Source::Tensor(name.clone())) {
                    None => {}
                    Some(Source::Image(_)) => {
                        bail!("{}: input {input} is an image already, by --image", context())
                    }
                    Some(Source::Tensor(other)) => {
                        bail!("{}: it is input {input} of {function}, and so is tensor {other}", context())
                    }
                }
            }
            self.file = Some(file);
        }
        self.complete(inputs)
    }

    /// Refuses a file of another format, and names the format.
    fn expect_safetensors(&self, path: &Path) -> Result<()> {
        let name = path.display();
        let kind = PathKind::of(path).with_context(|| format!("--inputs {name}"))?;
        let inputs =
            || self.calls.iter().flat_map(|call| call.interface.inputs.iter().map(move |f| (call, f)));
        let advice = match &kind {
            PathKind::Safetensors => return Ok(()),
            // Opening the file reports more detail.
            PathKind::Special | PathKind::UnknownFile => return Ok(()),
            PathKind::Missing => bail!("--inputs {name}: no such file"),
            kind if kind.is_image() => match inputs().find(|(_, f)| f.image().is_some()) {
                Some((call, feature)) => {
                    format!("give it with --image {}={name}", self.full_name(call, &feature.name))
                }
                None => format!("no input is an image; {}", self.known(Side::Input)),
            },
            PathKind::Npz => "in Python, safetensors.numpy.save_file(dict(numpy.load(FILE)), \"x.safetensors\") converts it".into(),
            PathKind::Npy => {
                "in Python, safetensors.numpy.save_file({NAME: numpy.load(FILE)}, \"x.safetensors\") converts it".into()
            }
            PathKind::PyTorch => {
                "in Python, safetensors.torch.save_file(torch.load(FILE), \"x.safetensors\") converts a dictionary of tensors".into()
            }
            kind => kind.advice().map_or_else(|| self.known(Side::Input), str::to_owned),
        };
        bail!("--inputs {name} is {kind}, expected a safetensors file with a tensor for each input: {advice}")
    }

    /// Refuses a run with a missing input.
    fn complete(&self, inputs: Option<&Path>) -> Result<()> {
        for call in &self.calls {
            let is_missing = |f: &&Feature| !f.optional && !call.sources.contains_key(&f.name);
            let Some(missing) = call.interface.inputs.iter().find(is_missing) else { continue };
            let name = self.full_name(call, &missing.name);
            let axis = match call.steps {
                Some(steps) => format!(" with a leading axis of {steps}"),
                None => String::new(),
            };
            let way = match (missing.image(), inputs) {
                (Some(_), _) => format!("--image {name}=FILE"),
                (None, Some(path)) => format!("a tensor {name} in {}", path.display()),
                (None, None) => format!("--inputs FILE, safetensors with a tensor {name}"),
            };
            bail!(
                "input {} of {} is missing, expected {}{axis}: give {way}",
                missing.name,
                call.function,
                missing.ty
            )
        }
        Ok(())
    }

    /// Returns the inputs of one call of a function.
    pub(super) fn inputs<'c>(&'c self, call: &'c Call, step: usize) -> Result<Vec<(&'c str, Given<'c>)>> {
        let slice = call.steps.map(|steps| Slice { step, steps });
        let mut inputs = Vec::with_capacity(call.sources.len());
        for feature in &call.interface.inputs {
            let given = match (call.sources.get(&feature.name), &self.file) {
                (Some(Source::Image(tensor)), _) => Cow::Borrowed(tensor),
                (Some(Source::Tensor(tensor)), Some(file)) => Cow::Owned(file.input(tensor, feature, slice)?),
                _ => continue,
            };
            inputs.push((feature.name.as_str(), given));
        }
        Ok(inputs)
    }
}

/// A tensor for an input.
pub(super) type Given<'c> = Cow<'c, Tensor>;

/// Returns the same inputs as views.
pub(super) fn views<'v>(inputs: &'v [(&'v str, Given<'_>)]) -> Vec<(&'v str, TensorView<'v>)> {
    inputs.iter().map(|(name, tensor)| (*name, tensor.view())).collect()
}
