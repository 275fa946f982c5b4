#!/usr/bin/env python3
"""Generates the models of the conformance suite: written in PyTorch, converted and compressed by coremltools.

    pip install -r requirements.txt
    python models.py [MODEL ...] [FORM ...]        all, or only the given names

Expected outputs are computed by PyTorch in fp32 with the weights that the package holds: rounded to fp16, quantized,
palettized or pruned, and read back from the package with coremltools.
"""

import re
import sys
import tempfile
from pathlib import Path

from suite import ct, np, torch, write  # isort: skip
import coremltools.optimize.coreml as cto
from coremltools.converters.mil.frontend.milproto import load as milproto
from torch import nn

rng = np.random.default_rng(11)
FP16, FP32 = ct.precision.FLOAT16, ct.precision.FLOAT32


# Weights must keep their PyTorch values so that they can be found again: batch norm stays a separate
# operation.
def pipeline():
    passes = ct.PassPipeline()
    passes.remove_passes(["common::fuse_conv_batchnorm"])
    return passes


# The size of the smallest weight that is compressed, in elements: more than the tables of rotary positions
# and any gain or bias.
SMALLEST = 100


def config(op):
    return cto.OptimizationConfig(global_config=op)


def quantize(**options):
    return lambda m: cto.linear_quantize_weights(m, config(cto.OpLinearQuantizerConfig(weight_threshold=SMALLEST, **options)))


def palettize(mode="uniform", **options):
    return lambda m: cto.palettize_weights(m, config(cto.OpPalettizerConfig(weight_threshold=SMALLEST, mode=mode, **options)))


def prune(joint=False):
    op = cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=SMALLEST)
    return lambda m: cto.prune_weights(m, config(op))


def jointly(first, second, **options):
    return lambda m: second(first(m), **options)


# Depthwise convolutions have one channel per block; coremltools skips weights whose size a block does not
# divide.
QUANTISED = {
    "int8_per_tensor": quantize(mode="linear_symmetric", dtype="int8", granularity="per_tensor"),
    "int8_per_channel": quantize(mode="linear_symmetric", dtype="int8", granularity="per_channel"),
    "uint8_asymmetric": quantize(mode="linear", dtype="uint8", granularity="per_channel"),
    "int4_per_block": quantize(mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=4),
    "int4_per_channel_block": quantize(mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=1),
    "uint4_per_channel": quantize(mode="linear", dtype="uint4", granularity="per_channel"),
    "lut4": palettize(nbits=4),
    "lut6": palettize(nbits=6),
    "lut8": palettize(nbits=8),
    "lut4_grouped": palettize(nbits=4, granularity="per_grouped_channel", group_size=4),
    "lut4_vector": palettize(mode="kmeans", nbits=4, cluster_dim=2),
    "sparse": prune(),
    "sparse_int8": jointly(
        prune(),
        lambda m: cto.linear_quantize_weights(
            m, config(cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=SMALLEST)), joint_compression=True
        ),
    ),
    "sparse_lut4": jointly(
        prune(),
        lambda m: cto.palettize_weights(
            m, config(cto.OpPalettizerConfig(nbits=4, mode="uniform", weight_threshold=SMALLEST)), joint_compression=True
        ),
    ),
}
# The forms of iOS 16, which uses other operations, with their parameters as attributes.
EARLY = {
    "ios16_int8": quantize(mode="linear_symmetric", dtype="int8"),
    "ios16_uint8": quantize(mode="linear", dtype="uint8"),
    "ios16_lut4": palettize(nbits=4),
    "ios16_lut6": palettize(nbits=6),
    "ios16_sparse": prune(),
}


class Attention(nn.Module):
    """Multi-head attention over a KV cache; `heads` share `kv_heads` keys and values.

    A head has four elements in every model here, so 1 / sqrt(4) is the same in fp16 and fp32.
    """

    def __init__(self, width, heads, kv_heads, context, bias, rope):
        super().__init__()
        self.heads, self.kv_heads, self.size, self.rope = heads, kv_heads, width // heads, rope
        self.q = nn.Linear(width, heads * self.size, bias)
        self.k = nn.Linear(width, kv_heads * self.size, bias)
        self.v = nn.Linear(width, kv_heads * self.size, bias)
        self.o = nn.Linear(heads * self.size, width, bias)
        # States are fp16 even if everything else is fp32.
        self.rounds_cache = False
        self.register_buffer("k_cache", torch.zeros(1, kv_heads, context, self.size))
        self.register_buffer("v_cache", torch.zeros(1, kv_heads, context, self.size))

    def forward(self, x, position, mask, cos, sin):
        t = x.shape[1]
        q = self.q(x).view(1, t, self.heads, self.size).transpose(1, 2)
        k = self.k(x).view(1, t, self.kv_heads, self.size).transpose(1, 2)
        v = self.v(x).view(1, t, self.kv_heads, self.size).transpose(1, 2)
        if self.rope:
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.rounds_cache:
            k, v = k.half().float(), v.half().float()
        first = position[0]
        self.k_cache[:, :, first : first + t] = k
        self.v_cache[:, :, first : first + t] = v
        repeats = self.heads // self.kv_heads
        keys = self.k_cache.repeat_interleave(repeats, 1)
        values = self.v_cache.repeat_interleave(repeats, 1)
        scores = q @ keys.transpose(-1, -2) / self.size**0.5 + mask
        y = torch.softmax(scores, -1) @ values
        return self.o(y.transpose(1, 2).reshape(1, t, -1))


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class Gpt2Block(nn.Module):
    def __init__(self, width, heads, context):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, heads, context, bias=True, rope=False)
        self.fc, self.proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, position, mask):
        x = x + self.attn(self.ln_1(x), position, mask, None, None)
        return x + self.proj(nn.functional.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    """LayerNorm, GELU, biases, embeddings in the graph, tied head."""

    name, width, heads, context, vocab = "gpt2", 16, 4, 8, 24

    def __init__(self, layers=2):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(self.vocab, self.width), nn.Embedding(self.context, self.width)
        self.h = nn.ModuleList(Gpt2Block(self.width, self.heads, self.context) for _ in range(layers))
        self.ln_f = nn.LayerNorm(self.width)

    def forward(self, token, position, mask):
        x = self.wte(token) + self.wpe(position)
        for block in self.h:
            x = block(x, position, mask)
        return self.ln_f(x) @ self.wte.weight.T

    def lengths(self):
        return {"main": 1}

    def calls(self):
        tokens = rng.integers(0, self.vocab, self.context)
        return [("main", decoder_inputs(tokens[i : i + 1], i, self.context)) for i in range(self.context)]


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


class LlamaBlock(nn.Module):
    def __init__(self, width, heads, kv_heads, context, hidden):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(width), RmsNorm(width)
        self.self_attn = Attention(width, heads, kv_heads, context, bias=False, rope=True)
        self.gate_proj, self.up_proj = nn.Linear(width, hidden, False), nn.Linear(width, hidden, False)
        self.down_proj = nn.Linear(hidden, width, False)

    def forward(self, x, position, mask, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), position, mask, cos, sin)
        y = self.post_attention_layernorm(x)
        return x + self.down_proj(nn.functional.silu(self.gate_proj(y)) * self.up_proj(y))


class Llama(nn.Module):
    """RMSNorm with gain, rotary positions, grouped-query attention, SwiGLU; one function for a token and one for a prompt."""

    name, width, heads, kv_heads, context, vocab, prompt = "llama", 16, 4, 2, 12, 24, 6

    def __init__(self, layers=2):
        super().__init__()
        self.embed_tokens = nn.Embedding(self.vocab, self.width)
        self.blocks = nn.ModuleList(
            LlamaBlock(self.width, self.heads, self.kv_heads, self.context, 40) for _ in range(layers)
        )
        self.norm, self.lm_head = RmsNorm(self.width), nn.Linear(self.width, self.vocab, False)
        size = self.width // self.heads
        frequency = 1.0 / 10000 ** (torch.arange(0, size, 2) / size)
        angle = torch.arange(self.context)[:, None] * torch.cat([frequency, frequency])
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, token, position, mask):
        x = self.embed_tokens(token)
        cos, sin = self.cos[position], self.sin[position]
        for block in self.blocks:
            x = block(x, position, mask, cos, sin)
        return self.lm_head(self.norm(x))

    def lengths(self):
        return {"decode": 1, "prefill": self.prompt}

    def calls(self):
        tokens = rng.integers(0, self.vocab, self.context)
        calls = [("prefill", decoder_inputs(tokens[: self.prompt], 0, self.context))]
        for i in range(self.prompt, self.context):
            calls.append(("decode", decoder_inputs(tokens[i : i + 1], i, self.context)))
        return calls


def decoder_inputs(tokens, first, context):
    """Tokens at the positions from `first` on; each attends to itself and to earlier positions."""
    position = np.arange(first, first + len(tokens), dtype=np.int32)
    seen = np.arange(context)[None, :] <= position[:, None]
    mask = np.where(seen, 0, -1e4).astype(np.float32)
    return {"token": tokens[None].astype(np.int32), "position": position, "mask": mask[None, None]}


class EncoderBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc, self.proj = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x, mask):
        t = x.shape[1]
        q, k, v = self.qkv(x).view(1, t, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.norm_1(x + self.out(y.transpose(1, 2).reshape(1, t, -1)))
        return self.norm_2(x + self.proj(nn.functional.gelu(self.fc(x))))


class Encoder(nn.Module):
    """Attention as one operation, normalization after the residual, mean over the tokens."""

    name, width, heads, length, vocab = "encoder", 16, 4, 10, 24

    def __init__(self, layers=2):
        super().__init__()
        self.embed = nn.Embedding(self.vocab, self.width)
        self.blocks = nn.ModuleList(EncoderBlock(self.width, self.heads) for _ in range(layers))
        self.classify = nn.Linear(self.width, 5)

    def forward(self, token, mask):
        x = self.embed(token)
        for block in self.blocks:
            x = block(x, mask)
        return torch.tanh(self.classify(x.mean(1)))

    def lengths(self):
        return {"main": None}

    def calls(self):
        calls = []
        for unpadded in (self.length, 7):
            token = rng.integers(0, self.vocab, (1, self.length)).astype(np.int32)
            mask = np.where(np.arange(self.length) < unpadded, 0, -1e4).astype(np.float32)
            calls.append(("main", {"token": token, "mask": np.broadcast_to(mask, (1, 1, self.length, self.length))}))
        return calls


class ConvNet(nn.Module):
    """Convolutions with batch norm, a depthwise convolution, pooling, a linear head."""

    name = "convnet"

    def __init__(self, layers=None):
        super().__init__()
        self.stem, self.bn_1 = nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12)
        self.depthwise, self.bn_2 = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), nn.BatchNorm2d(12)
        self.pointwise = nn.Conv2d(12, 16, 1)
        self.head = nn.Linear(16, 10)
        for norm in (self.bn_1, self.bn_2):
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.5, 1.5)

    def forward(self, image):
        x = nn.functional.relu(self.bn_1(self.stem(image)))
        x = nn.functional.silu(self.bn_2(self.depthwise(x)))
        x = nn.functional.max_pool2d(nn.functional.relu6(self.pointwise(x)), 2)
        x = nn.functional.avg_pool2d(x, 4).flatten(1)
        return torch.softmax(self.head(x), -1)

    def lengths(self):
        return {"main": None}

    def calls(self):
        return [("main", {"image": rng.uniform(-1, 1, (1, 3, 16, 16)).astype(np.float32)}) for _ in range(2)]


def states(model):
    """Returns the KV caches: buffers that the model writes."""
    return {name: buffer for name, buffer in model.named_buffers() if name.endswith("_cache")}


def convert(model, function, inputs, precision, target):
    tensors = [torch.from_numpy(v) for v in inputs.values()]
    traced = torch.jit.trace(model, tensors, check_trace=False)
    floats = np.float16 if precision == FP16 else np.float32
    inputs = [
        ct.TensorType(name=k, shape=v.shape, dtype=np.int32 if v.dtype == np.int32 else floats) for k, v in inputs.items()
    ]
    kept = [
        ct.StateType(wrapped_type=ct.TensorType(shape=buffer.shape, dtype=np.float16), name=name)
        for name, buffer in states(model).items()
    ]
    return ct.convert(
        traced,
        inputs=inputs,
        outputs=[ct.TensorType(name="result", dtype=floats)],
        states=kept or None,
        minimum_deployment_target=target,
        compute_precision=precision,
        pass_pipeline=pipeline(),
        skip_model_load=True,
    )


def weights(mlmodel):
    """Returns the constants of a package by name, decompressed by coremltools."""
    spec = mlmodel.get_spec()
    program = milproto.load(spec, spec.specificationVersion, mlmodel.weights_dir)
    operations = [op for function in program.functions.values() for op in function.operations]
    values = {}
    for op in operations:
        for output in op.outputs:
            if op.op_type == "const" and isinstance(output.val, np.ndarray) and output.val.size > 1:
                values[output.name] = output.val
            elif op.op_type.startswith("constexpr_") and len(op.outputs) == 1:
                values[output.name] = op.materialized_val_inference()
    return values


def reset(model):
    for buffer in states(model).values():
        buffer.zero_()


def make(model, suffix, compress, precision, target):
    """Writes one package, with PyTorch's results for its weights."""
    model.eval()
    calls = model.calls()
    first = {function: next(inputs for f, inputs in calls if f == function) for function in model.lengths()}
    converted = {}
    for function, inputs in first.items():
        reset(model)
        with torch.no_grad():
            converted[function] = convert(model, function, inputs, precision, target)
    one = next(iter(converted.values()))
    parameters = dict(model.named_parameters())
    parameters.update({name: b for name, b in model.named_buffers() if name not in states(model) and b.dim() > 0})
    rounded = np.float16 if precision == FP16 else np.float32
    # coremltools names a constant after its tensor.
    theirs = {name.replace(".", "_"): name for name in parameters}

    def ours(mlmodel):
        """Returns the package's weights by their PyTorch names."""
        found = {}
        for constant, value in weights(mlmodel).items():
            name = theirs.get(re.sub(r"(_to_fp16)?(_quantized|_palettized|_sparsified|_sparse)*$", "", constant))
            if name:
                found[name] = value
        lost = set(parameters) - set(found)
        assert not lost, f"{lost} are not in {sorted(weights(mlmodel))}"
        return found

    for name, value in ours(one).items():
        expected = parameters[name].detach().numpy().astype(rounded)
        assert np.array_equal(value.ravel(), expected.ravel()), f"{name} differs in the package"
    if compress:
        converted = {function: compress(m) for function, m in converted.items()}
        one = next(iter(converted.values()))
    with torch.no_grad():
        for name, value in ours(one).items():
            parameter = parameters[name]
            parameter.copy_(torch.from_numpy(value.reshape(parameter.shape).astype(np.float32)))
        reset(model)
        for module in model.modules():
            if isinstance(module, Attention):
                module.rounds_cache = precision == FP32
        steps = []
        for function, inputs in calls:
            floats = {k: v if v.dtype == np.int32 else v.astype(rounded) for k, v in inputs.items()}
            given = [torch.from_numpy(v if v.dtype == np.int32 else v.astype(np.float32)) for v in floats.values()]
            steps.append((function, floats, {"result": model(*given).numpy().astype(np.float32)}))
    name = f"model_{model.name}_{'fp16' if precision == FP16 else 'fp32'}_{suffix}"
    if len(converted) > 1:
        with tempfile.TemporaryDirectory() as folder:
            description = ct.utils.MultiFunctionDescriptor()
            for function, m in converted.items():
                path = str(Path(folder) / f"{function}.mlpackage")
                m.save(path)
                description.add_function(path, "main", function)
            description.default_function_name = next(iter(converted))
            joined = str(Path(folder) / "joined.mlpackage")
            ct.utils.save_multifunction(description, joined)
            write(name, Saved(joined), steps)
    else:
        write(name, one, steps)
    print(f"{name}: {len(steps)} calls")


class Saved:
    """A package that is already on disk."""

    def __init__(self, path):
        self.path = path

    def save(self, destination):
        import shutil

        shutil.copytree(self.path, destination)


def seeded(kind, **options):
    """Creates a model whose gains are not 1 and whose biases are not 0, because those values would hide errors."""
    torch.manual_seed(0)
    model = kind(**options)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.empty_like(parameter).uniform_(-0.3, 0.3))
    return model


if __name__ == "__main__":
    # Models, and forms of compression; all of them if none are named.
    wanted = [a for a in sys.argv[1:] if a in ("gpt2", "llama", "encoder", "convnet")]
    forms = [a for a in sys.argv[1:] if a not in wanted]
    for kind in (Gpt2, Llama, Encoder, ConvNet):
        if wanted and kind.name not in wanted:
            continue
        for precision in (FP32, FP16) if not forms or "plain" in forms else ():
            make(seeded(kind), "plain", None, precision, ct.target.iOS18)
        # One layer is enough to check that weights are dequantized correctly.
        for suffix, compress in QUANTISED.items():
            if forms and suffix not in forms:
                continue
            if suffix in (("int4_per_block", "lut4_vector") if kind is ConvNet else ("int4_per_channel_block",)):
                continue
            make(seeded(kind, layers=1), suffix, compress, FP16, ct.target.iOS18)
        if not states(kind()):
            for suffix, compress in EARLY.items():
                if forms and suffix not in forms:
                    continue
                make(seeded(kind, layers=1), suffix, compress, FP16, ct.target.iOS16)
