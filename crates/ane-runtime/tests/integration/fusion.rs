//! Fusion of a decoder's layer in the fast arithmetic: which operations are fused, and that the results are
//! correct.

use ane_runtime::{
    Engine as _, Fusion, LoadOptions, MilCpu, Model, ModelFunction, Numerics, State, Tensor, Tensors,
};
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::Value;
use mlpackage::{DType, Package, Result};

use crate::common::attention::{Attended, Attention, projection};
use crate::common::{package, tensor};

const CHANNELS: usize = 96;
const CONTEXT: usize = 8;
const ATTENTION: Attention = Attention { channels: CHANNELS, heads: 4, context: CONTEXT, scale: 0.25 };

/// How a row is normalized.
#[derive(Clone, Copy, Debug)]
enum Norm {
    /// By the root of its mean square.
    Plain,
    /// Multiplied by a constant first.
    Scaled,
    /// Divided by its largest magnitude first.
    Largest,
}

/// How the layer deviates from the pattern.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Twist {
    None,
    /// The updated keys are a result as well.
    KeysReturned,
    /// The squares of the last norm are a result as well.
    SquaresReturned,
    /// The cache of the values is read a second time.
    CacheReadTwice,
}

fn norm(f: &mut FunctionBuilder<'_>, name: &str, x: &Var, form: Norm) -> Result<(Var, Var)> {
    let n = |part: &str| format!("{name}_{part}");
    let reduced = |f: &mut FunctionBuilder<'_>, op: &str, part: &str, x: &Var| {
        let op = f.op(op, &n(part)).arg("x", x).value("axes", Value::ints([1], [1]));
        op.value("keep_dims", Value::bool(true)).one()
    };
    let (row, epsilon) = match form {
        Norm::Plain => (x.clone(), f.value("epsilon", Value::fp16(1e-3))?),
        Norm::Scaled => {
            let row = f.op("mul", &n("row")).arg("x", x).value("y", Value::fp16(0.25)).one()?;
            (row, f.value("epsilon", Value::fp16(1e-4))?)
        }
        Norm::Largest => {
            let floor = f.value("floor", Value::fp16(0.03125))?;
            let magnitude = f.op("abs", &n("abs")).arg("x", x).one()?;
            let largest = reduced(f, "reduce_max", "largest", &magnitude)?;
            let unit = f.op("maximum", &n("unit")).arg("x", &largest).arg("y", &floor).one()?;
            let row = f.op("real_div", &n("row")).arg("x", x).arg("y", &unit).one()?;
            let ratio = f.op("real_div", &n("ratio")).arg("x", &floor).arg("y", &unit).one()?;
            (row, f.op("mul", &n("epsilon")).arg("x", &ratio).arg("y", &ratio).one()?)
        }
    };
    let square = f.op("mul", &n("square")).arg("x", &row).arg("y", &row).one()?;
    let mean = reduced(f, "reduce_mean", "mean", &square)?;
    let sum = f.op("add", &n("sum")).arg("x", &mean).arg("y", &epsilon).one()?;
    let factor = f.op("rsqrt", &n("rsqrt")).arg("x", &sum).one()?;
    Ok((f.op("mul", name).arg("x", &row).arg("y", &factor).one()?, square))
}

fn layer(f: &mut FunctionBuilder<'_>, form: Norm, twist: Twist) -> Result<()> {
    let x = f.input("x", DType::Fp16, [1, CHANNELS, 1, 1])?;
    let masks = ATTENTION.masks(f)?;
    let (normed, _) = norm(f, "before", &x, form)?;
    let Attended { merged, keys, old_values } = ATTENTION.attend(f, &normed, &masks)?;
    if twist == Twist::CacheReadTwice {
        let again = f.op("square", "again").arg("x", &old_values).one()?;
        f.output(&again);
    }
    let out = projection(f, "out", &merged, CHANNELS)?;
    let attended = f.op("add", "attended").arg("x", &x).arg("y", &out).one()?;
    let (normed, squares) = norm(f, "between", &attended, form)?;
    let wide = projection(f, "wide", &normed, 4 * CHANNELS)?;
    let wide = f.op("relu", "relu").arg("x", &wide).one()?;
    let narrow = projection(f, "narrow", &wide, CHANNELS)?;
    let result = f.op("add", "result").arg("x", &attended).arg("y", &narrow).one()?;
    f.output(&result);
    match twist {
        Twist::KeysReturned => f.output(&keys),
        Twist::SquaresReturned => f.output(&squares),
        Twist::None | Twist::CacheReadTwice => {}
    }
    Ok(())
}

/// Builds a package, and returns it with its temporary folder.
fn built(form: Norm, twist: Twist) -> (Package, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (package(&dir.path().join("layer.mlpackage"), |f| layer(f, form, twist)), dir)
}

fn model(package: &Package, numerics: Numerics, threads: usize) -> Box<dyn Model> {
    MilCpu::new(numerics).with_threads(threads).load(package, &LoadOptions::default()).unwrap()
}

/// Returns the inputs of a step, with a write mask of the value `write` at `position`.
fn inputs(position: usize, write: f32) -> [Tensor; 3] {
    ATTENTION.inputs(position, 0, write)
}

fn step<'s>(model: &dyn Model, inputs: &[Tensor; 3], state: &'s mut State) -> &'s Tensors {
    let [x, mask, write] = inputs;
    model.predict(&[("x", x.view()), ("mask", mask.view()), ("write", write.view())], state).unwrap()
}

/// Counts the norms, projections, attentions and all steps of a plan.
fn counts(function: &dyn ModelFunction) -> [usize; 4] {
    let plan = function.plan();
    let of = |what: &str| plan.lines().filter(|line| line.contains(what)).count();
    [of(" = rms_norm("), of(" = projection("), of(" = attention("), of(" = ")]
}

/// Compares every result of the two arithmetics, step by step.
fn assert_the_same(package: &Package, what: &str, write: f32) {
    let exact = model(package, Numerics::F32, 1);
    for threads in [1, 2] {
        let fast = model(package, Numerics::Fast, threads);
        let mut states = [exact.new_state(), fast.new_state()];
        for i in 0..20 {
            let inputs = inputs(i % CONTEXT, write);
            let [exact_state, fast_state] = &mut states;
            let (expected, found) = (step(&*exact, &inputs, exact_state), step(&*fast, &inputs, fast_state));
            for ((name, expected), (_, found)) in expected.iter().zip(found.iter()) {
                let (expected, found) = (expected.as_f32().unwrap(), found.as_f32().unwrap());
                let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                let error = expected.iter().zip(found).fold(0.0f32, |m, (e, f)| m.max((e - f).abs()));
                // The bound of `Numerics::Fast` for fp16 programs.
                assert!(error <= 1e-3 * largest, "{what}, step {i}, {name}: {error} of {largest}");
            }
        }
    }
}

#[test]
fn a_layer_becomes_seven_steps_whatever_form_its_norms_have() {
    for form in [Norm::Plain, Norm::Scaled, Norm::Largest] {
        let (package, _dir) = built(form, Twist::None);
        let fast = model(&package, Numerics::Fast, 2);
        // A norm; the projections to query, key and value as one step; attention; a projection; a norm; two
        // projections.
        assert_eq!(
            counts(fast.default_function()),
            [2, 4, 1, 7],
            "{form:?}:\n{}",
            fast.default_function().plan()
        );
        assert_the_same(&package, &format!("{form:?}"), 1.0);
        // A write mask that is not one-hot is computed correctly as well.
        assert_the_same(&package, &format!("{form:?}, half written"), 0.5);
    }
}

/// A value that another operation reads is not fused away.
#[test]
fn what_is_read_elsewhere_stays() {
    for (twist, norms, attentions) in
        [(Twist::KeysReturned, 2, 0), (Twist::CacheReadTwice, 2, 0), (Twist::SquaresReturned, 1, 1)]
    {
        let (package, _dir) = built(Norm::Largest, twist);
        let fast = model(&package, Numerics::Fast, 2);
        let [norm, projection, attention, _] = counts(fast.default_function());
        assert_eq!([norm, projection, attention], [norms, 4, attentions], "{twist:?}");
        assert_the_same(&package, &format!("{twist:?}"), 1.0);
    }
}

/// Any mask is allowed: a window over the cache, holes in it, positions that are only made less likely.
#[test]
fn any_mask_is_added() {
    let (package, _dir) = built(Norm::Plain, Twist::None);
    let [exact, fast] =
        [(Numerics::F32, 1), (Numerics::Fast, 2)].map(|(n, threads)| model(&package, n, threads));
    let masks: [[f32; CONTEXT]; 6] = [
        [0.0; CONTEXT],
        [-1e4, -1e4, 0.0, 0.0, 0.0, -1e4, -1e4, -1e4],
        [0.0, -1e4, -1e4, 0.0, -1e4, 0.0, -1e4, -1e4],
        [-3.0, 1.0, 0.5, -1e4, -1.0, -2.0, 0.0, 0.25],
        // Every position is masked equally, so all are attended to equally.
        [-1e4; CONTEXT],
        [-1e4, -1e4, -1e4, -1e4, -9_999.0, -1e4, -1e4, -5e3],
    ];
    let mut states = [exact.new_state(), fast.new_state()];
    for i in 0..4 * CONTEXT {
        let [x, _, write] = inputs(i % CONTEXT, 1.0);
        let inputs = [x, tensor(&[1, 1, 1, CONTEXT], &masks[i % masks.len()]), write];
        let [exact_state, fast_state] = &mut states;
        let expected = step(&*exact, &inputs, exact_state)["result"].as_f32().unwrap();
        let found = step(&*fast, &inputs, fast_state)["result"].as_f32().unwrap();
        let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let error = expected.iter().zip(found).fold(0.0f32, |m, (e, f)| m.max((e - f).abs()));
        assert!(error <= 1e-3 * largest, "step {i}: {error} of {largest}");
    }
}

/// Positions before the first and after the last that a mask admits are not read, as [`Numerics::Fast`]
/// documents.
#[test]
fn what_a_mask_leaves_out_is_not_looked_at() {
    let (package, _dir) = built(Norm::Plain, Twist::None);
    let fast = model(&package, Numerics::Fast, 2);
    let mut state = fast.new_state();
    let [_, mask, write] = inputs(5, 1.0);
    let bad = [tensor(&[1, CHANNELS, 1, 1], &[f32::NAN; CHANNELS]), mask, write];
    let spoilt = step(&*fast, &bad, &mut state)["result"].as_f32().unwrap();
    assert!(spoilt.iter().all(|v| v.is_nan()));
    // Position 5 is after the end of the mask at position 3, and before the window that begins at 6.
    let finite = |state: &mut State, inputs: &[Tensor; 3]| {
        step(&*fast, inputs, state)["result"].as_f32().unwrap().iter().all(|v| v.is_finite())
    };
    assert!(finite(&mut state, &inputs(3, 1.0)));
    let [x, _, write] = inputs(6, 1.0);
    let window: Vec<f32> = (0..CONTEXT).map(|i| if i < 6 { -1e4 } else { 0.0 }).collect();
    assert!(finite(&mut state, &[x, tensor(&[1, 1, 1, CONTEXT], &window), write]));
    assert!(!finite(&mut state, &inputs(6, 1.0)));
}

/// A batch of sequences produces the same bits as each sequence alone.
#[test]
fn a_batch_is_the_same() {
    let (package, _dir) = built(Norm::Largest, Twist::None);
    let fast = model(&package, Numerics::Fast, 2);
    let mut alone: Vec<State> = (0..5).map(|_| fast.new_state()).collect();
    let mut together: Vec<State> = (0..5).map(|_| fast.new_state()).collect();
    for i in 0..2 * CONTEXT {
        let given: Vec<[Tensor; 3]> = (0..5).map(|s| inputs((i + s) % CONTEXT, 1.0)).collect();
        let views: Vec<_> = given
            .iter()
            .map(|[x, m, w]| [("x", x.view()), ("mask", m.view()), ("write", w.view())])
            .collect();
        let views: Vec<&[_]> = views.iter().map(|v| v.as_slice()).collect();
        let mut states: Vec<&mut State> = together.iter_mut().collect();
        fast.default_function().predict_batch(&views, &mut states).unwrap();
        for ((given, alone), together) in given.iter().zip(&mut alone).zip(&together) {
            let expected = step(&*fast, given, alone)["result"].clone();
            assert_eq!(together.outputs()["result"], expected);
        }
    }
}

/// With a fusion disabled, its operations remain separate and compute the same.
#[test]
fn a_fusion_can_be_left_out() {
    let (package, _dir) = built(Norm::Largest, Twist::None);
    for (fusion, expected) in
        [(Fusion::Norm, [0, 4, 1]), (Fusion::Projection, [2, 0, 1]), (Fusion::Attention, [2, 4, 0])]
    {
        let engine = MilCpu::new(Numerics::Fast).without(fusion);
        let fast = engine.load(&package, &LoadOptions::default()).unwrap();
        let [norms, projections, attentions, _] = counts(fast.default_function());
        assert_eq!([norms, projections, attentions], expected, "{fusion:?}");
        let whole = model(&package, Numerics::Fast, 1);
        let mut states = [whole.new_state(), fast.new_state()];
        let [a, b] = &mut states;
        for i in 0..CONTEXT {
            let inputs = inputs(i, 1.0);
            let expected = step(&*whole, &inputs, a)["result"].as_f32().unwrap().to_vec();
            let found = step(&*fast, &inputs, b)["result"].as_f32().unwrap();
            let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            assert!(expected.len() == found.len() && largest > 0.0, "{fusion:?}, step {i}: {found:?}");
            // Both are within the bound of `Numerics::Fast`.
            let near = |(e, f): (&f32, &f32)| (e - f).abs() <= 2e-3 * largest;
            assert!(expected.iter().zip(found).all(near), "{fusion:?}, step {i}");
        }
    }
}
