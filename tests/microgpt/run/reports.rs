//! What `microgpt run` prints about results: NaN and infinities, hazards, memory, classes.

use microgpt_ane::mlpackage::builder::FunctionBuilder;
use microgpt_ane::mlpackage::mil::{Dim, Opset, Program, Value};
use microgpt_ane::mlpackage::{AllowedShapes, DType, Description, DimRange, PackageWriter};

use super::{package, write};
use crate::common::command::{microgpt, ok};

/// Uses a package that makes NaN from negative values, in fp32.
#[test]
fn nan_and_infinite_results_are_reported_with_the_way_to_find_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    package(&at("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [2])?;
        let root = f.op("sqrt", "root").arg("x", &x).one()?;
        let twice = f.op("add", "twice").arg("x", &root).arg("y", &root).one()?;
        f.output(&twice);
        let same = f.op("identity", "same").arg("x", &x).one()?;
        f.output(&same);
        Ok(())
    });
    let run = |values: [f32; 2], arguments: &[&str]| {
        write(&at("x.safetensors"), &[("x", &[2], &values)]);
        let run = ["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors"];
        microgpt(dir.path(), &[&run[..], arguments].concat())
    };
    let ran = run([-1.0, -4.0], &[]);
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("warning: output twice is NaN everywhere"), "{}", ran.err);
    assert!(!ran.err.contains("output same"), "{}", ran.err);
    assert!(ran.err.contains("--hazards") && ran.err.contains("--numerics f16"), "{}", ran.err);
    for numerics in ["f32", "f16", "fast"] {
        let ran = run([-1.0, -4.0], &["--hazards", "--numerics", numerics]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.out.contains("hazard: sqrt -> %root produced a NaN in call 0"), "{}", ran.out);
        assert!(ran.err.contains("output twice is NaN everywhere"), "{}", ran.err);
    }
    let ran = run([-1.0, 4.0], &[]);
    assert!(ran.err.contains("output twice is NaN in 1 of 2 elements"), "{}", ran.err);
    let ran = run([f32::INFINITY, f32::INFINITY], &["--hazards"]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(ran.err.contains("output twice is infinite everywhere"), "{}", ran.err);
    assert!(ran.err.contains("input x had NaN or infinite elements already"), "{}", ran.err);
    let ran = run([1.0, 4.0], &["--hazards"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("no hazards in fp32"), "{}", ran.out);
}

#[test]
fn hazards_are_searched_for_without_an_output() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    package(&at("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [1])?;
        let y = f.op("exp", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    for (value, code, words) in [(1.0, 0, "no hazards in fp32"), (1000.0, 1, "hazard: ")] {
        write(&at("x.safetensors"), &[("x", &[1], &[value])]);
        let ran = microgpt(dir.path(), &["run", "p.mlpackage", "--inputs", "x.safetensors", "--hazards"]);
        assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
        assert!(ran.out.contains(words), "{}", ran.out);
    }
}

/// A batch of 7 needs seven times the memory of one.
#[test]
fn plan_and_memory_are_those_of_the_shapes_that_are_run() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut writer = PackageWriter::create(at("p.mlpackage")).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let x = f.input("x", DType::Fp32, [Dim::Unknown, Dim::Known(10)]).unwrap();
    let y = f.op("square", "y").arg("x", &x).one().unwrap();
    f.output(&y);
    let program = Program::new([("main", f.finish())]);
    let mut description = Description::of(&program);
    let ranges = vec![DimRange { lower: 1, upper: Some(100) }, DimRange::fixed(10)];
    let shapes = AllowedShapes::Ranged { default: [1, 10].into(), ranges };
    description.interface_mut("main").unwrap().input_mut("x").unwrap().allow(shapes);
    writer.finish_with(&program, &description).unwrap();
    let workspace = |batch: usize| {
        write(&at("x.safetensors"), &[("x", &[batch, 10], &vec![1.0; batch * 10])]);
        let run = ["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors", "--plan"];
        let out = ok(dir.path(), &run);
        let memory = out.lines().find(|line| line.starts_with("memory:")).unwrap().to_owned();
        let bytes = memory.split(", ").last().unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
        (bytes, out)
    };
    let (one, plan) = workspace(1);
    assert!(plan.contains("1 step, "), "{plan}");
    let (seven, plan_of_seven) = workspace(7);
    assert_eq!(seven, 7 * one);
    let plan = |out: &str| out.split("main: ").next().unwrap().to_owned();
    assert_ne!(plan(&plan_of_seven), ok(dir.path(), &["run", "p.mlpackage", "--plan"]));
    // Without a destination, only the plan for the inputs is printed.
    let shown = ok(dir.path(), &["run", "p.mlpackage", "--inputs", "x.safetensors", "--plan"]);
    assert_eq!(shown, plan(&plan_of_seven));
}

/// The outputs of a classifier are described in words, by `inspect` and by `run`.
#[test]
fn the_outputs_of_a_classifier_are_described() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    package(&at("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [1, 2])?;
        let classes = Value::list(DType::String, ["cat", "dog"].map(Value::string).to_vec());
        let op = f.op("classify", "animal").arg("probabilities", &x).inline("classes", classes);
        op.many(&["animal", "chances"])?.iter().for_each(|result| f.output(result));
        Ok(())
    });
    let out = ok(dir.path(), &["inspect", "p.mlpackage"]);
    assert!(out.contains("animal: the label, one of 2 classes (string)"), "{out}");
    assert!(out.contains("chances: the probabilities of 2 classes (dictionary)"), "{out}");
    write(&at("x.safetensors"), &[("x", &[1, 2], &[0.25, 0.75])]);
    let out = ok(dir.path(), &["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors"]);
    assert!(out.contains("animal: the label, one of 2 classes, "), "{out}");
    assert!(out.contains("chances: the probabilities of 2 classes, "), "{out}");
    assert!(out.contains("label: dog"), "{out}");
}

/// Counts of one use the singular.
#[test]
fn one_of_something_is_singular() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    package(&at("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [1])?;
        let y = f.op("relu", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    write(&at("x.safetensors"), &[("x", &[1], &[1.0])]);
    let run = ["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors", "--plan"];
    let out = ok(dir.path(), &run);
    assert!(out.contains("main: 1 call,") && out.contains("1 step,"), "{out}");
    assert!(!out.contains("1 calls") && !out.contains("1 steps") && !out.contains("1 buffers"), "{out}");
}
