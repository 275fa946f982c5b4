//! The text of programs, as `Display` writes it.

use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{
    Binding, Block, Function, Literal, NamedType, Operation, Opset, Program, TensorType, Value, ValueData,
    ValueType,
};
use mlpackage::{BlobWriter, DType};

#[test]
fn a_program_is_written_as_core_mls_compiler_writes_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut weights = BlobWriter::create(dir.path().join("weight.bin")).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, &mut weights);
    let x = f.input("x", DType::Fp16, [1, 2]).unwrap();
    let n = f.input("n", DType::Int32, [0; 0]).unwrap();
    let s = f.state("s", DType::Fp16, [1, 2]).unwrap();
    let w = f.weight("w", TensorType::new(DType::Fp16, [1, 2]), &[0; 4]).unwrap();
    let read = f.read_state("read", &s).unwrap();
    let y = f.op("add", "y").arg("x", &x).arg("y", &w).one().unwrap();
    let z = f.op("concat", "z").args("values", &[&y, &read]).value("axis", Value::int(-1)).one().unwrap();
    let m = f.op("add", "m").arg("x", &n).value("y", Value::int(3)).one().unwrap();
    f.output(&z);
    f.output(&m);
    let mut function = f.finish();
    function.attributes.insert("note".into(), Value::string("a \"b\""));
    let mut program = Program::new([("main", function)]);
    program.attributes.insert("version".into(), Value::int(7));
    assert_eq!(
        program.to_string(),
        r#"program(1.0)
[version = int32(7)]
{
    func main<ios18>(tensor<fp16, [1, 2]> x, int32 n, state<tensor<fp16, [1, 2]>> s) [note = string("a \"b\"")] {
            tensor<fp16, [1, 2]> w = const()[name = string("w"), val = tensor<fp16, [1, 2]>(BLOBFILE(path = string("@model_path/weights/weight.bin"), offset = uint64(64)))];
            tensor<fp16, [1, 2]> read = read_state(input = s)[name = string("read")];
            tensor<fp16, [1, 2]> y = add(x = x, y = w)[name = string("y")];
            int32 const_axis_0 = const()[name = string("const_axis_0"), val = int32(-1)];
            bool const_interleave_0 = const()[name = string("const_interleave_0"), val = bool(false)];
            tensor<fp16, [1, 4]> z = concat(axis = const_axis_0, interleave = const_interleave_0, values = (y, read))[name = string("z")];
            int32 const_y_0 = const()[name = string("const_y_0"), val = int32(3)];
            int32 m = add(x = n, y = const_y_0)[name = string("m")];
        } -> (z, m);
}
"#
    );
}

/// Operations of nested blocks are indented by four more spaces.
#[test]
fn nested_blocks_are_indented() {
    let scalar = |name: &str| NamedType {
        name: name.into(),
        ty: ValueType::Tensor(TensorType::new(DType::Bool, [0; 0])),
    };
    let not = |from: &str, to: &str| Operation {
        op: "logical_not".into(),
        inputs: [("x".to_owned(), vec![Binding::Name(from.into())])].into(),
        outputs: vec![scalar(to)],
        blocks: Vec::new(),
        attributes: Default::default(),
    };
    let block = |name: &str| Block {
        inputs: Vec::new(),
        operations: vec![not("p", name)],
        outputs: vec![name.into()],
        attributes: Default::default(),
    };
    let cond = Operation {
        op: "cond".into(),
        inputs: [("pred".to_owned(), vec![Binding::Name("p".into())])].into(),
        outputs: vec![scalar("r")],
        blocks: vec![block("a"), block("b")],
        attributes: Default::default(),
    };
    assert_eq!(
        cond.to_string(),
        "bool r = cond(pred = p)[] () {\n    bool a = logical_not(x = p)[];\n} -> (a) () {\n    bool b = \
         logical_not(x = p)[];\n} -> (b)"
    );
    let function = Function {
        inputs: vec![scalar("p")],
        opset: Opset::CoreML5,
        block: Block { operations: vec![cond], outputs: vec!["r".into()], ..block("unused") },
        attributes: Default::default(),
    };
    let text = Program::new([("main", function)]).to_string();
    let line = "                bool a = logical_not(x = p)[];\n            } -> (a) () {\n";
    assert!(text.contains(line) && text.contains("func main<ios15>(bool p) {\n"), "{text}");
}

#[test]
fn values_are_written_with_their_types() {
    let bytes = |dtype, shape: &[usize], bytes: &[u8]| Value {
        ty: ValueType::Tensor(TensorType::new(dtype, shape)),
        data: ValueData::Immediate(Literal::Bytes(bytes.to_vec())),
    };
    for (value, text) in [
        (Value::int(-3), "int32(-3)"),
        (Value::ints([1], [4]), "tensor<int32, [1]>([4])"),
        (Value::ints([2], [4, -5]), "tensor<int32, [2]>([4, -5])"),
        (Value::bool(true), "bool(true)"),
        (Value::bools([true, false]), "tensor<bool, [2]>([true, false])"),
        (Value::fp32(1.0), "fp32(1.0)"),
        (Value::fp16(-0.5), "fp16(-0.5)"),
        (Value::string("a\nb"), r#"string("a\nb")"#),
        (bytes(DType::Int8, &[2], &[0xff, 1]), "tensor<int8, [2]>([-1, 1])"),
        // As f32 the first would be 4294967296.
        (
            bytes(DType::Uint32, &[2], &[255, 255, 255, 255, 1, 0, 0, 0]),
            "tensor<uint32, [2]>([4294967295, 1])",
        ),
        (bytes(DType::Fp8E4M3Fn, &[2], &[0x38, 0x07]), "tensor<fp8e4m3fn, [2]>([0x38, 0x07])"),
        (
            Value {
                ty: ValueType::Tuple(vec![]),
                data: ValueData::Tuple(vec![Value::int(1), Value::bool(false)]),
            },
            "tuple<>((int32(1), bool(false)))",
        ),
    ] {
        assert_eq!(value.to_string(), text);
        assert_eq!(Binding::Value(value).to_string(), text);
    }
    assert_eq!(Binding::Name("x".into()).to_string(), "x");
}

#[test]
fn constants_are_read_as_integers() {
    let uint8 = Value {
        ty: ValueType::Tensor(TensorType::new(DType::Uint8, [2])),
        data: ValueData::Immediate(Literal::Bytes(vec![0xff, 1])),
    };
    let int8 = Value { ty: ValueType::Tensor(TensorType::new(DType::Int8, [2])), ..uint8.clone() };
    assert_eq!(uint8.to_ints(), Some(vec![255, 1]));
    assert_eq!(int8.to_ints(), Some(vec![-1, 1]));
    assert_eq!(Value::ints([2], [7, -7]).to_ints(), Some(vec![7, -7]));
    assert_eq!(Value::ints([2], [7, -7]).as_ints(), Some(&[7, -7][..]));
    assert_eq!((int8.as_ints(), Value::fp32(1.0).to_ints()), (None, None));
    let ValueData::Immediate(literal) = &int8.data else { panic!("{int8}") };
    assert_eq!(literal.to_f32(int8.tensor_type().unwrap()), Some(vec![-1.0, 1.0]));
}

#[test]
fn kinds_of_element_types() {
    use DType::*;
    let floats = [Fp16, Fp32, Fp64, Bf16, Fp8E4M3Fn, Fp8E5M2];
    let ints =
        [Int4, Int8, Int16, Int32, Int64, Uint1, Uint2, Uint3, Uint4, Uint6, Uint8, Uint16, Uint32, Uint64];
    let neither = [Bool, String];
    assert_eq!(floats.len() + ints.len() + neither.len(), DType::ALL.len());
    assert!(floats.iter().all(|t| t.is_float() && !t.is_int()));
    assert!(ints.iter().all(|t| t.is_int() && !t.is_float()));
    assert!(neither.iter().all(|t| !t.is_int() && !t.is_float() && !t.is_number()));
    let unreadable = [Fp64, Fp8E4M3Fn, Fp8E5M2, Int64, Uint64];
    assert!(floats.iter().chain(&ints).all(|t| t.is_number() != unreadable.contains(t)));
}
