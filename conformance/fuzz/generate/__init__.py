"""Draws configurations, operation by operation."""

import zlib

import numpy as np
import oracle
from evaluate import ARITHMETICS, Run
from program import OPSETS, Config, Input, Node, Ref, Rejected

from . import basic, compressed, layout, misc, patterns, spatial  # noqa: F401
from .base import GENERATORS, Gen


def draw(seed: int, number: int, opset: str, first: str) -> Config | None:
    """A configuration of an opset whose first operation is of the kind `first`; it has one to four operations in sequence."""
    rng = np.random.default_rng([seed, number, zlib.crc32(f"{opset} {first}".encode())])
    for _ in range(40):
        g = Gen(rng, opset)
        try:
            g.loose += results(GENERATORS[first].draw(g))
            for _ in range(int(rng.choice(4, p=(0.45, 0.3, 0.15, 0.1)))):
                follow(g)
            config = g.finish()
        except Rejected:
            continue
        config.seed = f"{seed}/{number}/{opset}/{first}"
        vary(config, rng)
        return config
    return None


def vary(config: Config, rng) -> None:
    """Occasionally has a plannable function interpreted, or leaves some axes open."""
    if config.planned and rng.random() < 0.05:
        # A function with a shape that depends on values cannot be planned.
        config.planned = False
        config.notes.add("interpreted")
        config.inputs["open"] = Input([np.array([0, 1, 1], np.int32)] * config.calls, "int32")
        config.nodes.append(Node("non_zero", {"x": Ref("open")}, ["found"]))
        config.outputs.append(Ref("found"))
    if config.states or rng.random() > 0.06:
        return
    for given in config.inputs.values():
        # An axis of 1 broadcasts or is squeezed; an open axis must not, because it is longer by default.
        given.flexible = tuple(i for i, n in enumerate(given.values[0].shape) if n > 1 and rng.random() < 0.4)
    if any(given.flexible for given in config.inputs.values()):
        if config.calls == 1 and fits_longer(config):
            config.notes.add("flexible")
        else:
            for given in config.inputs.values():
                given.flexible = ()


def fits_longer(config: Config) -> bool:
    """Whether the program is valid for the default sizes of its open axes, which are larger by 1."""
    longer = Config(config.opset, {}, config.nodes, config.outputs)
    for name, given in config.inputs.items():
        shape = [n + (i in given.flexible) for i, n in enumerate(given.values[0].shape)]
        longer.inputs[name] = Input([np.resize(given.values[0], shape)], given.dtype)
    run = Run(config.version, ARITHMETICS["f32"])
    try:
        run.call(longer, 0)
    except (Rejected, oracle.Unsupported, ValueError, IndexError):
        return False
    return all(np.size(value) for value, _ in run.env.values() if not isinstance(value, list))


def follow(g: Gen) -> None:
    """Adds one more operation, unless the drawn one does not fit."""
    names = [n for n, one in GENERATORS.items() if one.in_opset(g.opset) and not n.startswith("pattern:")]
    kept = (dict(g.config.inputs), list(g.config.nodes), list(g.loose), dict(g.run.env), set(g.run.inexact))
    try:
        g.loose += results(GENERATORS[g.pick(names)].draw(g))
    except Rejected:
        g.config.inputs, nodes, g.loose, g.run.env, g.run.inexact = kept
        g.config.nodes[:] = nodes


def results(drawn) -> list:
    """The results of an operation's generator, as a list."""
    return list(drawn) if isinstance(drawn, list | tuple) else [drawn]


def kinds(opset: str) -> list[str]:
    """Everything that can be drawn first in an opset, repeated according to its weight."""
    found = []
    for name, one in GENERATORS.items():
        if one.in_opset(opset):
            found += [name] * max(1, round(one.weight))
    return found


__all__ = ["GENERATORS", "OPSETS", "draw", "kinds"]
