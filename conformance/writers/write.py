"""Writes every model that this version of coremltools supports: `write.py FOLDER`.

Writes a package for each, its inputs and expected outputs beside it as safetensors, and `index.json` for all of them.
"""

import json
import os
import struct
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")
import logging  # noqa: E402

logging.disable(logging.WARNING)

import coremltools as ct  # noqa: E402
from coremltools.converters.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import get_new_symbol, types  # noqa: E402

from models import MODELS, mlp_expected  # noqa: E402

VERSION = tuple(int(part) for part in ct.__version__.split(".")[:2])


class Tools(object):
    """coremltools, with the differences between versions hidden."""

    ct, mb, types, symbol = ct, mb, types, staticmethod(get_new_symbol)

    def program(self, inputs, integers=(), opset=None):
        """Decorates a function that builds a program with these inputs."""
        specs = [
            mb.TensorSpec(shape=shape, dtype=types.int32 if name in integers else types.fp32)
            for name, shape in inputs.items()
        ]
        # coremltools 5 and the first opset need no option.
        options = {} if opset in (None, "iOS15") else {"opset_version": getattr(ct.target, opset)}
        return mb.program(input_specs=specs, **options)

    def convert(self, program, precision="fp16", target="iOS15", **options):
        precision = {"fp16": ct.precision.FLOAT16, "fp32": ct.precision.FLOAT32}[precision]
        target = getattr(ct.target, target)
        if VERSION >= (6, 0):
            options["skip_model_load"] = True
        return ct.convert(
            program, convert_to="mlprogram", compute_precision=precision, minimum_deployment_target=target, **options
        )

    def colour(self, name):
        return getattr(ct.colorlayout, name) if VERSION >= (6, 0) else name

    def opset_of(self, scheme):
        if scheme == "int4" or scheme.endswith("_ios18"):
            return "iOS18"
        return "iOS16"

    def compress(self, model, scheme):
        if VERSION < (7, 0):
            return self.compress_6(model, scheme)
        cto = ct.optimize.coreml
        if scheme.startswith("sparse_int8"):
            pruned = cto.prune_weights(model, self.config(cto.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=0)))
            quantised = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
            return cto.linear_quantize_weights(pruned, self.config(quantised), joint_compression=True)
        if scheme.startswith("palette"):
            bits = int(scheme[len("palette")])
            op = cto.OpPalettizerConfig(mode="uniform", nbits=bits, weight_threshold=0)
            return cto.palettize_weights(model, self.config(op))
        if scheme == "sparse":
            op = cto.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=0)
            return cto.prune_weights(model, self.config(op))
        options = {"mode": "linear" if scheme == "uint8" else "linear_symmetric", "weight_threshold": 0}
        if scheme == "int4":
            options.update(dtype="int4", granularity="per_block", block_size=8)
        elif scheme == "int8_ios18":
            options.update(dtype="int8", granularity="per_channel")
        else:
            options.update(dtype=np.uint8 if scheme == "uint8" else np.int8)
        return cto.linear_quantize_weights(model, self.config(cto.OpLinearQuantizerConfig(**options)))

    def config(self, op):
        return ct.optimize.coreml.OptimizationConfig(global_config=op)

    def compress_6(self, model, scheme):
        cu = ct.compression_utils
        large = lambda const: const.outputs[0].val.size >= 100  # noqa: E731
        if scheme.startswith("palette"):
            return cu.palettize_weights(model, nbits=int(scheme[-1]), mode="uniform", op_selector=large)
        if scheme == "sparse":
            return cu.sparsify_weights(model, mode="percentile_based", target_percentile=0.6, op_selector=large)
        dtype = np.uint8 if scheme == "uint8" else np.int8
        mode = "linear" if scheme == "uint8" else "linear_symmetric"
        return cu.affine_quantize_weights(model, mode=mode, dtype=dtype, op_selector=large)


def write_tensors(path, tensors):
    """Writes a safetensors file without the library."""
    names = {"float16": "F16", "float32": "F32", "float64": "F64", "int32": "I32"}
    header, data = {}, b""
    for name, value in sorted(tensors.items()):
        value = np.ascontiguousarray(value)
        begin = len(data)
        data += value.tobytes()
        header[name] = {"dtype": names[value.dtype.name], "shape": list(value.shape), "data_offsets": [begin, len(data)]}
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + data)


def decompressed(model):
    """The weights of a compressed perceptron as this version of coremltools dequantizes them, by shape."""
    found = {}
    for op in model._mil_program.functions["main"].operations:
        if op.op_type == "linear":
            for part in (op.weight, op.bias):
                value = part.val if part.val is not None else part.op.materialized_val_inference()
                found[value.shape] = np.asarray(value, np.float64)
    return found


def perceptron(inputs, weights):
    """Computes `models.mlp_expected` with other weights."""
    import models

    keep = dict(models.MLP)
    try:
        for name, value in keep.items():
            models.MLP[name] = weights[value.shape]
        return mlp_expected(inputs)
    finally:
        models.MLP.update(keep)


def save(model, path):
    if not isinstance(model, list):
        model.save(path)
        return
    descriptor = ct.utils.MultiFunctionDescriptor()
    for name, part in model:
        part_path = "%s.%s.mlpackage" % (path[: -len(".mlpackage")], name)
        part.save(part_path)
        descriptor.add_function(part_path, src_function_name="main", target_function_name=name)
    descriptor.default_function_name = model[0][0]
    ct.utils.save_multifunction(descriptor, path)


def main(folder):
    os.makedirs(folder, exist_ok=True)
    index, tools = [], Tools()
    for entry in MODELS:
        if VERSION < entry.since:
            continue
        path = os.path.join(folder, entry.name + ".mlpackage")
        try:
            model = entry.build(tools)
            if entry.reference is None:
                expected = perceptron(entry.inputs, decompressed(model))
            else:
                expected = entry.reference(entry.inputs)
            save(model, path)
        except Exception:
            print("coremltools %s cannot write %s" % (ct.__version__, entry.name), file=sys.stderr)
            raise
        inputs = entry.inputs
        if entry.calls > 1:
            # The inputs of the calls are stacked along a leading axis.
            inputs = {name: np.stack([value] * entry.calls) for name, value in inputs.items()}
        write_tensors(path.replace(".mlpackage", ".inputs.safetensors"), inputs)
        write_tensors(path.replace(".mlpackage", ".expected.safetensors"), expected)
        index.append(
            {
                "name": entry.name,
                "calls": entry.calls,
                "function": entry.function,
                "precision": entry.precision,
                "images": entry.images,
                "own_reference": entry.reference is not None,
            }
        )
    with open(os.path.join(folder, "index.json"), "w") as f:
        json.dump({"coremltools": ct.__version__, "models": index}, f, indent=1)
    print("coremltools %s wrote %d packages" % (ct.__version__, len(index)))


if __name__ == "__main__":
    main(sys.argv[1])
