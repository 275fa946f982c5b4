//! Quantized activations and compressed weights.

use super::*;

#[test]
fn quantized() {
    // "clip(round(input / scale) + zero_point)", ties to even, and "scale * (input - zero_point)".
    let x = [("input", &[2, 3][..], F(&[0.5, 1.5, -100.0, 2.5, 1000.0, 0.0]))];
    let eighth = |dtype: &str, zero: Value| {
        [("scale", Value::fp32(1.0)), ("output_dtype", text(dtype)), ("zero_point", zero)]
    };
    let signed = [1.0, 3.0, -99.0, 3.0, 127.0, 1.0];
    gives(SINCE_IOS17, "quantize", &x, &eighth("int8", bytes(Int8, &[], &[1])), &[(&[2, 3], &signed)]);
    let unsigned = [1.0, 3.0, 0.0, 3.0, 255.0, 1.0];
    gives(SINCE_IOS17, "quantize", &x, &eighth("uint8", bytes(Uint8, &[], &[1])), &[(&[2, 3], &unsigned)]);
    let vectors = [
        ("input", bytes(Uint8, &[2, 3], &[1, 2, 3, 4, 5, 6])),
        ("scale", floats(&[0.5, 2.0, 4.0])),
        ("zero_point", bytes(Uint8, &[3], &[0, 1, 2])),
        ("axis", Value::int(-1)),
    ];
    gives(SINCE_IOS17, "dequantize", &[], &vectors, &[(&[2, 3], &[0.5, 2.0, 4.0, 2.0, 8.0, 16.0])]);
}

/// Asserts the results of `constexpr` operations, which `build` adds and which become outputs.
fn weights(
    opsets: &[Opset],
    expected: &[(&[usize], &[f32])],
    build: impl Fn(&mut FunctionBuilder<'_>) -> mlpackage::Result<Vec<Var>>,
) {
    for &opset in opsets {
        let model = model(opset, Numerics::F32, |f| {
            f.input("unused", Fp32, [1])?;
            let results = build(f)?;
            give(f, results)
        });
        let found = predict(&*model, &[("unused".into(), &[1], F(&[0.0]))]).unwrap();
        assert_close(&format!("{opset}"), &found, expected);
    }
}

#[test]
fn affine_weights() {
    // Scales along axis 1. The zero point may be fp32: "ZeroPointT: uint8, int8, fp32".
    for zero in [bytes(Uint8, &[], &[1]), Value::fp32(1.0)] {
        weights(SINCE_IOS16, &[(&[1, 3], &[0.0, 2.0, 8.0])], |f| {
            let op = f.op("constexpr_affine_dequantize", "w");
            let op = op
                .inline("quantized_data", bytes(Uint8, &[1, 3], &[1, 2, 3]))
                .inline("zero_point", zero.clone());
            let op = op.inline("scale", floats(&[1.0, 2.0, 4.0])).inline("axis", Value::int(1));
            Ok(vec![op.one()?])
        });
    }
    weights(SINCE_IOS16, &[(&[2], &[1.5, -2.0])], |f| {
        let half = Value::fp16s([2], &[f16::from_f32(1.5), f16::from_f32(-2.0)]);
        let op = f.op("constexpr_cast", "w").inline("source_val", half).inline("output_dtype", text("fp32"));
        Ok(vec![op.one()?])
    });
    // "output = scale * (data - offset)", with a block of each axis per scale. The offset has the type of
    // data, or any float type.
    for offset in [
        bytes(Int8, &[1, 2], &[1, 2]),
        Value::fp32s([1, 2], [1.0, 2.0]),
        Value::fp16s([1, 2], &[f16::ONE, f16::from_f32(2.0)]),
    ] {
        weights(SINCE_IOS18, &[(&[1, 4], &[0.0, 1.0, 10.0, 20.0])], |f| {
            let op = f
                .op("constexpr_blockwise_shift_scale", "w")
                .inline("data", bytes(Int8, &[1, 4], &[1, 2, 3, 4]));
            let op = op.inline("scale", Value::fp32s([1, 2], [1.0, 10.0])).inline("offset", offset.clone());
            Ok(vec![op.one()?])
        });
    }
}

#[test]
fn weights_from_tables() {
    // n_bits = 2, shape = (5,): "11 is i4, 01 10 11 00 are i3 to i0".
    weights(IOS16_AND_17, &[(&[5], &[10.0, 13.0, 12.0, 11.0, 13.0])], |f| {
        let op =
            f.op("constexpr_lut_to_dense", "w").inline("indices", bytes(Uint8, &[2], &[0b0110_1100, 0b11]));
        let op = op.inline("lut", floats(&[10.0, 11.0, 12.0, 13.0]));
        Ok(vec![op.inline("shape", bytes(Uint32, &[1], &5u32.to_le_bytes())).one()?])
    });
    // Case 1: per-group scalar palettization.
    let lut = Value::fp16s([2, 1, 4, 1], &[1.0, 5.0, 9.0, 13.0, 2.0, 10.0, 18.0, 26.0].map(f16::from_f32));
    let expected = [9.0, 13.0, 13.0, 1.0, 5.0, 1.0, 26.0, 2.0, 18.0, 10.0, 2.0, 26.0];
    weights(SINCE_IOS18, &[(&[6, 2], &expected)], |f| {
        let indices = packed(Uint2, &[6, 2], &[2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3]);
        Ok(vec![
            f.op("constexpr_lut_to_dense", "w")
                .inline("indices", indices)
                .inline("lut", lut.clone())
                .one()?,
        ])
    });
    // Case 2: vectors [1, 2, 3] and [4, 5, 6], along axis 1 and along axis 2.
    let vectors = |axis: i32, dims: &[usize], expected: &[f32]| {
        weights(SINCE_IOS18, &[(dims, expected)], |f| {
            let indices = packed(Uint1, &[2, 2, 2], &[0, 0, 1, 0, 1, 1, 0, 0]);
            let lut = bytes(Int8, &[1, 1, 1, 2, 3], &[1, 2, 3, 4, 5, 6]);
            let op = f.op("constexpr_lut_to_dense", "w").inline("indices", indices).inline("lut", lut);
            Ok(vec![op.inline("vector_axis", Value::int(axis)).one()?])
        });
    };
    let along_1 = [
        1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, //
        4.0, 4.0, 5.0, 5.0, 6.0, 6.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0,
    ];
    vectors(1, &[2, 6, 2], &along_1);
    let along_2 = [
        1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0, //
        4.0, 5.0, 6.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0,
    ];
    vectors(2, &[2, 2, 6], &along_2);
}

/// Packs elements of less than a byte each, the first in the lowest bits.
fn packed(dtype: DType, dims: &[usize], values: &[u8]) -> Value {
    let bits = dtype.bits();
    let mut packed = vec![0u8; (values.len() * bits).div_ceil(8)];
    for (i, value) in values.iter().enumerate() {
        packed[i * bits / 8] |= value << (i * bits % 8);
    }
    bytes(dtype, dims, &packed)
}

#[test]
fn sparse_weights() {
    // "x x x 0 1 1 0 0": elements 2 and 3 of five.
    weights(IOS16_AND_17, &[(&[5], &[0.0, 0.0, 7.0, 8.0, 0.0])], |f| {
        let op = f.op("constexpr_sparse_to_dense", "w").inline("nonzero_data", floats(&[7.0, 8.0]));
        let op = op.inline("mask", bytes(Uint8, &[1], &[0b0000_1100]));
        Ok(vec![op.inline("shape", bytes(Uint32, &[1], &5u32.to_le_bytes())).one()?])
    });
    let dense = |f: &mut FunctionBuilder<'_>, pair: Vec<Var>| {
        let op =
            f.op("constexpr_sparse_to_dense", "dense").arg("mask", &pair[0]).arg("nonzero_data", &pair[1]);
        Ok(vec![op.one()?])
    };
    let mask = || {
        let rows = [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]];
        packed(Uint1, &[4, 6], rows.as_flattened())
    };
    let indices = || packed(Uint1, &[9], &[0, 1, 1, 0, 1, 1, 0, 0, 1]);
    let rows: [[f32; 6]; 4] = [
        [2.0, 3.0, 0.0, 0.0, 0.0, 0.0],
        [3.0, 2.0, 0.0, 0.0, 0.0, 3.0],
        [0.0, 3.0, 2.0, 0.0, 2.0, 0.0],
        [0.0, 0.0, 0.0, 3.0, 0.0, 0.0],
    ];
    // "Scalar Palettization".
    weights(SINCE_IOS18, &[(&[4, 6], rows.as_flattened())], |f| {
        let op = f.op("constexpr_lut_to_sparse", "m").inline("indices_mask", mask());
        let op = op.inline("indices_nonzero_data", indices());
        let lut = Value::fp16s([1, 1, 2, 1], &[2.0, 3.0].map(f16::from_f32));
        let pair = op.inline("lut", lut).many(&["m", "v"])?;
        dense(f, pair)
    });
    // "Vector Palettization" along axis 0: every row twice, the second with ten times the values.
    let both: Vec<[f32; 6]> = rows.iter().flat_map(|row| [*row, row.map(|v| 10.0 * v)]).collect();
    weights(SINCE_IOS18, &[(&[8, 6], both.as_flattened())], |f| {
        let op = f.op("constexpr_lut_to_sparse", "m").inline("indices_mask", mask());
        let op = op.inline("indices_nonzero_data", indices()).inline("vector_axis", Value::int(0));
        let lut = Value::fp16s([1, 1, 2, 2], &[2.0, 20.0, 3.0, 30.0].map(f16::from_f32));
        let pair = op.inline("lut", lut).many(&["m", "v"])?;
        dense(f, pair)
    });
    // The example of constexpr_sparse_blockwise_shift_scale: "[0.9, 1.8, 0.2, 0.4, 0.6, 0.9, 1.2, 0.7, 1.4]".
    let rows: [[f32; 4]; 4] =
        [[0.9, 1.8, 0.0, 0.0], [0.2, 0.4, 0.6, 0.0], [0.0, 0.0, 0.9, 1.2], [0.7, 1.4, 0.0, 0.0]];
    weights(SINCE_IOS18, &[(&[4, 4], rows.as_flattened())], |f| {
        let bits = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]];
        let op = f.op("constexpr_sparse_blockwise_shift_scale", "m");
        let op = op.inline("data_mask", packed(Uint1, &[4, 4], bits.as_flattened()));
        let op = op.inline("nonzero_data", bytes(Int8, &[9], &[10, 11, 3, 4, 5, 6, 7, 8, 9]));
        let op = op.inline("scale", Value::fp32s([1, 4], [0.1, 0.2, 0.3, 0.4]));
        let pair = op.inline("offset", bytes(Int8, &[1, 4], &[1, 2, 3, 4])).many(&["m", "v"])?;
        dense(f, pair)
    });
}
