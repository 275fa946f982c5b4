//! Compares convolutions and matrix products of every shape and attribute with sums written out here, in
//! every arithmetic, with and without fusions. A shortcut whose guard is narrower than its assumptions
//! produces a wrong value somewhere.
//!
//! Inputs, weights and biases are multiples of 1/4 between -1 and 1. Their products are multiples of 1/16,
//! and sums of up to a hundred of them, which is more than any case has, stay below 128. fp16 holds each sum
//! exactly, in any order of addition, so results are compared for equality.

use ane_runtime::{Engine as _, Fusion, LoadOptions, MilCpu, Numerics, State, Tensor, TensorView};
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::{TensorType, Value};
use mlpackage::{DType, Package};
use proptest::prelude::*;

use crate::common::{package, tensor};
use crate::reference::{self, Convolution, Pad, Quarters};

/// Every arithmetic; the fast one with and without its fusions.
fn engines() -> [(&'static str, MilCpu); 4] {
    let fast = MilCpu::new(Numerics::Fast).with_threads(2);
    let unfused = Fusion::ALL.into_iter().fold(fast, MilCpu::without);
    let [f32, f16] = [Numerics::F32, Numerics::F16].map(MilCpu::new);
    [("f32", f32), ("f16", f16), ("fast", fast), ("fast, not fused", unfused)]
}

/// A function's inputs, and its expected results by name.
#[derive(Default)]
struct Expected {
    inputs: Vec<(String, Vec<usize>, Vec<f64>)>,
    results: Vec<(String, Vec<f64>)>,
}

impl Expected {
    fn input(&mut self, f: &mut FunctionBuilder<'_>, dims: &[usize], values: &[f64]) -> Var {
        let name = format!("x{}", self.inputs.len());
        let var = f.input(&name, DType::Fp16, dims).unwrap();
        self.inputs.push((name, dims.to_vec(), values.to_vec()));
        var
    }

    fn result(&mut self, f: &mut FunctionBuilder<'_>, var: &Var, values: Vec<f64>) {
        f.output(var);
        self.results.push((var.name().to_owned(), values));
    }

    /// Runs the package in every arithmetic, alone and as one of three sequences.
    fn assert(&self, package: &Package, what: &dyn Fn(usize) -> String) {
        let tensors: Vec<Tensor> = self.inputs.iter().map(|(_, dims, x)| tensor(dims, &floats(x))).collect();
        let names = self.inputs.iter().map(|(name, ..)| name.as_str());
        let named: Vec<(&str, TensorView<'_>)> = names.zip(tensors.iter().map(Tensor::view)).collect();
        for (engine, mil_cpu) in engines() {
            let model = mil_cpu.load(package, &LoadOptions::default()).unwrap();
            let mut states: Vec<State> = (0..3).map(|_| model.new_state()).collect();
            let check = |state: &State, how: &str| {
                for (i, (name, expected)) in self.results.iter().enumerate() {
                    let found = state.outputs()[name].as_f32().unwrap();
                    let same = found.len() == expected.len()
                        && found.iter().zip(expected).all(|(f, e)| f64::from(*f) == *e);
                    assert!(same, "{engine}{how}: {}: {found:?}, expected {expected:?}", what(i));
                }
            };
            model.predict(&named, &mut states[0]).unwrap();
            check(&states[0], "");
            let mut all: Vec<&mut State> = states.iter_mut().collect();
            model.default_function().predict_batch(&[&named, &named, &named], &mut all).unwrap();
            states.iter().for_each(|state| check(state, ", three sequences"));
        }
    }
}

fn floats(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

/// Adds a constant of fp16 values to the program.
fn constant(f: &mut FunctionBuilder<'_>, name: &str, dims: &[usize], values: &[f64]) -> Var {
    let halves: Vec<half::f16> = values.iter().map(|v| half::f16::from_f64(*v)).collect();
    f.value(name, Value::fp16s(dims, &halves)).unwrap()
}

fn ints(values: &[usize]) -> Value {
    Value::ints([values.len()], values.iter().map(|v| *v as i32).collect::<Vec<_>>())
}

/// Operations after the product, which the fast arithmetic fuses with it where possible.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    Nothing,
    Relu,
    Residual,
    Both,
}

/// Adds `relu(y) + residual`, or a part of it.
fn after(
    f: &mut FunctionBuilder<'_>,
    expected: &mut Expected,
    (after, name): (After, &str),
    (y, dims, mut values): (Var, &[usize], Vec<f64>),
    quarters: &mut Quarters,
) {
    let mut y = y;
    if matches!(after, After::Relu | After::Both) {
        y = f.op("relu", &format!("{name}_relu")).arg("x", &y).one().unwrap();
        values.iter_mut().for_each(|v| *v = v.max(0.0));
    }
    if matches!(after, After::Residual | After::Both) {
        let residual = quarters.take(values.len());
        let other = expected.input(f, dims, &residual);
        y = f.op("add", &format!("{name}_sum")).arg("x", &y).arg("y", &other).one().unwrap();
        values.iter_mut().zip(&residual).for_each(|(v, r)| *v += r);
    }
    expected.result(f, &y, values);
}

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

/// Small sizes, often 1.
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

/// A matrix product: `linear`, or `matmul` of two tensors that broadcast.
#[derive(Clone, Debug)]
struct Product {
    outer: Vec<usize>,
    /// Bit masks of the outer axes on which `x` and `y` have size 1.
    ones: (usize, usize),
    /// Number of leading outer axes that `y` lacks.
    lacks: usize,
    rows: usize,
    inner: usize,
    columns: usize,
    transposed: (bool, bool),
    /// Whether `y` is a constant; if so, the product is a `linear` if possible.
    constant: bool,
    bias: bool,
    then: After,
}

fn product() -> impl Strategy<Value = Product> {
    let extent = || prop_oneof![1 => Just(1usize), 2 => 1usize..=9];
    let outer = prop::collection::vec(1usize..=3, 0..=2);
    let thens = prop::sample::select(vec![After::Nothing, After::Relu, After::Residual, After::Both]);
    let shape = (outer, (0usize..4, 0usize..4), 0usize..=2, extent(), extent(), extent());
    (shape, any::<(bool, bool)>(), any::<bool>(), any::<bool>(), thens).prop_map(
        |((outer, ones, lacks, rows, inner, columns), transposed, constant, bias, then)| Product {
            lacks: lacks.min(outer.len()),
            outer,
            ones,
            rows,
            inner,
            columns,
            transposed,
            constant,
            bias,
            then,
        },
    )
}

impl Product {
    fn outer_of(&self, ones: usize, lacks: usize) -> Vec<usize> {
        let one = |(i, d): (usize, &usize)| if (ones >> i) & 1 == 1 { 1 } else { *d };
        self.outer.iter().enumerate().map(one).skip(lacks).collect()
    }

    fn build(&self, f: &mut FunctionBuilder<'_>, expected: &mut Expected, name: &str, q: &mut Quarters) {
        let matrix = |rows, columns, transposed| if transposed { [columns, rows] } else { [rows, columns] };
        if self.constant && self.lacks == self.outer.len() {
            // A linear layer: it multiplies along the last axis of x only.
            let x_dims = [self.outer.as_slice(), &[self.rows, self.inner]].concat();
            let (x, w) = (q.take(x_dims.iter().product()), q.take(self.columns * self.inner));
            let bias = self.bias.then(|| q.take(self.columns));
            let input = expected.input(f, &x_dims, &x);
            let weight = constant(f, &format!("{name}_w"), &[self.columns, self.inner], &w);
            let bias_var = bias.as_ref().map(|b| constant(f, &format!("{name}_b"), &[b.len()], b));
            let mut op = f.op("linear", name).arg("x", &input).arg("weight", &weight);
            if let Some(bias) = &bias_var {
                op = op.arg("bias", bias);
            }
            let y = op.one().unwrap();
            let values = reference::linear(&x, &w, bias.as_deref(), self.inner);
            let dims = [self.outer.as_slice(), &[self.rows, self.columns]].concat();
            return after(f, expected, (self.then, name), (y, &dims, values), q);
        }
        let (x_outer, y_outer) = (self.outer_of(self.ones.0, 0), self.outer_of(self.ones.1, self.lacks));
        let x_dims = [x_outer, matrix(self.rows, self.inner, self.transposed.0).to_vec()].concat();
        let y_dims = [y_outer, matrix(self.inner, self.columns, self.transposed.1).to_vec()].concat();
        let (x, y) = (q.take(x_dims.iter().product()), q.take(y_dims.iter().product()));
        let x_var = expected.input(f, &x_dims, &x);
        let y_var = match self.constant {
            true => constant(f, &format!("{name}_y"), &y_dims, &y),
            false => expected.input(f, &y_dims, &y),
        };
        let op = f.op("matmul", name).arg("x", &x_var).arg("y", &y_var);
        let op = op.value("transpose_x", Value::bool(self.transposed.0));
        let result = op.value("transpose_y", Value::bool(self.transposed.1)).one().unwrap();
        let (dims, values) = reference::matmul((&x, &x_dims), (&y, &y_dims), self.transposed);
        after(f, expected, (self.then, name), (result, &dims, values), q);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn products(cases in prop::collection::vec(product(), 1..24), seed in any::<u64>()) {
        let dir = tempfile::tempdir().unwrap();
        let (mut expected, mut quarters) = (Expected::default(), Quarters::new(seed));
        let package = package(&dir.path().join("p.mlpackage"), |f| {
            for (i, case) in cases.iter().enumerate() {
                case.build(f, &mut expected, &format!("y{i}"), &mut quarters);
            }
            Ok(())
        });
        expected.assert(&package, &|i| format!("{:?}", cases[i]));
    }
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

/// `linear` also accepts integers, which the kernels for floats must not read.
#[test]
fn linear_layers_of_integers() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(&dir.path().join("p.mlpackage"), |f| {
        let x = f.input("x", DType::Int32, [1, 3])?;
        let w = f.value("w", Value::ints([2, 3], [1, -2, 3, 4, 5, -6]))?;
        let b = f.value("b", Value::ints([2], [7, -8]))?;
        let y = f.op("linear", "y").arg("x", &x).arg("weight", &w).arg("bias", &b).one()?;
        f.output(&y);
        Ok(())
    });
    for (engine, mil_cpu) in engines() {
        let model = mil_cpu.load(&package, &LoadOptions::default()).unwrap();
        let mut state = model.new_state();
        let x = TensorView::new(&[1, 3], &[10, 100, 1_000][..]).unwrap();
        let outputs = model.predict(&[("x", x)], &mut state).unwrap();
        // 10 - 200 + 3000 + 7 and 40 + 500 - 6000 - 8.
        assert_eq!(outputs["y"].as_i32().unwrap(), [2_817, -5_468], "{engine}");
    }
}

/// Weights of 8 and 4 bits, which have their own kernels, in cases that look like a single vector but may
/// have strides and padding.
#[test]
fn compressed_weights() {
    const SIZE: usize = 80;
    let q = &mut Quarters::new(9);
    let numbers: Vec<i8> = q.take(SIZE * SIZE).iter().map(|v| (v * 4.0) as i8).collect();
    let weights: Vec<f64> = numbers.iter().map(|n| f64::from(*n) / 4.0).collect();
    let table: Vec<f64> = (0..16).map(|i| f64::from(i - 4) / 4.0).collect();
    let nibbles: Vec<u8> =
        numbers.as_chunks::<2>().0.iter().map(|[a, b]| (a + 4) as u8 | ((b + 4) as u8) << 4).collect();
    for form in ["int8", "lut4"] {
        for (extent, stride, before) in [(1, 1, 0), (2, 2, 0), (1, 2, 1), (1, 2, 0)] {
            let dir = tempfile::tempdir().unwrap();
            let x = q.take(SIZE * extent * extent);
            let package = package(&dir.path().join("p.mlpackage"), |f| {
                let input = f.input("x", DType::Fp16, [1, SIZE, extent, extent])?;
                let weight = match form {
                    "int8" => {
                        let bytes: Vec<u8> = numbers.iter().map(|n| *n as u8).collect();
                        let data = f.blob(TensorType::new(DType::Int8, [SIZE, SIZE, 1, 1]), &bytes)?;
                        let scale = f.blob(
                            TensorType::new(DType::Fp16, [SIZE, 1, 1, 1]),
                            &half::f16::from_f32(0.25).to_le_bytes().repeat(SIZE),
                        )?;
                        let op = f.op("constexpr_blockwise_shift_scale", "w").inline("data", data);
                        op.inline("scale", scale).one()?
                    }
                    _ => {
                        let indices = f.blob(TensorType::new(DType::Uint4, [SIZE, SIZE, 1, 1]), &nibbles)?;
                        let halves: Vec<half::f16> = table.iter().map(|v| half::f16::from_f64(*v)).collect();
                        let lut = f.fp16_array([1, 1, 1, 1, 16, 1], &halves)?;
                        let op = f.op("constexpr_lut_to_dense", "w").inline("indices", indices);
                        op.inline("lut", lut).one()?
                    }
                };
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
