"""A package as coremltools sees it: loaded by its own loader; properties that the loader ignores are checked here."""

import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import coremltools as ct
from coremltools.converters.mil.frontend.milproto import helper
from coremltools.converters.mil.frontend.milproto import load as milproto
from coremltools.converters.mil.mil import Program, types
from coremltools.libmilstoragepython import _BlobStorageReader as BlobReader
from coremltools.libmodelpackage import ModelPackage
from coremltools.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2

import reference
from checkpoint import Config
from graph import main

SPECIFICATION_VERSION = 9
OPSET = "CoreML8"
WEIGHT_FILE = "@model_path/weights/weight.bin"
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_@]*")

#: MIL's element types that a weight file may contain here: the function that reads them, and bytes per element.
BLOB_READERS = {MIL_pb2.FLOAT16: ("read_fp16_data", 2), MIL_pb2.INT8: ("read_int8_data", 1)}
BLOB_ALIGNMENT = 64

Types = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Problem:
    """A failed check: which one, at which operation or feature, and how."""

    check: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"[{self.check}] {self.where}: {self.message}"


@dataclass(frozen=True)
class Package:
    """A package that coremltools can load."""

    path: Path
    spec: Model_pb2.Model
    program: Program

    @property
    def weight_file(self) -> Path:
        """The weight file; the manifest has been checked to agree."""
        return self.path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"

    def blobs(self) -> list[tuple[str, MIL_pb2.Value]]:
        """Every value of the program that is in the weight file, with its operation."""
        return list(blobs(operations(self.spec)))


def operations(spec: Model_pb2.Model) -> list[MIL_pb2.Operation]:
    """The operations of the main function, or none if it has no block for its opset."""
    function = spec.mlProgram.functions["main"]
    return list(function.block_specializations[function.opset].operations)


def name_of(operation: MIL_pb2.Operation) -> str | None:
    """The attribute `name`."""
    # Tested first, because a look-up in a protobuf map adds a missing key.
    if "name" not in operation.attributes:
        return None
    return operation.attributes["name"].immediateValue.tensor.strings.values[0]


def label(operation: MIL_pb2.Operation) -> str:
    """An operation's type and its name, or its first result's if it has none."""
    name = name_of(operation) or next((output.name for output in operation.outputs), "?")
    return f"{operation.type} %{name}"


def blobs(ops: list[MIL_pb2.Operation]) -> Iterator[tuple[str, MIL_pb2.Value]]:
    """Values in the weight file, in the order of the operations and of the arguments' names."""
    for operation in ops:
        # Sorted, because the order of protobuf's maps differs between processes.
        bindings = [b for _, argument in sorted(operation.inputs.items()) for b in argument.arguments]
        values = [b.value for b in bindings if b.WhichOneof("binding") == "value"] + list(operation.attributes.values())
        for value in values:
            if value.WhichOneof("value") == "blobFileValue":
                yield label(operation), value


def open_package(path: Path) -> tuple[Package | None, list[Problem]]:
    """Loads a package with coremltools: manifest, then description, then every operation of the program.

    The loader infers every result's type and shape from the opset and compares them with those that the file declares.
    """
    if not ModelPackage.isValid(str(path)):
        return None, [Problem("package", "Manifest.json", "coremltools' ModelPackage finds it invalid")]
    try:
        model = ct.models.MLModel(str(path), skip_model_load=True)
    except Exception as error:  # any exception: a package on which coremltools fails is a bad package
        return None, [Problem("package", "model.mlmodel", f"{type(error).__name__}: {error}")]
    spec = model.get_spec()
    if not model.weights_dir:
        return None, [Problem("package", "Manifest.json", "it lists no weights")]
    problems = check_version(spec) + check_description(spec)
    if any(problem.check == "version" for problem in problems):
        return None, problems
    problems += check_blobs(spec, path)
    try:
        program = milproto.load(spec, SPECIFICATION_VERSION, model.weights_dir)
    except Exception as error:  # for the same reason
        return None, [*problems, Problem("load", _failed_operation(error), f"{type(error).__name__}: {error}")]
    return Package(path, spec, program), problems


def _failed_operation(error: Exception) -> str:
    """The operation that coremltools was loading. Its messages don't name it, but its stack frames do."""
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
    found = [local["op_spec"] for local in frames if isinstance(local.get("op_spec"), MIL_pb2.Operation)]
    return label(found[-1]) if found else "program"


def check_version(spec: Model_pb2.Model) -> list[Problem]:
    """Checks that version and opset match; the loader checks only the version."""
    found = (spec.specificationVersion, {name: f.opset for name, f in spec.mlProgram.functions.items()})
    expected = (SPECIFICATION_VERSION, {"main": OPSET})
    if found != expected:
        return [Problem("version", "program", f"version and opsets {found}, expected {expected}")]
    blocks = list(spec.mlProgram.functions["main"].block_specializations)
    return [] if blocks == [OPSET] else [Problem("version", "main", f"blocks for {blocks}, expected {[OPSET]}")]


def check_description(spec: Model_pb2.Model) -> list[Problem]:
    """Compares inputs, outputs and states of the description with the program's, which coremltools does not."""
    declared = spec.mlProgram.functions["main"].inputs
    block = spec.mlProgram.functions["main"].block_specializations[OPSET]
    results = {o.name: o.type for op in block.operations for o in op.outputs}
    program = {
        "input": {i.name: i.type for i in declared if i.type.WhichOneof("type") == "tensorType"},
        "output": {name: results[name] for name in block.outputs if name in results},
        "state": {i.name: i.type.stateType.wrappedType for i in declared if i.type.WhichOneof("type") == "stateType"},
    }
    problems = []
    for kind, features in program.items():
        expected = {name: _mil_type(mil_type) for name, mil_type in features.items()}
        described = {f.name: _feature_type(f.type, kind) for f in getattr(spec.description, kind)}
        problems += _compare("description", kind, described, expected, "the program says")
    return problems


def check_interface(package: Package, config: Config, cache_update: str) -> list[Problem]:
    """Compares inputs, outputs and states of the program with those of a decoder with these dimensions."""
    function = main(package.program)
    tensors = {n: (types.builtin_to_string(v.dtype), tuple(v.shape)) for n, v in function.inputs.items()}
    found_outputs = {v.name: (types.builtin_to_string(v.dtype), tuple(v.shape)) for v in function.outputs}
    expected = reference.inputs(config, cache_update) | reference.states(config, cache_update)
    expected_outputs = reference.outputs(config, cache_update)
    problems = _compare("interface", "input or state", tensors, expected, "a decoder has")
    return problems + _compare("interface", "output", found_outputs, expected_outputs, "a decoder has")


def _compare(check: str, kind: str, found: Types, expected: Types, source: str) -> list[Problem]:
    problems = []
    for name in sorted(found.keys() | expected.keys()):
        a, b = found.get(name, "missing"), expected.get(name, "there is none")
        if a != b:
            problems.append(Problem(check, f"{kind} {name}", f"{a}, {source} {b}"))
    return problems


def _mil_type(value_type: MIL_pb2.ValueType) -> tuple[str, tuple[int, ...]]:
    """Element type and shape of a tensor type of MIL."""
    builtin = helper.proto_to_types(value_type)
    if types.is_tensor(builtin):
        return types.builtin_to_string(builtin.get_primitive()), tuple(builtin.get_shape())
    return types.builtin_to_string(builtin), ()


def _feature_type(feature: FeatureTypes_pb2.FeatureType, role: str) -> tuple[str, tuple[int, ...]]:
    """Element type and shape of a feature of the description."""
    kind = feature.WhichOneof("Type")
    if kind != ("stateType" if role == "state" else "multiArrayType"):
        return str(kind), ()
    array = feature.stateType.arrayType if role == "state" else feature.multiArrayType
    name = FeatureTypes_pb2.ArrayFeatureType.ArrayDataType.Name(array.dataType)
    return {"FLOAT16": "fp16", "INT32": "int32"}.get(name, name), tuple(array.shape)


def check_operations(package: Package) -> list[Problem]:
    """Checks what the loader accepts silently: declared types of constants, omitted optional arguments, and names."""
    loaded = {output.name: output for op in main(package.program).operations for output in op.outputs}
    problems, names = [], {i.name for i in package.spec.mlProgram.functions["main"].inputs}
    for operation in operations(package.spec):
        where = label(operation)
        if not name_of(operation):
            problems.append(Problem("names", where, "it has no attribute `name`"))
        for output in operation.outputs:
            if not IDENTIFIER.fullmatch(output.name) or output.name in names:
                problems.append(Problem("names", where, f"{output.name!r} is no identifier or defined twice"))
            names.add(output.name)
            variable = loaded[output.name]
            inferred = (types.builtin_to_string(variable.dtype), tuple(variable.shape))
            if _mil_type(output.type) != inferred:
                problems.append(Problem("types", where, f"declared {_mil_type(output.type)}, inferred {inferred}"))
        if operation.outputs and operation.type != "const":
            defaults = loaded[operation.outputs[0].name].op.default_inputs()
            # coremltools itself always writes arguments that have a default other than None. Without a Mac it is unknown whether
            # Core ML needs them, so omitting one is a risk.
            missing = [n for n, default in defaults.items() if default is not None and n not in operation.inputs]
            problems += [Problem("arguments", where, f"argument {name} is left out") for name in missing]
    return problems


def check_blobs(spec: Model_pb2.Model, path: Path) -> list[Problem]:
    """Reads every value in the weight file with coremltools' reader, and checks that the file holds nothing else."""
    file = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    if not file.is_file():
        return [Problem("blobs", file.name, "there is no such file")]
    reader = BlobReader(str(file))
    problems, ends = [], {}
    for where, value in blobs(operations(spec)):
        offset, dtype = value.blobFileValue.offset, value.type.tensorType.dataType
        elements = 1
        for dimension in value.type.tensorType.dimensions:
            elements *= dimension.constant.size
        if value.blobFileValue.fileName != WEIGHT_FILE or dtype not in BLOB_READERS:
            name = f"{value.blobFileValue.fileName!r} of {MIL_pb2.DataType.Name(dtype)}"
            problems.append(Problem("blobs", where, f"{name}, expected fp16 or int8 in {WEIGHT_FILE!r}"))
            continue
        method, size = BLOB_READERS[dtype]
        try:
            found = getattr(reader, method)(offset).size
        except (RuntimeError, ValueError) as error:
            problems.append(Problem("blobs", where, f"coremltools can't read offset {offset}: {error}"))
            continue
        if found != elements:
            problems.append(Problem("blobs", where, f"{found} elements at offset {offset}, the type has {elements}"))
        ends[offset] = offset + BLOB_ALIGNMENT + found * size
    return problems + _check_layout(file, ends)


def _check_layout(file: Path, ends: dict[int, int]) -> list[Problem]:
    """Checks for a header of 64 bytes and then the blobs, each at the next multiple of 64, all in use, and nothing after them.

    `ends` maps the offset of every blob in use to its end.
    """
    content = file.read_bytes()
    problems = []
    count = int.from_bytes(content[:4], "little")
    if count != len(ends):
        problems.append(Problem("blobs", "header", f"it counts {count} blobs, the program uses {len(ends)}"))
    position = BLOB_ALIGNMENT
    for offset, end in sorted(ends.items()):
        aligned = -(-position // BLOB_ALIGNMENT) * BLOB_ALIGNMENT
        if offset != aligned:
            problems.append(Problem("blobs", f"offset {offset}", f"the next blob should be at {aligned}"))
        position = end
    if position != len(content):
        problems.append(Problem("blobs", "end of file", f"{len(content)} bytes, the last blob ends at {position}"))
    return problems
