"""Translates an ML Program to ONNX, so that onnxruntime can compute the same as the package.

The translation shares nothing with the Rust crates: it reads the program with coremltools' protobuf classes and the weights with
coremltools' reader of weight files. It supports the operations of the packages in `packages.txt`, and refuses every other one by
name. As in `microgpt run --numerics f32`, fp16 values are computed in fp32, and only a cast to fp16 rounds.
"""

from pathlib import Path

import numpy as np
import onnx
from coremltools.libmilstoragepython import _BlobStorageReader as BlobReader
from coremltools.proto import MIL_pb2, Model_pb2
from onnx import TensorProto, helper, numpy_helper

DTYPES = {
    MIL_pb2.FLOAT16: np.float16,
    MIL_pb2.FLOAT32: np.float32,
    MIL_pb2.INT32: np.int32,
    MIL_pb2.BOOL: np.bool_,
}
BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "real_div": "Div", "pow": "Pow", "greater_equal": "GreaterOrEqual"}
UNARY = {"relu": "Relu", "sigmoid": "Sigmoid", "sqrt": "Sqrt"}
REDUCE = {"reduce_sum": "ReduceSum", "reduce_mean": "ReduceMean", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
# The names of a pool's and a convolution's padding modes in ONNX.
AUTO_PAD = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER"}
PAD_MODE = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def spec(package: Path) -> Model_pb2.Model:
    """The model specification of a package."""
    model = Model_pb2.Model()
    model.ParseFromString((package / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    return model


def translate(package: Path, rounded: bool = False) -> onnx.ModelProto:
    """The only function of `package` as an ONNX model with the same names of inputs and outputs.

    With `rounded`, every fp16 result of the package is rounded to fp16; the difference from the model without it is the
    error of fp16.
    """
    model = spec(package)
    (function,) = model.mlProgram.functions.values()
    block = function.block_specializations[function.opset]
    translation = Translation(package / "Data/com.apple.CoreML")
    for value in function.inputs:
        translation.shapes[value.name] = dimensions(value.type)
    for operation in block.operations:
        translation.add(operation)
        (out,) = operation.outputs
        if rounded and operation.type != "const" and out.type.tensorType.dataType == MIL_pb2.FLOAT16:
            translation.round(out.name)
    inputs = [translation.declare(value.name) for value in function.inputs]
    outputs = [translation.declare(name) for name in block.outputs]
    graph = helper.make_graph(translation.nodes, "main", inputs, outputs, translation.initializers)
    result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(result)
    return result


class Translation:
    """The ONNX nodes and constants made so far."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.shapes: dict[str, list[int]] = {}
        self.constants: dict[str, np.ndarray | str] = {}

    def declare(self, name: str) -> onnx.ValueInfoProto:
        shape = [extent or f"{name}_{axis}" for axis, extent in enumerate(self.shapes[name])]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def value(self, value) -> np.ndarray | str:
        """The contents of a constant."""
        tensor = value.type.tensorType
        shape = dimensions(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            path = self.folder / value.blobFileValue.fileName.removeprefix("@model_path/")
            reader = BlobReader(str(path))
            offset = value.blobFileValue.offset
            if tensor.dataType == MIL_pb2.FLOAT16:
                data = np.array(reader.read_fp16_data(offset), np.uint16).view(np.float16)
            else:
                data = np.array(reader.read_float_data(offset), np.float32)
            return data.reshape(shape)
        field = value.immediateValue.tensor.WhichOneof("value")
        held = getattr(value.immediateValue.tensor, field)
        if field == "strings":
            return held.values[0]
        if field == "bytes":
            return np.frombuffer(held.values, DTYPES[tensor.dataType]).reshape(shape)
        return np.array(list(held.values), DTYPES[tensor.dataType]).reshape(shape)

    def constant(self, array) -> str:
        """Adds an ONNX constant and returns its name; floats of every width become fp32, integers int64."""
        array = np.asarray(array)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        elif array.dtype.kind == "i":
            array = array.astype(np.int64)
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str | None = None, **attributes) -> str:
        output = output or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def round(self, name: str) -> None:
        """Rounds the last node's result to fp16 and names it `name`."""
        exact = f"{name}_exact"
        self.nodes[-1].output[0] = exact
        self.node("Cast", [self.node("Cast", [exact], to=TensorProto.FLOAT16)], name, to=TensorProto.FLOAT)

    def add(self, operation) -> None:
        (out,) = operation.outputs
        self.shapes[out.name] = dimensions(out.type)
        if operation.type == "const":
            self.constants[out.name] = self.value(operation.attributes["val"])
            return
        arguments = Arguments(self, operation)
        kind = operation.type
        if kind in BINARY:
            self.node(BINARY[kind], [arguments.tensor("x"), arguments.tensor("y")], out.name)
        elif kind in UNARY:
            self.node(UNARY[kind], [arguments.tensor("x")], out.name)
        elif kind in REDUCE:
            axes = self.constant(arguments.ints("axes"))
            self.node(REDUCE[kind], [arguments.tensor("x"), axes], out.name, keepdims=int(arguments.flag("keep_dims", False)))
        elif (translate := getattr(self, kind, None)) is not None:
            translate(arguments, out.name)
        else:
            raise SystemExit(f"{self.folder.parent.parent}: operation {kind} -> {out.name} has no translation to ONNX")

    def cast(self, a, out):
        if a.text("dtype", "") == "fp16":
            half = self.node("Cast", [a.tensor("x")], to=TensorProto.FLOAT16)
            self.node("Cast", [half], out, to=TensorProto.FLOAT)
        else:
            assert a.text("dtype", "") == "fp32", "only casts between fp16 and fp32 have a translation"
            self.node("Identity", [a.tensor("x")], out)

    def select(self, a, out):
        self.node("Where", [a.tensor("cond"), a.tensor("a"), a.tensor("b")], out)

    def silu(self, a, out):
        self.node("Mul", [a.tensor("x"), self.node("Sigmoid", [a.tensor("x")])], out)

    def log(self, a, out):
        shifted = self.node("Add", [a.tensor("x"), self.constant(np.float32(a.number("epsilon", 1e-45)))])
        self.node("Log", [shifted], out)

    def clip(self, a, out):
        limits = [self.constant(np.float32(a.number(name))) for name in ("alpha", "beta")]
        self.node("Clip", [a.tensor("x"), *limits], out)

    def transpose(self, a, out):
        self.node("Transpose", [a.tensor("x")], out, perm=a.ints("perm"))

    def reshape(self, a, out):
        self.node("Reshape", [a.tensor("x"), self.constant(np.array(a.ints("shape")))], out)

    def expand_dims(self, a, out):
        self.node("Unsqueeze", [a.tensor("x"), self.constant(np.array(a.ints("axes")))], out)

    def stack(self, a, out):
        axis = a.ints("axis")[0]
        axes = self.constant(np.array([axis]))
        values = [self.node("Unsqueeze", [value, axes]) for value in a.tensors("values")]
        self.node("Concat", values, out, axis=axis)

    def concat(self, a, out):
        assert not a.flag("interleave", False), "interleave has no translation"
        self.node("Concat", a.tensors("values"), out, axis=a.ints("axis")[0])

    def pad(self, a, out):
        mode, pairs = a.text("mode", "constant"), np.array(a.ints("pad")).reshape(-1, 2)
        whole = np.zeros((len(a.shape("x")), 2), np.int64)
        whole[len(whole) - len(pairs) :] = pairs
        value = [self.constant(np.float32(a.number("constant_val", 0)))] if mode == "constant" else []
        self.node("Pad", [a.tensor("x"), self.constant(whole.T.reshape(-1)), *value], out, mode=PAD_MODE[mode])

    def windows(self, a, spatial: int) -> dict:
        kind = a.text("pad_type", "valid")
        if kind in AUTO_PAD:
            return {"auto_pad": AUTO_PAD[kind]}
        pairs = np.array(a.ints("pad") if kind == "custom" else [0] * (2 * spatial)).reshape(-1, 2)
        return {"pads": pairs.T.reshape(-1).tolist()}

    def conv(self, a, out):
        spatial = len(a.shape("x")) - 2
        ones = [1] * spatial
        given = [a.tensor(name) for name in ("x", "weight", "bias") if a.has(name)]
        self.node(
            "Conv", given, out, strides=a.ints("strides", ones), dilations=a.ints("dilations", ones),
            group=a.ints("groups", [1])[0], **self.windows(a, spatial),
        )  # fmt: skip

    def max_pool(self, a, out):
        kernel = a.ints("kernel_sizes")
        self.node(
            "MaxPool", [a.tensor("x")], out, kernel_shape=kernel, strides=a.ints("strides", [1] * len(kernel)),
            ceil_mode=int(a.flag("ceil_mode", False)), **self.windows(a, len(kernel)),
        )  # fmt: skip

    def linear(self, a, out):
        transposed = self.node("Transpose", [a.tensor("weight")], perm=[1, 0])
        if a.has("bias"):
            self.node("Add", [self.node("MatMul", [a.tensor("x"), transposed]), a.tensor("bias")], out)
        else:
            self.node("MatMul", [a.tensor("x"), transposed], out)

    def batch_norm(self, a, out):
        mean = a.constant("mean")
        gamma = a.constant("gamma") if a.has("gamma") else np.ones_like(mean)
        beta = a.constant("beta") if a.has("beta") else np.zeros_like(mean)
        constants = [self.constant(v) for v in (gamma, beta, mean, a.constant("variance"))]
        self.node("BatchNormalization", [a.tensor("x"), *constants], out, epsilon=a.number("epsilon", 1e-5))

    def pixel_shuffle(self, a, out):
        self.node("DepthToSpace", [a.tensor("x")], out, blocksize=a.ints("upscale_factor")[0], mode="CRD")

    def upsample_bilinear(self, a, out):
        scales = [1, 1, a.number("scale_factor_height", 1), a.number("scale_factor_width", 1)]
        corners = "align_corners" if a.flag("align_corners", True) else "half_pixel"
        scales = self.constant(np.array(scales, np.float32))
        self.node("Resize", [a.tensor("x"), "", scales], out, mode="linear", coordinate_transformation_mode=corners)

    def slice_by_index(self, a, out):
        shape = a.shape("x")
        rank = len(shape)
        begin, end, stride = a.ints("begin"), a.ints("end"), a.ints("stride", [1] * rank)
        masks = {name: a.flags(name, rank) for name in ("begin_mask", "end_mask", "squeeze_mask")}
        for i in range(rank):
            assert stride[i] > 0, "a backward slice has no translation"
            if masks["begin_mask"][i]:
                begin[i] = 0
            if masks["end_mask"][i]:
                end[i] = shape[i]
            if masks["squeeze_mask"][i]:
                end[i] = begin[i] + 1 if begin[i] != -1 else shape[i]
        bounds = [self.constant(np.array(v)) for v in (begin, end, list(range(rank)), stride)]
        squeezed = [i for i in range(rank) if masks["squeeze_mask"][i]]
        if squeezed:
            self.node("Squeeze", [self.node("Slice", [a.tensor("x"), *bounds]), self.constant(np.array(squeezed))], out)
        else:
            self.node("Slice", [a.tensor("x"), *bounds], out)


class Arguments:
    """The arguments of one operation, by parameter name."""

    def __init__(self, translation: Translation, operation):
        self.translation = translation
        self.bindings = {name: list(argument.arguments) for name, argument in operation.inputs.items()}

    def has(self, name: str) -> bool:
        return name in self.bindings

    def tensors(self, name: str) -> list[str]:
        """Names of ONNX values."""
        names = []
        for binding in self.bindings[name]:
            if binding.WhichOneof("binding") == "value":
                names.append(self.translation.constant(self.translation.value(binding.value)))
            elif binding.name in self.translation.constants:
                names.append(self.translation.constant(self.translation.constants[binding.name]))
            else:
                names.append(binding.name)
        return names

    def tensor(self, name: str) -> str:
        (tensor,) = self.tensors(name)
        return tensor

    def constant(self, name: str) -> np.ndarray | str:
        (binding,) = self.bindings[name]
        if binding.WhichOneof("binding") == "value":
            return self.translation.value(binding.value)
        return self.translation.constants[binding.name]

    def shape(self, name: str) -> list[int]:
        (binding,) = self.bindings[name]
        return self.translation.shapes[binding.name]

    def ints(self, name: str, default: list[int] | None = None) -> list[int]:
        return np.asarray(self.constant(name)).reshape(-1).tolist() if self.has(name) else default

    def number(self, name: str, default: float | None = None) -> float:
        return float(np.asarray(self.constant(name)).reshape(())) if self.has(name) else default

    def flag(self, name: str, default: bool) -> bool:
        return bool(np.asarray(self.constant(name)).reshape(())) if self.has(name) else default

    def flags(self, name: str, count: int) -> list[bool]:
        return np.asarray(self.constant(name)).tolist() if self.has(name) else [False] * count

    def text(self, name: str, default: str) -> str:
        return self.constant(name) if self.has(name) else default


def dimensions(value_type) -> list[int]:
    """The axis sizes of a tensor type; 0 for an open axis."""
    return [d.constant.size for d in value_type.tensorType.dimensions]
