//! Convolutions, with weights of every form.

use ane_runtime::{Engine as _, LoadOptions, MilCpu, Numerics, State, Tensor};
use mlpackage::DType;
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::{TensorType, Value};
use proptest::prelude::*;

use super::{After, Expected, after, constant, engines, floats, ints};
use crate::common::{package, tensor};
use crate::reference::{self, Convolution, Pad, Quarters};

fn conv(
    f: &mut FunctionBuilder<'_>,
    expected: &mut Expected,
    (name, c, then): (&str, &Convolution, After),
    quarters: &mut Quarters,
) {
    let (x, w) = (quarters.take(c.x_dims().iter().product()), quarters.take(c.w_dims().iter().product()));
    let bias = c.bias.then(|| quarters.take(c.channels_out()));
    let input = expected.input(f, &c.x_dims(), &x);
    let weight = constant(f, &format!("{name}_w"), &c.w_dims(), &w);
    let bias_var = bias.as_ref().map(|b| constant(f, &format!("{name}_b"), &[b.len()], b));
    let op = f.op(if c.transposed { "conv_transpose" } else { "conv" }, name).arg("x", &input);
    let op = op.arg("weight", &weight).value("strides", ints(&c.strides));
    let op = op.value("dilations", ints(&c.dilations)).value("groups", Value::int(c.groups as i32));
    let mut op = op.value("pad_type", Value::string(c.pad.name()));
    if let Pad::Custom(pad) = &c.pad {
        op = op.value("pad", ints(pad));
    }
    if let Some(bias) = &bias_var {
        op = op.arg("bias", bias);
    }
    let y = op.one().unwrap();
    let (dims, values) = c.compute(&x, &w, bias.as_deref());
    after(f, expected, (then, name), (y, &dims, values), quarters);
}

/// Builds all cases as one function, so equal inputs, the buffers of other steps and fusions can interact.
fn assert_convolutions(cases: &[(Convolution, After)], seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let (mut expected, mut quarters) = (Expected::default(), Quarters::new(seed));
    let package = package(&dir.path().join("p.mlpackage"), |f| {
        for (i, (case, then)) in cases.iter().enumerate() {
            conv(f, &mut expected, (&format!("y{i}"), case, *then), &mut quarters);
        }
        Ok(())
    });
    expected.assert(&package, &|i| format!("{:?}", cases[i]));
}

/// A spatial axis of a convolution.
#[derive(Clone, Debug)]
struct Axis {
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: [usize; 2],
}

/// Generates small sizes, often 1.
fn axis() -> impl Strategy<Value = Axis> {
    let often_one = |most: usize| prop_oneof![2 => Just(1usize), 3 => 1..=most];
    let pad = || prop_oneof![2 => Just(0usize), 3 => 0usize..=2];
    (often_one(5), often_one(3), often_one(3), often_one(2), [pad(), pad()])
        .prop_map(|(input, kernel, stride, dilation, pad)| Axis { input, kernel, stride, dilation, pad })
}

fn convolution() -> impl Strategy<Value = (Convolution, After)> {
    let axes = prop::collection::vec(axis(), 1..=3);
    let channels = (1usize..=3, 1usize..=3, prop_oneof![3 => Just(1usize), 2 => 2usize..=3]);
    let pads = prop::sample::select(vec!["valid", "same", "same_lower", "custom", "custom"]);
    let afters =
        prop::sample::select(vec![After::Nothing, After::Relu, After::Residual, After::Both, After::Both]);
    let batch = prop_oneof![3 => Just(1usize), 1 => Just(2usize)];
    (axes, channels, batch, pads, afters, any::<bool>(), prop::bool::weighted(0.3)).prop_map(
        |(axes, (d_in, d_out, groups), batch, pad, then, bias, transposed)| {
            let of = |f: fn(&Axis) -> usize| axes.iter().map(f).collect();
            // A transposed convolution has no `same_lower` padding.
            let pad = if transposed && pad == "same_lower" { "same" } else { pad };
            let mut c = Convolution {
                batch,
                groups,
                d_in,
                d_out,
                input: of(|axis| axis.input),
                kernel: of(|axis| axis.kernel),
                strides: of(|axis| axis.stride),
                dilations: of(|axis| axis.dilation),
                pad: Pad::of(pad, axes.iter().flat_map(|axis| axis.pad).collect()),
                bias,
                transposed,
            };
            c.make_it_fit();
            (c, then)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn convolutions(cases in prop::collection::vec(convolution(), 1..24), seed in any::<u64>()) {
        assert_convolutions(&cases, seed);
    }
}

/// Every 1x1 convolution of up to two positions per axis; the shortcuts apply to some of them.
#[test]
fn every_small_pointwise_convolution() {
    let bits = |i: usize, at: usize| (i >> at) & 1;
    let case = |i: usize| {
        let c = Convolution {
            batch: 1 + bits(i, 0),
            groups: 1 + bits(i, 1),
            d_in: 3,
            d_out: 2,
            input: vec![1 + bits(i, 2), 1 + bits(i, 3)],
            kernel: vec![1, 1],
            strides: vec![1 + bits(i, 4), 1 + bits(i, 5)],
            dilations: vec![1, 1],
            pad: Pad::Custom((6..10).map(|at| bits(i, at)).collect()),
            bias: true,
            transposed: false,
        };
        (c, After::Both)
    };
    let cases: Vec<_> = (0..1 << 10).map(case).collect();
    for (seed, cases) in cases.chunks(256).enumerate() {
        assert_convolutions(cases, seed as u64);
    }
}

/// The same layers with more weights than are converted at load: the kernels read rows of fp16 as stored.
#[test]
fn pointwise_convolutions_of_stored_weights() {
    let base = Convolution {
        batch: 1,
        groups: 1,
        d_in: 67,
        d_out: 67,
        input: vec![1, 1],
        kernel: vec![1, 1],
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pad: Pad::Valid,
        bias: true,
        transposed: false,
    };
    let cases = [
        base.clone(),
        Convolution { input: vec![2, 2], strides: vec![2, 2], ..base.clone() },
        Convolution { strides: vec![2, 2], pad: Pad::Custom(vec![1, 0, 0, 0]), ..base.clone() },
        Convolution { strides: vec![2, 2], pad: Pad::Custom(vec![0, 0, 1, 1]), ..base.clone() },
        Convolution { batch: 2, ..base.clone() },
        Convolution { groups: 2, d_in: 67, ..base.clone() },
        Convolution { kernel: vec![3, 1], pad: Pad::Same, d_in: 33, ..base.clone() },
    ];
    let cases = cases.map(|case| (case, After::Both));
    let dir = tempfile::tempdir().unwrap();
    let (mut expected, mut quarters) = (Expected::default(), Quarters::new(1));
    let package = package(&dir.path().join("p.mlpackage"), |f| {
        for (i, (case, then)) in cases.iter().enumerate() {
            conv(f, &mut expected, (&format!("y{i}"), case, *then), &mut quarters);
        }
        Ok(())
    });
    expected.assert(&package, &|i| format!("{:?}", cases[i]));
    let fast = MilCpu::new(Numerics::Fast).load(&package, &LoadOptions::default()).unwrap();
    let plan = fast.default_function().plan();
    let fused = plan.lines().filter(|line| line.contains(" = projection(")).count();
    // Only the first case is a product with a single vector. The last has a single output position, but its
    // kernel reaches into padding.
    assert_eq!(fused, 1, "{plan}");
    assert_eq!(plan.lines().filter(|line| line.contains(" = relu(")).count(), cases.len() - 1, "{plan}");
}

/// A weight that is an input differs for each sequence of a batch.
#[test]
fn sequences_with_weights_of_their_own() {
    let q = &mut Quarters::new(5);
    for kernel in [1, 2] {
        let dims = [2, 3, 1, kernel];
        let dir = tempfile::tempdir().unwrap();
        let package = package(&dir.path().join("p.mlpackage"), |f| {
            let x = f.input("x", DType::Fp16, [1, 3, 1, kernel])?;
            let w = f.input("w", DType::Fp16, dims)?;
            let y = f.op("conv", "y").arg("x", &x).arg("weight", &w).one()?;
            f.output(&y);
            Ok(())
        });
        let sequences: Vec<[Vec<f64>; 2]> =
            (0..3).map(|_| [q.take(3 * kernel), q.take(6 * kernel)]).collect();
        let tensors: Vec<[Tensor; 2]> = sequences
            .iter()
            .map(|[x, w]| [tensor(&[1, 3, 1, kernel], &floats(x)), tensor(&dims, &floats(w))])
            .collect();
        let given: Vec<_> = tensors.iter().map(|[x, w]| [("x", x.view()), ("w", w.view())]).collect();
        let given: Vec<&[_]> = given.iter().map(|given| given.as_slice()).collect();
        for (engine, mil_cpu) in engines() {
            let model = mil_cpu.load(&package, &LoadOptions::default()).unwrap();
            let mut states: Vec<State> = (0..3).map(|_| model.new_state()).collect();
            let mut all: Vec<&mut State> = states.iter_mut().collect();
            model.default_function().predict_batch(&given, &mut all).unwrap();
            for ([x, w], state) in sequences.iter().zip(&states) {
                let expected = floats(&reference::linear(x, w, None, 3 * kernel));
                assert_eq!(state.outputs()["y"].as_f32().unwrap(), expected, "{engine}, kernel {kernel}");
            }
        }
    }
}

/// Number of channels of a convolution with compressed weights.
const SIZE: usize = 80;

/// Adds a weight `[SIZE, SIZE, 1, 1]` of a quarter of each number, which is from -4 to 4: as integers of 8 bits with a
/// scale, or as indices of 4 bits into a table.
fn compressed(f: &mut FunctionBuilder<'_>, form: &str, numbers: &[i8]) -> mlpackage::Result<Var> {
    let shape = [SIZE, SIZE, 1, 1];
    if form == "int8" {
        let bytes: Vec<u8> = numbers.iter().map(|n| *n as u8).collect();
        let data = f.blob(TensorType::new(DType::Int8, shape), &bytes)?;
        let scale = f.blob(
            TensorType::new(DType::Fp16, [SIZE, 1, 1, 1]),
            &half::f16::from_f32(0.25).to_le_bytes().repeat(SIZE),
        )?;
        let op = f.op("constexpr_blockwise_shift_scale", "w").inline("data", data);
        return op.inline("scale", scale).one();
    }
    let nibbles: Vec<u8> =
        numbers.as_chunks::<2>().0.iter().map(|[a, b]| (a + 4) as u8 | ((b + 4) as u8) << 4).collect();
    let halves: Vec<half::f16> = (0..16).map(|i| half::f16::from_f64(f64::from(i - 4) / 4.0)).collect();
    let indices = f.blob(TensorType::new(DType::Uint4, shape), &nibbles)?;
    let lut = f.fp16_array([1, 1, 1, 1, 16, 1], &halves)?;
    f.op("constexpr_lut_to_dense", "w").inline("indices", indices).inline("lut", lut).one()
}

/// Weights of 8 and 4 bits, which have their own kernels, in cases that look like a single vector but may
/// have strides and padding.
#[test]
fn compressed_weights() {
    let q = &mut Quarters::new(9);
    let numbers: Vec<i8> = q.take(SIZE * SIZE).iter().map(|v| (v * 4.0) as i8).collect();
    let weights: Vec<f64> = numbers.iter().map(|n| f64::from(*n) / 4.0).collect();
    for form in ["int8", "lut4"] {
        for (extent, stride, before) in [(1, 1, 0), (2, 2, 0), (1, 2, 1), (1, 2, 0)] {
            let dir = tempfile::tempdir().unwrap();
            let x = q.take(SIZE * extent * extent);
            let package = package(&dir.path().join("p.mlpackage"), |f| {
                let input = f.input("x", DType::Fp16, [1, SIZE, extent, extent])?;
                let weight = compressed(f, form, &numbers)?;
                let op = f.op("conv", "y").arg("x", &input).arg("weight", &weight);
                let op =
                    op.value("strides", ints(&[stride, stride])).value("pad_type", Value::string("custom"));
                let y = op.value("pad", ints(&[before, 0, before, 0])).one()?;
                f.output(&y);
                Ok(())
            });
            // The first element of each channel, or padding.
            let seen = |c: usize| if before == 0 { x[c * extent * extent] } else { 0.0 };
            let row: Vec<f64> = (0..SIZE).map(seen).collect();
            let expected = reference::linear(&row, &weights, None, SIZE);
            let given = tensor(&[1, SIZE, extent, extent], &floats(&x));
            for (engine, mil_cpu) in engines() {
                let model = mil_cpu.load(&package, &LoadOptions::default()).unwrap();
                let mut state = model.new_state();
                let found = model.predict(&[("x", given.view())], &mut state).unwrap()["y"].as_f32().unwrap();
                // Activations multiplied with weights of 8 bits may be off by 1/32,512 of the largest, which
                // is 1, in each of the products with weights of up to 1.
                let fixed = form == "int8" && engine == "fast";
                let bound = if fixed { SIZE as f64 / 32_512.0 } else { 0.0 };
                let near = |(f, e): (&f32, &f64)| (f64::from(*f) - e).abs() <= bound;
                let what = format!("{form}, {engine}, extent {extent}, stride {stride}, {before} before");
                assert_eq!(found.len(), expected.len(), "{what}");
                assert!(found.iter().zip(&expected).all(near), "{what}: {found:?}, expected {expected:?}");
                let fused = model.default_function().plan().contains(" = projection(");
                assert_eq!(fused, engine == "fast" && extent == 1 && stride + before == 1, "{what}");
            }
        }
    }
}
