//! Other ways to write the same program. Only Core ML's compiler can tell whether it accepts them.

use std::collections::BTreeMap;
use std::path::Path;

use mlpackage::mil::{Binding, Block, NamedType, Operation, Value, ValueData};
use mlpackage::{Package, Result};

/// A way to write a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgramVariant {
    /// The exported form: operations share constants, every argument is present, every operation has a name.
    AsExported,
    /// A constant for each argument, as coremltools writes them.
    ConstantEach,
    /// Small values bound to arguments directly, without constants.
    ValuesInPlace,
    /// Arguments omitted where they equal the default.
    DefaultsLeftOut,
    /// Operations without names.
    WithoutNames,
}

/// Arguments whose exported values are MIL's defaults.
const DEFAULTS: &[(&str, &[&str])] =
    &[("conv", &["strides", "pad", "pad_type", "dilations", "groups"]), ("rsqrt", &["epsilon"])];

impl ProgramVariant {
    /// Every form.
    pub(crate) const ALL: [Self; 5] = [
        Self::AsExported,
        Self::ConstantEach,
        Self::ValuesInPlace,
        Self::DefaultsLeftOut,
        Self::WithoutNames,
    ];

    /// Returns the name of the form.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AsExported => "as exported: shared constants",
            Self::ConstantEach => "a constant for each argument",
            Self::ValuesInPlace => "small values bound in place",
            Self::DefaultsLeftOut => "defaults left out",
            Self::WithoutNames => "operations without names",
        }
    }

    /// Writes a package in this form.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or breaks a rule of MIL in this form.
    pub(crate) fn write(self, package: &Package, destination: &Path) -> Result<()> {
        let mut edit = package.edit();
        for function in edit.program_mut().functions.values_mut() {
            self.apply(&mut function.block);
        }
        edit.save(destination)
    }

    fn apply(self, block: &mut Block) {
        match self {
            Self::AsExported => {}
            Self::ConstantEach => constant_each(block),
            Self::ValuesInPlace => values_in_place(block),
            Self::DefaultsLeftOut => defaults_left_out(block),
            Self::WithoutNames => {
                block.operations.iter_mut().for_each(|operation| drop(operation.attributes.remove("name")));
            }
        }
    }
}

/// Returns the small constants of a block by name: those that are not in the weight file.
fn small_constants(block: &Block) -> BTreeMap<String, Value> {
    let constants = block.operations.iter().filter(|operation| operation.op == "const");
    let small = constants.filter_map(|operation| {
        let value =
            operation.attributes.get("val").filter(|value| !matches!(value.data, ValueData::Blob(_)))?;
        Some((operation.outputs.first()?.name.clone(), value.clone()))
    });
    small.collect()
}

fn values_in_place(block: &mut Block) {
    let mut constants = small_constants(block);
    constants.retain(|name, _| !block.outputs.contains(name));
    block
        .operations
        .retain(|o| !o.outputs.first().is_some_and(|output| constants.contains_key(&output.name)));
    for binding in block.operations.iter_mut().flat_map(|o| o.inputs.values_mut()).flatten() {
        if let Binding::Name(name) = binding
            && let Some(value) = constants.get(name)
        {
            *binding = Binding::Value(value.clone());
        }
    }
}

fn constant_each(block: &mut Block) {
    let constants = small_constants(block);
    let mut operations = Vec::with_capacity(2 * block.operations.len());
    for mut operation in std::mem::take(&mut block.operations) {
        let shared = operation.outputs.first().is_some_and(|output| constants.contains_key(&output.name));
        if shared && !operation.outputs.iter().any(|output| block.outputs.contains(&output.name)) {
            continue;
        }
        let place = operations.len();
        let owner =
            operation.outputs.first().map_or_else(|| format!("operation_{place}"), |o| o.name.clone());
        for (parameter, bindings) in &mut operation.inputs {
            for (i, binding) in bindings.iter_mut().enumerate() {
                let Binding::Name(name) = &*binding else { continue };
                let Some(value) = constants.get(name) else { continue };
                let own = format!("{owner}_{parameter}_{i}");
                operations.push(constant(&own, value));
                *binding = Binding::Name(own);
            }
        }
        operations.push(operation);
    }
    block.operations = operations;
}

fn constant(name: &str, value: &Value) -> Operation {
    let text = Value::string(name);
    Operation {
        op: "const".to_owned(),
        inputs: BTreeMap::new(),
        outputs: vec![NamedType { name: name.to_owned(), ty: value.ty.clone() }],
        blocks: Vec::new(),
        attributes: BTreeMap::from([("name".to_owned(), text), ("val".to_owned(), value.clone())]),
    }
}

fn defaults_left_out(block: &mut Block) {
    for operation in &mut block.operations {
        for (_, parameters) in DEFAULTS.iter().filter(|(op, _)| operation.op == *op) {
            operation.inputs.retain(|parameter, _| !parameters.contains(&parameter.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::test_bundle::bundle;

    #[test]
    fn forms_are_what_they_say() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = bundle(dir.path());
        let package = bundle.package(&bundle.manifest().shards[0]).unwrap();
        let written = |form: ProgramVariant| {
            let path = dir.path().join(format!("{form:?}.mlpackage"));
            form.write(&package, &path).unwrap();
            Package::open(&path).unwrap()
        };
        let operations = |package: &Package, op: &str| {
            let block = &package.program().functions["main"].block;
            block.operations.iter().filter(|o| o.op == op).cloned().collect::<Vec<_>>()
        };
        let consts = |package: &Package| operations(package, "const").len();
        let shared = consts(&written(ProgramVariant::AsExported));
        assert_eq!(consts(&written(ProgramVariant::ValuesInPlace)), 0);
        // Seven convolutions have five constants each.
        assert!(consts(&written(ProgramVariant::ConstantEach)) > shared + 35);
        let bare = written(ProgramVariant::DefaultsLeftOut);
        let parameters: Vec<Vec<String>> =
            operations(&bare, "conv").iter().map(|conv| conv.inputs.keys().cloned().collect()).collect();
        assert_eq!(parameters, vec![vec!["weight".to_owned(), "x".to_owned()]; 7]);
        let nameless = written(ProgramVariant::WithoutNames);
        let operations = &nameless.program().functions["main"].block.operations;
        assert!(operations.iter().all(|o| !o.attributes.contains_key("name")));
    }
}
