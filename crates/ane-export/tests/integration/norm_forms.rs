//! The forms of RMSNorm, executed with every fp16 result rounded to fp16: shows where they fail, and that the
//! default does not.
//!
//! Rows are laid out along the last axis, so one call normalizes all of them.

use ane_export::{NormForm, rms_norm};
use ane_runtime::{Engine as _, LoadOptions, MilCpu, Model, Numerics, Tensor};
use half::f16;
use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Dim, Opset, Program};
use mlpackage::{DType, Metadata, Package, PackageWriter};
use proptest::prelude::*;

/// microGPT's epsilon.
const EPS: f32 = 1e-5;

/// Loads a package with one norm of `d` channels over `rows` rows, with f16 numerics.
fn norm(form: NormForm, d: usize, rows: usize) -> Box<dyn Model> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("norm.mlpackage");
    let mut writer = PackageWriter::create(&path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let x = f.input("x", DType::Fp16, [1, d, 1, rows]).unwrap();
    let y = rms_norm(&mut f, "y", &x, EPS, form).unwrap();
    f.output(&y);
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
    let package = Package::open(&path).unwrap();
    MilCpu::new(Numerics::F16).load(&package, &LoadOptions::default()).unwrap()
}

/// Normalizes rows of `d` elements each.
fn run(model: &dyn Model, rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let (d, n) = (rows[0].len(), rows.len());
    let x: Vec<f32> = (0..d).flat_map(|c| rows.iter().map(move |row| row[c])).collect();
    let x = Tensor::new([1, d, 1, n], x).unwrap();
    let mut state = model.new_state();
    let y = model.predict(&[("x", x.view())], &mut state).unwrap()["y"].as_f32().unwrap();
    (0..n).map(|row| (0..d).map(|c| y[c * n + row]).collect()).collect()
}

/// Normalizes a row of equal elements and returns its first element.
fn constant(form: NormForm, d: usize, x: f32) -> f32 {
    run(norm(form, d, 1).as_ref(), &[vec![x; d]])[0][0]
}

/// Returns the norm in f64 of a row that is rounded to fp16.
fn exact(row: &[f32]) -> Vec<f64> {
    let row: Vec<f64> = row.iter().map(|&v| f64::from(f16::from_f32(v).to_f32())).collect();
    let mean = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
    row.iter().map(|v| v / (mean + f64::from(EPS)).sqrt()).collect()
}

#[test]
fn all_forms_agree_on_ordinary_activations() {
    // x = 2: 2 / sqrt(4 + 1e-5) = 0.99999875, which rounds to 1 in fp16.
    for form in NormForm::ALL {
        let y = constant(*form, 512, 2.0);
        assert!((y - 1.0).abs() <= 2e-3, "{form}: {y}");
    }
}

#[test]
fn plain_overflows_where_safe_does_not() {
    // 300^2 = 90000 is beyond fp16's 65504: the mean is inf, its rsqrt is 0, and so is every result.
    assert_eq!(constant(NormForm::Plain, 512, 300.0), 0.0);
    // It has sqrt(512) = 22.6 times the headroom: 300 / 22.6 = 13.3.
    let safe = constant(NormForm::Safe, 512, 300.0);
    assert!((safe - 1.0).abs() <= 2e-3, "{safe}");
    let default = constant(NormForm::default(), 512, 300.0);
    assert!((default - 1.0).abs() <= 2e-3, "{default}");
}

#[test]
fn safe_gives_nan_on_a_row_of_zeros_and_the_default_gives_zero() {
    // eps / 512 = 1.95e-8 is less than half of fp16's smallest number, 5.96e-8, so it rounds to 0; rsqrt(0)
    // is inf, and 0 * inf is NaN.
    assert!(constant(NormForm::Safe, 512, 0.0).is_nan());
    assert_eq!(constant(NormForm::Plain, 512, 0.0), 0.0);
    assert_eq!(constant(NormForm::default(), 512, 0.0), 0.0);
    // With 16 channels it is 6.25e-7, which fp16 can represent: the trap opens with the width.
    assert_eq!(constant(NormForm::Safe, 16, 0.0), 0.0);
}

#[test]
fn safe_loses_small_activations_and_the_default_does_not() {
    // x = 0.01: exactly 0.01 / sqrt(1e-4 + 1e-5) = 0.95346.
    let exact = 0.953_46;
    // (0.01 / 22.6)^2 = 1.95e-7 rounds to three of fp16's smallest units, 1.79e-7, and the epsilon is lost:
    // 1.044.
    let safe = constant(NormForm::Safe, 512, 0.01);
    assert!((safe - 1.044).abs() < 0.01, "{safe}");
    let default = constant(NormForm::default(), 512, 0.01);
    assert!((default - exact).abs() <= 2e-3, "{default}");
}

#[test]
fn plain_keeps_an_epsilon_that_is_smaller_than_its_squares_can_be() {
    // x = 1e-4: x^2 = 1e-8 underflows to 0 in fp16; the epsilon of 1e-5 remains and dominates.
    let exact = 1e-4 / (1e-8f64 + 1e-5).sqrt();
    for form in [NormForm::Plain, NormForm::default()] {
        let y = f64::from(constant(form, 512, 1e-4));
        assert!((y / exact - 1.0).abs() < 4e-3, "{form}: {y} against {exact}");
    }
}

#[test]
fn the_default_survives_the_largest_numbers_of_fp16() {
    let y = constant(NormForm::default(), 512, 65_504.0);
    assert!((y - 1.0).abs() <= 2e-3, "{y}");
    // With one outlier, its result is sqrt(512) = 22.627, and the rest is 0.
    let mut row = vec![0.0; 512];
    row[7] = -65_504.0;
    let y = &run(norm(NormForm::default(), 512, 1).as_ref(), &[row])[0];
    assert!((y[7] + 22.627).abs() <= 0.02, "{}", y[7]);
    assert_eq!(y[8], 0.0);
}

/// The error bound of the default form. Eight intermediate results are rounded to fp16, each by at most 2^-11
/// of its value; those under the root count half. That adds up to 2.5e-3 of the row's largest result. The
/// test below prints the largest error seen.
const BOUND: f64 = 2.5e-3;

/// Returns the largest error of a row, relative to the row's largest exact result.
fn error(got: &[f32], row: &[f32]) -> f64 {
    let exact = exact(row);
    let largest = exact.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    got.iter()
        .zip(&exact)
        .map(|(&g, e)| (f64::from(g) - e).abs() / largest)
        .fold(0.0, |m, e| if e.is_nan() { e } else { m.max(e) })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    /// Rows of any shape with an rms from 1e-4 to 2e3.
    #[test]
    fn the_default_is_exact_to_fp16_over_the_whole_range(
        shape in prop::collection::vec(-1.0f32..1.0, 64),
        log_rms in -4.0f32..3.301,
    ) {
        let rms = (shape.iter().map(|v| v * v).sum::<f32>() / 64.0).sqrt();
        prop_assume!(rms > 1e-3);
        let row: Vec<f32> = shape.iter().map(|v| v / rms * 10f32.powf(log_rms)).collect();
        let got = run(norm(NormForm::default(), 64, 1).as_ref(), std::slice::from_ref(&row));
        let error = error(&got[0], &row);
        prop_assert!(error <= BOUND, "rms {}: {error:.2e}", 10f32.powf(log_rms));
    }
}

/// A row with one element, which the property above once failed for.
#[test]
fn the_default_is_exact_for_a_row_of_one_element() {
    let row = [[0.0; 63].as_slice(), &[8.0]].concat();
    let got = run(norm(NormForm::default(), 64, 1).as_ref(), std::slice::from_ref(&row));
    let error = error(&got[0], &row);
    assert!(error <= BOUND, "{error:.2e}");
}

/// A sweep at the width of the scaled model; `--nocapture` prints the largest errors that the documentation
/// quotes.
#[test]
fn largest_errors_over_rms_from_1e_4_to_2e3() {
    let (d, n) = (512, 148);
    // A sine whose period does not divide the width: a smooth row with changing signs.
    let rows: Vec<Vec<f32>> = (0..n)
        .map(|i| {
            let rms = 10f64.powf(-4.0 + 7.301 * i as f64 / (n - 1) as f64);
            (0..d).map(|c| (rms * 2f64.sqrt() * (c as f64 * 0.7 + i as f64).sin()) as f32).collect()
        })
        .collect();
    for form in NormForm::ALL {
        let got = run(norm(*form, d, n).as_ref(), &rows);
        let errors: Vec<f64> = got.iter().zip(&rows).map(|(g, r)| error(g, r)).collect();
        let worst = errors
            .iter()
            .copied()
            .fold(0.0, |m: f64, e| if e.is_nan() || m.is_nan() { f64::NAN } else { m.max(e) });
        let lost = errors.iter().filter(|e| e.is_nan() || **e > BOUND).count();
        println!("{form}: largest error {worst:.2e}, {lost} of {n} rows beyond {BOUND:.1e}");
        match form {
            NormForm::MaxScaled => assert!(worst <= BOUND, "{worst}"),
            // The traps are real: both other forms lose rows at one end of the range.
            _ => assert!(lost > n / 10, "{form}: {lost}"),
        }
    }
}

/// The form `safe` divides by the number of channels while the program is built.
#[test]
fn safe_needs_a_fixed_number_of_channels() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = PackageWriter::create(dir.path().join("norm.mlpackage")).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let row = f.input("row", DType::Fp16, [4]).unwrap();
    let open = f.input("open", DType::Fp16, vec![Dim::Known(1), Dim::Unknown]).unwrap();
    for (x, ty) in [(&row, "tensor<fp16, [4]>"), (&open, "tensor<fp16, [1, ?]>")] {
        let error = rms_norm(&mut f, "y", x, EPS, NormForm::Safe).unwrap_err().to_string();
        assert!(error.contains(&format!("x is {ty}, expected an axis 1 of fixed size")), "{error}");
    }
}
