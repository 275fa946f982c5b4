"""What the configurations exercised for each operation, and what they must have exercised.

Features are determined from the operations that ran, not from the generators' intentions. The obligatory ones follow from
coremltools' own description of each operation: a parameter named `axis` or `axes` must have been negative, a string parameter
must have had every value that the documentation names, a bool must have been true and false, and so on.
"""

from collections import Counter, defaultdict

import numpy as np
from program import FLOATS, Config, Const, Node, Ref, refs_of

# Operations whose two operands broadcast.
BROADCAST = {
    "add", "sub", "mul", "real_div", "floor_div", "mod", "pow", "maximum", "minimum", "equal", "not_equal", "less",
    "less_equal", "greater", "greater_equal", "logical_and", "logical_or", "logical_xor",
}  # fmt: skip
# The values of string parameters.
STRINGS = {
    ("conv", "pad_type"): ("valid", "same", "same_lower", "custom"),
    ("conv_transpose", "pad_type"): ("valid", "same", "custom"),
    **{(op, "pad_type"): ("valid", "same", "same_lower", "custom") for op in ("max_pool", "avg_pool", "l2_pool")},
    ("gelu", "mode"): ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"),
    ("pad", "mode"): ("constant", "reflect", "replicate"),
    **{(op, "mode"): ("add", "sub", "mul", "div", "max", "min", "update") for op in ("scatter", "scatter_nd", "scatter_along_axis")},
    ("resample", "sampling_mode"): ("bilinear", "nearest"),
    ("resample", "padding_mode"): ("constant", "border", "reflection", "symmetric"),
    ("resample", "coordinates_mode"): ("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one"),
    ("resize", "interpolation_mode"): ("LINEAR", "NEAREST_NEIGHBOR"),
    **{
        (op, "sampling_mode"): ("DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "UNALIGN_CORNERS", "OFFSET_CORNERS")
        for op in ("resize_bilinear", "resize")
    },
    ("lstm", "direction"): ("forward", "reverse", "bidirectional"),
    ("gru", "direction"): ("forward", "reverse"), ("rnn", "direction"): ("forward", "reverse"),
    ("quantize", "output_dtype"): ("int8", "uint8"),
    ("random_categorical", "mode"): ("logits", "probs"),
}  # fmt: skip
# Bools that must have had both values.
BOOLS = {
    "keep_dims": None, "transpose_x": ("matmul",), "transpose_y": ("matmul",), "exclusive": ("cumsum",), "reverse": ("cumsum",),
    "ascending": ("argsort", "topk"), "return_indices": ("topk",), "interleave": ("concat",), "ceil_mode": ("max_pool", "avg_pool"),
    "exclude_padding_from_average": ("avg_pool",), "align_corners": ("resample", "upsample_bilinear"),
    "half_pixel_centers": ("upsample_bilinear",), "output_sequence": ("lstm", "gru", "rnn"),
    "per_class_suppression": ("non_maximum_suppression",),
}  # fmt: skip
REDUCTIONS = {
    "reduce_l1_norm", "reduce_l2_norm", "reduce_log_sum", "reduce_log_sum_exp", "reduce_max", "reduce_mean", "reduce_min",
    "reduce_prod", "reduce_sum", "reduce_sum_square", "reduce_argmax", "reduce_argmin",
}  # fmt: skip
# Axes that may be negative.
NEGATIVE = {
    "axis": REDUCTIONS & {"reduce_argmax", "reduce_argmin"} | {
        "softmax", "argsort", "topk", "cumsum", "concat", "stack", "split", "gather", "gather_along_axis", "scatter",
        "scatter_along_axis", "sliding_windows", "one_hot", "flatten2d", "quantize", "dequantize",
        "constexpr_affine_dequantize",
    },
    "axes": (REDUCTIONS - {"reduce_argmax", "reduce_argmin"}) | {"layer_norm", "expand_dims", "squeeze", "reverse"},
    "perm": {"transpose"}, "begin": {"slice_by_index", "slice_update"}, "end": {"slice_by_index", "slice_update"},
    "seq_axis": {"reverse_sequence"}, "batch_axis": {"reverse_sequence"},
}  # fmt: skip
WINDOWED = {"conv", "conv_transpose", "max_pool", "avg_pool", "l2_pool"}
# Operations whose first operand has no axes, or that are not run with any.
NO_TENSOR = {
    "fill", "range_1d", "random_uniform", "random_normal", "random_bernoulli", "make_list", "list_length", "list_read",
    "list_gather", "cond", "while_loop", "read_state", "constexpr_lut_to_sparse", "constexpr_sparse_blockwise_shift_scale",
    "non_maximum_suppression", "crop_resize", "list_scatter", "list_write",
}  # fmt: skip


def constant(node: Node, name: str):
    arg = node.args.get(name)
    return arg.value if isinstance(arg, Const) else None


def features(node: Node, shape_of, dtype_of) -> set[str]:
    """The features that an operation exercises."""
    found = set()
    operands = [a for arg in node.args.values() for a in (arg if isinstance(arg, list) else [arg])]
    shapes = [shape_of(a) for a in operands if isinstance(a, Ref)]
    for name, axes in NEGATIVE.items():
        value = constant(node, name)
        if node.op in axes and value is not None and np.any(np.asarray(value) < 0):
            found.add(f"negative {name}")
    for name in ("strides", "dilations", "stride"):
        value = constant(node, name)
        if value is not None and np.any(np.asarray(value) > 1):
            found.add(name)
    if (value := constant(node, "stride")) is not None and np.any(np.asarray(value) < 0):
        found.add("negative stride")
    if (value := constant(node, "pad")) is not None and np.any(np.asarray(value) > 0):
        found.add("padding")
        if node.op in WINDOWED and np.any(np.asarray(value)[0::2] != np.asarray(value)[1::2]):
            found.add("uneven padding")
    if (value := constant(node, "groups")) is not None and int(value) > 1:
        found.add("groups")
        if node.op == "conv" and shape_of(node.args["x"])[1] == int(value):
            found.add("depthwise")
    if node.op in BROADCAST and shape_of(node.args["x"]) != shape_of(node.args["y"]):
        found.add("broadcast")
    if node.op == "select" and len({shape_of(node.args[n]) for n in ("cond", "a", "b")}) > 1:
        found.add("broadcast")
    if node.op == "matmul" and shape_of(node.args["x"])[:-2] != shape_of(node.args["y"])[:-2]:
        found.add("broadcast")
    if (value := constant(node, "batch_dims")) is not None and int(value) > 0:
        found.add("batch_dims")
    for name in ("begin_mask", "end_mask", "squeeze_mask"):
        if (value := constant(node, name)) is not None and np.any(value):
            found.add(name)
    for (op, name), values in STRINGS.items():
        if op == node.op and (value := constant(node, name)) in values:
            found.add(f"{name}={value}")
    for name, ops in BOOLS.items():
        value = constant(node, name)
        if (
            value is not None
            and np.ndim(value) == 0
            and isinstance(value, np.ndarray)
            and (ops is None or node.op in ops)
        ):
            found.add(f"{name}={'true' if value else 'false'}")
    for name in (
        "bias",
        "gamma",
        "beta",
        "attn_mask",
        "zero_point",
        "offset",
        "output_shape",
        "vector_axis",
        "peephole",
    ):
        if name in node.args:
            found.add(name)
    shapes += [shape_of(Ref(n)) for n in node.outputs]
    if any(1 in s for s in shapes):
        found.add("one-long axis")
    if any(0 in s for s in shapes):
        found.add("empty axis")
    if any(s == () for s in shapes):
        found.add("scalar")
    for arg in operands:
        if isinstance(arg, Ref):
            found.add(dtype_of(arg))
    if any(isinstance(a, Const) and np.size(a.value) > 1 and a.dtype in FLOATS for a in operands):
        found.add("constant operand")
    return found


def obligatory(op: str) -> set[str]:
    """The features that a run must have exercised for an operation."""
    needed = set()
    for name, ops in NEGATIVE.items():
        if op in ops:
            needed.add(f"negative {name}")
    needed |= {f"{name}={value}" for (of, name), values in STRINGS.items() if of == op for value in values}
    for name, ops in BOOLS.items():
        if op in (REDUCTIONS if ops is None else ops):
            needed |= {f"{name}=true", f"{name}=false"}
    if op in BROADCAST or op in ("select", "matmul"):
        needed.add("broadcast")
    if op in WINDOWED:
        needed |= {"strides", "padding", "uneven padding"}
    if op in ("conv", "conv_transpose"):
        needed |= {"dilations", "groups", "bias"}
    if op == "conv":
        needed.add("depthwise")
    if op in ("slice_by_index", "slice_update"):
        needed |= {"stride", "negative stride", "begin_mask", "end_mask", "squeeze_mask"}
    if op in ("gather", "gather_nd"):
        needed.add("batch_dims")
    if op in ("pad",):
        needed.add("padding")
    if op in ("linear", "batch_norm", "instance_norm", "layer_norm"):
        needed |= {"bias"} if op == "linear" else {"gamma", "beta"}
    if op not in NO_TENSOR:
        needed.add("one-long axis")
    return needed


class Coverage:
    """Counts of configurations, per operation and feature, and of the forms of operands."""

    def __init__(self):
        self.counts: dict[str, Counter] = defaultdict(Counter)
        self.whole: Counter = Counter()

    def add(self, config: Config, env: dict, notes=()) -> None:
        """Counts a configuration; `env` holds the values from its evaluation."""
        self.whole["configurations"] += 1
        self.whole.update({f"opset {config.opset}", f"{len(config.nodes)} operations", *config.notes, *notes})
        # A branch that was not taken has unknown values.
        value_of = lambda a: a.value if isinstance(a, Const) else env.get(a.name, (0.0, "unknown"))[0]  # noqa: E731
        shape_of = lambda a: () if isinstance(value_of(a), list) else np.shape(value_of(a))  # noqa: E731
        dtype_of = lambda a: env.get(a.name, (0.0, "unknown"))[1]  # noqa: E731
        made = {name: node.op for node in config.nodes for name in node.outputs}
        for node in flattened(config.nodes):
            counts = self.counts[node.op]
            counts["configurations"] += 1
            found = features(node, shape_of, dtype_of)
            found |= {made[r.name] for r in refs_of(node) if made.get(r.name, "").startswith("constexpr_")}
            counts.update(found | {config.opset})

    def merge(self, other: "Coverage") -> None:
        for op, counts in other.counts.items():
            self.counts[op].update(counts)
        self.whole.update(other.whole)

    def missing(self, ops) -> list[str]:
        """Obligatory features that no configuration exercised."""
        lacks = []
        for op in sorted(ops):
            counts = self.counts.get(op, Counter())
            if not counts:
                lacks.append(f"{op}: never run")
                continue
            lacks += [f"{op}: {feature}" for feature in sorted(obligatory(op)) if not counts[feature]]
        return lacks

    def table(self) -> str:
        """One line per operation: how often it ran, and how often with each feature."""
        lines = []
        for op, counts in sorted(self.counts.items()):
            parts = [f"{name} {n}" for name, n in sorted(counts.items()) if name != "configurations"]
            lines.append(f"{op:40} {counts['configurations']:7}  {', '.join(parts)}")
        return "\n".join(lines)


def flattened(nodes):
    """All operations; those of nested blocks follow the operation that contains them."""
    for node in nodes:
        yield node
        for block in node.blocks:
            yield from flattened(block.nodes)
