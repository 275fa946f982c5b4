"""Recurrent layers, step by step."""

import numpy as np

from .elementwise import sigmoid
from .registry import Unsupported, op

ACTIVATIONS = {
    "sigmoid": sigmoid, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "linear": lambda x: x,
}  # fmt: skip


def named(name):
    """An activation by name. The constants of the others are undocumented."""
    if name not in ACTIVATIONS:
        raise Unsupported(f"the constants of {name}")
    return ACTIVATIONS[name]


def order(x, direction):
    """Steps of x in processing order."""
    return x[::-1] if direction == "reverse" else x


def results(steps, output_sequence, turned_back=False):
    """The hidden states: all of them in processing order, or only the last.

    coremltools' test_recurrent.py compares a layer of direction `reverse` on Core ML with PyTorch's on the reversed sequence and
    does not reverse the results, so the last one belongs to the first element. The backward half of a bidirectional layer is
    `turned_back` to the order of its inputs, as in PyTorch.
    """
    if not output_sequence:
        return steps[-1][None]
    return np.stack(steps[::-1] if turned_back else steps)


@op("rnn")
def rnn(
    c, x, initial_h, weight_ih, weight_hh, bias=None, direction="forward", output_sequence=False, activation="tanh"
):
    act, h, steps = ACTIVATIONS.get(activation), initial_h, []
    if act is None:
        raise Unsupported(f"the constants of {activation}")
    for step in order(x, direction):
        h = act(step @ weight_ih.T + h @ weight_hh.T + (0 if bias is None else bias))
        steps.append(h)
    return results(steps, output_sequence), h


@op("gru")
def gru(
    c, x, initial_h, weight_ih, weight_hh, bias=None, direction="forward", output_sequence=False,
    recurrent_activation="sigmoid", activation="tanh", reset_after=False, input_bias=None,
):  # fmt: skip
    gate, act = named(recurrent_activation), named(activation)
    size = weight_hh.shape[1]
    if bias is not None and input_bias is None and reset_after:
        raise Unsupported("which product a bias belongs to")
    zeros = np.zeros(3 * size)
    own, given = (zeros if b is None else b for b in (bias, input_bias))
    wir, wio, wiz = (weight_ih[i * size : (i + 1) * size].T for i in range(3))
    whr, who, whz = (weight_hh[i * size : (i + 1) * size].T for i in range(3))
    br, bo, bz = (own[i * size : (i + 1) * size] for i in range(3))
    cr, co, cz = (given[i * size : (i + 1) * size] for i in range(3))
    h, steps = initial_h, []
    for step in order(x, direction):
        r = gate(step @ wir + cr + h @ whr + br)
        z = gate(step @ wiz + cz + h @ whz + bz)
        if reset_after:
            o = act(step @ wio + co + r * (h @ who + bo))
        else:
            o = act(step @ wio + co + (r * h) @ who + bo)
        h = (1 - z) * o + z * h
        steps.append(h)
    return results(steps, output_sequence), h


def lstm_pass(
    x, h, cell, weight_ih, weight_hh, bias, peephole, direction, output_sequence, acts, clip, turned_back=False
):  # fmt: skip
    gate, cell_act, act = acts
    size = weight_hh.shape[1]
    pi, pf, po = (0, 0, 0) if peephole is None else peephole.reshape(3, size)
    steps = []
    for step in order(x, direction):
        total = step @ weight_ih.T + h @ weight_hh.T + (0 if bias is None else bias)
        i, f, o, z = (total[:, k * size : (k + 1) * size] for k in range(4))
        i, f, z = gate(i + pi * cell), gate(f + pf * cell), cell_act(z)
        if clip is not None:
            raise Unsupported("whether the gate or the cell is clipped")
        cell = f * cell + i * z
        h = gate(o + po * cell) * act(cell)
        steps.append(h)
    return results(steps, output_sequence, turned_back), h, cell


@op("lstm")
def lstm(
    c, x, initial_h, initial_c, weight_ih, weight_hh, bias=None, peephole=None, weight_ih_back=None, weight_hh_back=None,
    bias_back=None, peephole_back=None, direction="forward", output_sequence=False, recurrent_activation="sigmoid",
    cell_activation="tanh", activation="tanh", clip=None,
):  # fmt: skip
    acts = tuple(named(name) for name in (recurrent_activation, cell_activation, activation))
    if direction != "bidirectional":
        return lstm_pass(
            x, initial_h, initial_c, weight_ih, weight_hh, bias, peephole, direction, output_sequence, acts, clip
        )
    size = weight_hh.shape[1]
    ahead = lstm_pass(
        x,
        initial_h[:, :size],
        initial_c[:, :size],
        weight_ih,
        weight_hh,
        bias,
        peephole,
        "forward",
        output_sequence,
        acts,
        clip,
    )
    back = lstm_pass(
        x,
        initial_h[:, size:],
        initial_c[:, size:],
        weight_ih_back,
        weight_hh_back,
        bias_back,
        peephole_back,
        "reverse",
        output_sequence,
        acts,
        clip,
        turned_back=True,
    )
    return tuple(np.concatenate(pair, -1) for pair in zip(ahead, back))
