//! What is refused, when it is loaded or called.

use std::path::Path;

use ane_runtime::{Engine as _, Error, Limits, LoadOptions, MilCpu, Numerics, Tensor};
use mlpackage::{DType, Package};

use super::fixture;
use crate::common::{self, load, package, tensor};

/// Everything that is missing is named at load, each thing once.
#[test]
fn what_the_engine_lacks_is_refused_at_load() {
    let dir = tempfile::tempdir().unwrap();
    let large = common::package(&dir.path().join("large.mlpackage"), |f| {
        let [x, y] = ["x", "y"].map(|name| f.input(name, DType::Fp16, [1 << 20, 1 << 12]));
        let z = f.op("add", "z").arg("x", &x?).arg("y", &y?).one()?;
        f.output(&z);
        Ok(())
    });
    for numerics in [Numerics::F32, Numerics::F16] {
        let error = MilCpu::new(numerics).load(&large, &LoadOptions::default()).err().unwrap();
        let Error::Unsupported { operations, .. } = &error else { panic!("{error}") };
        let named = |what: &str| operations.iter().filter(|o| o.contains(what)).count();
        assert_eq!(["input x", "input y"].map(named), [1, 1], "{operations:?}");
        assert!(error.to_string().contains("large.mlpackage"), "{error}");
    }
}

/// A call stays within its limits: memory of a plan, memory that is only known during the call, and endless
/// loops.
#[test]
fn what_goes_beyond_the_limits_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let doubled = |interpreted: bool| {
        common::package(&dir.path().join(format!("{interpreted}.mlpackage")), |f| {
            let x = f.input("x", DType::Fp16, [1024])?;
            let y = f.op("add", "y").arg("x", &x).arg("y", &x).one()?;
            f.output(&y);
            if interpreted {
                let result = f.op("non_zero", "places").arg("x", &y).one()?;
                f.output(&result);
            }
            Ok(())
        })
    };
    let limited = |workspace| LoadOptions::default().with_limits(Limits::default().with_workspace(workspace));
    let engine = MilCpu::new(Numerics::F32);
    // Planned: two buffers and one result of 4 KiB each.
    let package = doubled(false);
    assert!(engine.load(&package, &limited(12_288)).is_ok());
    let error = engine.load(&package, &limited(12_287)).err().unwrap();
    assert!(
        error.to_string().ends_with(
            "it has no room for 12288 B of workspace, 12287 B at most: give inputs of smaller shapes, or raise the workspace limit"
        ),
        "{error}"
    );
    // Interpreted: 4 KiB for y, and 4 B for the index of each of its two nonzero elements.
    let package = doubled(true);
    let mut values = vec![0.0; 1024];
    values[7..9].fill(1.0);
    let call = |workspace| {
        let model = engine.load(&package, &limited(workspace)).unwrap();
        let x = tensor(&[1024], &values);
        model
            .predict(&[("x", x.view())], &mut model.new_state())
            .map(|outputs| outputs["places"].as_i32().unwrap().to_vec())
    };
    assert_eq!(call(4096 + 8).unwrap(), [7, 8]);
    let error = call(4096 + 7).unwrap_err().to_string();
    assert_eq!(
        error,
        "non_zero -> %places: it needs 8 B of workspace besides the 4096 B in use, 4103 B at most: give inputs of smaller \
         shapes, or raise the workspace limit"
    );

    // The loop of this fixture runs `n` times.
    let package = fixture("control_flow");
    let options = LoadOptions::default().with_limits(Limits::default().with_iterations(5));
    let model = engine.load(&package, &options).unwrap();
    let x = tensor(&[2, 3], &[1.0; 6]);
    let call = |n: i32| {
        let n = [n];
        let n = ane_runtime::TensorView::new(&[1], &n[..]).unwrap();
        model.predict(&[("x", x.view()), ("n", n)], &mut model.new_state()).map(drop)
    };
    assert!(call(5).is_ok());
    let error = call(6).unwrap_err().to_string();
    assert!(error.contains("while_loop -> "), "{error}");
    assert!(error.ends_with("it exceeds the limit of 5 iterations of all loops"), "{error}");
    assert_eq!(
        model.default_function().plan(),
        "interpreted: shapes or control flow of cond -> %chosen depend on values\n"
    );
}

/// 2^28 elements are allowed; more are refused before any memory is allocated.
#[test]
fn a_value_beyond_memory_is_refused_at_load() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(&dir.path().join("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp16, [1 << 15, 1])?;
        let y = f.input("y", DType::Fp16, [1, 1 << 15])?;
        let z = f.op("add", "z").arg("x", &x).arg("y", &y).one()?;
        f.output(&z);
        Ok(())
    });
    let error = MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).err().unwrap();
    let expected =
        "it has no room for %z, fp16 [32768, 32768]: 1073741824 elements, at most 268435456 in one value";
    assert!(error.to_string().ends_with(expected), "{error}");
}

/// A state may have 2^28 elements, and all states together as many bytes as the workspace. They are refused before
/// any memory is allocated, even if no operation reads them.
#[test]
fn states_beyond_memory_are_refused_at_load() {
    let dir = tempfile::tempdir().unwrap();
    let with_states = |name: &str, shapes: &[[usize; 2]]| {
        package(&dir.path().join(name), |f| {
            let x = f.input("x", DType::Fp16, [2])?;
            for (i, shape) in shapes.iter().enumerate() {
                f.state(&format!("s{i}"), DType::Fp16, *shape)?;
            }
            let y = f.op("relu", "y").arg("x", &x).one()?;
            f.output(&y);
            Ok(())
        })
    };
    let refused = |package: &Package, limits: Limits| {
        let options = LoadOptions::default().with_limits(limits);
        match MilCpu::new(Numerics::F32).load(package, &options) {
            Ok(_) => None,
            Err(Error::Unsupported { operations, .. }) => Some(operations),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(
        refused(&with_states("one.mlpackage", &[[1 << 20, 1 << 20]]), Limits::default()).unwrap(),
        [
            "room for 4398046511104 B of states, 4294967296 B at most: raise the workspace limit",
            "room for state s0, tensor<fp16, [1048576, 1048576]>: 1099511627776 elements, at most 268435456 in one \
             value",
        ]
    );
    assert_eq!(
        refused(&with_states("many.mlpackage", &[[1 << 14, 1 << 14]; 5]), Limits::default()).unwrap(),
        ["room for 5368709120 B of states, 4294967296 B at most: raise the workspace limit"]
    );
    // Two states of six words, and a workspace of as many bytes as half of them.
    let small = with_states("small.mlpackage", &[[1, 6]; 2]);
    assert_eq!(refused(&small, Limits::default().with_workspace(48)), None);
    assert_eq!(
        refused(&small, Limits::default().with_workspace(47)).unwrap(),
        ["room for 48 B of states, 47 B at most: raise the workspace limit"]
    );
}

/// The box that computed bounds describe must have the shape of the update, not only its number of elements.
#[test]
fn a_box_of_another_shape_is_refused() {
    let model = load(Numerics::F32, |f| {
        let x = f.input("x", DType::Fp32, [4, 4])?;
        let update = f.input("update", DType::Fp32, [2, 1])?;
        let begin = f.input("begin", DType::Int32, [2])?;
        let end = f.input("end", DType::Int32, [2])?;
        let stride = mlpackage::mil::Value::ints([2], [1, 1]);
        let written = f.op("slice_update", "written").arg("x", &x).arg("update", &update);
        let written = written.arg("begin", &begin).arg("end", &end).value("stride", stride).one()?;
        f.output(&written);
        Ok(())
    });
    let (x, update) = (Tensor::zeros([4, 4]), tensor(&[2, 1], &[1.0, 2.0]));
    let call = |end: [i32; 2]| {
        let bounds = [[0, 0], end];
        let view = |i: usize| ane_runtime::TensorView::new(&[2], &bounds[i][..]).unwrap();
        let inputs = [("x", x.view()), ("update", update.view()), ("begin", view(0)), ("end", view(1))];
        let outputs =
            model.predict(&inputs, &mut model.new_state()).map(|o| o["written"].as_f32().unwrap().to_vec());
        outputs.map_err(|e| e.to_string())
    };
    assert_eq!(call([2, 1]).unwrap()[..8], [1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]);
    let error = "slice_update -> %written: begin and end name a box of [1, 2], expected [2, 1]";
    assert_eq!(call([1, 2]).unwrap_err(), error);
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let model = load(Numerics::F32, |f| {
        let x = f.input("x", DType::Fp16, [2, 3])?;
        let y = f.op("relu", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    let (good, transposed) = (Tensor::zeros([2, 3]), Tensor::zeros([3, 2]));
    let refused = |inputs: &[(&str, &Tensor)]| {
        let inputs: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.view())).collect();
        let mut state = model.new_state();
        let error = model.predict(&inputs, &mut state).unwrap_err();
        assert!(matches!(error, Error::Input { .. }), "{error}");
        error.to_string()
    };
    assert_eq!(refused(&[]), "input x: missing, expected tensor<fp16, [2, 3]>");
    assert_eq!(refused(&[("x", &transposed)]), "input x: shape [3, 2], expected [2, 3]");
    assert_eq!(refused(&[("x", &good), ("x", &good)]), "input x: given twice");
    assert_eq!(refused(&[("x", &good), ("z", &good)]), "input z: the function takes x");
    assert!(model.predict(&[("x", good.view())], &mut model.new_state()).is_ok());
    assert!(matches!(Tensor::new([2, 3], vec![0.0; 5]), Err(Error::TensorSize { elements: 5, .. })));
}

/// A mask with more bits set than there are values; found by flipping bits of a weight file.
#[test]
fn a_mask_that_does_not_fit_its_values_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("p.mlpackage");
    let sound =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/model_gpt2_fp16_sparse_int8.mlpackage");
    let mut flipped = 0;
    Package::open(&sound)
        .unwrap()
        .edit()
        .save_with(&damaged, |_, blob| {
            let one_bit = blob.dtype == DType::Uint1 && flipped == 0;
            flipped += usize::from(one_bit);
            one_bit.then(|| [&[!blob.data[0]], &blob.data[1..]].concat())
        })
        .unwrap();
    assert_eq!(flipped, 1);
    let package = Package::open(&damaged).unwrap();
    let error = MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).err().unwrap().to_string();
    assert!(error.contains("bits of the mask are set, there are"), "{error}");
}

/// The maximum of no elements is refused at load, when it would be folded.
#[test]
fn tensors_without_elements_are_refused_at_load() {
    let dir = tempfile::tempdir().unwrap();
    let package = common::package(&dir.path().join("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [3])?;
        let none = f.value("none", mlpackage::mil::Value::fp32s([0, 3], []))?;
        let largest = f
            .op("reduce_max", "largest")
            .arg("x", &none)
            .value("axes", mlpackage::mil::Value::ints([1], [0]));
        let largest = largest.value("keep_dims", mlpackage::mil::Value::bool(false)).one()?;
        let y = f.op("add", "y").arg("x", &x).arg("y", &largest).one()?;
        f.output(&y);
        Ok(())
    });
    let error = MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).err().unwrap().to_string();
    assert!(error.contains("way to compute reduce_max of x tensor<fp32, [0, 3]>"), "{error}");
}

/// A result without elements needs no computation, so it is no reason to refuse the operation.
#[test]
fn results_without_elements_are_not_computed() {
    let model = load(Numerics::F32, |f| {
        let x = f.input("x", DType::Fp16, [1])?;
        let none = f.state("none", DType::Fp16, [0])?;
        let read = f.read_state("read", &none)?;
        let y = f.op("relu", "y").arg("x", &read).one()?;
        let z = f.op("relu", "z").arg("x", &x).one()?;
        f.output(&y);
        f.output(&z);
        Ok(())
    });
    let mut state = model.new_state();
    let outputs = model.predict(&[("x", tensor(&[1], &[3.0]).view())], &mut state).unwrap();
    assert_eq!((outputs["y"].shape().dims(), outputs["y"].as_f32()), (&[0][..], Some(&[][..])));
    assert_eq!(outputs["z"].as_f32(), Some(&[3.0][..]));
}
