#!/usr/bin/env python3
"""Generates the recurrent layers, detectors, lists and classifiers of the conformance suite, as `operations.py` does the rest.

    pip install -r requirements.txt
    python layers.py [NAME ...]        all, or only the given names

Where PyTorch has the operation as MIL defines it, expected outputs are PyTorch's. Where it lacks it (a peephole, GRU's reset gate
before the product, the sampling modes of `crop_resize`), they follow the formulas of coremltools' documentation, and what its own
tests against Core ML add to them; each formula names its source.
"""

import sys

from suite import ct, np, torch, write  # isort: skip
import operations
from operations import OUT, Family, ints, mb, uniform
from operations import types as mb_types

nn = torch.nn.functional
FAMILIES: list[Family] = operations.FAMILIES
FAMILIES.clear()


def weights(rng, *shape):
    return rng.uniform(-0.6, 0.6, shape)


# --- recurrent layers -------------------------------------------------------------------------------------------------

rng = np.random.default_rng(11)
S, B, I, H = 4, 3, 5, 6
recurrent = Family(
    "recurrent",
    x=uniform(S, B, I), one=uniform(1, 1, I), h=uniform(B, H, low=-1, high=1), c=uniform(B, H, low=-1, high=1),
    both=uniform(B, 2 * H, low=-1, high=1), zero=np.zeros((1, H)),
)  # fmt: skip

ACTIVATIONS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": lambda x: x,
    # "All activation functions use their standard default values", says coremltools' test_recurrent.py.
    "scaled_tanh": torch.tanh,
    "hard_sigmoid": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
}


def steps(x, reverse, output_sequence, step):
    """Runs `step` along x. The result of a reverse layer's last step, for the first element of the sequence, is last, as in the
    comparison with Core ML in coremltools' test_recurrent.py, which gives PyTorch the reversed sequence."""
    outputs = [step(row) for row in (x.flip(0) if reverse else x)]
    return torch.stack(outputs if output_sequence else outputs[-1:])


def lstm(x, h, c, w, direction, output_sequence, gate, cell, out, clip):
    """The formulas of `lstm`; the cell is clipped where test_recurrent.py clips it. The order of the gates is i, f, o, z."""
    gate, cell, out = ACTIVATIONS[gate], ACTIVATIONS[cell], ACTIVATIONS[out]
    p = w.get("peephole", torch.zeros(3 * h.shape[1])).chunk(3)
    state = [h, c]

    def step(row):
        h, c = state
        i, f, o, z = (row @ w["weight_ih"].T + h @ w["weight_hh"].T + w.get("bias", 0)).chunk(4, 1)
        c = gate(f + c * p[1]) * c + gate(i + c * p[0]) * cell(z)
        c = torch.clamp(c, -clip, clip)
        h = gate(o + c * p[2]) * out(c)
        state[:] = [h, c]
        return h

    y = steps(x, direction == "reverse", output_sequence, step)
    return y, *state


def gru(x, h, w, direction, output_sequence, gate, out):
    """The formulas of `gru`. The reset gate is applied before the product, as in test_recurrent.py's comparison with Core ML and in
    the documentation of `GRULayerParams` in NeuralNetwork.proto. The order of the gates is r, o, z."""
    gate, out = ACTIVATIONS[gate], ACTIVATIONS[out]
    state = [h]
    (wr, wo, wz), (ur, uo, uz), (br, bo, bz) = (
        w[name].chunk(3) if name in w else [torch.zeros(())] * 3 for name in ("weight_ih", "weight_hh", "bias")
    )

    def step(row):
        h = state[0]
        r = gate(row @ wr.T + h @ ur.T + br)
        z = gate(row @ wz.T + h @ uz.T + bz)
        o = out(row @ wo.T + (r * h) @ uo.T + bo)
        state[0] = (1 - z) * o + z * h
        return state[0]

    y = steps(x, direction == "reverse", output_sequence, step)
    return y, state[0]


def torchs(kind, w, x, states, **options):
    """Runs a PyTorch layer with these weights, in PyTorch's names and order of gates."""
    layer = kind(x.shape[2], states[0].shape[2], **options)
    layer.load_state_dict({name: value for name, value in w.items()})
    with torch.no_grad():
        y, last = layer(x, states[0] if len(states) == 1 else tuple(states))
    return y, last


def ifzo(w):
    """Reorders gates: PyTorch's order is i, f, z, o; MIL's is i, f, o, z."""
    i, f, o, z = np.split(w, 4) if isinstance(w, np.ndarray) else w.chunk(4)
    return np.concatenate([i, f, z, o]) if isinstance(w, np.ndarray) else torch.cat([i, f, z, o])


LSTM = {"weight_ih": weights(rng, 4 * H, I), "weight_hh": weights(rng, 4 * H, H), "bias": weights(rng, 4 * H)}
BACK = {"weight_ih": weights(rng, 4 * H, I), "weight_hh": weights(rng, 4 * H, H), "bias": weights(rng, 4 * H)}
PEEPHOLE, PEEPHOLE_BACK = weights(rng, 3 * H), weights(rng, 3 * H)
GRU = {"weight_ih": weights(rng, 3 * H, I), "weight_hh": weights(rng, 3 * H, H), "bias": weights(rng, 3 * H)}
INPUT_BIAS = weights(rng, 3 * H)
RNN = {"weight_ih": weights(rng, H, I), "weight_hh": weights(rng, H, H), "bias": weights(rng, H)}


def typed(w, F):
    return {name: value.astype(F) for name, value in w.items()}


def rounded(w, c):
    return {name: c(value) for name, value in w.items()}


# Compared with PyTorch's own layers.
def torch_lstm(t, c, x, h, cell, back=None):
    w = {"weight_ih_l0": ifzo(c(LSTM["weight_ih"])), "weight_hh_l0": ifzo(c(LSTM["weight_hh"])), "bias_ih_l0": ifzo(c(LSTM["bias"]))}
    w["bias_hh_l0"] = torch.zeros(4 * H)
    if back:
        for name, mine in (("weight_ih", "weight_ih"), ("weight_hh", "weight_hh"), ("bias_ih", "bias")):
            w[f"{name}_l0_reverse"] = ifzo(c(back[mine]))
        w["bias_hh_l0_reverse"] = torch.zeros(4 * H)
    split = lambda s: torch.stack(s.split(H, 1))  # noqa: E731
    join = lambda s: torch.cat(tuple(s), 1)  # noqa: E731
    y, (hn, cn) = torchs(torch.nn.LSTM, w, x, (split(h), split(cell)), bidirectional=back is not None)
    return y, join(hn), join(cn)


recurrent.case(
    "lstm",
    lambda v, F: mb.lstm(x=v.x, initial_h=v.h, initial_c=v.c, **typed(LSTM, F), output_sequence=True),
    lambda t, c: torch_lstm(t, c, t.x, t.h, t.c),
)
recurrent.case(
    "lstm_reverse_last",
    lambda v, F: mb.lstm(x=v.x, initial_h=v.h, initial_c=v.c, **typed(LSTM, F), direction="reverse"),
    lambda t, c: (lambda y, h, n: (y[-1:], h, n))(*torch_lstm(t, c, t.x.flip(0), t.h, t.c)),
)
recurrent.case(
    "lstm_reverse",
    lambda v, F: mb.lstm(x=v.x, initial_h=v.h, initial_c=v.c, **typed(LSTM, F), direction="reverse", output_sequence=True),
    lambda t, c: torch_lstm(t, c, t.x.flip(0), t.h, t.c),
)
both = lambda F: typed(LSTM, F) | {f"{name}_back": value for name, value in typed(BACK, F).items()}  # noqa: E731
recurrent.case(
    "lstm_both_ways",
    lambda v, F: mb.lstm(x=v.x, initial_h=v.both, initial_c=v.both, **both(F), direction="bidirectional", output_sequence=True),
    lambda t, c: torch_lstm(t, c, t.x, t.both, t.both, BACK),
)
recurrent.case(
    "lstm_both_ways_last",
    lambda v, F: mb.lstm(x=v.x, initial_h=v.both, initial_c=v.both, **both(F), direction="bidirectional"),
    # The last step of each direction.
    lambda t, c: (lambda y, h, n: (torch.cat([y[-1:, :, :H], y[:1, :, H:]], 2), h, n))(*torch_lstm(t, c, t.x, t.both, t.both, BACK)),
)
recurrent.case(
    "lstm_one_step",
    lambda v, F: mb.lstm(x=v.one, initial_h=v.zero, initial_c=v.zero, **typed(LSTM, F), output_sequence=True),
    lambda t, c: torch_lstm(t, c, t.one, t.zero, t.zero),
)
nonlinear = torch.nn.RNN, {"weight_ih_l0": "weight_ih", "weight_hh_l0": "weight_hh", "bias_ih_l0": "bias"}


def torch_rnn(t, c, x, activation):
    w = {theirs: c(RNN[mine]) for theirs, mine in nonlinear[1].items()} | {"bias_hh_l0": torch.zeros(H)}
    y, last = torchs(torch.nn.RNN, w, x, [t.h[None]], nonlinearity=activation)
    return y, last[0]


for activation in ("tanh", "relu"):
    recurrent.case(
        f"rnn_{activation}",
        lambda v, F, a=activation: mb.rnn(x=v.x, initial_h=v.h, **typed(RNN, F), activation=a, output_sequence=True),
        lambda t, c, a=activation: torch_rnn(t, c, t.x, a),
    )
recurrent.case(
    "rnn_reverse",
    lambda v, F: mb.rnn(x=v.x, initial_h=v.h, **typed(RNN, F), direction="reverse", output_sequence=True),
    lambda t, c: torch_rnn(t, c, t.x.flip(0), "tanh"),
)


def torch_gru(t, c):
    """PyTorch's order of gates is r, z, n; MIL's is r, o, z. PyTorch applies its reset gate after the product and its bias."""
    order = lambda w: torch.cat([w.chunk(3)[i] for i in (0, 2, 1)])  # noqa: E731
    w = {"weight_ih_l0": order(c(GRU["weight_ih"])), "weight_hh_l0": order(c(GRU["weight_hh"]))}
    w |= {"bias_ih_l0": order(c(INPUT_BIAS)), "bias_hh_l0": order(c(GRU["bias"]))}
    y, last = torchs(torch.nn.GRU, w, t.x, [t.h[None]])
    return y, last[0]


recurrent.case(
    "gru_reset_after",
    lambda v, F: mb.gru(x=v.x, initial_h=v.h, **typed(GRU, F), input_bias=INPUT_BIAS.astype(F), reset_after=True, output_sequence=True),
    torch_gru,
)

# Compared with the formulas.
for direction in ("forward", "reverse"):
    for whole in (True, False):
        recurrent.case(
            f"gru_{direction}_{'all' if whole else 'last'}",
            lambda v, F, d=direction, o=whole: mb.gru(x=v.x, initial_h=v.h, **typed(GRU, F), direction=d, output_sequence=o),
            lambda t, c, d=direction, o=whole: gru(t.x, t.h, rounded(GRU, c), d, o, "sigmoid", "tanh"),
        )
recurrent.case(
    "gru_two_biases",
    lambda v, F: mb.gru(x=v.x, initial_h=v.h, **typed(GRU, F), input_bias=INPUT_BIAS.astype(F), output_sequence=True),
    lambda t, c: gru(t.x, t.h, rounded(GRU, c) | {"bias": c(GRU["bias"]) + c(INPUT_BIAS)}, "forward", True, "sigmoid", "tanh"),
)
bare = {name: value for name, value in GRU.items() if name != "bias"}
recurrent.case(
    "gru_without_bias",
    lambda v, F: mb.gru(x=v.x, initial_h=v.h, **typed(bare, F), recurrent_activation="hard_sigmoid", activation="relu"),
    lambda t, c: gru(t.x, t.h, rounded(bare, c), "forward", False, "hard_sigmoid", "relu"),
)
for activation in ACTIVATIONS:
    recurrent.case(
        f"lstm_{activation}",
        lambda v, F, a=activation: mb.lstm(
            x=v.x, initial_h=v.h, initial_c=v.c, **typed(LSTM, F), activation=a, cell_activation=a, output_sequence=True
        ),
        lambda t, c, a=activation: lstm(t.x, t.h, t.c, rounded(LSTM, c), "forward", True, "sigmoid", a, a, 1e9),
    )
recurrent.case(
    "lstm_gates",
    lambda v, F: mb.lstm(x=v.x, initial_h=v.h, initial_c=v.c, **typed(LSTM, F), recurrent_activation="hard_sigmoid"),
    lambda t, c: lstm(t.x, t.h, t.c, rounded(LSTM, c), "forward", False, "hard_sigmoid", "tanh", "tanh", 1e9),
)
for clip in (0.25, 1e4):
    recurrent.case(
        f"lstm_peephole_clip_{'tight' if clip < 1 else 'wide'}",
        lambda v, F, k=clip: mb.lstm(
            x=v.x, initial_h=v.h, initial_c=v.c, **typed(LSTM, F), peephole=PEEPHOLE.astype(F), clip=F(k), output_sequence=True
        ),
        lambda t, c, k=clip: lstm(
            t.x, t.h, t.c, rounded(LSTM, c) | {"peephole": c(PEEPHOLE)}, "forward", True, "sigmoid", "tanh", "tanh", k
        ),
    )


def both_with_peepholes(t, c):
    halves = t.both.split(H, 1)
    w = rounded(LSTM, c) | {"peephole": c(PEEPHOLE)}
    back = rounded(BACK, c) | {"peephole": c(PEEPHOLE_BACK)}
    rest = ("sigmoid", "tanh", "tanh", 0.5)
    forward = lstm(t.x, halves[0], halves[0], w, "forward", True, *rest)
    backward = lstm(t.x, halves[1], halves[1], back, "reverse", True, *rest)
    y = torch.cat([forward[0], backward[0].flip(0)], 2)
    return y, torch.cat([forward[1], backward[1]], 1), torch.cat([forward[2], backward[2]], 1)


recurrent.case(
    "lstm_both_ways_peepholes",
    lambda v, F: mb.lstm(
        x=v.x, initial_h=v.both, initial_c=v.both, **both(F), peephole=PEEPHOLE.astype(F), peephole_back=PEEPHOLE_BACK.astype(F),
        clip=F(0.5), direction="bidirectional", output_sequence=True,
    ),
    both_with_peepholes,
)  # fmt: skip

# --- compressed weights, large enough to stay compressed --------------------------------------------------------------

rng = np.random.default_rng(12)
WIDE = 36
packed = Family("recurrent_packed", x=uniform(3, 2, WIDE), h=uniform(2, WIDE, low=-1, high=1))
QUANTIZED = {name: rng.integers(-127, 128, (4 * WIDE, WIDE), dtype=np.int8) for name in ("weight_ih", "weight_hh")}
SCALES = {name: rng.uniform(0.001, 0.004, (4 * WIDE, 1)) for name in QUANTIZED}
TABLES = {name: rng.uniform(-0.4, 0.4, (1, 1, 16, 1)) for name in QUANTIZED}
INDICES = {name: rng.integers(0, 16, (4 * WIDE, WIDE), dtype=np.uint8) for name in QUANTIZED}
PLAIN = {name: weights(rng, 4 * WIDE, WIDE) / 3 for name in QUANTIZED}


def packed_lstm(t, w):
    return lstm(t.x, t.h, t.h, w, "forward", True, "sigmoid", "tanh", "tanh", 1e9)


packed.case(
    "int8",
    lambda v, F: mb.lstm(
        x=v.x, initial_h=v.h, initial_c=v.h, output_sequence=True,
        **{n: mb.constexpr_blockwise_shift_scale(data=QUANTIZED[n], scale=SCALES[n].astype(F)) for n in QUANTIZED},
    ),
    lambda t, c: packed_lstm(
        t, {n: c(torch.from_numpy(QUANTIZED[n]).float().numpy() * c(SCALES[n]).numpy()) for n in QUANTIZED}
    ),
)  # fmt: skip
packed.case(
    "lut4",
    lambda v, F: mb.lstm(
        x=v.x, initial_h=v.h, initial_c=v.h, output_sequence=True,
        **{
            n: mb.constexpr_lut_to_dense(indices=INDICES[n].astype(mb_types.np_uint4_dtype), lut=TABLES[n].astype(F))
            for n in INDICES
        },
    ),
    lambda t, c: packed_lstm(t, {n: c(TABLES[n]).reshape(-1)[torch.from_numpy(INDICES[n]).long()] for n in INDICES}),
)  # fmt: skip
packed.case(
    "plain",
    lambda v, F: mb.lstm(x=v.x, initial_h=v.h, initial_c=v.h, output_sequence=True, **typed(PLAIN, F)),
    lambda t, c: packed_lstm(t, rounded(PLAIN, c)),
)

# --- detectors --------------------------------------------------------------------------------------------------------


def overlap(a, b):
    """The overlap of two boxes (x, y, width, height) as a share of their union, in f32 like the boxes."""
    shared = 1.0
    for axis in (0, 1):
        low = max(a[axis] - a[axis + 2] / 2, b[axis] - b[axis + 2] / 2)
        high = min(a[axis] + a[axis + 2] / 2, b[axis] + b[axis + 2] / 2)
        shared *= max(high - low, 0.0)
    whole = a[2] * a[3] + b[2] * b[3] - shared
    return shared / whole if whole > 0 else 0.0


def suppressed(boxes, scores, iou, most, by_class, least=-np.inf):
    """`boxes [n, B, 4]`, `scores [n, B, K]`: follows `NonMaximumSuppressionLayerParams` in coremltools' NeuralNetwork.proto, and the
    comparison with Core ML in its test_tensor_operation.py."""
    n, _, k = scores.shape
    chosen = np.zeros((n, most, 4), np.float32), np.zeros((n, most, k), np.float32), np.full((n, most), -1, np.int32)
    counts = np.zeros(n, np.int32)
    for batch in range(n):
        best, classes = scores[batch].max(1), scores[batch].argmax(1)
        order = [b for b in np.argsort(-best, kind="stable") if best[b] >= least]
        taken = []
        for b in order:
            rivals = (a for a in taken if not by_class or classes[a] == classes[b])
            if all(overlap(boxes[batch, a], boxes[batch, b]) <= iou for a in rivals):
                taken.append(b)
        taken = taken[:most] or [int(best.argmax())]
        counts[batch] = len(taken)
        for place, b in enumerate(taken):
            chosen[0][batch, place], chosen[1][batch, place], chosen[2][batch, place] = boxes[batch, b], scores[batch, b], b
    return *chosen, counts


def detector(name, opset, last):
    """A family for either form. The boxes are integers, and no two overlap by exactly a threshold."""
    rng = np.random.default_rng(13)
    boxes = np.concatenate([rng.integers(0, 24, (2, 12, 2)), rng.integers(6, 16, (2, 12, 2))], 2).astype(np.float64)
    boxes[1, 3] = [5, 5, 0, 0]
    scores = rng.permutation(72).reshape(2, 12, 3) / 64 - 0.25
    # Of equal scores, the first is chosen first.
    scores[0, 4], scores[0, 9] = scores[0, 1], scores[0, 1]
    turn = (lambda x: x.transpose(0, 2, 1)) if last else (lambda x: x)
    family = Family(name, opset=opset, boxes=turn(boxes), scores=turn(scores))
    thresholds = (0.3,) if last else (0.3, 0.7, 2.0)
    for by_class in (False, True):
        for most in (3, 20):
            for least in thresholds:
                options = {"iou_threshold": 0.2, "max_boxes": most, "per_class_suppression": by_class}
                floor = -np.inf if last else least

                def mil(v, F, options=options, least=least):
                    typed = options | {"iou_threshold": F(options["iou_threshold"])}
                    if not last:
                        typed["score_threshold"] = F(least)
                    return mb.non_maximum_suppression(boxes=v.boxes, scores=v.scores, **typed)

                def expected(t, c, options=options, floor=floor):
                    boxes, scores = (turn(t[name].numpy()) for name in ("boxes", "scores"))
                    iou, floor = float(c(options["iou_threshold"])), float(c(floor))
                    found = suppressed(boxes, scores, iou, options["max_boxes"], options["per_class_suppression"], floor)
                    found = [turn(found[0]), turn(found[1]), *found[2:]] if last else found
                    return tuple(torch.from_numpy(np.ascontiguousarray(x)) for x in (found[:3] if last else found))

                kind = "by_class" if by_class else "together"
                family.case(f"{kind}_{most}_{str(least).replace('.', '')}", mil, expected)


detector("suppression_ios16", ct.target.iOS16, last=False)
detector("suppression_ios17", ct.target.iOS17, last=True)


def points(mode, start, end, to):
    """The points at which `resize_bilinear` samples the interval from `start` to `end`, which has `end - start + 1` pixels; computed
    in f64 with the formulas of its documentation."""
    last = end - start
    pixels = last + 1
    i = np.arange(to)
    if mode == "STRICT_ALIGN_CORNERS" or (mode == "ALIGN_CORNERS" and to > 1):
        return np.linspace(start, end, to)
    if mode == "ALIGN_CORNERS":
        return np.array([(start + end) / 2])
    at = {
        "DEFAULT": i * pixels / to,
        "OFFSET_CORNERS": (i + 0.5) * max(1, last) / to,
        "UNALIGN_CORNERS": i * pixels / to + 0.5 * pixels / to - 0.5,
    }[mode]
    return start + np.minimum(last, np.maximum(0, at))


def crops(x, boxes, images, to, mode="DEFAULT", order="CORNERS_HEIGHT_FIRST", normalized=False, scale=1.0, pad=0.0):
    """Returns `[N, C, h, w]`: patch n is box n of image n. Points outside an image are `pad`, as in TensorFlow's `crop_and_resize`."""
    _, channels, height, width = x.shape
    out = np.full((len(boxes), channels, *to), pad, np.float32)
    for n, (box, image) in enumerate(zip(boxes.astype(np.float64), images)):
        h0, w0, h1, w1 = box if order.endswith("HEIGHT_FIRST") else box[[1, 0, 3, 2]]
        if order.startswith("CENTER"):
            h0, h1, w0, w1 = h0 - h1 / 2, h0 + h1 / 2, w0 - w1 / 2, w0 + w1 / 2
        by = (scale * (height - 1), scale * (width - 1)) if normalized else (scale, scale)
        for i, y in enumerate(points(mode, h0 * by[0], h1 * by[0], to[0])):
            for j, across in enumerate(points(mode, w0 * by[1], w1 * by[1], to[1])):
                if not (0 <= y <= height - 1 and 0 <= across <= width - 1):
                    continue
                top, left = int(np.floor(y)), int(np.floor(across))
                bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
                down, aside = y - top, across - left
                patch = x[image].astype(np.float64)
                upper = patch[:, top, left] * (1 - aside) + patch[:, top, right] * aside
                lower = patch[:, bottom, left] * (1 - aside) + patch[:, bottom, right] * aside
                out[n, :, i, j] = upper * (1 - down) + lower * down
    return out


MODES = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]
ORDERS = ["CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST"]
# Quarters and eighths, which fp16 holds exactly.
CORNERS = np.array([[0.5, 1.25, 3.0, 4.5], [0.0, 0.25, 2.5, 3.0], [1.0, 0.5, 1.5, 2.25]])
CENTERS = np.array([[1.75, 2.5, 2.0, 2.5], [2.0, 1.5, 1.0, 3.0], [1.5, 2.0, 0.5, 1.0]])
FRACTIONS = np.array([[0.125, 0.25, 1.0, 0.75], [0.5, 1.75, 1.0, 0.25], [0.0, 0.375, 0.625, 1.25]])
WHICH = ints(1, 0, 1)


def cropping(name, opset):
    new, pads = opset >= ct.target.iOS17, opset >= ct.target.iOS16
    family = Family(name, opset=opset, x=np.random.default_rng(14).uniform(-2, 2, (2, 3, 5, 6)))

    def case(label, boxes, which, to=(3, 2), pad=0.0, **options):
        names = {"mode": "sampling_mode", "order": "box_coordinate_mode", "normalized": "normalized_coordinates", "scale": "spatial_scale"}
        given = {names[key]: np.float32(value) if key == "scale" else value for key, value in options.items()}

        def mil(v, F):
            typed = {"x": v.x, "target_height": to[0], "target_width": to[1], **given}
            if pads:
                typed["pad_value"] = F(pad)
            if new:
                typed |= {"boxes": boxes.astype(F)} | ({} if which is None else {"box_indices": which})
            elif which is None:
                typed["roi"] = boxes.astype(F).reshape(-1, 1, 4, 1, 1)
            else:
                typed["roi"] = np.concatenate([which[:, None], boxes], 1).astype(F).reshape(-1, 1, 5, 1, 1)
            return mb.crop_resize(**typed)

        def expected(t, c):
            x, at = t.x.numpy(), c(boxes).numpy()
            patch = lambda images: crops(x, at, images, to, pad=float(c(pad)), **options)  # noqa: E731
            if which is not None:
                found = patch(which) if new else patch(which)[:, None]
            elif new:
                found = patch(range(len(boxes)))
            else:
                found = np.stack([patch([image] * len(boxes)) for image in range(len(x))], 1)
            return torch.from_numpy(found)

        family.case(label, mil, expected)

    for mode in MODES:
        case(f"{mode.lower()}", CORNERS, WHICH, mode=mode)
        case(f"{mode.lower()}_to_one", CORNERS, WHICH, to=(1, 1), mode=mode)
    for order in ORDERS:
        boxes = CENTERS if order.startswith("CENTER") else CORNERS
        case(f"{order.lower()}", boxes[:2], None, order=order)
    # Boxes that exceed the image, and boxes with reversed corners.
    case("normalized", FRACTIONS, WHICH, to=(2, 2), mode="ALIGN_CORNERS", normalized=True)
    case("scaled", CORNERS * 2, WHICH, to=(2, 4), mode="OFFSET_CORNERS", scale=0.5)
    case("upside_down", CORNERS[:, [2, 3, 0, 1]], WHICH, mode="ALIGN_CORNERS")
    if pads:
        case("padded", FRACTIONS, WHICH, to=(4, 3), mode="ALIGN_CORNERS", normalized=True, pad=1.5)


cropping("crop_ios15", ct.target.iOS15)
cropping("crop_ios16", ct.target.iOS16)
cropping("crop_ios17", ct.target.iOS17)

affine = Family("affine", x=uniform(2, 3, 4, 5), matrix=uniform(2, 6, low=-1, high=1), one=uniform(1, 6, low=-1, high=1))


def moved(t, matrix, to, align):
    theta = matrix.expand(2, 6).reshape(2, 2, 3)
    grid = nn.affine_grid(theta, (2, 3, *to), align_corners=align)
    return nn.grid_sample(t.x, grid, mode="bilinear", padding_mode="zeros", align_corners=align)


for align in (True, False):
    for which in ("matrix", "one"):
        affine.case(
            f"{which}_{'centres' if align else 'edges'}",
            lambda v, F, a=align, w=which: mb.affine(
                x=v.x, transform_matrix=v[w], output_height=3, output_width=6, sampling_mode="bilinear", padding_mode="constant",
                padding_value=F(0), coordinates_mode="normalized_minus_one_to_one", align_corners=a,
            ),
            lambda t, c, a=align, w=which: moved(t, t[w], (3, 6), a),
        )  # fmt: skip

# --- lists ------------------------------------------------------------------------------------------------------------

lists = Family("list", opset=ct.target.iOS17, a=uniform(2, 3), b=uniform(2, 3), rows=uniform(3, 2, 3), n=ints(3), at=ints(2, 0, 2))
ZERO = torch.zeros(2, 3)


def made(F, length=2, **options):
    return mb.make_list(init_length=length, elem_shape=(2, 3), dtype=OUT[F], **options)


def count(v):
    return mb.squeeze(x=v.n)


lists.case("unwritten", lambda v, F: mb.list_read(ls=made(F), index=1), lambda t, c: ZERO)
# As in coremltools' TestList against Core ML: writing to an index beyond the end makes the list longer.
lists.case(
    "grown",
    lambda v, F: mb.list_gather(ls=mb.list_write(ls=mb.list_write(ls=made(F), index=0, value=v.a), index=4, value=v.b), indices=[4, 3, 0]),
    lambda t, c: torch.stack([t.b, ZERO, t.a]),
)
lists.case(
    "grown_length",
    lambda v, F: mb.list_length(ls=mb.list_write(ls=made(F), index=mb.add(x=count(v), y=4), value=v.a)),
    lambda t, c: torch.tensor(8),
)
lists.case(
    "a_value_of_its_own",
    lambda v, F: mb.list_read(ls=(lambda ls: (mb.list_write(ls=ls, index=0, value=v.b), ls)[1])(mb.list_write(ls=made(F), index=0, value=v.a)), index=0),
    lambda t, c: t.a,
)
# If two values are scattered to one index, the last one wins.
lists.case(
    "scattered",
    lambda v, F: mb.list_gather(ls=mb.list_scatter(ls=made(F), indices=v.at, value=v.rows), indices=[0, 1, 2]),
    lambda t, c: torch.stack([t.rows[1], ZERO, t.rows[2]]),
)
lists.case(
    "fixed_length",
    lambda v, F: mb.list_gather(
        ls=mb.list_write(ls=made(F, 4, dynamic_length=False), index=count(v), value=v.a), indices=mb.range_1d(start=0, end=4, step=1)
    ),
    lambda t, c: torch.stack([ZERO, ZERO, ZERO, t.a]),
)
lists.case("computed_length", lambda v, F: mb.list_length(ls=made(F, count(v))), lambda t, c: torch.tensor(3))
lists.case(
    "unknown_shape",
    lambda v, F: mb.list_gather(
        ls=mb.list_write(ls=mb.make_list(init_length=2, elem_shape=("rows", 3), dtype=OUT[F]), index=1, value=v.a), indices=[1, 0]
    ),
    lambda t, c: torch.stack([t.a, ZERO]),
)
lists.case(
    "whole_numbers",
    lambda v, F: mb.list_gather(ls=mb.list_write(ls=mb.make_list(init_length=2, elem_shape=(3,), dtype="int32"), index=1, value=v.at), indices=[1, 0]),
    lambda t, c: torch.stack([t.at, torch.zeros(3, dtype=torch.int32)]),
)
lists.case(
    "in_a_loop",
    lambda v, F: (lambda loop: mb.list_gather(ls=loop[1], indices=mb.range_1d(start=0, end=mb.list_length(ls=loop[1]), step=1)))(
        mb.while_loop(
            _cond=lambda i, ls, x: mb.less(x=i, y=count(v)),
            _body=lambda i, ls, x: (mb.add(x=i, y=1), mb.list_write(ls=ls, index=i, value=x), mb.mul(x=x, y=F(0.5))),
            loop_vars=(0, made(F, 1), v.a),
        )
    ),
    lambda t, c: torch.stack([t.a, t.a * 0.5, t.a * 0.25]),
)
for label, bound in (("true", 2), ("false", 3)):
    lists.case(
        f"in_a_branch_{label}",
        lambda v, F, k=bound: mb.list_read(
            ls=mb.cond(
                pred=mb.greater(x=count(v), y=k),
                _true_fn=lambda: mb.list_write(ls=made(F), index=1, value=v.a),
                _false_fn=lambda: mb.list_scatter(ls=made(F), indices=[1], value=mb.expand_dims(x=v.b, axes=[0])),
            ),
            index=1,
        ),
        lambda t, c, k=bound: t.a if k == 2 else t.b,
    )

# --- whole models -----------------------------------------------------------------------------------------------------


class Layer(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


CASTS = {
    "f32": 1e-3,
    "f16": 2e-3,
    "reason": "coremltools casts what a loop carries from fp16 and back in each iteration, and a cast rounds in every arithmetic",
}


def converted(name, layer, shape, tolerance=None):
    """Converts a PyTorch layer with all passes. Weights are rounded to fp16 first, and one of the two biases that are added is zero,
    so both precisions have the same weights."""
    torch.manual_seed(15)
    module = Layer(layer()).eval()
    for key, parameter in module.named_parameters():
        parameter.data = parameter.data.half().float() * (0 if "bias_hh" in key else 1)
    x = torch.randn(*shape).half().float()
    with torch.no_grad():
        expected = module(x)
    for precision, F in ((ct.precision.FLOAT32, np.float32), (ct.precision.FLOAT16, np.float16)):
        model = ct.convert(
            torch.jit.trace(module, x),
            inputs=[ct.TensorType(name="x", shape=x.shape, dtype=F)],
            outputs=[ct.TensorType(name="y", dtype=np.float32)],
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=precision,
            skip_model_load=True,
        )
        bounds = {"y": tolerance} if tolerance and F is np.float16 else None
        write(f"model_{name}_{OUT[F]}", model, [("main", {"x": x.numpy().astype(F)}, {"y": expected.numpy()})], bounds)


def collected():
    """Converts a loop that collects its results in a list: a list of fp32 in a program that computes in fp16, because coremltools'
    fp16 pass leaves the list unchanged."""
    rng = np.random.default_rng(16)
    weight = rng.uniform(-0.5, 0.5, (4, 4)).astype(np.float16).astype(np.float32)
    x, n = rng.uniform(-1, 1, (2, 4)).astype(np.float16).astype(np.float32), ints(5)
    expected, state = [], torch.from_numpy(x)
    for _ in range(5):
        state = torch.tanh(state @ torch.from_numpy(weight).T)
        expected.append(state)

    @mb.program(input_specs=[mb.TensorSpec((2, 4)), mb.TensorSpec((1,), dtype=mb_types.int32)], opset_version=ct.target.iOS16)
    def built(x, n):
        count = mb.squeeze(x=n)

        def body(i, ls, state):
            state = mb.tanh(x=mb.linear(x=state, weight=weight))
            return mb.add(x=i, y=1), mb.list_write(ls=ls, index=i, value=state), state

        _, ls, _ = mb.while_loop(
            _cond=lambda i, ls, state: mb.less(x=i, y=count), _body=body, loop_vars=(0, mb.make_list(init_length=1, elem_shape=(2, 4)), x)
        )
        return mb.list_gather(ls=ls, indices=mb.range_1d(start=0, end=mb.list_length(ls=ls), step=1), name="y")

    for precision, F in ((ct.precision.FLOAT32, np.float32), (ct.precision.FLOAT16, np.float16)):
        model = ct.convert(
            built, minimum_deployment_target=ct.target.iOS16, compute_precision=precision, skip_model_load=True,
            outputs=[ct.TensorType(name="y", dtype=np.float32)],
        )  # fmt: skip
        bounds = {"y": CASTS} if F is np.float16 else None
        inputs = {"x": x, "n": n}
        write(f"model_list_{OUT[F]}", model, [("main", inputs, {"y": torch.stack(expected).numpy()})], bounds)


CONVERTED = {
    "lstm": lambda: converted("lstm", lambda: torch.nn.LSTM(6, 5, 2, bidirectional=True, batch_first=True), (2, 4, 6)),
    "gru": lambda: converted("gru", lambda: torch.nn.GRU(6, 5, bidirectional=True), (4, 2, 6), CASTS),
    "model_list": collected,
    "rnn": lambda: converted("rnn", lambda: torch.nn.RNN(6, 5, nonlinearity="relu"), (4, 2, 6)),
}


def classifier(name, labels):
    """The label is expected as its index, and the probabilities in the order of the labels."""
    x = uniform(1, 4).astype(np.float32)

    @mb.program(input_specs=[mb.TensorSpec((1, 4))], opset_version=ct.target.iOS15)
    def built(x):
        return mb.softmax(x=x, name="probabilities")

    model = ct.convert(
        built,
        minimum_deployment_target=ct.target.iOS15,
        compute_precision=ct.precision.FLOAT32,
        classifier_config=ct.ClassifierConfig(labels),
        skip_model_load=True,
    )
    expected = torch.softmax(torch.from_numpy(x), 1).numpy().reshape(-1)
    outputs = {"classLabel": np.array(expected.argmax(), np.int32), "classLabel_probs": expected}
    write(name, model, [("main", {"x": x}, outputs)])


CLASSIFIERS = {
    "classifier_words": lambda: classifier("classifier_words", ["ant", "bee", "cat", "dog"]),
    "classifier_numbers": lambda: classifier("classifier_numbers", [7, -3, 5_000_000_000, 0]),
}


if __name__ == "__main__":
    wanted = sys.argv[1:]
    for family in FAMILIES:
        if not wanted or family.name in wanted:
            # Before iOS 16, functions have no inputs or outputs of fp16.
            for F in (np.float32,) if family.opset == ct.target.iOS15 else (np.float32, np.float16):
                family.make(F)
                print(f"{family.name}_{OUT[F]}: {len(family.cases)} cases")
    for name, make in (CONVERTED | CLASSIFIERS).items():
        if not wanted or name in wanted:
            make()
            print(name)
