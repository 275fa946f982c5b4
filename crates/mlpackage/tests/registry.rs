//! The table of operations against coremltools' own (`registry/operations.json`, made by `registry/make.py`): parameters by
//! opset, whether they are constants and may be left out, the element types that they take, which must agree, and what they are
//! when they are left out (`registry/defaults.json`). The list of what was checked of each operation, `docs/operations.md`, is
//! held to the same table.
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

/// What parameters are that are not bound, by operation and opset in which that changed.
type Defaults = BTreeMap<String, BTreeMap<String, BTreeMap<String, serde_json::Value>>>;

/// Whether a default is the one that coremltools has, compared in fp32.
fn is_default(ours: ops::Default, theirs: &serde_json::Value) -> bool {
    match ours {
        ops::Default::Int(v) => theirs.as_i64() == Some(i64::from(v)),
        ops::Default::Bool(v) => theirs.as_bool() == Some(v),
        ops::Default::Fp32(v) => theirs.is_f64() && theirs.as_f64().map(|t| t as f32) == Some(v),
        ops::Default::String(v) => theirs.as_str() == Some(v),
    }
}

#[test]
fn defaults_are_coremltools() {
    let defaults: Defaults = serde_json::from_str(include_str!("registry/defaults.json")).unwrap();
    let (mut found, mut compared) = (Vec::new(), 0);
    for spec in ops::all() {
        let forms = defaults.get(spec.name);
        let mut form = None;
        for opset in Opset::ALL {
            form = forms.and_then(|forms| forms.get(opset.name())).or(form);
            let theirs = |param: &Param| form.and_then(|form| form.get(param.name));
            for param in spec.params_of(opset).filter(|_| opset >= spec.since) {
                compared += usize::from(param.default.is_some());
                match (param.default, theirs(param)) {
                    (None, None) => {}
                    (Some(ours), Some(theirs)) if is_default(ours, theirs) => {}
                    (ours, theirs) => found.push(format!(
                        "{} {opset}: {} is {ours:?} by default, coremltools has {theirs:?}",
                        spec.name, param.name
                    )),
                }
            }
        }
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
    assert!(compared > 300, "{compared} defaults");
}

/// The rows of `docs/operations.md`: operation, opsets in which it exists or changed, the other columns.
fn rows(list: &str) -> BTreeMap<&str, (Vec<&str>, Vec<&str>)> {
    let rows = list.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
        (cells[0].trim_end_matches('`'), (cells[1].split(", ").collect(), cells[2..].to_vec()))
    })
    .collect()
}

/// The list of what was checked has a row for every operation, with the opsets in which coremltools has a form of its own, and
/// the tests that it names exist.
#[test]
fn every_operation_is_listed_with_what_was_checked() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = std::fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let rows = rows(&list);
    let documented: BTreeMap<String, Vec<String>> =
        serde_json::from_str(include_str!("registry/documented.json")).unwrap();
    let mut found = Vec::new();
    for (name, opsets) in &documented {
        match rows.get(name.as_str()) {
            None => found.push(format!("{name} has no row")),
            Some((listed, _)) if listed != opsets => {
                found.push(format!("{name} is documented in {opsets:?}, not {listed:?}"));
            }
            Some((_, cells)) if cells.len() != 3 || cells[0].is_empty() || cells[1].is_empty() => {
                found.push(format!("{name} says nothing of what was checked, or where"));
            }
            Some(_) => {}
        }
    }
    found.extend(
        rows.keys().filter(|name| !documented.contains_key(**name)).map(|n| format!("{n} is no operation")),
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
    let mut sources =
        std::fs::read_to_string(root.join("crates/mlpackage/tests/documented_rules.rs")).unwrap();
    for entry in std::fs::read_dir(root.join("crates/ane-runtime/tests/documented_examples")).unwrap() {
        sources += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    for (name, (_, cells)) in &rows {
        for test in cells[1].split(", ").filter_map(|cell| cell.strip_prefix('`')?.strip_suffix('`')) {
            assert!(sources.contains(&format!("fn {test}(")), "{name} names {test}, which is no test");
        }
    }
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
