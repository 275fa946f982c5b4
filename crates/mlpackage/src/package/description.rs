//! What a package says of its model: metadata, and the interface of every function.

use std::collections::BTreeMap;

use super::features::{self, FeatureKind};
use crate::error::{Error, Result};
use crate::finding::{Finding, Rule};
use crate::interface::{Feature, Interface};
use crate::mil::Program;
use crate::proto;

/// What a package says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// One line.
    pub short_description: String,
    /// The model's version, as its author counts.
    pub version: String,
    /// Who made it.
    pub author: String,
    /// Under which licence.
    pub license: String,
    /// Anything else, by key.
    pub user_defined: BTreeMap<String, String>,
}

/// What a package says of its model.
///
/// A package of one function describes it as the model itself; one of several lists them by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// What the package says of itself.
    pub metadata: Metadata,
    /// Whether the file has a place for metadata even if it says nothing.
    has_metadata: bool,
    /// Whether functions are listed by name.
    multifunction: bool,
    /// As it is stored: empty if nothing is said.
    default_function: String,
    /// In the order of the file. A model of one function has it under its name in the program.
    functions: Vec<(String, Interface)>,
    /// What stands where a model of one function is described, although functions are listed.
    stray: Interface,
    /// Inputs of training; this crate passes them on.
    training_inputs: Vec<proto::FeatureDescription>,
}

impl Description {
    /// What follows from a program: its functions' inputs, outputs and states, all of fixed shape; the default function
    /// is `main`.
    pub fn of(program: &Program) -> Self {
        let interface = |(name, f): (&String, &crate::mil::Function)| (name.clone(), Interface::of(f));
        let multifunction = program.functions.len() > 1;
        Self {
            has_metadata: true,
            multifunction,
            default_function: if multifunction { "main".into() } else { String::new() },
            functions: program.functions.iter().map(interface).collect(),
            ..Self::default()
        }
    }

    /// Every function that is described, with its interface.
    pub fn functions(&self) -> impl Iterator<Item = (&str, &Interface)> {
        self.functions.iter().map(|(name, interface)| (name.as_str(), interface))
    }

    /// The interface of a function.
    pub fn interface(&self, function: &str) -> Option<&Interface> {
        self.functions().find(|(name, _)| *name == function).map(|(_, interface)| interface)
    }

    /// The interface of a function, to say more of it: which shapes an input may have, what an output means.
    pub fn interface_mut(&mut self, function: &str) -> Option<&mut Interface> {
        self.functions.iter_mut().find(|(name, _)| name == function).map(|(_, interface)| interface)
    }

    /// Name of the function that runs when none is named: `main`, unless the package says another.
    pub fn default_function(&self) -> &str {
        match self.functions.as_slice() {
            [(only, _)] if !self.multifunction => only,
            _ if self.default_function.is_empty() => "main",
            _ => &self.default_function,
        }
    }

    /// Names the function that runs when none is named. Of use for models of several functions only.
    pub fn set_default_function(&mut self, name: impl Into<String>) {
        self.default_function = name.into();
    }

    /// Whether functions are listed by name, which systems have known since iOS 18.
    pub fn is_multifunction(&self) -> bool {
        self.multifunction
    }

    /// Name of the default function as it is stored: empty if nothing is said.
    pub(super) fn stored_default_function(&self) -> &str {
        &self.default_function
    }

    /// What stands where a model of one function is described, although functions are listed.
    pub(super) fn stray(&self) -> &Interface {
        &self.stray
    }

    pub(crate) fn from_proto(
        description: proto::ModelDescription,
        program: &Program,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let has_metadata = description.metadata.is_some();
        let metadata = description.metadata.unwrap_or_default();
        let multifunction = !description.functions.is_empty();
        let mut top_level = Interface {
            inputs: read(&description.input, findings),
            outputs: read(&description.output, findings),
            states: read(&description.state, findings),
            predicted_feature: description.predicted_feature_name,
            predicted_probabilities: description.predicted_probabilities_name,
        };
        let functions = if multifunction {
            let interface = |f: proto::FunctionDescription, findings: &mut Vec<Finding>| Interface {
                inputs: read(&f.input, findings),
                outputs: read(&f.output, findings),
                states: read(&f.state, findings),
                predicted_feature: f.predicted_feature_name,
                predicted_probabilities: f.predicted_probabilities_name,
            };
            let list = description.functions.into_iter();
            list.map(|f| (f.name.clone(), interface(f, findings))).collect()
        } else {
            let only = match program.functions.keys().collect::<Vec<_>>().as_slice() {
                [only] => (*only).clone(),
                _ => "main".to_owned(),
            };
            vec![(only, std::mem::take(&mut top_level))]
        };
        Self {
            metadata: Metadata {
                short_description: metadata.short_description,
                version: metadata.version_string,
                author: metadata.author,
                license: metadata.license,
                user_defined: metadata.user_defined,
            },
            has_metadata,
            multifunction,
            default_function: description.default_function_name,
            functions,
            stray: top_level,
            training_inputs: description.training_input,
        }
    }

    pub(super) fn to_proto(&self) -> Result<proto::ModelDescription> {
        let Metadata { short_description, version, author, license, user_defined } = self.metadata.clone();
        let metadata =
            proto::Metadata { short_description, version_string: version, author, license, user_defined };
        let top_level = match self.functions.as_slice() {
            [(_, only)] if !self.multifunction => only,
            _ => &self.stray,
        };
        let mut functions = Vec::new();
        if self.multifunction {
            for (name, interface) in &self.functions {
                functions.push(proto::FunctionDescription {
                    name: name.clone(),
                    input: write(name, &interface.inputs, FeatureKind::Input)?,
                    output: write(name, &interface.outputs, FeatureKind::Output)?,
                    state: write(name, &interface.states, FeatureKind::State)?,
                    predicted_feature_name: interface.predicted_feature.clone(),
                    predicted_probabilities_name: interface.predicted_probabilities.clone(),
                });
            }
        }
        Ok(proto::ModelDescription {
            input: write("main", &top_level.inputs, FeatureKind::Input)?,
            output: write("main", &top_level.outputs, FeatureKind::Output)?,
            state: write("main", &top_level.states, FeatureKind::State)?,
            predicted_feature_name: top_level.predicted_feature.clone(),
            predicted_probabilities_name: top_level.predicted_probabilities.clone(),
            training_input: self.training_inputs.clone(),
            functions,
            default_function_name: self.default_function.clone(),
            metadata: (self.has_metadata || self.metadata != Metadata::default()).then_some(metadata),
        })
    }
}

fn read(features: &[proto::FeatureDescription], findings: &mut Vec<Finding>) -> Vec<Feature> {
    let mut read = Vec::with_capacity(features.len());
    for feature in features {
        match features::from_proto(feature) {
            Ok(feature) => read.push(feature),
            Err(reason) => findings.push(Finding::package(Rule::Description, reason)),
        }
    }
    read
}

fn write(function: &str, features: &[Feature], kind: FeatureKind) -> Result<Vec<proto::FeatureDescription>> {
    let bad = |reason| Error::from(Finding::function(Rule::InterfaceType, function, reason));
    features.iter().map(|feature| features::to_proto(feature, kind).map_err(bad)).collect()
}
