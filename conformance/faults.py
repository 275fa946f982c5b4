"""Tests the checks: faults planted into copies of good packages, each of which a particular check must report."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.libmilstoragepython import _BlobStorageReader as BlobReader
from coremltools.libmilstoragepython import _BlobStorageWriter as BlobWriter
from coremltools.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2
from safetensors.numpy import load_file, save_file

from package import Problem, blobs, label, operations

Check = Callable[[Path], list[Problem]]


@dataclass
class Draft:
    """A copy of a package to be damaged."""

    path: Path
    spec: Model_pb2.Model
    #: Bytes to write instead of `spec`.
    model: bytes | None = None

    @property
    def weight_file(self) -> Path:
        """The copy's weight file."""
        return self.path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"

    @property
    def block(self) -> MIL_pb2.Block:
        """The operations of the main function."""
        return self.spec.mlProgram.functions["main"].block_specializations["CoreML8"]

    def operation(self, kind: str, index: int = 0) -> MIL_pb2.Operation:
        """The `index`-th operation of a type."""
        return [operation for operation in self.block.operations if operation.type == kind][index]

    def constant(self, operation: MIL_pb2.Operation, argument: str) -> MIL_pb2.Operation:
        """The constant bound to an argument."""
        name = operation.inputs[argument].arguments[0].name
        return next(o for o in self.block.operations if o.outputs and o.outputs[0].name == name)

    def rebind(self, operation: MIL_pb2.Operation, argument: str, value: MIL_pb2.Value) -> None:
        """Binds an argument to a constant of its own, so that other users of a shared one are unaffected."""
        constant = MIL_pb2.Operation()
        constant.CopyFrom(self.constant(operation, argument))
        constant.outputs[0].name = "planted"
        constant.attributes["name"].immediateValue.tensor.strings.values[0] = "planted"
        constant.attributes["val"].CopyFrom(value)
        constant.outputs[0].type.CopyFrom(value.type)
        self.block.operations.insert(0, constant)
        operation.inputs[argument].arguments[0].name = "planted"

    def blob(self, index: int) -> MIL_pb2.Value:
        """The `index`-th value in the weight file."""
        return list(blobs(operations(self.spec)))[index][1]

    def feature(self, kind: str, name: str) -> FeatureTypes_pb2.FeatureType:
        """A feature of the description."""
        return next(f for f in getattr(self.spec.description, kind) if f.name == name).type

    def patch(self, offset: int, data: bytes) -> None:
        """Overwrites bytes of the weight file."""
        with self.weight_file.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def save(self) -> None:
        """Writes the damaged model into the copy."""
        root = self.path / "Data" / "com.apple.CoreML" / "model.mlmodel"
        root.write_bytes(self.model or self.spec.SerializeToString())


@dataclass(frozen=True)
class Fault:
    """A fault, and the check and the location that its report must contain."""

    name: str
    check: str
    where: str
    plant: Callable[[Draft], None]


def _garble(draft: Draft) -> None:
    """Writes bytes that are not a protobuf message."""
    draft.model = b"\xff" * 100


def _remove_weight_file(draft: Draft) -> None:
    draft.weight_file.unlink()


def _change_embedding(draft: Draft) -> None:
    tables = load_file(draft.path.parent / "embeddings.safetensors")
    tables["wpe.weight"][0, 0] += 1
    save_file(tables, draft.path.parent / "embeddings.safetensors")


def _set_output_shape(draft: Draft) -> None:
    draft.operation("conv").outputs[0].type.tensorType.dimensions[1].constant.size += 1


def _drop_required_argument(draft: Draft) -> None:
    del draft.operation("conv", 1).inputs["weight"]


def _drop_optional_argument(draft: Draft) -> None:
    del draft.operation("conv", 2).inputs["groups"]


def _add_unknown_argument(draft: Draft) -> None:
    softmax = draft.operation("softmax")
    softmax.inputs["axes"].CopyFrom(softmax.inputs["axis"])


def _misdeclare_constant(draft: Draft) -> None:
    constant = draft.constant(draft.operation("softmax"), "axis")
    constant.outputs[0].type.tensorType.dataType = MIL_pb2.INT16


def _drop_name(draft: Draft) -> None:
    del draft.operation("matmul").attributes["name"]


def _use_illegal_name(draft: Draft) -> None:
    output = draft.operation("conv", -1).outputs[0]
    output.name = draft.block.outputs[0] = draft.spec.description.output[0].name = "7-logits"


def _use_undefined_name(draft: Draft) -> None:
    draft.operation("relu").inputs["x"].arguments[0].name = "nothing"


def _older_version(draft: Draft) -> None:
    draft.spec.specificationVersion = 8


def _unknown_opset(draft: Draft) -> None:
    function = draft.spec.mlProgram.functions["main"]
    function.block_specializations["CoreML7"].CopyFrom(function.block_specializations["CoreML8"])
    function.opset = "CoreML7"


def _input_dtype(draft: Draft) -> None:
    draft.feature("input", "attn_mask").multiArrayType.dataType = FeatureTypes_pb2.ArrayFeatureType.FLOAT32


def _output_shape(draft: Draft) -> None:
    draft.feature("output", "logits").multiArrayType.shape[1] += 1


def _missing_state(draft: Draft) -> None:
    del draft.spec.description.state[1]


def _state_as_input(draft: Draft) -> None:
    draft.spec.description.input.add().CopyFrom(draft.spec.description.state[0])


def _rename_input(draft: Draft) -> None:
    """Renames an input consistently to a name that no host knows."""
    for feature in draft.spec.description.input:
        if feature.name == "kv_write":
            feature.name = "planted"
    for declared in draft.spec.mlProgram.functions["main"].inputs:
        if declared.name == "kv_write":
            declared.name = "planted"
    for operation in draft.block.operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.name == "kv_write":
                    binding.name = "planted"


def _offset_out_of_range(draft: Draft) -> None:
    draft.blob(1).blobFileValue.offset = 1 << 40


def _offset_between_blobs(draft: Draft) -> None:
    draft.blob(1).blobFileValue.offset += 64


def _offset_of_another_blob(draft: Draft) -> None:
    first, second = draft.blob(0).blobFileValue, draft.blob(1).blobFileValue
    first.offset, second.offset = second.offset, first.offset


def _change_byte(draft: Draft) -> None:
    """Flips the lowest bit of one fp16 value in the second blob."""
    offset = draft.blob(1).blobFileValue.offset + 64
    draft.patch(offset, bytes([draft.weight_file.read_bytes()[offset] ^ 1]))


def _truncate(draft: Draft) -> None:
    draft.weight_file.write_bytes(draft.weight_file.read_bytes()[:-2])


def _append(draft: Draft) -> None:
    draft.weight_file.write_bytes(draft.weight_file.read_bytes() + b"\0" * 64)


def _miscount(draft: Draft) -> None:
    draft.patch(0, (99).to_bytes(4, "little"))


def _reorder_blobs(draft: Draft) -> None:
    """Writes the same values in reverse order: a good package, but not the file that coremltools writes."""
    reader = BlobReader(str(draft.weight_file))
    values = [value for _, value in blobs(operations(draft.spec))]
    data = [reader.read_fp16_data(value.blobFileValue.offset) for value in values]
    del reader  # it maps the file that is replaced next
    draft.weight_file.unlink()
    writer = BlobWriter(str(draft.weight_file))
    for value, elements in reversed(list(zip(values, data, strict=True))):
        value.blobFileValue.offset = writer.write_fp16_data(np.ascontiguousarray(elements))


def _drop_weights_from_manifest(draft: Draft) -> None:
    manifest = draft.path / "Manifest.json"
    manifest.write_text(manifest.read_text().replace('"com.apple.CoreML/weights"', '"com.apple.CoreML/nothing"'))


def _other_axis(draft: Draft) -> None:
    softmax = draft.operation("softmax")
    value = MIL_pb2.Value()
    value.CopyFrom(draft.constant(softmax, "axis").attributes["val"])
    value.immediateValue.tensor.ints.values[0] = 1
    draft.rebind(softmax, "axis", value)


def _other_constant(draft: Draft) -> None:
    """Changes the scale of the queries to another of the right type, so that only the graph shows it."""
    product = next(o for o in draft.block.operations if o.type == "mul" and label(o).endswith("q_scaled"))
    value = MIL_pb2.Value()
    value.CopyFrom(draft.constant(product, "y").attributes["val"])
    value.immediateValue.tensor.bytes.values = np.float16(0.25).tobytes()
    draft.rebind(product, "y", value)


def _drop_write(draft: Draft) -> None:
    draft.block.operations.remove(draft.operation("write_state", 1))


def _cross_writes(draft: Draft) -> None:
    # In this direction, because the keys exist where the values are written, but not the reverse.
    keys, values = draft.operation("write_state", 0), draft.operation("write_state", 1)
    values.inputs["data"].CopyFrom(keys.inputs["data"])


def _change_int8(draft: Draft) -> None:
    """Changes one int8 value by one step."""
    data = draft.operation("constexpr_blockwise_shift_scale").inputs["data"].arguments[0].value
    offset = data.blobFileValue.offset + 64
    draft.patch(offset, bytes([(draft.weight_file.read_bytes()[offset] + 1) % 256]))


def _change_int8_scale(draft: Draft) -> None:
    """Changes the scale of one channel by one unit in the last place: far less than a quantization step."""
    scales = draft.operation("constexpr_blockwise_shift_scale").inputs["scale"].arguments[0].value
    offset = scales.blobFileValue.offset + 64
    draft.patch(offset, bytes([draft.weight_file.read_bytes()[offset] ^ 1]))


def _drop_scale(draft: Draft) -> None:
    del draft.operation("constexpr_blockwise_shift_scale").inputs["scale"]


def _other_corner(draft: Draft) -> None:
    """Begins the slice of the new key where it should end."""
    update = draft.operation("slice_update")
    update.inputs["begin"].CopyFrom(update.inputs["end"])


def _unmask_heads(draft: Draft) -> None:
    """Applies the bounds, which are 0, on axes that should be whole."""
    update = draft.operation("slice_update", 1)
    update.inputs["end_mask"].CopyFrom(update.inputs["squeeze_mask"])


def _float_position(draft: Draft) -> None:
    draft.feature("input", "position").multiArrayType.dataType = FeatureTypes_pb2.ArrayFeatureType.FLOAT16


def _cross_results(draft: Draft) -> None:
    """Exchanges the first layer's new key and value among the outputs."""
    key, value = (
        next(o for o in draft.block.operations if o.outputs and o.outputs[0].name == name)
        for name in ("k_new_0", "v_new_0")
    )
    other = MIL_pb2.Argument()
    other.CopyFrom(key.inputs["x"])
    key.inputs["x"].CopyFrom(value.inputs["x"])
    value.inputs["x"].CopyFrom(other)


def _drop_result(draft: Draft) -> None:
    """Removes a new value from the outputs consistently."""
    draft.block.outputs.remove("v_new_0")
    del draft.spec.description.output[2]


def _other_cache(draft: Draft) -> None:
    """Reads the cache of the keys in place of that of the values."""
    kept = next(o for o in draft.block.operations if o.outputs and o.outputs[0].name == "v_cache_0_kept")
    kept.inputs["x"].arguments[0].name = "k_cache_0"


#: Faults of a package with fp16 weights and separate projections.
FP16_FAULTS = (
    Fault("a result declared with another shape", "load", "conv %", _set_output_shape),
    Fault("a required argument left out", "load", "conv %", _drop_required_argument),
    Fault("an optional argument left out", "arguments", "conv %", _drop_optional_argument),
    Fault("an argument that the operation does not have", "load", "softmax %", _add_unknown_argument),
    Fault("a constant declared with another type", "types", "const %", _misdeclare_constant),
    Fault("an operation without a name", "names", "matmul %", _drop_name),
    Fault("a result whose name is no identifier", "names", "conv %", _use_illegal_name),
    Fault("an argument that is defined nowhere", "load", "relu %", _use_undefined_name),
    Fault("a specification version without states", "version", "program", _older_version),
    Fault("an opset of another version", "version", "program", _unknown_opset),
    Fault("an input described with another element type", "description", "attn_mask", _input_dtype),
    Fault("an output described with another shape", "description", "logits", _output_shape),
    Fault("a state missing in the description", "description", "state v_cache_0", _missing_state),
    Fault("a state described as an input", "description", "input k_cache_0", _state_as_input),
    Fault("an input with a name of its own, everywhere", "interface", "kv_write", _rename_input),
    Fault("a blob offset out of range", "blobs", "const %", _offset_out_of_range),
    Fault("a blob offset that points at data", "blobs", "const %", _offset_between_blobs),
    Fault("two blob offsets exchanged", "weights", "conv %", _offset_of_another_blob),
    Fault("one bit of a weight changed", "weights", "conv %", _change_byte),
    Fault("a weight file that is cut short", "blobs", "const %", _truncate),
    Fault("bytes after the last blob", "blobs", "end of file", _append),
    Fault("a wrong number of blobs in the header", "blobs", "header", _miscount),
    Fault("the same blobs in another order", "identity", "const %", _reorder_blobs),
    Fault("a model that is no protobuf message", "package", "model.mlmodel", _garble),
    Fault("no weight file", "blobs", "weight.bin", _remove_weight_file),
    Fault("an embedding changed", "embeddings", "wpe.weight", _change_embedding),
    Fault("a manifest that points nowhere", "package", "Manifest", _drop_weights_from_manifest),
    Fault("a softmax over another axis", "graph", "softmax %", _other_axis),
    Fault("another scale of the queries", "graph", "mul %", _other_constant),
    Fault("a cache that is never written", "graph", "v_cache_0", _drop_write),
    Fault("keys written to the cache of the values", "graph", "write_state", _cross_writes),
)

#: Faults of a package with int8 weights and a scale per channel.
INT8_FAULTS = (
    Fault("one int8 value off by one", "int8", "conv %", _change_int8),
    Fault("one int8 value off by one, against the checkpoint", "weights", "conv %", _change_int8),
    Fault("one scale off by its last bit", "int8", "conv %", _change_int8_scale),
    Fault("int8 data without a scale", "load", "constexpr_blockwise_shift_scale %", _drop_scale),
)

#: Faults of a package whose caches are updated by `slice_update`.
SLICE_FAULTS = (
    Fault("a box that begins after its position", "graph", "slice_update %", _other_corner),
    Fault("a mask of another box", "graph", "slice_update %", _unmask_heads),
    Fault("a position described as a float", "description", "input position", _float_position),
)

#: Faults of a package whose caches the host holds.
HOST_FAULTS = (
    Fault("new key and value exchanged", "graph", "add %k_cache_0_updated", _cross_results),
    Fault("a new value that is not returned", "interface", "output v_new_0", _drop_result),
    Fault("the cache of the keys read for the values", "graph", "add %v_cache_0_updated", _other_cache),
)


def run(faults: tuple[Fault, ...], good: Path, package: str, work: Path, check: Check) -> list[str]:
    """Plants each fault into a copy of the bundle `good` and checks it; returns those that went unnoticed.

    The first copy has no fault; otherwise a check that always fails would pass.
    """
    unnoticed = []
    for index, fault in enumerate((None, *faults)):
        bundle = work / f"{good.name}-{index:02}"
        shutil.copytree(good, bundle)
        if fault is None:
            problems = check(bundle)
            name, expected, caught = "no fault", "nothing", not problems
            shown = "; ".join(map(str, problems)) or "nothing"
        else:
            draft = Draft(bundle / package, ct.utils.load_spec(str(bundle / package)))
            fault.plant(draft)
            draft.save()
            problems = check(bundle)
            hit = next((p for p in problems if p.check == fault.check and fault.where in p.where), None)
            name, expected, caught = fault.name, f"[{fault.check}] {fault.where}", hit is not None
            shown = str(hit) if hit else "; ".join(map(str, problems)) or "nothing"
        print(f"  {'reported' if caught else 'UNNOTICED'}  {name}: {shown[:200]}")
        if not caught:
            unnoticed.append(f"{bundle.name}: {name}: expected {expected}, reported: {shown}")
    return unnoticed
