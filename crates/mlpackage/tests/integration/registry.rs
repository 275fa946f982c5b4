//! Compares the operation table with coremltools' own (`registry/operations.json`, written by
//! `registry/make.py`): parameters by opset, whether they are constant and optional, their element types and
//! type domains, and their defaults (`registry/defaults.json`). Also compares `docs/operations.md`, the list
//! of what was checked of each operation, with the table.

use std::collections::{BTreeMap, BTreeSet};

use mlpackage::mil::Opset;
use mlpackage::ops::{self, OpSpec, Param};
use serde::Deserialize;

/// A parameter in coremltools' registry.
#[derive(Deserialize)]
struct Theirs {
    r#const: bool,
    optional: bool,
    /// Element types; absent if the parameter is not a tensor.
    types: Option<BTreeSet<String>>,
    domain: Option<String>,
}

/// Operation, opset in which it changed, parameter.
type Registry = BTreeMap<String, BTreeMap<String, BTreeMap<String, Theirs>>>;

fn registry() -> Registry {
    serde_json::from_str(include_str!("../registry/operations.json")).unwrap()
}

/// Returns the differences between a table entry in one opset and coremltools' form.
fn differences(spec: &OpSpec, opset: Opset, form: &BTreeMap<String, Theirs>) -> Vec<String> {
    let ours: BTreeMap<&str, &Param> = spec.params_of(opset).map(|p| (p.name, p)).collect();
    let mut found = Vec::new();
    let names = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(" ");
    // coremltools passes blocks as arguments, whose names begin with `_`.
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
            found.push(format!("{name} accepts {types:?}, not {dtypes:?}"));
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
fn the_table_matches_coremltools() {
    let registry = registry();
    let mut found = Vec::new();
    for spec in ops::all() {
        // coremltools has one operation that reads and writes, and splits it when it writes a package.
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

/// Defaults of parameters, by operation and opset in which they changed.
type Defaults = BTreeMap<String, BTreeMap<String, BTreeMap<String, serde_json::Value>>>;

/// Returns whether a default equals coremltools', compared in fp32.
fn is_default(ours: ops::Default, theirs: &serde_json::Value) -> bool {
    match ours {
        ops::Default::Int(v) => theirs.as_i64() == Some(i64::from(v)),
        ops::Default::Bool(v) => theirs.as_bool() == Some(v),
        ops::Default::Fp32(v) => theirs.is_f64() && theirs.as_f64().map(|t| t as f32) == Some(v),
        ops::Default::String(v) => theirs.as_str() == Some(v),
    }
}

#[test]
fn defaults_match_coremltools() {
    let defaults: Defaults = serde_json::from_str(include_str!("../registry/defaults.json")).unwrap();
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

/// Returns the rows of `docs/operations.md`: operation, opsets in which it exists or changed, the other
/// columns.
fn rows(list: &str) -> BTreeMap<&str, (Vec<&str>, Vec<&str>)> {
    let rows = list.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
        (cells[0].trim_end_matches('`'), (cells[1].split(", ").collect(), cells[2..].to_vec()))
    })
    .collect()
}

/// The list of checks has a row for every operation, with the opsets in which coremltools changed it, and the
/// tests that it names exist.
#[test]
fn every_operation_is_listed_with_what_was_checked() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = std::fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let rows = rows(&list);
    let documented: BTreeMap<String, Vec<String>> =
        serde_json::from_str(include_str!("../registry/documented.json")).unwrap();
    let mut found = Vec::new();
    for (name, opsets) in &documented {
        match rows.get(name.as_str()) {
            None => found.push(format!("{name} has no row")),
            Some((listed, _)) if listed != opsets => {
                found.push(format!("{name} is documented in {opsets:?}, not {listed:?}"));
            }
            Some((_, cells)) if cells.len() != 3 || cells[0].is_empty() || cells[1].is_empty() => {
                found.push(format!("{name} does not state what was checked, or where"));
            }
            Some(_) => {}
        }
    }
    found.extend(
        rows.keys()
            .filter(|name| !documented.contains_key(**name))
            .map(|n| format!("{n} is not an operation")),
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
    let mut sources = String::new();
    for folder in
        ["mlpackage/tests/integration/documented_rules", "ane-runtime/tests/integration/documented_examples"]
    {
        for entry in std::fs::read_dir(root.join("crates").join(folder)).unwrap() {
            sources += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
        }
    }
    for (name, (_, cells)) in &rows {
        for test in cells[1].split(", ").filter_map(|cell| cell.strip_prefix('`')?.strip_suffix('`')) {
            assert!(sources.contains(&format!("fn {test}(")), "{name} names {test}, which is not a test");
        }
    }
}

/// Every operation that coremltools registers is in the table, so all arguments and types are checked.
#[test]
fn every_registered_operation_is_in_the_table() {
    // Exceptions: constants, pymil's internal operations that are never written, and an obsolete operation
    // that no converter creates.
    let apart = ["const", "_const_symbolic", "coreml_update_state", "conv_quantized"];
    let missing: Vec<String> = registry()
        .into_keys()
        .filter(|name| !apart.contains(&name.as_str()))
        .filter(|name| ops::lookup(name).is_none())
        .collect();
    assert_eq!(missing, [""; 0]);
}
