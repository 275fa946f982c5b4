//! Elementwise operations and quantization.

use mlpackage::DType::{Bool, Fp32, Int8, Int32, Uint8};
use mlpackage::mil::Value;

use super::{ALL, SINCE_IOS17, UP_TO_IOS16, floats, used};

#[test]
fn bounds_and_types_of_elementwise_operations() {
    let clip = |alpha: f32, beta: f32| [("alpha", Value::fp32(alpha)), ("beta", Value::fp32(beta))];
    // Since iOS 17: "it uses strict validation to ensure that alpha < beta".
    used("clip", &[("x", Fp32, &[2])], &clip(-1.0, 1.0)).gives(ALL, &["tensor<fp32, [2]>"]);
    used("clip", &[("x", Fp32, &[2])], &clip(1.0, 1.0)).gives(UP_TO_IOS16, &["tensor<fp32, [2]>"]);
    used("clip", &[("x", Fp32, &[2])], &clip(1.0, 1.0)).is_refused(SINCE_IOS17, "expected less than beta");
    // Casts to int8, uint8, int16 and uint16 exist since iOS 17.
    let to = |dtype: &str| [("dtype", Value::string(dtype))];
    used("cast", &[("x", Bool, &[2])], &to("fp16")).gives(ALL, &["tensor<fp16, [2]>"]);
    used("cast", &[("x", Fp32, &[2])], &to("uint8")).gives(SINCE_IOS17, &["tensor<uint8, [2]>"]);
    used("cast", &[("x", Fp32, &[2])], &to("uint8"))
        .is_refused(UP_TO_IOS16, "expected fp16, fp32, int32, bool");
    used("cast", &[("x", Fp32, &[2])], &to("int64")).is_refused(ALL, "dtype is");
    // "The shape of cond, a, and b must be broadcastable."
    let select = [("cond", Bool, &[2, 1][..]), ("a", Fp32, &[3]), ("b", Fp32, &[1])];
    used("select", &select, &[]).gives(ALL, &["tensor<fp32, [2, 3]>"]);
    // An epsilon may have another type than x since iOS 17.
    let half = [("epsilon", Value::fp16(1e-3))];
    used("rsqrt", &[("x", Fp32, &[2])], &half).gives(SINCE_IOS17, &["tensor<fp32, [2]>"]);
    used("rsqrt", &[("x", Fp32, &[2])], &half).is_refused(UP_TO_IOS16, "expected one type");
    // A norm's other parameters have one type; coremltools writes the default epsilon as fp32 even if they
    // are fp16.
    let half = Value::fp16s([2], &[half::f16::ONE; 2]);
    let norm = |gamma: Value| [("gamma", gamma), ("beta", half.clone()), ("epsilon", Value::fp32(1e-5))];
    let image = [("x", Fp32, &[1, 2, 3][..])];
    used("instance_norm", &image, &norm(half.clone())).gives(SINCE_IOS17, &["tensor<fp32, [1, 2, 3]>"]);
    used("instance_norm", &image, &norm(floats(&[1.0; 2]))).is_refused(SINCE_IOS17, "expected one type");
    used("instance_norm", &image, &norm(half.clone())).is_refused(UP_TO_IOS16, "expected one type");
    let xor = [("x", Bool, &[2][..]), ("y", Bool, &[2])];
    used("logical_xor", &xor, &[]).gives(ALL, &["tensor<bool, [2]>"]);
    let add = [("x", Int32, &[2, 1][..]), ("y", Int32, &[3])];
    used("add", &add, &[]).gives(ALL, &["tensor<int32, [2, 3]>"]);
    used("less", &add, &[]).gives(ALL, &["tensor<bool, [2, 3]>"]);
}

#[test]
fn scales_and_zero_points() {
    let quantize = |constants: &[(&'static str, Value)], expected: Result<(), &str>| {
        let mut all = vec![("output_dtype", Value::string("int8"))];
        all.extend_from_slice(constants);
        let inputs = [("input", Fp32, &[2, 3, 4, 5][..])];
        let quantize = used("quantize", &inputs, &all);
        match expected {
            Ok(()) => quantize.gives(SINCE_IOS17, &["tensor<int8, [2, 3, 4, 5]>"]),
            Err(words) => quantize.is_refused(SINCE_IOS17, words),
        }
    };
    let int8 = |values: Vec<i8>, dims: &[usize]| {
        let bytes: Vec<u8> = values.into_iter().map(|v| v as u8).collect();
        Value::immediate(Int8, dims, mlpackage::mil::Literal::Bytes(bytes))
    };
    let (axis, vector) = (("axis", Value::int(1)), ("scale", floats(&[1.0, 2.0, 3.0])));
    let scalar = ("scale", Value::fp32(0.5));
    // "If scale is a vector, then scale.size needs to be equal to input.shape[axis]; that is, equal to 3."
    quantize(&[vector.clone(), axis.clone()], Ok(()));
    quantize(&[("scale", floats(&[1.0, 2.0])), axis.clone()], Err("one element for each index of axis"));
    quantize(std::slice::from_ref(&vector), Err("axis is missing"));
    quantize(std::slice::from_ref(&scalar), Ok(()));
    quantize(&[scalar.clone(), axis.clone()], Err("axis is bound, but scale is a scalar"));
    // "The zero_point follows similar broadcasting rules and size constraints as scale"; output_dtype matches it.
    quantize(&[vector.clone(), axis.clone(), ("zero_point", int8(vec![1, 2, 3], &[3]))], Ok(()));
    quantize(&[vector, axis, ("zero_point", int8(vec![1], &[]))], Err("expected a vector, like scale"));
    quantize(&[scalar.clone(), ("zero_point", int8(vec![1], &[1]))], Err("expected a scalar, like scale"));
    let uint8 = Value::immediate(Uint8, [0usize; 0], mlpackage::mil::Literal::Bytes(vec![1]));
    quantize(&[scalar, ("zero_point", uint8)], Err("zero_point is uint8, expected int8"));
}
