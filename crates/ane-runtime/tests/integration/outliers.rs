//! Activations with outliers, as in language models, with weights of 8 bits: `fast` must lose no more than
//! fp16 does.

use ane_runtime::{Engine as _, LoadOptions, MilCpu, Model, Numerics, State, Tensor};
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::{TensorType, Value};
use mlpackage::{DType, Package, Result};

use crate::common::{package, tensor};

/// The operation that multiplies, and the operations after it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Linear,
    Conv,
    /// With ReLU and a residual.
    Whole,
    /// Three products of one vector, which are fused into one step.
    Group,
}

/// A vector, and the integer matrices that multiply it.
struct Case {
    form: Form,
    x: Vec<f32>,
    matrices: Vec<Vec<i8>>,
    scales: Vec<f32>,
}

const ROWS: usize = 24;

/// Returns random fp16 values from -1 to 1, without a pattern that could favor a kernel.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        half::f16::from_f32((state >> 40) as f32 / (1 << 23) as f32 - 1.0).to_f32()
    };
    (0..len).map(|_| next()).collect()
}

impl Case {
    /// Creates `len` elements of up to 1, with these outliers. The weights at the outliers are `at_outliers`:
    /// 0, so that only the other elements count, or small.
    fn new(form: Form, len: usize, outliers: &[(usize, f32)], at_outliers: i8) -> Self {
        let mut x = noise(len, 1);
        let count = if form == Form::Group { 3 } else { 1 };
        let matrix = |seed| {
            let mut numbers: Vec<i8> = noise(ROWS * len, seed).iter().map(|v| (v * 127.0) as i8).collect();
            for row in numbers.chunks_mut(len) {
                outliers.iter().for_each(|(at, _)| row[*at] = at_outliers);
            }
            numbers
        };
        let matrices = (0..count).map(|i| matrix(i + 10)).collect();
        outliers.iter().for_each(|(at, value)| x[*at] = *value);
        // Powers of two make every weight exact in fp16, so all differences come from the activations.
        let scales = (0..ROWS).map(|i| 2f32.powi(-9 - (i % 3) as i32)).collect();
        Self { form, x, matrices, scales }
    }

    /// Computes the results in double precision.
    fn expected(&self) -> Vec<f64> {
        let of = |matrix: &Vec<i8>| -> Vec<f64> {
            let rows = matrix.chunks(self.x.len()).zip(&self.scales);
            let row = |(row, scale): (&[i8], &f32)| {
                let products = row.iter().zip(&self.x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                f64::from(*scale) * products.sum::<f64>()
            };
            let rows = rows.map(row);
            match self.form {
                Form::Whole => rows.map(|v| v.max(0.0) + 0.5).collect(),
                _ => rows.collect(),
            }
        };
        self.matrices.iter().flat_map(of).collect()
    }

    fn build(&self, f: &mut FunctionBuilder<'_>) -> Result<()> {
        let len = self.x.len();
        let conv = self.form == Form::Conv || self.form == Form::Whole;
        let axes: &[usize] = if conv { &[1, 1] } else { &[] };
        let x = f.input("x", DType::Fp16, [&[1, len], axes].concat())?;
        for (i, matrix) in self.matrices.iter().enumerate() {
            let bytes: Vec<u8> = matrix.iter().map(|w| *w as u8).collect();
            let scales: Vec<u8> =
                self.scales.iter().flat_map(|s| half::f16::from_f32(*s).to_le_bytes()).collect();
            let data = f.blob(TensorType::new(DType::Int8, [&[ROWS, len], axes].concat()), &bytes)?;
            let scale = f.blob(TensorType::new(DType::Fp16, [&[ROWS, 1], axes].concat()), &scales)?;
            let weight = f.op("constexpr_blockwise_shift_scale", &format!("weight_{i}"));
            let weight = weight.inline("data", data).inline("scale", scale).one()?;
            let op = if conv { "conv" } else { "linear" };
            let product = f.op(op, &format!("product_{i}")).arg("x", &x).arg("weight", &weight).one()?;
            let result = if self.form == Form::Whole { with_more(f, &product)? } else { product };
            f.output(&result);
        }
        Ok(())
    }

    fn package(&self) -> (Package, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (package(&dir.path().join("p.mlpackage"), |f| self.build(f)), dir)
    }

    fn input(&self) -> Tensor {
        let axes: &[usize] = if matches!(self.form, Form::Conv | Form::Whole) { &[1, 1] } else { &[] };
        tensor(&[&[1, self.x.len()], axes].concat(), &self.x)
    }
}

fn with_more(f: &mut FunctionBuilder<'_>, product: &Var) -> Result<Var> {
    let relu = f.op("relu", "relu").arg("x", product).one()?;
    let residual = f.value("residual", Value::fp16(0.5))?;
    f.op("add", "result").arg("x", &relu).arg("y", &residual).one()
}

fn load(package: &Package, numerics: Numerics) -> Box<dyn Model> {
    MilCpu::new(numerics).with_threads(2).load(package, &LoadOptions::default()).unwrap()
}

fn results(model: &dyn Model, x: &Tensor, state: &mut State) -> Vec<f32> {
    let outputs = model.predict(&[("x", x.view())], state).unwrap();
    outputs.iter().flat_map(|(_, tensor)| tensor.as_f32().unwrap().to_vec()).collect()
}

/// Returns the largest error, relative to the largest magnitude.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(largest > 0.0);
    found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).abs() / largest).fold(0.0, f64::max)
}

/// Returns positions of outliers: one and several, small and huge, in one block of 1,024 elements and in all
/// of them.
fn places() -> Vec<(usize, Vec<(usize, f32)>)> {
    let every = |step: usize, value: f32, len: usize| (0..len).step_by(step).map(|at| (at, value)).collect();
    vec![
        (256, vec![]),
        (256, vec![(17, 300.0)]),
        (256, vec![(17, 30_000.0)]),
        (256, vec![(0, -65_504.0), (255, 12.0), (100, 900.0)]),
        (1_500, vec![(3, 300.0), (1_499, -30_000.0)]),
        (2_500, vec![(1, 30_000.0), (1_024, -500.0), (2_047, 64.0), (2_499, 4_000.0)]),
        (2_048, every(5, 2_000.0, 2_048)),
        (40, every(3, 60_000.0, 40)),
    ]
}

/// The error of `fast` is at most 2^-11 of the largest result, which is what fp16 loses when it rounds a result.
#[test]
fn fast_loses_no_more_than_fp16() {
    for form in [Form::Linear, Form::Conv, Form::Whole, Form::Group] {
        for (len, outliers) in places() {
            for at_outliers in [0, 1] {
                let case = Case::new(form, len, &outliers, at_outliers);
                let (package, _dir) = case.package();
                let fast = load(&package, Numerics::Fast);
                let plan = fast.default_function().plan();
                assert_eq!(plan.matches(" = projection(").count(), 1, "{form:?}:\n{plan}");
                let [of_fast, of_f16] = [Numerics::Fast, Numerics::F16].map(|numerics| {
                    let model = load(&package, numerics);
                    let found = results(&*model, &case.input(), &mut model.new_state());
                    error(&found, &case.expected())
                });
                let what =
                    format!("{form:?}, {len} elements, {outliers:?}: fast {of_fast:.2e}, f16 {of_f16:.2e}");
                assert!(of_fast <= 2f64.powi(-11) && of_fast <= 4e-3, "{what}");
            }
        }
    }
}

/// A batch of sequences with and without outliers produces the same bits as each sequence alone.
#[test]
fn a_batch_is_the_same() {
    let case = Case::new(Form::Group, 2_500, &[(1, 30_000.0), (1_024, -500.0)], 1);
    let (package, _dir) = case.package();
    let model = load(&package, Numerics::Fast);
    let given: Vec<Tensor> = (0..7)
        .map(|i| {
            let mut x = noise(2_500, i as u64);
            (0..i).for_each(|k| x[(k * 997) % 2_500] = 10f32.powi(k as i32 - 1));
            tensor(&[1, 2_500], &x)
        })
        .collect();
    let views: Vec<_> = given.iter().map(|x| [("x", x.view())]).collect();
    let views: Vec<&[_]> = views.iter().map(|v| v.as_slice()).collect();
    let mut states: Vec<State> = given.iter().map(|_| model.new_state()).collect();
    let mut together: Vec<&mut State> = states.iter_mut().collect();
    model.default_function().predict_batch(&views, &mut together).unwrap();
    for (x, state) in given.iter().zip(&states) {
        let together: Vec<f32> =
            state.outputs().iter().flat_map(|(_, tensor)| tensor.as_f32().unwrap().to_vec()).collect();
        assert_eq!(together, results(&*model, x, &mut model.new_state()));
    }
}
