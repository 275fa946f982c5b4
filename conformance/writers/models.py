"""The models that every coremltools writes: their construction, their expected results, and the oldest version that supports them.

The module runs under Python 3.7 with numpy 1.21 and under the newest of both, so it uses few features. Weights and inputs come
from `numpy.random.RandomState`, whose values are the same in every version of numpy.
"""

import numpy as np

MODELS = []


class Model(object):
    """A model: `build(tools)` returns coremltools' model, `reference(inputs)` the outputs that it must compute.

    coremltools supports it from version `since` on. It computes in `precision`, and is called `calls` times on one state, or by
    the name of a `function`. `images` maps the inputs and outputs of image type to their colours.
    """

    def __init__(self, name, since, build, inputs, reference, precision="fp16", images=None, calls=1, function=None):
        self.name, self.since, self.build, self.inputs, self.reference = name, since, build, inputs, reference
        self.precision, self.images, self.calls, self.function = precision, images or {}, calls, function


def numbers(seed, *shape, **options):
    """Normally distributed fp32 values."""
    scale = options.get("scale", 1.0)
    return (np.random.RandomState(seed).standard_normal(shape) * scale).astype(np.float32)


def model(name, inputs, reference, since=(5, 2), **options):
    """Registers the model that the decorated function builds."""

    def register(build):
        MODELS.append(Model(name, since, build, inputs, reference, **options))
        return build

    return register


# References.


def conv2d(x, w, b=None, stride=1, pad=0, groups=1):
    """Convolution of `x` [N, C, H, W] with `w` [M, C / groups, K, L]."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    n, c, h, width = x.shape
    m, per_group, k, l = w.shape
    rows, columns = (h - k) // stride + 1, (width - l) // stride + 1
    y = np.zeros((n, m, rows, columns), np.float64)
    for g in range(groups):
        ins = slice(g * per_group, (g + 1) * per_group)
        outs = slice(g * m // groups, (g + 1) * m // groups)
        for i in range(k):
            for j in range(l):
                part = x[:, ins, i : i + stride * rows : stride, j : j + stride * columns : stride]
                y[:, outs] += np.einsum("nchw,mc->nmhw", part.astype(np.float64), w[outs, :, i, j].astype(np.float64))
    return y if b is None else y + b.reshape(1, -1, 1, 1)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def layer_norm(x, gamma, beta, epsilon=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * gamma + beta


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


# A convolutional network: strides, padding, groups, normalisation, pooling, and a classifier at the end.

CONV = {
    "w1": numbers(1, 16, 3, 3, 3, scale=0.3),
    "b1": numbers(2, 16, scale=0.1),
    "w2": numbers(3, 16, 1, 3, 3, scale=0.3),
    "w3": numbers(4, 32, 16, 1, 1, scale=0.3),
    "gamma": numbers(5, 32, scale=0.2) + 1,
    "beta": numbers(6, 32, scale=0.2),
    "mean": numbers(7, 32, scale=0.2),
    "variance": np.abs(numbers(8, 32, scale=0.2)) + 0.5,
    "w4": numbers(9, 10, 32, scale=0.2),
    "b4": numbers(10, 10, scale=0.2),
}
IMAGE = np.random.RandomState(11).randint(0, 256, (1, 3, 16, 16)).astype(np.float32)


def conv_reference(x, w=CONV):
    y = np.maximum(conv2d(x / 255, w["w1"], w["b1"], stride=2, pad=1), 0)
    y = np.maximum(conv2d(y, w["w2"], pad=1, groups=16), 0)
    y = conv2d(y, w["w3"])
    each = [w[k].reshape(1, -1, 1, 1) for k in ("gamma", "beta", "mean", "variance")]
    y = np.maximum((y - each[2]) / np.sqrt(each[3] + 1e-5) * each[0] + each[1], 0)
    return y.mean((2, 3)) @ w["w4"].T + w["b4"]


def conv_layers(mb, x, w=CONV):
    y = mb.mul(x=x, y=np.float32(1 / 255))
    y = mb.conv(x=y, weight=w["w1"], bias=w["b1"], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1])
    y = mb.relu(x=y)
    y = mb.relu(x=mb.conv(x=y, weight=w["w2"], pad_type="same", groups=16))
    y = mb.conv(x=y, weight=w["w3"], pad_type="valid")
    y = mb.batch_norm(x=y, mean=w["mean"], variance=w["variance"], gamma=w["gamma"], beta=w["beta"], epsilon=1e-5)
    y = mb.reduce_mean(x=mb.relu(x=y), axes=[2, 3], keep_dims=False)
    return mb.linear(x=y, weight=w["w4"], bias=w["b4"], name="scores")


def conv_program(tools, **options):
    @tools.program({"image": (1, 3, 16, 16)}, **options)
    def program(image):
        return conv_layers(tools.mb, image)

    return program


def conv_expected(inputs):
    return {"scores": conv_reference(inputs["image"].astype(np.float64))}


@model("conv_fp32", {"image": IMAGE}, conv_expected, precision="fp32")
def conv_fp32(tools):
    return tools.convert(conv_program(tools), precision="fp32")


@model("conv_fp16", {"image": IMAGE}, conv_expected)
def conv_fp16(tools):
    return tools.convert(conv_program(tools), precision="fp16")


@model("conv_image", {"image": IMAGE}, conv_expected, images={"image": "RGB"})
def conv_image(tools):
    image = tools.ct.ImageType(name="image", shape=(1, 3, 16, 16), color_layout=tools.colour("RGB"))
    return tools.convert(conv_program(tools), inputs=[image])


@model("conv_image_bgr_ios16", {"image": IMAGE}, conv_expected, since=(6, 3), images={"image": "BGR"})
def conv_image_bgr(tools):
    image = tools.ct.ImageType(name="image", shape=(1, 3, 16, 16), color_layout=tools.colour("BGR"))
    return tools.convert(conv_program(tools), inputs=[image], target="iOS16")


@model("classifier", {"image": IMAGE}, lambda inputs: {})
def classifier(tools):
    labels = ["label %d" % i for i in range(10)]

    @tools.program({"image": (1, 3, 16, 16)})
    def program(image):
        return tools.mb.softmax(x=conv_layers(tools.mb, image), axis=-1, name="probabilities")

    return tools.convert(program, classifier_config=tools.ct.ClassifierConfig(labels))


def inverted(inputs):
    return {"inverted": 255 - inputs["image"].astype(np.float64)}


@model("image_to_image_ios16", {"image": IMAGE}, inverted, since=(6, 3), images={"image": "RGB", "inverted": "RGB"})
def image_to_image(tools):
    ct, mb = tools.ct, tools.mb

    @tools.program({"image": (1, 3, 16, 16)})
    def program(image):
        return mb.sub(x=np.float32(255), y=image, name="inverted")

    image = ct.ImageType(name="image", shape=(1, 3, 16, 16), color_layout=tools.colour("RGB"))
    output = ct.ImageType(name="inverted", color_layout=tools.colour("RGB"))
    return tools.convert(program, inputs=[image], outputs=[output], target="iOS16")


# A 16-bit grayscale image holds values from 0 to 1; these are those of bytes.
GREY = (np.random.RandomState(12).randint(0, 256, (1, 1, 8, 12)) / 255).astype(np.float16)


def complement(inputs):
    return {"inverted": 1 - inputs["image"].astype(np.float64)}


@model(
    "image_grey_fp16_ios16",
    {"image": GREY},
    complement,
    since=(6, 3),
    images={"image": "GREY_FP16", "inverted": "GREY_FP16"},
)
def image_grey(tools):
    ct, mb = tools.ct, tools.mb

    @tools.program({"image": (1, 1, 8, 12)})
    def program(image):
        return mb.sub(x=np.float32(1), y=image, name="inverted")

    grey = tools.colour("GRAYSCALE_FLOAT16")
    image = ct.ImageType(name="image", shape=(1, 1, 8, 12), color_layout=grey)
    output = ct.ImageType(name="inverted", color_layout=grey)
    return tools.convert(program, inputs=[image], outputs=[output], target="iOS16")


# A multilayer perceptron: fixed, ranged and enumerated batch; several outputs; fp16 at the border.

MLP = {
    "w1": numbers(20, 64, 40, scale=0.2),
    "b1": numbers(21, 64, scale=0.2),
    "w2": numbers(22, 7, 64, scale=0.2),
    "b2": numbers(23, 7, scale=0.2),
}
ROWS = numbers(24, 3, 40)


def mlp_expected(inputs):
    x = inputs["x"].astype(np.float64)
    hidden = np.tanh(x @ MLP["w1"].T + MLP["b1"])
    y = hidden @ MLP["w2"].T + MLP["b2"]
    return {"y": y, "probabilities": softmax(y)}


def mlp_program(tools, rows, **options):
    @tools.program({"x": (rows, 40)}, **options)
    def program(x):
        mb = tools.mb
        hidden = mb.tanh(x=mb.linear(x=x, weight=MLP["w1"], bias=MLP["b1"]))
        y = mb.linear(x=hidden, weight=MLP["w2"], bias=MLP["b2"], name="y")
        return y, mb.softmax(x=y, axis=-1, name="probabilities")

    return program


@model("mlp_fp32", {"x": ROWS}, mlp_expected, precision="fp32")
def mlp_fp32(tools):
    return tools.convert(mlp_program(tools, 3), precision="fp32")


@model("mlp_fp16", {"x": ROWS}, mlp_expected)
def mlp_fp16(tools):
    return tools.convert(mlp_program(tools, 3), precision="fp16")


@model("mlp_ranged", {"x": ROWS}, mlp_expected, precision="fp32")
def mlp_ranged(tools):
    ct = tools.ct
    x = ct.TensorType(name="x", shape=ct.Shape(shape=(ct.RangeDim(1, 9, default=2), 40)))
    return tools.convert(mlp_program(tools, tools.symbol()), inputs=[x], precision="fp32")


@model("mlp_unbounded", {"x": ROWS}, mlp_expected)
def mlp_unbounded(tools):
    ct = tools.ct
    x = ct.TensorType(name="x", shape=ct.Shape(shape=(ct.RangeDim(1, 100000, default=2), 40)))
    return tools.convert(mlp_program(tools, tools.symbol()), inputs=[x], precision="fp16")


@model("mlp_enumerated", {"x": ROWS}, mlp_expected, precision="fp32")
def mlp_enumerated(tools):
    ct = tools.ct
    shapes = ct.EnumeratedShapes(shapes=[(1, 40), (3, 40), (8, 40)], default=(3, 40))
    x = ct.TensorType(name="x", shape=shapes)
    return tools.convert(mlp_program(tools, tools.symbol()), inputs=[x], precision="fp32")


@model("mlp_border_fp16_ios16", {"x": ROWS.astype(np.float16)}, mlp_expected, since=(6, 3))
def mlp_border(tools):
    ct = tools.ct
    x = ct.TensorType(name="x", shape=(3, 40), dtype=np.float16)
    outputs = [ct.TensorType(name=name, dtype=np.float16) for name in ("y", "probabilities")]
    return tools.convert(mlp_program(tools, 3), inputs=[x], outputs=outputs, target="iOS16")


# A transformer block with indices, a gather, attention and a normalisation, in every opset.

WIDTH, HEADS, TOKENS = 32, 4, 6
BLOCK = {
    "table": numbers(30, 50, WIDTH, scale=0.5),
    "gamma": numbers(31, WIDTH, scale=0.1) + 1,
    "beta": numbers(32, WIDTH, scale=0.1),
    "qkv": numbers(33, 3 * WIDTH, WIDTH, scale=0.2),
    "out": numbers(34, WIDTH, WIDTH, scale=0.2),
    "up": numbers(35, 4 * WIDTH, WIDTH, scale=0.2),
    "down": numbers(36, WIDTH, 4 * WIDTH, scale=0.1),
}
IDS = np.random.RandomState(37).randint(0, 50, (1, TOKENS)).astype(np.int32)


def block_expected(inputs):
    w = {name: value.astype(np.float64) for name, value in BLOCK.items()}
    x = w["table"][inputs["ids"]]
    n = inputs["ids"].shape[1]
    qkv = layer_norm(x, w["gamma"], w["beta"]) @ w["qkv"].T
    q, k, v = [p.reshape(1, n, HEADS, -1).transpose(0, 2, 1, 3) for p in np.split(qkv, 3, -1)]
    weights = softmax(q @ k.transpose(0, 1, 3, 2) / np.sqrt(WIDTH // HEADS))
    x = x + (weights @ v).transpose(0, 2, 1, 3).reshape(1, n, WIDTH) @ w["out"].T
    up = layer_norm(x, w["gamma"], w["beta"]) @ w["up"].T
    return {"y": x + gelu_tanh(up) @ w["down"].T}


def block_program(tools, tokens=TOKENS, **options):
    @tools.program({"ids": (1, tokens)}, integers=["ids"], **options)
    def program(ids):
        mb, zeros = tools.mb, lambda n: np.zeros(n, np.float32)
        normed = lambda x: mb.layer_norm(x=x, axes=[-1], gamma=BLOCK["gamma"], beta=BLOCK["beta"], epsilon=1e-5)
        linear = lambda x, name: mb.linear(x=x, weight=BLOCK[name], bias=zeros(BLOCK[name].shape[0]))
        x = mb.gather(x=BLOCK["table"], indices=ids, axis=0)
        parts = mb.split(x=linear(normed(x), "qkv"), num_splits=3, axis=-1)
        heads = [mb.reshape(x=p, shape=[1, -1, HEADS, WIDTH // HEADS]) for p in parts]
        q, k, v = [mb.transpose(x=h, perm=[0, 2, 1, 3]) for h in heads]
        scores = mb.mul(x=mb.matmul(x=q, y=k, transpose_y=True), y=np.float32((WIDTH // HEADS) ** -0.5))
        mixed = mb.transpose(x=mb.matmul(x=mb.softmax(x=scores, axis=-1), y=v), perm=[0, 2, 1, 3])
        x = mb.add(x=x, y=linear(mb.reshape(x=mixed, shape=[1, -1, WIDTH]), "out"))
        up = mb.gelu(x=linear(normed(x), "up"), mode="TANH_APPROXIMATION")
        return mb.add(x=x, y=linear(up, "down"), name="y")

    return program


def each_opset():
    opsets = [("iOS15", (5, 2)), ("iOS16", (6, 3)), ("iOS17", (7, 2)), ("iOS18", (8, 3)), ("iOS26", (9, 0))]
    for opset, since in opsets:
        for precision in ("fp32", "fp16"):
            name = "block_%s_%s" % (opset.lower(), precision)

            @model(name, {"ids": IDS}, block_expected, since=since, precision=precision)
            def block(tools, opset=opset, precision=precision):
                program = block_program(tools, opset=opset)
                return tools.convert(program, target=opset, precision=precision)


each_opset()


@model("block_ranged", {"ids": IDS}, block_expected)
def block_ranged(tools):
    ct = tools.ct
    ids = ct.TensorType(name="ids", shape=ct.Shape(shape=(1, ct.RangeDim(1, 16, default=4))), dtype=np.int32)
    return tools.convert(block_program(tools, tools.symbol()), inputs=[ids], precision="fp16")


# An LSTM over a sequence.

LSTM = {
    "ih": numbers(40, 4 * 16, 12, scale=0.3),
    "hh": numbers(41, 4 * 16, 16, scale=0.3),
    "b": numbers(42, 4 * 16, scale=0.3),
}
SEQUENCE = numbers(43, 5, 2, 12)


def lstm_expected(inputs):
    x, hidden, cell, outputs = inputs["x"].astype(np.float64), np.zeros((2, 16)), np.zeros((2, 16)), []
    for step in x:
        # The order of MIL's weights: input, forget, output, cell.
        i, f, o, z = np.split(step @ LSTM["ih"].T + hidden @ LSTM["hh"].T + LSTM["b"], 4, -1)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(z)
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return {"all": np.stack(outputs), "last": hidden}


@model("lstm", {"x": SEQUENCE}, lstm_expected, precision="fp32")
def lstm(tools):
    mb = tools.mb

    @tools.program({"x": (5, 2, 12)})
    def program(x):
        state = np.zeros((2, 16), np.float32)
        every, last, _ = mb.lstm(
            x=x, initial_h=state, initial_c=state, weight_ih=LSTM["ih"], weight_hh=LSTM["hh"], bias=LSTM["b"],
            direction="forward", output_sequence=True,
        )
        return mb.identity(x=every, name="all"), mb.identity(x=last, name="last")

    return tools.convert(program, precision="fp32")


# Compressed weights, by the API of each version. How a scheme compresses the weights is not checked: the reference is the same
# network with the weights as coremltools itself decompresses them.


def compressed(name, scheme, since, precision="fp16"):
    @model(name, {"x": ROWS}, None, since=since, precision=precision)
    def build(tools):
        program = mlp_program(tools, 3, opset=tools.opset_of(scheme))
        original = tools.convert(program, precision=precision, target=tools.opset_of(scheme))
        return tools.compress(original, scheme)


compressed("mlp_int8", "int8", (6, 3))
compressed("mlp_uint8_asymmetric", "uint8", (6, 3))
compressed("mlp_palette4", "palette4", (6, 3))
compressed("mlp_palette6", "palette6", (6, 3))
compressed("mlp_palette1", "palette1", (6, 3))
compressed("mlp_sparse", "sparse", (6, 3))
compressed("mlp_int8_fp32", "int8", (6, 3), precision="fp32")
compressed("mlp_int4_per_block_ios18", "int4", (8, 3))
compressed("mlp_int8_per_channel_ios18", "int8_ios18", (8, 3))
compressed("mlp_palette3_ios18", "palette3_ios18", (8, 3))
compressed("mlp_sparse_int8_ios18", "sparse_int8_ios18", (8, 3))


# States and several functions.

STEP = numbers(50, 1, 4).astype(np.float16)


def running_sum(inputs):
    return {"total": np.stack([calls * inputs["x"].astype(np.float64) for calls in (1, 2, 3)])}


@model("state_ios18", {"x": STEP}, running_sum, since=(8, 3), calls=3)
def state(tools):
    ct, mb = tools.ct, tools.mb
    fp16 = tools.types.fp16
    specs = [mb.TensorSpec((1, 4), dtype=fp16), mb.StateTensorSpec((1, 4), dtype=fp16)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS18)
    def program(x, memory):
        total = mb.add(x=x, y=mb.read_state(input=memory))
        return mb.identity(x=mb.coreml_update_state(state=memory, value=total), name="total")

    return tools.convert(program, target="iOS18")


def doubled(inputs):
    return {"y": 2 * inputs["x"].astype(np.float64)}


@model("functions_ios18", {"x": STEP.astype(np.float32)}, doubled, since=(8, 3), precision="fp32", function="double")
def functions(tools):
    """Combines two packages; `double` and `triple` share only their form."""

    def times(factor):
        @tools.program({"x": (1, 4)}, opset="iOS18")
        def program(x):
            return tools.mb.mul(x=x, y=np.float32(factor), name="y")

        return tools.convert(program, target="iOS18", precision="fp32")

    return [("double", times(2)), ("triple", times(3))]
