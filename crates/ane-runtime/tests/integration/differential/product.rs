//! Matrix products: `linear` and `matmul`.

use ane_runtime::{Engine as _, LoadOptions, TensorView};
use mlpackage::DType;
use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::Value;
use proptest::prelude::*;

use super::{After, Expected, after, constant, engines};
use crate::common::package;
use crate::reference::{self, Quarters};

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
