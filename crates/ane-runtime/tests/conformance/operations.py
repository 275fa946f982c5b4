#!/usr/bin/env python3
"""Generates the operations of the conformance suite: packages by coremltools, expected outputs by PyTorch.

Where PyTorch's function of the same name differs from MIL's operation, MIL's meaning is written out here, and a comment names
the source; `docs/semantics.md` lists these cases. What MIL leaves open (which of several equal elements `reduce_argmax` names)
is not tested.

    pip install -r requirements.txt
    python operations.py [FAMILY ...]        all, or only the given names

A family is a package with one output for each case, generated in fp32 and in fp16. PyTorch computes the expected outputs in
fp32 from the inputs and constants as the package holds them. No optimization pass runs, so the package contains the operation
under test itself.
"""

import sys
from collections.abc import Callable

from suite import ct, np, torch, write  # isort: skip
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

MIL = {np.float32: types.fp32, np.float16: types.fp16, np.int32: types.int32}
OUT = {np.float32: "fp32", np.float16: "fp16"}
FAMILIES: list["Family"] = []
nn = torch.nn.functional


class Family:
    """Cases that share inputs. `F` is the float type, fp32 or fp16."""

    def __init__(self, name: str, opset=ct.target.iOS18, **inputs):
        self.name, self.opset, self.inputs, self.cases = name, opset, inputs, []
        FAMILIES.append(self)

    def case(self, name: str, mil: Callable, torch_: Callable) -> None:
        """Adds a case: `mil(v, F)` returns a Var, `torch_(t, c)` a tensor; `v` and `t` hold the inputs, `c` rounds a constant to F."""
        self.cases.append((name, mil, torch_))

    def make(self, F) -> None:
        values = {k: v if v.dtype == np.int32 else v.astype(F) for k, v in self.inputs.items()}
        specs = [mb.TensorSpec(shape=v.shape, dtype=MIL[v.dtype.type]) for v in values.values()]

        def body(*given):
            v = Namespace(zip(values, given))
            results = []
            for name, mil, _ in self.cases:
                results.extend(publish(name, mil(v, F), F))
            return results

        # coremltools derives the names of inputs from the parameters of the function.
        named = eval(f"lambda {', '.join(values)}: body({', '.join(values)})", {"body": body})
        program = mb.program(input_specs=specs, opset_version=self.opset)(named)
        model = ct.convert(
            program,
            minimum_deployment_target=self.opset,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        t = Namespace((k, torch.from_numpy(v.astype(np.float32) if v.dtype == F else v)) for k, v in values.items())
        expected = {}
        for name, _, torch_ in self.cases:
            result = torch_(t, lambda x: torch.from_numpy(np.asarray(x, dtype=F).astype(np.float32)))
            results = result if isinstance(result, tuple | list) else [result]
            for i, result in enumerate(results):
                key = name if len(results) == 1 else f"{name}_{i}"
                is_float = result.is_floating_point()
                expected[key] = result.numpy().astype(np.float32 if is_float else np.int32)
        write(f"{self.name}_{OUT[F]}", model, [("main", values, expected)])


class Namespace(dict):
    __getattr__ = dict.__getitem__


def publish(name, result, F):
    """Names results, and casts them to types that a function can return: booleans and small integers to int32."""
    results = result if isinstance(result, tuple | list) else [result]
    for i, var in enumerate(results):
        key = name if len(results) == 1 else f"{name}_{i}"
        dtype = types.builtin_to_string(var.dtype)
        if dtype in ("fp16", "fp32", "int32"):
            yield mb.identity(x=var, name=key)
        else:
            yield mb.cast(x=var, dtype="int32", name=key)


rng = np.random.default_rng(7)


def uniform(*shape, low=-2.0, high=2.0):
    return rng.uniform(low, high, shape)


def ints(*values, shape=None):
    return np.array(values, dtype=np.int32).reshape(shape or (len(values),))


# --- elementwise ------------------------------------------------------------------------------------------------------

unary = Family("unary", x=uniform(2, 3, 4), small=uniform(2, 3, low=-0.9, high=0.9), positive=uniform(2, 3, low=0.1, high=4), n=ints(-3, 0, 2, 5))
for op in "abs ceil cos cosh erf exp exp2 floor sign sin sinh square tanh".split():
    unary.case(op, lambda v, F, op=op: getattr(mb, op)(x=v.x), lambda t, c, op=op: getattr(torch, op)(t.x))
for op in "acos asin atan atanh tan".split():
    unary.case(op, lambda v, F, op=op: getattr(mb, op)(x=v.small), lambda t, c, op=op: getattr(torch, op)(t.small))
unary.case("round", lambda v, F: mb.round(x=mb.mul(x=v.x, y=F(2))), lambda t, c: torch.round(t.x * 2))
unary.case("sqrt", lambda v, F: mb.sqrt(x=v.positive), lambda t, c: torch.sqrt(t.positive))
unary.case("rsqrt", lambda v, F: mb.rsqrt(x=v.positive, epsilon=1e-3), lambda t, c: torch.rsqrt(t.positive + 1e-3))
unary.case("inverse", lambda v, F: mb.inverse(x=v.positive, epsilon=0.5), lambda t, c: 1 / (t.positive + 0.5))
unary.case("log", lambda v, F: mb.log(x=v.positive, epsilon=0.25), lambda t, c: torch.log(t.positive + 0.25))
unary.case("clip", lambda v, F: mb.clip(x=v.x, alpha=F(-0.5), beta=F(1.25)), lambda t, c: torch.clip(t.x, -0.5, 1.25))
unary.case("threshold", lambda v, F: mb.threshold(x=v.x, alpha=F(0.5)), lambda t, c: torch.clamp(t.x, min=0.5))
unary.case("identity", lambda v, F: mb.identity(x=v.x), lambda t, c: t.x)
for op in "abs sign square".split():
    unary.case(f"{op}_int", lambda v, F, op=op: getattr(mb, op)(x=v.n), lambda t, c, op=op: getattr(torch, op)(t.n))
unary.case("exp2_int", lambda v, F: mb.exp2(x=v.n), lambda t, c: torch.tensor([0, 1, 4, 32], dtype=torch.int32))
unary.case("threshold_int", lambda v, F: mb.threshold(x=v.n, alpha=1), lambda t, c: torch.clamp(t.n, min=1))
unary.case("cast_int", lambda v, F: mb.cast(x=v.x, dtype="int32"), lambda t, c: t.x.to(torch.int32))
unary.case("cast_bool", lambda v, F: mb.cast(x=v.n, dtype="bool"), lambda t, c: t.n != 0)
unary.case("cast_float", lambda v, F: mb.cast(x=v.n, dtype=OUT[F]), lambda t, c: t.n.float())
unary.case("cast_uint8", lambda v, F: mb.cast(x=v.positive, dtype="uint8"), lambda t, c: t.positive.to(torch.uint8))

binary = Family("binary", x=uniform(2, 3, low=0.5), y=uniform(3, low=0.5), m=ints(-7, 4, 9, -2, 6, 5, shape=(2, 3)), n=ints(2, -3, 4))
both = lambda op: lambda v, F: getattr(mb, op)(x=v.x, y=v.y)  # noqa: E731
whole = lambda op: lambda v, F: getattr(mb, op)(x=v.m, y=v.n)  # noqa: E731
for op, torch_ in {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "maximum": torch.maximum, "minimum": torch.minimum,
    "floor_div": torch.floor_divide, "mod": torch.remainder,
}.items():  # fmt: skip
    binary.case(op, both(op), lambda t, c, f=torch_: f(t.x, t.y))
    binary.case(f"{op}_int", whole(op), lambda t, c, f=torch_: f(t.m, t.n))
binary.case("real_div", both("real_div"), lambda t, c: t.x / t.y)
binary.case("pow", both("pow"), lambda t, c: torch.pow(t.x, t.y))
binary.case("sub_reversed", lambda v, F: mb.sub(x=v.y, y=v.x), lambda t, c: t.y - t.x)
binary.case("outer", lambda v, F: mb.mul(x=mb.expand_dims(x=v.x, axes=[2]), y=v.y), lambda t, c: t.x[:, :, None] * t.y)
binary.case("scalar", lambda v, F: mb.sub(x=F(1.5), y=v.x), lambda t, c: 1.5 - t.x)
for op, torch_ in {
    "equal": torch.eq, "not_equal": torch.ne, "less": torch.lt, "less_equal": torch.le, "greater": torch.gt,
    "greater_equal": torch.ge,
}.items():  # fmt: skip
    binary.case(op, lambda v, F, op=op: getattr(mb, op)(x=v.x, y=v.y), lambda t, c, f=torch_: f(t.x, t.y))
    same = lambda v, F, op=op: getattr(mb, op)(x=v.m, y=mb.minimum(x=v.m, y=ints(4)))  # noqa: E731
    binary.case(f"{op}_int", same, lambda t, c, f=torch_: f(t.m, torch.clamp(t.m, max=4)))
for op in "and or xor".split():
    truths = lambda v, F, op=op: getattr(mb, f"logical_{op}")(x=mb.greater(x=v.m, y=0), y=mb.greater(x=v.n, y=0))  # noqa: E731
    binary.case(f"logical_{op}", truths, lambda t, c, op=op: getattr(torch, f"logical_{op}")(t.m > 0, t.n > 0))
binary.case("logical_not", lambda v, F: mb.logical_not(x=mb.greater(x=v.m, y=0)), lambda t, c: ~(t.m > 0))
binary.case(
    "select",
    lambda v, F: mb.select(cond=mb.greater(x=v.m, y=0), a=v.x, b=F(-1)),
    lambda t, c: torch.where(t.m > 0, t.x, torch.tensor(-1.0)),
)
binary.case(
    "select_int",
    lambda v, F: mb.select(cond=mb.greater(x=v.n, y=0), a=v.m, b=mb.mul(x=v.m, y=v.m)),
    lambda t, c: torch.where(t.n > 0, t.m, t.m * t.m),
)

# --- activations ------------------------------------------------------------------------------------------------------

activation = Family("activation", x=uniform(2, 3, 4, low=-8, high=8), image=uniform(1, 3, 2, 2))
slopes, betas = [0.25, -0.5, 2.0], [1.0, 0.5, 1.5]
for op, torch_ in {
    "relu": nn.relu, "relu6": nn.relu6, "sigmoid": torch.sigmoid, "silu": nn.silu, "softplus": nn.softplus,
    "softsign": nn.softsign,
}.items():  # fmt: skip
    activation.case(op, lambda v, F, op=op: getattr(mb, op)(x=v.x), lambda t, c, f=torch_: f(t.x))
activation.case("elu", lambda v, F: mb.elu(x=v.x, alpha=F(0.5)), lambda t, c: nn.elu(t.x, 0.5))
activation.case("leaky_relu", lambda v, F: mb.leaky_relu(x=v.x, alpha=F(0.25)), lambda t, c: nn.leaky_relu(t.x, 0.25))
activation.case(
    "thresholded_relu",
    lambda v, F: mb.thresholded_relu(x=v.x, alpha=F(1.5)),
    lambda t, c: torch.where(t.x >= 1.5, t.x, torch.zeros(())),
)
activation.case(
    "clamped_relu",
    lambda v, F: mb.clamped_relu(x=v.x, alpha=F(0.25), beta=F(4)),
    lambda t, c: torch.clamp(torch.where(t.x >= 0, t.x, 0.25 * t.x), max=4),
)
activation.case(
    "linear_activation", lambda v, F: mb.linear_activation(x=v.x, alpha=F(0.5), beta=F(3)), lambda t, c: 0.5 * t.x + 3
)
activation.case(
    "scaled_tanh", lambda v, F: mb.scaled_tanh(x=v.x, alpha=F(2), beta=F(0.25)), lambda t, c: 2 * torch.tanh(0.25 * t.x)
)
activation.case(
    "sigmoid_hard",
    lambda v, F: mb.sigmoid_hard(x=v.x, alpha=F(0.25), beta=F(0.5)),
    lambda t, c: torch.clamp(0.25 * t.x + 0.5, 0, 1),
)
activation.case("prelu", lambda v, F: mb.prelu(x=v.image, alpha=np.array(slopes, F)), lambda t, c: nn.prelu(t.image, c(slopes)))
activation.case(
    "softplus_parametric",
    lambda v, F: mb.softplus_parametric(x=v.image, alpha=np.array(slopes, F), beta=np.array(betas, F)),
    lambda t, c: c(slopes)[:, None, None] * nn.softplus(c(betas)[:, None, None] * t.image),
)
activation.case("gelu", lambda v, F: mb.gelu(x=v.x), lambda t, c: nn.gelu(t.x))
activation.case(
    "gelu_tanh", lambda v, F: mb.gelu(x=v.x, mode="TANH_APPROXIMATION"), lambda t, c: nn.gelu(t.x, approximate="tanh")
)
activation.case(
    "gelu_sigmoid",
    lambda v, F: mb.gelu(x=v.x, mode="SIGMOID_APPROXIMATION"),
    lambda t, c: t.x * torch.sigmoid(1.702 * t.x),
)
for axis in (-1, 0, 1):
    activation.case(
        f"softmax_on_{axis % 3}", lambda v, F, a=axis: mb.softmax(x=v.x, axis=a), lambda t, c, a=axis: torch.softmax(t.x, a)
    )

# --- reductions -------------------------------------------------------------------------------------------------------

reduction = Family(
    "reduction",
    x=uniform(2, 3, 4, low=0.25), n=ints(*range(-5, 7), shape=(3, 4)), peaks=np.array([[1.0, 3, 2, 0], [2, 1, -1, 0.5]]),
)  # fmt: skip
folds = {
    "l1_norm": lambda x, d, k: x.abs().sum(d, k),
    "l2_norm": lambda x, d, k: x.square().sum(d, k).sqrt(),
    "log_sum": lambda x, d, k: x.sum(d, k).log(),
    "log_sum_exp": lambda x, d, k: x.logsumexp(d, k),
    "max": lambda x, d, k: x.amax(d, k),
    "mean": lambda x, d, k: x.mean(d, k),
    "min": lambda x, d, k: x.amin(d, k),
    "prod": lambda x, d, k: x.prod(2, True).prod(0, True) if k else x.prod(2).prod(0),
    "sum": lambda x, d, k: x.sum(d, k),
    "sum_square": lambda x, d, k: x.square().sum(d, k),
}
for op, fold in folds.items():
    for keep in (True, False):
        reduction.case(
            f"{op}_{'kept' if keep else 'dropped'}",
            lambda v, F, op=op, k=keep: getattr(mb, f"reduce_{op}")(x=v.x, axes=[-1, 0], keep_dims=k),
            lambda t, c, f=fold, k=keep: f(t.x, (0, 2), k),
        )
for op, fold in {"max": torch.amax, "min": torch.amin, "sum": torch.sum}.items():
    reduction.case(
        f"{op}_int",
        lambda v, F, op=op: getattr(mb, f"reduce_{op}")(x=v.n, axes=[1]),
        lambda t, c, f=fold: f(t.n, 1).to(torch.int32),
    )
reduction.case("mean_all", lambda v, F: mb.reduce_mean(x=v.x), lambda t, c: t.x.mean())
reduction.case("argmax", lambda v, F: mb.reduce_argmax(x=v.peaks, axis=-1), lambda t, c: torch.tensor([1, 0], dtype=torch.int32))
reduction.case("argmin", lambda v, F: mb.reduce_argmin(x=v.x, axis=1, keep_dims=True), lambda t, c: t.x.argmin(1, True))
reduction.case("cumsum", lambda v, F: mb.cumsum(x=v.x, axis=1), lambda t, c: t.x.cumsum(1))
reduction.case(
    "cumsum_exclusive", lambda v, F: mb.cumsum(x=v.x, axis=2, exclusive=True), lambda t, c: t.x.cumsum(2) - t.x
)
reduction.case("cumsum_reverse", lambda v, F: mb.cumsum(x=v.n, axis=0, reverse=True), lambda t, c: t.n.flip(0).cumsum(0).flip(0))
reduction.case("argsort", lambda v, F: mb.argsort(x=v.x, axis=1, ascending=True), lambda t, c: t.x.argsort(1))
reduction.case(
    "argsort_descending", lambda v, F: mb.argsort(x=v.x, axis=-1), lambda t, c: t.x.argsort(-1, descending=True)
)
reduction.case("topk", lambda v, F: mb.topk(x=v.x, k=2, axis=1), lambda t, c: tuple(t.x.topk(2, 1)))
reduction.case(
    "topk_smallest", lambda v, F: mb.topk(x=v.x, k=3, axis=-1, ascending=True), lambda t, c: tuple(t.x.topk(3, -1, largest=False))
)
reduction.case(
    "topk_alone", lambda v, F: mb.topk(x=v.n, k=1, axis=0, return_indices=False), lambda t, c: t.n.topk(1, 0).values
)

# --- products ---------------------------------------------------------------------------------------------------------

product = Family(
    "product",
    x=uniform(2, 5), a=uniform(2, 3, 4), b=uniform(4, 6), q=uniform(1, 2, 3, 4), k=uniform(1, 2, 5, 4), value=uniform(1, 2, 5, 6),
    e=uniform(2, 3, 4, 5), f=uniform(2, 5, 4, 3), n=ints(*range(6), shape=(2, 3)), m=ints(*range(-4, 8), shape=(3, 4)),
)  # fmt: skip
weight, bias = uniform(3, 5), uniform(3)
product.case("linear", lambda v, F: mb.linear(x=v.x, weight=weight.astype(F)), lambda t, c: nn.linear(t.x, c(weight)))
product.case(
    "linear_bias",
    lambda v, F: mb.linear(x=v.x, weight=weight.astype(F), bias=bias.astype(F)),
    lambda t, c: nn.linear(t.x, c(weight), c(bias)),
)
product.case("matmul", lambda v, F: mb.matmul(x=v.a, y=v.b), lambda t, c: t.a @ t.b)
product.case(
    "matmul_transposed", lambda v, F: mb.matmul(x=v.q, y=v.k, transpose_y=True), lambda t, c: t.q @ t.k.transpose(-1, -2)
)
product.case(
    "matmul_transposed_first", lambda v, F: mb.matmul(x=v.a, y=v.a, transpose_x=True), lambda t, c: t.a.transpose(1, 2) @ t.a
)
product.case(
    "matmul_transposed_both",
    lambda v, F: mb.matmul(x=v.a, y=mb.transpose(x=v.a, perm=[0, 2, 1]), transpose_x=True, transpose_y=True),
    lambda t, c: t.a.transpose(1, 2) @ t.a,
)
product.case("matmul_int", lambda v, F: mb.matmul(x=v.n, y=v.m), lambda t, c: t.n @ t.m)
product.case(
    "einsum", lambda v, F: mb.einsum(values=(v.e, v.f), equation="nchw,nwhu->nchu"), lambda t, c: torch.einsum("nchw,nwhu->nchu", t.e, t.f)
)
product.case(
    "einsum_three",
    lambda v, F: mb.einsum(values=(mb.squeeze(x=mb.slice_by_size(x=v.e, begin=[0, 0, 0, 0], size=[1, 3, 4, 5]), axes=[0]), mb.squeeze(x=mb.slice_by_size(x=v.f, begin=[0, 0, 0, 0], size=[1, 5, 4, 3]), axes=[0])), equation="chw,whu->chu"),
    lambda t, c: torch.einsum("chw,whu->chu", t.e[0], t.f[0]),
)
mask = uniform(3, 5)
seen = np.tril(np.ones((3, 5), bool), 1)
product.case(
    "attention", lambda v, F: mb.scaled_dot_product_attention(query=v.q, key=v.k, value=v.value), lambda t, c: nn.scaled_dot_product_attention(t.q, t.k, t.value)
)
product.case(
    "attention_mask",
    lambda v, F: mb.scaled_dot_product_attention(query=v.q, key=v.k, value=v.value, attn_mask=mask.astype(F)),
    lambda t, c: nn.scaled_dot_product_attention(t.q, t.k, t.value, attn_mask=c(mask)),
)
product.case(
    "attention_bools",
    lambda v, F: mb.scaled_dot_product_attention(query=v.q, key=v.k, value=v.value, attn_mask=seen),
    lambda t, c: nn.scaled_dot_product_attention(t.q, t.k, t.value, attn_mask=torch.from_numpy(seen)),
)

# --- convolutions and pooling -----------------------------------------------------------------------------------------

convolution = Family("convolution", line=uniform(1, 4, 9), image=uniform(2, 4, 7, 6), volume=uniform(1, 2, 3, 4, 5))
w1, w2, w3, wg, b2, wp = uniform(3, 4, 3), uniform(6, 4, 3, 2), uniform(2, 2, 2, 3, 2), uniform(6, 2, 3, 3), uniform(6), uniform(5, 4, 1, 1)
t1, t2, tg = uniform(4, 3, 3), uniform(4, 5, 3, 2), uniform(4, 3, 2, 2)
convolution.case("conv_1d", lambda v, F: mb.conv(x=v.line, weight=w1.astype(F)), lambda t, c: nn.conv1d(t.line, c(w1)))
convolution.case(
    "conv_1d_strided",
    lambda v, F: mb.conv(x=v.line, weight=w1.astype(F), strides=[2], dilations=[2], pad_type="custom", pad=[3, 1]),
    lambda t, c: nn.conv1d(nn.pad(t.line, (3, 1)), c(w1), stride=2, dilation=2),
)
convolution.case(
    "conv_2d",
    lambda v, F: mb.conv(x=v.image, weight=w2.astype(F), bias=b2.astype(F)),
    lambda t, c: nn.conv2d(t.image, c(w2), c(b2)),
)
convolution.case(
    "conv_2d_custom",
    lambda v, F: mb.conv(x=v.image, weight=w2.astype(F), strides=[2, 1], dilations=[1, 2], pad_type="custom", pad=[1, 2, 3, 0]),
    lambda t, c: nn.conv2d(nn.pad(t.image, (3, 0, 1, 2)), c(w2), stride=(2, 1), dilation=(1, 2)),
)
convolution.case(
    "conv_2d_same",
    lambda v, F: mb.conv(x=v.image, weight=w2.astype(F), pad_type="same"),
    lambda t, c: nn.conv2d(nn.pad(t.image, (0, 1, 1, 1)), c(w2)),
)
convolution.case(
    "conv_2d_same_lower",
    lambda v, F: mb.conv(x=v.image, weight=w2.astype(F), pad_type="same_lower"),
    lambda t, c: nn.conv2d(nn.pad(t.image, (1, 0, 1, 1)), c(w2)),
)
convolution.case(
    "conv_2d_groups",
    lambda v, F: mb.conv(x=v.image, weight=wg.astype(F), groups=2),
    lambda t, c: nn.conv2d(t.image, c(wg), groups=2),
)
convolution.case("conv_pointwise", lambda v, F: mb.conv(x=v.image, weight=wp.astype(F)), lambda t, c: nn.conv2d(t.image, c(wp)))
convolution.case("conv_3d", lambda v, F: mb.conv(x=v.volume, weight=w3.astype(F)), lambda t, c: nn.conv3d(t.volume, c(w3)))
convolution.case(
    "transposed_1d",
    lambda v, F: mb.conv_transpose(x=v.line, weight=t1.astype(F), strides=[2]),
    lambda t, c: nn.conv_transpose1d(t.line, c(t1), stride=2),
)
convolution.case(
    "transposed_2d",
    lambda v, F: mb.conv_transpose(x=v.image, weight=t2.astype(F), bias=b2[:5].astype(F), strides=[2, 3], pad_type="custom", pad=[1, 1, 0, 0], dilations=[2, 1]),
    lambda t, c: nn.conv_transpose2d(t.image, c(t2), c(b2[:5]), stride=(2, 3), padding=(1, 0), dilation=(2, 1)),
)
convolution.case(
    "transposed_groups",
    lambda v, F: mb.conv_transpose(x=v.image, weight=tg.astype(F), groups=2),
    lambda t, c: nn.conv_transpose2d(t.image, c(tg), groups=2),
)
convolution.case(
    "transposed_output_shape",
    lambda v, F: mb.conv_transpose(x=v.image, weight=t2.astype(F), strides=[2, 2], pad_type="custom", pad=[1, 1, 0, 0], output_shape=[2, 5, 14, 12]),
    lambda t, c: nn.conv_transpose2d(t.image, c(t2), stride=2, padding=(1, 0), output_padding=(1, 0)),
)


def windows(x, kernel, strides, pad=None, ceil_mode=False, same=None):
    """Returns the windows of pooling over two axes, padded with zeros, [N, C, positions, taps], and which taps are elements of x.

    Written from the documentation of coremltools' `avg_pool`. The overhang that `ceil_mode` adds after the last element counts as
    padding: Core ML divides by the whole window there unless `exclude_padding_from_average` is true, as measured in issue 2772
    and pull request 2844 of apple/coremltools. PyTorch excludes it from the divisor, so its function cannot be the oracle here.
    """
    size, pad = x.shape[2:], list(pad or [0, 0, 0, 0])
    places = []
    for i in range(2):
        if same:
            places.append(-(-size[i] // strides[i]))
            total = max((places[i] - 1) * strides[i] + kernel[i] - size[i], 0)
            pad[2 * i] = total // 2 if same == "same" else total - total // 2
            continue
        left = size[i] + pad[2 * i] + pad[2 * i + 1] - kernel[i]
        places.append((-(-left // strides[i]) if ceil_mode else left // strides[i]) + 1)
        if ceil_mode and pad[2 * i] + pad[2 * i + 1] > 0 and (places[i] - 1) * strides[i] >= size[i] + pad[2 * i]:
            places[i] -= 1
    # The padding after the last element, up to the end of the last window.
    behind = [max((places[i] - 1) * strides[i] + kernel[i] - size[i] - pad[2 * i], 0) for i in range(2)]
    around = (pad[2], behind[1], pad[0], behind[0])

    def unfold(x):
        x = nn.pad(x, around)[:, :, : (places[0] - 1) * strides[0] + kernel[0], : (places[1] - 1) * strides[1] + kernel[1]]
        return x.unfold(2, kernel[0], strides[0]).unfold(3, kernel[1], strides[1]).flatten(4)

    return unfold(x), unfold(torch.ones_like(x))


def average(x, *how, exclude=False, **more):
    taps, real = windows(x, *how, **more)
    return taps.sum(4) / (real.sum(4) if exclude else real.shape[4])


def root_of_squares(x, *how, **more):
    return windows(x, *how, **more)[0].square().sum(4).sqrt()


def largest(x, *how, **more):
    taps, real = windows(x, *how, **more)
    return torch.where(real > 0, taps, -torch.inf).amax(4)


for op, torch_ in {"max_pool": nn.max_pool2d, "avg_pool": nn.avg_pool2d}.items():
    convolution.case(
        op,
        lambda v, F, op=op: getattr(mb, op)(x=v.image, kernel_sizes=[3, 2], strides=[2, 2], pad_type="valid"),
        lambda t, c, f=torch_: f(t.image, (3, 2), stride=2),
    )
    convolution.case(
        f"{op}_padded",
        lambda v, F, op=op: getattr(mb, op)(x=v.image, kernel_sizes=[3, 2], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
        lambda t, c, f=torch_: f(t.image, (3, 2), stride=2, padding=1),
    )
convolution.case(
    "avg_pool_excluding",
    lambda v, F: mb.avg_pool(x=v.image, kernel_sizes=[3, 2], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], exclude_padding_from_average=True),
    lambda t, c: nn.avg_pool2d(t.image, (3, 2), stride=2, padding=1, count_include_pad=False),
)
# `ceil_mode` with windows that exceed the input, with and without padding; over one axis, which is computed
# as two axes of which the second has size 1.
for op, of in {"max_pool": largest, "avg_pool": average, "l2_pool": root_of_squares}.items():
    for name, kernel, strides, pad in [("ceil", [2, 3], [3, 2], [1, 1, 1, 1]), ("ceil_valid", [2, 3], [3, 4], None)]:
        convolution.case(
            f"{op}_{name}",
            lambda v, F, op=op, k=kernel, s=strides, p=pad: getattr(mb, op)(x=v.image, kernel_sizes=k, strides=s, pad_type="custom" if p else "valid", pad=p or [0] * 4, ceil_mode=True),
            lambda t, c, of=of, k=kernel, s=strides, p=pad: of(t.image, k, s, p, True),
        )
    convolution.case(
        f"{op}_ceil_line",
        lambda v, F, op=op: getattr(mb, op)(x=v.line, kernel_sizes=[4], strides=[3], pad_type="custom", pad=[1, 1], ceil_mode=True),
        lambda t, c, of=of: of(t.line[..., None], [4, 1], [3, 1], [1, 1, 0, 0], True)[..., 0],
    )
    for same in ("same", "same_lower"):
        convolution.case(
            f"{op}_{same}_both",
            lambda v, F, op=op, same=same: getattr(mb, op)(x=v.image, kernel_sizes=[4, 3], strides=[2, 2], pad_type=same),
            lambda t, c, of=of, same=same: of(t.image, [4, 3], [2, 2], same=same),
        )
    convolution.case(
        f"{op}_uneven",
        lambda v, F, op=op: getattr(mb, op)(x=v.image, kernel_sizes=[3, 2], strides=[2, 1], pad_type="custom", pad=[2, 0, 0, 1]),
        lambda t, c, of=of: of(t.image, [3, 2], [2, 1], [2, 0, 0, 1]),
    )
for name, kernel, strides, how in [
    ("ceil", [2, 3], [3, 2], dict(pad=[1, 1, 1, 1], ceil_mode=True)),
    ("ceil_valid", [2, 3], [3, 4], dict(ceil_mode=True)),
    ("same", [4, 3], [2, 2], dict(same="same")),
    ("uneven", [3, 2], [2, 1], dict(pad=[2, 0, 0, 1])),
]:
    convolution.case(
        f"avg_pool_{name}_excluding",
        lambda v, F, k=kernel, s=strides, h=how: mb.avg_pool(
            x=v.image, kernel_sizes=k, strides=s, pad_type=h.get("same") or ("custom" if "pad" in h else "valid"), pad=h.get("pad", [0] * 4),
            ceil_mode=h.get("ceil_mode", False), exclude_padding_from_average=True,
        ),
        lambda t, c, k=kernel, s=strides, h=how: average(t.image, k, s, exclude=True, **h),
    )
convolution.case(
    "max_pool_same", lambda v, F: mb.max_pool(x=v.line, kernel_sizes=[3], strides=[1], pad_type="same"), lambda t, c: nn.max_pool1d(t.line, 3, 1, padding=1)
)
convolution.case(
    "l2_pool", lambda v, F: mb.l2_pool(x=v.image, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid"), lambda t, c: nn.lp_pool2d(t.image, 2, 2, stride=2)
)
convolution.case(
    "avg_pool_3d", lambda v, F: mb.avg_pool(x=v.volume, kernel_sizes=[2, 2, 2], strides=[1, 2, 1], pad_type="valid"), lambda t, c: nn.avg_pool3d(t.volume, 2, stride=(1, 2, 1))
)

# --- normalization ----------------------------------------------------------------------------------------------------

normalization = Family("normalization", x=uniform(2, 3, 4), image=uniform(2, 3, 4, 5))
mean, variance, gamma, beta = uniform(3), uniform(3, low=0.5), uniform(3), uniform(3)
g4, b4 = uniform(4), uniform(4)
g34, b34 = uniform(3, 4), uniform(3, 4)
normalization.case(
    "batch_norm",
    lambda v, F: mb.batch_norm(x=v.image, mean=mean.astype(F), variance=variance.astype(F), gamma=gamma.astype(F), beta=beta.astype(F), epsilon=F(1e-3)),
    lambda t, c: nn.batch_norm(t.image, c(mean), c(variance), c(gamma), c(beta), eps=float(c(1e-3))),
)
normalization.case(
    "batch_norm_plain",
    lambda v, F: mb.batch_norm(x=v.x, mean=mean.astype(F), variance=variance.astype(F), epsilon=F(1e-3)),
    lambda t, c: nn.batch_norm(t.x, c(mean), c(variance), eps=float(c(1e-3))),
)
normalization.case(
    "instance_norm",
    lambda v, F: mb.instance_norm(x=v.image, gamma=gamma.astype(F), beta=beta.astype(F), epsilon=F(1e-3)),
    lambda t, c: nn.instance_norm(t.image, weight=c(gamma), bias=c(beta), eps=float(c(1e-3))),
)
normalization.case(
    "layer_norm",
    lambda v, F: mb.layer_norm(x=v.x, axes=[-1], gamma=g4.astype(F), beta=b4.astype(F), epsilon=F(1e-3)),
    lambda t, c: nn.layer_norm(t.x, (4,), c(g4), c(b4), float(c(1e-3))),
)
normalization.case(
    "layer_norm_two",
    lambda v, F: mb.layer_norm(x=v.x, axes=[1, 2], gamma=g34.astype(F), beta=b34.astype(F), epsilon=F(1e-3)),
    lambda t, c: nn.layer_norm(t.x, (3, 4), c(g34), c(b34), float(c(1e-3))),
)
normalization.case(
    "layer_norm_channels",
    lambda v, F: mb.layer_norm(x=v.image, axes=[1], gamma=gamma.astype(F), beta=beta.astype(F), epsilon=F(1e-3)),
    lambda t, c: nn.layer_norm(t.image.permute(0, 2, 3, 1), (3,), c(gamma), c(beta), float(c(1e-3))).permute(0, 3, 1, 2),
)
normalization.case(
    "l2_norm",
    lambda v, F: mb.l2_norm(x=v.image, epsilon=F(1e-3)),
    lambda t, c: t.image / (t.image.square().sum((1, 2, 3), keepdim=True) + c(1e-3)).sqrt(),
)
normalization.case(
    "local_response_norm",
    lambda v, F: mb.local_response_norm(x=v.image, size=3, alpha=F(0.5), beta=F(0.75), k=F(1.5)),
    lambda t, c: nn.local_response_norm(t.image, 3, 0.5, 0.75, 1.5),
)

# --- shapes and order -------------------------------------------------------------------------------------------------

reshape = Family("reshape", x=uniform(2, 3, 4), one=uniform(1, 3, 1, 4), image=uniform(1, 8, 2, 3), wide=uniform(4, 2, 4, 6), n=ints(*range(6), shape=(2, 3)))
reshape.case("reshape", lambda v, F: mb.reshape(x=v.x, shape=[4, -1]), lambda t, c: t.x.reshape(4, -1))
reshape.case("reshape_zero", lambda v, F: mb.reshape(x=v.x, shape=[3, 2, 0]), lambda t, c: t.x.reshape(3, 2, 4))
reshape.case(
    "reshape_like",
    lambda v, F: mb.reshape_like(x=v.x, ref_tensors=(v.n, v.one), begins=(0, 3), ends=(2, 4), end_masks=(False, False)),
    lambda t, c: t.x.reshape(2, 3, 4),
)
reshape.case("flatten2d", lambda v, F: mb.flatten2d(x=v.x, axis=2), lambda t, c: t.x.reshape(6, 4))
reshape.case("expand_dims", lambda v, F: mb.expand_dims(x=v.x, axes=[0, -1]), lambda t, c: t.x[None, ..., None])
reshape.case("squeeze", lambda v, F: mb.squeeze(x=v.one, axes=[2]), lambda t, c: t.one.squeeze(2))
reshape.case("transpose", lambda v, F: mb.transpose(x=v.x, perm=[2, 0, 1]), lambda t, c: t.x.permute(2, 0, 1))
reshape.case("transpose_int", lambda v, F: mb.transpose(x=v.n, perm=[1, 0]), lambda t, c: t.n.T)
reshape.case("reverse", lambda v, F: mb.reverse(x=v.x, axes=[0, 2]), lambda t, c: t.x.flip(0, 2))
reshape.case(
    "reverse_sequence",
    lambda v, F: mb.reverse_sequence(x=v.x, lengths=[2, 3], seq_axis=1, batch_axis=0),
    lambda t, c: torch.stack([torch.cat([t.x[0, :2].flip(0), t.x[0, 2:]]), t.x[1].flip(0)]),
)
reshape.case("pixel_shuffle", lambda v, F: mb.pixel_shuffle(x=v.image, upscale_factor=2), lambda t, c: nn.pixel_shuffle(t.image, 2))
reshape.case(
    "pixel_unshuffle", lambda v, F: mb.pixel_unshuffle(x=v.wide, downscale_factor=np.uint32(2)), lambda t, c: nn.pixel_unshuffle(t.wide, 2)
)
# As TensorFlow defines it: the block's row and column are the slow part of a channel's index.
reshape.case(
    "depth_to_space",
    lambda v, F: mb.depth_to_space(x=v.image, block_size=2),
    lambda t, c: t.image.reshape(1, 2, 2, 2, 2, 3).permute(0, 3, 4, 1, 5, 2).reshape(1, 2, 4, 6),
)
reshape.case(
    "space_to_depth",
    lambda v, F: mb.space_to_depth(x=v.wide, block_size=2),
    lambda t, c: t.wide.reshape(4, 2, 2, 2, 3, 2).permute(0, 3, 5, 1, 2, 4).reshape(4, 8, 2, 3),
)
reshape.case(
    "space_to_batch",
    lambda v, F: mb.space_to_batch(x=v.wide, block_shape=[2, 3], paddings=[[1, 1], [0, 0]]),
    lambda t, c: nn.pad(t.wide, (0, 0, 1, 1)).reshape(4, 2, 3, 2, 2, 3).permute(3, 5, 0, 1, 2, 4).reshape(24, 2, 3, 2),
)
reshape.case(
    "batch_to_space",
    lambda v, F: mb.batch_to_space(x=v.wide, block_shape=[2, 2], crops=[[0, 1], [2, 0]]),
    lambda t, c: t.wide.reshape(2, 2, 1, 2, 4, 6).permute(2, 3, 4, 0, 5, 1).reshape(1, 2, 8, 12)[:, :, :7, 2:],
)

slices = Family("slice", x=uniform(3, 4, 5), image=uniform(1, 2, 5, 6), at=ints(1, 0, 2))
update = uniform(1, 2, 3)
slices.case(
    "by_index", lambda v, F: mb.slice_by_index(x=v.x, begin=[0, 1, 0], end=[2, 3, 5], stride=[1, 1, 2]), lambda t, c: t.x[0:2, 1:3, 0:5:2]
)
slices.case(
    "by_index_masked",
    lambda v, F: mb.slice_by_index(x=v.x, begin=[1, -3, 2], end=[0, -1, 9], begin_mask=[True, False, False], end_mask=[True, False, True]),
    lambda t, c: t.x[:, -3:-1, 2:],
)
slices.case(
    "by_index_squeezed",
    lambda v, F: mb.slice_by_index(x=v.x, begin=[1, 0, -1], end=[0, 0, 0], end_mask=[False, True, False], squeeze_mask=[True, False, True]),
    lambda t, c: t.x[1, :, -1],
)
slices.case(
    "by_index_backwards",
    lambda v, F: mb.slice_by_index(x=v.x, begin=[2, 3, 4], end=[0, 0, 0], stride=[-1, -2, -1], end_mask=[True, False, False]),
    lambda t, c: t.x.flip(0, 1, 2)[:, 0:3:2, 0:4],
)
slices.case("by_size", lambda v, F: mb.slice_by_size(x=v.x, begin=[1, 0, 2], size=[2, -1, 3]), lambda t, c: t.x[1:3, :, 2:5])
slices.case("by_size_computed", lambda v, F: mb.slice_by_size(x=v.x, begin=v.at, size=[2, 3, 2]), lambda t, c: t.x[1:3, 0:3, 2:4])


def updated(x, box, value):
    x = x.clone()
    x[box] = value
    return x


slices.case(
    "update",
    lambda v, F: mb.slice_update(x=v.x, update=update.astype(F), begin=[1, 2, 0], end=[2, 4, 5], stride=[1, 1, 2]),
    lambda t, c: updated(t.x, (slice(1, 2), slice(2, 4), slice(0, 5, 2)), c(update)),
)
slices.case(
    "update_computed",
    lambda v, F: mb.slice_update(x=v.x, update=update.astype(F), begin=v.at, end=mb.add(x=v.at, y=ints(1, 2, 3))),
    lambda t, c: updated(t.x, (slice(1, 2), slice(0, 2), slice(2, 5)), c(update)),
)
slices.case("crop", lambda v, F: mb.crop(x=v.image, crop_height=[1, 2], crop_width=[0, 3]), lambda t, c: t.image[:, :, 1:3, 0:3])

join = Family("join", a=uniform(2, 3), b=uniform(2, 3), wide=uniform(2, 6), image=uniform(1, 2, 3, 4), n=ints(3, 1))
join.case("concat", lambda v, F: mb.concat(values=(v.a, v.wide, v.b), axis=1), lambda t, c: torch.cat([t.a, t.wide, t.b], 1))
join.case(
    "concat_interleaved",
    lambda v, F: mb.concat(values=(v.a, v.b), axis=1, interleave=True),
    lambda t, c: torch.stack([t.a, t.b], 2).reshape(2, 6),
)
join.case("concat_ints", lambda v, F: mb.concat(values=(v.n, ints(5)), axis=0), lambda t, c: torch.cat([t.n, torch.tensor([5], dtype=torch.int32)]))
join.case("stack", lambda v, F: mb.stack(values=(v.a, v.b, v.a), axis=1), lambda t, c: torch.stack([t.a, t.b, t.a], 1))
join.case("split", lambda v, F: mb.split(x=v.wide, num_splits=3, axis=1), lambda t, c: tuple(t.wide.split(2, 1)))
join.case(
    "split_sizes", lambda v, F: mb.split(x=v.wide, split_sizes=[1, 3, 2], axis=-1), lambda t, c: tuple(t.wide.split([1, 3, 2], 1))
)
join.case("tile", lambda v, F: mb.tile(x=v.a, reps=[2, 3]), lambda t, c: t.a.tile(2, 3))
join.case(
    "pad", lambda v, F: mb.pad(x=v.image, pad=[1, 0, 2, 1], mode="constant", constant_val=F(0.5)), lambda t, c: nn.pad(t.image, (2, 1, 1, 0), value=0.5)
)
for mode in ("reflect", "replicate"):
    join.case(f"pad_{mode}", lambda v, F, m=mode: mb.pad(x=v.image, pad=[1, 2, 3, 0], mode=m, constant_val=F(0)), lambda t, c, m=mode: nn.pad(t.image, (3, 0, 1, 2), mode=m))
join.case(
    "sliding_windows", lambda v, F: mb.sliding_windows(x=v.wide, axis=1, size=3, stride=2), lambda t, c: t.wide.unfold(1, 3, 2)
)

# --- gathering and scattering -----------------------------------------------------------------------------------------

gather = Family(
    "gather",
    x=uniform(3, 4, 5), rows=ints(2, 0, -1, 1, shape=(2, 2)), along=ints(*([0, 2, 1, 1] * 5), shape=(1, 4, 5)),
    pairs=ints(0, 1, 2, 3, shape=(2, 2)), batch=ints(1, 3, 0, 2, 2, 0, shape=(3, 2)), data=uniform(4, 3), where=ints(1, 3, 1),
    updates=uniform(3, 3),
)  # fmt: skip
gather.case("gather", lambda v, F: mb.gather(x=v.x, indices=v.rows, axis=0), lambda t, c: t.x[t.rows.long()])
gather.case("gather_axis", lambda v, F: mb.gather(x=v.x, indices=v.rows, axis=-1), lambda t, c: t.x[:, :, t.rows.long()])
gather.case(
    "gather_batch",
    lambda v, F: mb.gather(x=v.x, indices=v.batch, axis=1, batch_dims=1),
    lambda t, c: torch.stack([t.x[i, t.batch[i].long()] for i in range(3)]),
)
gather.case(
    "gather_along_axis", lambda v, F: mb.gather_along_axis(x=v.x, indices=v.along, axis=0), lambda t, c: t.x.gather(0, t.along.long())
)
gather.case("gather_nd", lambda v, F: mb.gather_nd(x=v.x, indices=v.pairs), lambda t, c: t.x[t.pairs[:, 0].long(), t.pairs[:, 1].long()])
gather.case(
    "gather_nd_batch",
    lambda v, F: mb.gather_nd(x=v.x, indices=mb.expand_dims(x=v.batch, axes=[2]), batch_dims=1),
    lambda t, c: torch.stack([t.x[i, t.batch[i].long()] for i in range(3)]),
)


def scattered(t, f):
    out = t.data.clone()
    for i, row in enumerate(t.where.tolist()):
        out[row] = f(out[row], t.updates[i])
    return out


for mode, f in {
    "update": lambda a, b: b, "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b, "max": torch.maximum, "min": torch.minimum,
}.items():  # fmt: skip
    gather.case(
        f"scatter_{mode}",
        lambda v, F, m=mode: mb.scatter(data=v.data, indices=v.where, updates=v.updates, axis=0, mode=m),
        lambda t, c, f=f: scattered(t, f),
    )
gather.case(
    "scatter_axis",
    lambda v, F: mb.scatter(data=mb.transpose(x=v.data, perm=[1, 0]), indices=v.where, updates=mb.transpose(x=v.updates, perm=[1, 0]), axis=1),
    lambda t, c: scattered(t, lambda a, b: a + b).T,
)
gather.case(
    "scatter_along_axis",
    lambda v, F: mb.scatter_along_axis(data=v.data, indices=ints(3, 0, 1, 0, 2, 2, shape=(2, 3)), updates=mb.slice_by_size(x=v.updates, begin=[0, 0], size=[2, 3]), axis=0),
    lambda t, c: t.data.scatter_add(0, torch.tensor([[3, 0, 1], [0, 2, 2]]), t.updates[:2]),
)
gather.case(
    "scatter_nd",
    lambda v, F: mb.scatter_nd(data=v.data, indices=ints(3, 1, 0, 2, shape=(2, 2)), updates=np.array([0.5, -2], F), mode="add"),
    lambda t, c: t.data.index_put((torch.tensor([3, 0]), torch.tensor([1, 2])), torch.tensor([0.5, -2.0]), accumulate=True),
)

# --- making tensors ---------------------------------------------------------------------------------------------------

creation = Family("creation", x=uniform(2, 3, 4), n=ints(2, 0, 3, 7))
creation.case("shape", lambda v, F: mb.shape(x=v.x), lambda t, c: torch.tensor([2, 3, 4], dtype=torch.int32))
creation.case("fill", lambda v, F: mb.fill(shape=[2, 3], value=F(0.5)), lambda t, c: torch.full((2, 3), 0.5))
creation.case("fill_like", lambda v, F: mb.fill_like(ref_tensor=v.x, value=F(-1.5)), lambda t, c: torch.full((2, 3, 4), -1.5))
creation.case("range_1d", lambda v, F: mb.range_1d(start=F(1), end=F(4), step=F(0.5)), lambda t, c: torch.arange(1, 4, 0.5))
creation.case("range_ints", lambda v, F: mb.range_1d(start=9, end=0, step=-4), lambda t, c: torch.arange(9, 0, -4))
creation.case("one_hot", lambda v, F: mb.one_hot(indices=v.n, one_hot_vector_size=4), lambda t, c: torch.tensor([[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]))
creation.case(
    "one_hot_axis",
    lambda v, F: mb.one_hot(indices=v.n, one_hot_vector_size=8, axis=0, on_value=F(2), off_value=F(-1)),
    lambda t, c: nn.one_hot(t.n.long(), 8).T * 3.0 - 1,
)
creation.case("band_part", lambda v, F: mb.band_part(x=v.x, lower=1, upper=0), lambda t, c: t.x.tril() - t.x.tril(-2))
creation.case("band_part_upper", lambda v, F: mb.band_part(x=v.x, lower=0, upper=-1), lambda t, c: t.x.triu())
creation.case(
    "folded",
    lambda v, F: mb.reshape(x=v.x, shape=mb.concat(values=(mb.gather(x=mb.shape(x=v.x), indices=[2], axis=0), ints(-1)), axis=0)),
    lambda t, c: t.x.reshape(4, -1),
)

# --- images -----------------------------------------------------------------------------------------------------------

resize = Family("resize", x=uniform(1, 2, 3, 4), grid=uniform(1, 2, 3, 2, low=-1.4, high=1.4))
both_ways = dict(scale_factor_height=2, scale_factor_width=3)
resize.case(
    "upsample_nearest", lambda v, F: mb.upsample_nearest_neighbor(x=v.x, **both_ways), lambda t, c: nn.interpolate(t.x, scale_factor=(2, 3), mode="nearest")
)
for align in (True, False):
    resize.case(
        f"upsample_bilinear_{'aligned' if align else 'half'}",
        lambda v, F, a=align: mb.upsample_bilinear(x=v.x, align_corners=a, **both_ways),
        lambda t, c, a=align: nn.interpolate(t.x, scale_factor=(2, 3), mode="bilinear", align_corners=a),
    )
# MIL takes the element that contains the center of the output pixel; PyTorch's `nearest` takes the one that
# contains its edge.
resize.case(
    "resize_nearest",
    lambda v, F: mb.resize_nearest_neighbor(x=v.x, target_size_height=5, target_size_width=2),
    lambda t, c: nn.interpolate(t.x, size=(5, 2), mode="nearest-exact"),
)
for mode, align in {"STRICT_ALIGN_CORNERS": True, "ALIGN_CORNERS": True, "UNALIGN_CORNERS": False}.items():
    resize.case(
        f"bilinear_{mode.lower()}",
        lambda v, F, m=mode: mb.resize_bilinear(x=v.x, target_size_height=5, target_size_width=7, sampling_mode=m),
        lambda t, c, a=align: nn.interpolate(t.x, size=(5, 7), mode="bilinear", align_corners=a),
    )


def at_points(x, rows, columns):
    """Samples at fractional rows and columns bilinearly, which PyTorch does exactly with aligned corners."""
    h, w = x.shape[2:]
    y, z = torch.meshgrid(torch.tensor(rows), torch.tensor(columns), indexing="ij")
    grid = torch.stack([z / (w - 1) * 2 - 1, y / (h - 1) * 2 - 1], -1)[None]
    return nn.grid_sample(x, grid.float(), align_corners=True, padding_mode="border")


resize.case(
    "bilinear_default",
    lambda v, F: mb.resize_bilinear(x=v.x, target_size_height=5, target_size_width=7, sampling_mode="DEFAULT"),
    lambda t, c: at_points(t.x, [min(2, i * 3 / 5) for i in range(5)], [min(3, i * 4 / 7) for i in range(7)]),
)
resize.case(
    "bilinear_offset_corners",
    lambda v, F: mb.resize_bilinear(x=v.x, target_size_height=5, target_size_width=7, sampling_mode="OFFSET_CORNERS"),
    lambda t, c: at_points(t.x, [(i + 0.5) * 2 / 5 for i in range(5)], [(i + 0.5) * 3 / 7 for i in range(7)]),
)
resize.case(
    "resize",
    lambda v, F: mb.resize(x=v.x, shape=[1, 6, 0], resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"),
    lambda t, c: nn.interpolate(t.x, size=(6, 4), mode="bilinear", align_corners=False),
)
resize.case(
    "resize_nearest_mode",
    lambda v, F: mb.resize(x=v.x, shape=[6, 8], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR"),
    lambda t, c: nn.interpolate(t.x, size=(6, 8), mode="nearest-exact"),
)
for mode in ("bilinear", "nearest"):
    for padding, theirs in {"constant": "zeros", "border": "border", "reflection": "reflection"}.items():
        for align in (True, False):
            if padding == "reflection" and not align:
                continue  # here PyTorch reflects at the edge of the last pixel, like MIL's `symmetric`
            resize.case(
                f"resample_{mode}_{padding}_{'aligned' if align else 'edges'}",
                lambda v, F, m=mode, p=padding, a=align: mb.resample(x=v.x, coordinates=v.grid, sampling_mode=m, padding_mode=p, padding_value=F(0), coordinates_mode="normalized_minus_one_to_one", align_corners=a),
                lambda t, c, m=mode, p=theirs, a=align: nn.grid_sample(t.x, t.grid, mode=m, padding_mode=p, align_corners=a),
            )
resize.case(
    "resample_symmetric",
    lambda v, F: mb.resample(x=v.x, coordinates=v.grid, sampling_mode="bilinear", padding_mode="symmetric", padding_value=F(0), coordinates_mode="normalized_minus_one_to_one", align_corners=False),
    lambda t, c: nn.grid_sample(t.x, t.grid, padding_mode="reflection", align_corners=False),
)

# --- quantized activations --------------------------------------------------------------------------------------------

quantized = Family("quantized", x=uniform(2, 3, low=-3, high=3))
scales, zeros = [0.03125, 0.0625, 0.015625], [10, -20, 0]
quantized.case(
    "quantize",
    lambda v, F: mb.quantize(input=v.x, scale=F(0.03125), zero_point=np.int8(5), output_dtype="int8"),
    lambda t, c: torch.clamp(torch.round(t.x / 0.03125) + 5, -128, 127).int(),
)
quantized.case(
    "quantize_unsigned",
    lambda v, F: mb.quantize(input=v.x, scale=F(0.03125), output_dtype="uint8"),
    lambda t, c: torch.clamp(torch.round(t.x / 0.03125), 0, 255).int(),
)
quantized.case(
    "dequantize",
    lambda v, F: mb.dequantize(
        input=mb.quantize(input=v.x, scale=np.array(scales, F), zero_point=np.array(zeros, np.int8), axis=1, output_dtype="int8"),
        scale=np.array(scales, F),
        zero_point=np.array(zeros, np.int8),
        axis=1,
    ),
    lambda t, c: (torch.clamp(torch.round(t.x / c(scales)) + torch.tensor(zeros), -128, 127) - torch.tensor(zeros)) * c(scales),
)

# --- control flow and shapes that depend on values ---------------------------------------------------------------------

control = Family("control", x=uniform(2, 3), n=ints(3), flags=np.array([[1.0, 0, 2], [0, 0, 3]]))


def scalar(v):
    """A function's inputs have at least one axis."""
    return mb.squeeze(x=v.n)


control.case(
    "cond",
    lambda v, F: mb.cond(
        pred=mb.greater(x=scalar(v), y=2), _true_fn=lambda: mb.mul(x=v.x, y=F(2)), _false_fn=lambda: mb.add(x=v.x, y=F(1))
    ),
    lambda t, c: t.x * 2,
)
control.case(
    "cond_other",
    lambda v, F: mb.cond(
        pred=mb.greater(x=scalar(v), y=3), _true_fn=lambda: mb.mul(x=v.x, y=F(2)), _false_fn=lambda: mb.add(x=v.x, y=F(1))
    ),
    lambda t, c: t.x + 1,
)
control.case(
    "while_loop",
    lambda v, F: mb.while_loop(
        _cond=lambda i, x: mb.less(x=i, y=scalar(v)),
        _body=lambda i, x: (mb.add(x=i, y=1), mb.mul(x=x, y=F(1.5))),
        loop_vars=(mb.mul(x=scalar(v), y=0), v.x),
    ),
    lambda t, c: (torch.tensor(3), t.x * 1.5 * 1.5 * 1.5),
)
control.case("non_zero", lambda v, F: mb.non_zero(x=v.flags), lambda t, c: t.flags.nonzero())
control.case(
    "range_computed", lambda v, F: mb.range_1d(start=0, end=scalar(v), step=1), lambda t, c: torch.arange(3, dtype=torch.int32)
)
control.case(
    "fill_computed",
    lambda v, F: mb.fill(shape=mb.concat(values=(v.n, ints(2)), axis=0), value=F(0.25)),
    lambda t, c: torch.full((3, 2), 0.25),
)
control.case(
    "tile_computed", lambda v, F: mb.tile(x=v.x, reps=mb.concat(values=(v.n, v.n), axis=0)), lambda t, c: t.x.tile(3, 3)
)
control.case(
    "slice_computed",
    lambda v, F: mb.slice_by_index(x=v.x, begin=[0, 0], end=mb.concat(values=(mb.sub(x=v.n, y=1), mb.sub(x=v.n, y=1)), axis=0)),
    lambda t, c: t.x[:2, :2],
)

# An integer matrix for `linear`, and layers of early opsets, whose parameters have the type of x.
early = Family("early", opset=ct.target.iOS15, x=uniform(2, 5), image=uniform(1, 3, 2, 2), n=ints(*range(10), shape=(2, 5)))
whole_weight = ints(*range(-7, 8), shape=(3, 5))
early.case(
    "linear_int", lambda v, F: mb.linear(x=v.n, weight=whole_weight, bias=ints(1, 2, 3)), lambda t, c: nn.linear(t.n, torch.from_numpy(whole_weight), torch.tensor([1, 2, 3], dtype=torch.int32))
)
early.case("gelu", lambda v, F: mb.gelu(x=v.x), lambda t, c: nn.gelu(t.x))
early.case("prelu", lambda v, F: mb.prelu(x=v.image, alpha=np.array(slopes, F)), lambda t, c: nn.prelu(t.image, c(slopes)))
early.case("linear", lambda v, F: mb.linear(x=v.x, weight=weight.astype(F)), lambda t, c: nn.linear(t.x, c(weight)))

halves = uniform(2, 5).astype(np.float16)
unfolded = Family("unfolded", opset=ct.target.iOS16, x=uniform(2, 5))
unfolded.case(
    "constexpr_cast",
    lambda v, F: mb.add(x=mb.cast(x=v.x, dtype="fp32"), y=mb.constexpr_cast(source_val=halves, output_dtype="fp32")),
    lambda t, c: t.x + torch.from_numpy(halves).float(),
)


if __name__ == "__main__":
    wanted = sys.argv[1:]
    count = 0
    for family in FAMILIES:
        if not wanted or family.name in wanted:
            for F in (np.float32, np.float16):
                family.make(F)
                count += len(family.cases)
                print(f"{family.name}_{OUT[F]}: {len(family.cases)} cases")
    print(f"{count} cases")
