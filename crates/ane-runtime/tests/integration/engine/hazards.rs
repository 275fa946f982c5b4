//! The report of hazards: the operation, and its operands.

use ane_runtime::{Engine as _, LoadOptions, MilCpu, Numerics};
use mlpackage::DType;

use crate::common::{self, tensor};

/// The first operation whose result fp16 cannot hold is named, once for each kind of hazard, with its
/// operands: both if the function is planned, and if it is interpreted because the shape of a result depends
/// on values.
#[test]
fn hazards_name_the_operation_and_its_operands() {
    for interpreted in [false, true] {
        hazards_are_named(interpreted);
    }
}

fn hazards_are_named(interpreted: bool) {
    let dir = tempfile::tempdir().unwrap();
    let package = common::package(&dir.path().join("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp16, [2])?;
        let tiny = f.value("tiny", mlpackage::mil::Value::fp16(1e-4))?;
        let vanished = f.op("mul", "vanished").arg("x", &x).arg("y", &tiny).one()?;
        let squared = f.op("square", "squared").arg("x", &x).one()?;
        let lost = f.op("sub", "lost").arg("x", &squared).arg("y", &squared).one()?;
        let all = f
            .op("concat", "all")
            .args("values", &[&lost, &vanished])
            .value("axis", mlpackage::mil::Value::int(0));
        let all = all.value("interleave", mlpackage::mil::Value::bool(false)).one()?;
        f.output(&all);
        if interpreted {
            let result = f.op("non_zero", "places").arg("x", &all).one()?;
            f.output(&result);
        }
        Ok(())
    });
    let options = LoadOptions::default().with_hazards(true);
    let model = MilCpu::new(Numerics::F16).load(&package, &options).unwrap();
    assert_eq!(model.default_function().memory().is_none(), interpreted);
    let mut state = model.new_state();
    let mut after = |x: [f32; 2]| {
        model.predict(&[("x", tensor(&[2], &x).view())], &mut state).unwrap();
        state.hazards().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(after([1.0, 2.0]).is_empty());
    let found = after([1e-4, 2e-4]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("mul -> %vanished rounded a nonzero constant"), "{found:?}");
    assert!(found[0].contains("in call 1: x in [0.0001"), "{found:?}");
    let found = after([300.0, 2.0]);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(
        found[1],
        "square -> %squared produced an infinity from finite operands in call 2: x in [2, 300]"
    );
    // The NaN results from infinities; it is still the first NaN.
    assert_eq!(found[2], "sub -> %lost produced a NaN in call 2: x in [4, inf], y in [4, inf]");
}

/// Constants that vanish when they are folded, and epsilons that fp16 cannot hold. An operation's own default
/// is not reported.
#[test]
fn constants_that_vanish_before_anything_runs_are_hazards() {
    let watched = |build: &dyn Fn(&mut mlpackage::builder::FunctionBuilder<'_>) -> mlpackage::Result<()>| {
        let dir = tempfile::tempdir().unwrap();
        let package = common::package(&dir.path().join("p.mlpackage"), |f| build(f));
        let options = LoadOptions::default().with_hazards(true);
        let model = MilCpu::new(Numerics::F16).load(&package, &options).unwrap();
        let mut state = model.new_state();
        model.predict(&[("x", tensor(&[2], &[1.0, 2.0]).view())], &mut state).unwrap();
        state.hazards().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let folded = watched(&|f| {
        let x = f.input("x", DType::Fp16, [2])?;
        let tiny = f.value("tiny", mlpackage::mil::Value::fp16(1e-4))?;
        let small = f.op("mul", "small").arg("x", &tiny).arg("y", &tiny).one()?;
        let y = f.op("add", "y").arg("x", &x).arg("y", &small).one()?;
        f.output(&y);
        Ok(())
    });
    assert_eq!(folded.len(), 1, "{folded:?}");
    assert!(folded[0].starts_with("mul -> %small rounded a nonzero constant to zero in call 0"));
    let epsilon = |value: f32| {
        watched(&move |f| {
            let x = f.input("x", DType::Fp16, [2])?;
            let y =
                f.op("rsqrt", "y").arg("x", &x).value("epsilon", mlpackage::mil::Value::fp32(value)).one()?;
            f.output(&y);
            Ok(())
        })
    };
    assert_eq!(
        epsilon(1e-8),
        ["rsqrt -> %y rounded a nonzero constant to zero in call 0: epsilon in [0.00000001, 0.00000001]"]
    );
    assert!(epsilon(1e-12).is_empty(), "MIL's own default");
    assert!(epsilon(1e-5).is_empty());
}
