//! The table of operations against coremltools' own (`registry/operations.json`, made by `registry/make.py`): parameters by
//! opset, whether they are constants and may be left out, the element types that they take, and which must agree.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use mlpackage::mil::Opset;
use mlpackage::ops::{self, OpSpec, Param};
use serde::Deserialize;

/// A parameter as coremltools has it.
#[derive(Deserialize)]
struct Theirs {
    r#const: bool,
    optional: bool,
    /// Element types; absent for what is no tensor.
    types: Option<BTreeSet<String>>,
    domain: Option<String>,
}

/// Operations, opsets in which they changed, parameters.
type Registry = BTreeMap<String, BTreeMap<String, BTreeMap<String, Theirs>>>;

fn registry() -> Registry {
    serde_json::from_str(include_str!("registry/operations.json")).unwrap()
}

/// What differs between a row of the table in one opset and coremltools' form of it.
fn differences(spec: &OpSpec, opset: Opset, form: &BTreeMap<String, Theirs>) -> Vec<String> {
    let ours: BTreeMap<&str, &Param> = spec.params_of(opset).map(|p| (p.name, p)).collect();
    let mut found = Vec::new();
    let names = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(" ");
    // Blocks are arguments there; here they are blocks.
    let theirs = || form.iter().filter(|(name, _)| !name.starts_with('_'));
    let missing: BTreeSet<&str> =
        theirs().map(|(n, _)| n.as_str()).filter(|n| !ours.contains_key(n)).collect();
    let extra: BTreeSet<&str> = ours.keys().copied().filter(|n| !form.contains_key(*n)).collect();
    if !missing.is_empty() || !extra.is_empty() {
        found.push(format!("lacks [{}], has [{}] too much", names(missing), names(extra)));
    }
    for (name, theirs) in theirs() {
        let Some(ours) = ours.get(name.as_str()) else { continue };
        if ours.constant != theirs.r#const {
            found.push(format!("{name} constant: {}", theirs.r#const));
        }
        if ours.required == theirs.optional {
            found.push(format!("{name} optional: {}", theirs.optional));
        }
        let Some(types) = &theirs.types else { continue };
        let dtypes: BTreeSet<String> =
            ours.kind.dtypes(opset).iter().map(|d| d.name().replace("string", "str")).collect();
        let types: BTreeSet<String> = types.iter().map(|t| t.replace("string", "str")).collect();
        if dtypes != types {
            found.push(format!("{name} takes {types:?}, not {dtypes:?}"));
        }
    }
    let mut groups: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, theirs) in form {
        if let Some(domain) = &theirs.domain {
            groups.entry(domain).or_default().insert(name);
        }
    }
    let theirs: BTreeSet<BTreeSet<&str>> = groups.into_values().filter(|g| g.len() > 1).collect();
    let mut groups: BTreeMap<char, BTreeSet<&str>> = BTreeMap::new();
    for (name, param) in &ours {
        if let Some(domain) = param.domain {
            groups.entry(domain).or_default().insert(name);
        }
    }
    let ours: BTreeSet<BTreeSet<&str>> = groups.into_values().filter(|g| g.len() > 1).collect();
    if ours != theirs {
        found.push(format!("of one type: {theirs:?}, not {ours:?}"));
    }
    found
}

#[test]
fn the_table_is_coremltools() {
    let registry = registry();
    let mut found = Vec::new();
    for spec in ops::all() {
        // coremltools has one operation that reads and writes, and splits it when it is written.
        if spec.name == "write_state" {
            continue;
        }
        let forms = &registry[spec.name];
        let first = Opset::ALL.into_iter().find(|o| forms.contains_key(o.name())).unwrap();
        if first != spec.since {
            found.push(format!("{}: since {first}, not {}", spec.name, spec.since));
        }
        let mut form = None;
        for opset in Opset::ALL {
            form = forms.get(opset.name()).or(form);
            if let Some(form) = form.filter(|_| opset >= spec.since) {
                let differences = differences(spec, opset, form);
                found.extend(differences.into_iter().map(|d| format!("{} {opset}: {d}", spec.name)));
            }
        }
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

/// Every operation that coremltools registers is in the table: there is none whose arguments and types are taken as declared.
#[test]
fn nothing_is_forgotten() {
    // A constant; what pymil has for itself and never writes; a relic that no converter makes.
    let apart = ["const", "_const_symbolic", "coreml_update_state", "conv_quantized"];
    let missing: Vec<String> = registry()
        .into_keys()
        .filter(|name| !apart.contains(&name.as_str()))
        .filter(|name| ops::lookup(name).is_none())
        .collect();
    assert_eq!(missing, [""; 0]);
}
