"""Common parts of all generators: values, shapes, types and operands."""

import math

import numpy as np
import oracle
from evaluate import ARITHMETICS, Run, exact
from program import FLOATS, OPSETS, STORAGE, Config, Const, Input, Node, Ref, Rejected

# The generator of each operation, with its weight relative to a plain operation.
GENERATORS: dict[str, "Generator"] = {}
SMALL_INTS = ("int8", "uint8", "int16", "uint16")
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}
# Defaults that the Builder writes in fp32 even for fp16 x, so that coremltools' own loader refuses the program.
FP32_DEFAULTS = {
    "batch_norm": {"epsilon": 1e-5}, "l2_norm": {"epsilon": 1e-6}, "pad": {"constant_val": 0.0}, "crop_resize": {"pad_value": 0.0},
    "local_response_norm": {"alpha": 1e-4, "beta": 0.75, "k": 1.0},
}  # fmt: skip
# Limit of the elements of a value, so that a configuration costs a few milliseconds.
ELEMENTS = 4096
# Limit of the elements of a weight. The executor unpacks weights of up to 4,096 elements at load, so some must be larger.
WEIGHTS = 40_000


class Generator:
    """Draws an operation: `draw` adds it to a program; `since` is the first opset that has it, `until` the last that is drawn."""

    def __init__(self, name, draw, weight, since, until):
        self.name, self.draw, self.weight, self.since, self.until = name, draw, weight, since, until

    def in_opset(self, opset: str) -> bool:
        """Whether the operation is drawn for programs of this opset."""
        return self.since <= OPSETS[opset] <= self.until


def gen(*names, weight=1.0, since="iOS15", until="iOS26"):
    """Registers a function that draws the named operations; it receives the name if there are several."""

    def register(draw):
        for name in names:
            one = draw if len(names) == 1 else (lambda g, name=name: draw(g, name))
            GENERATORS[name] = Generator(name, one, weight, OPSETS[since], OPSETS[until])
        return draw

    return register


class Gen:
    """A program that is being drawn. Every operation is computed when it is added, so that the next can use its values."""

    def __init__(self, rng: np.random.Generator, opset: str):
        self.rng, self.opset, self.version = rng, opset, OPSETS[opset]
        self.config = Config(opset, {}, [], [])
        self.run = Run(self.version, ARITHMETICS["f32"])
        # The float type of this program, so that one operation can feed the next.
        self.F = "fp16" if self.chance(0.45) else "fp32"
        self.loose: list[Ref] = []
        self.count = 0
        # Nodes are added here; a nested block replaces it by a list of its own.
        self.nodes = self.config.nodes

    # --- chance

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def pick(self, options):
        options = list(options)
        return options[int(self.rng.integers(len(options)))]

    def int(self, low: int, high: int) -> int:
        """An integer, both bounds included."""
        return int(self.rng.integers(low, high + 1))

    def some(self, items, at_least=0):
        """A subset of the items, in their order."""
        items = list(items)
        count = self.int(at_least, len(items))
        return [items[i] for i in sorted(self.rng.permutation(len(items))[:count])]

    def dim(self, most=6) -> int:
        """The size of an axis: often 1, sometimes large."""
        r = self.rng.random()
        if r < 0.15:
            return 1
        if r < 0.93:
            return self.int(2, most)
        return self.int(most, 3 * most)

    def shape(self, rank, most=6) -> tuple[int, ...]:
        rank = self.int(*rank) if isinstance(rank, tuple) else rank
        dims = [self.dim(most) for _ in range(rank)]
        while math.prod(dims) > ELEMENTS // 4:
            dims[int(np.argmax(dims))] = 2
        return tuple(dims)

    def axis(self, rank, low=None) -> int:
        """An axis, counted from either end."""
        axis = self.int(0, rank - 1)
        return axis - rank if self.chance(0.5) and (low is None or axis - rank >= low) else axis

    # --- constants

    def i(self, value, dtype="int32") -> Const:
        return Const(np.asarray(value, dtype=STORAGE[dtype]), dtype)

    def b(self, value) -> Const:
        return Const(np.asarray(value, dtype=np.bool_), "bool")

    def s(self, value: str) -> Const:
        return Const(value, "string")

    def f(self, value, dtype=None) -> Const:
        dtype = dtype or self.F
        return Const(np.asarray(value, dtype=STORAGE[dtype]), dtype)

    def scalar(self, low, high, dtype=None) -> Const:
        return self.f(self.rng.uniform(low, high), dtype)

    # --- values

    def values(self, shape, dtype, low=-2.0, high=2.0) -> np.ndarray:
        """Values of a type, between bounds."""
        if dtype == "bool":
            return self.rng.random(shape) < 0.5
        if dtype in FLOATS:
            return np.asarray(self.rng.uniform(low, high, shape)).astype(STORAGE[dtype])
        least, most = LIMITS.get(dtype, (-(2**31), 2**31 - 1))
        low, high = (-9, 9) if (low, high) == (-2.0, 2.0) else (low, high)
        return np.asarray(self.rng.integers(max(int(low), least), min(int(high), most) + 1, shape)).astype(
            STORAGE[dtype]
        )

    def constant(self, values, dtype) -> Const:
        return Const(np.asarray(values).astype(STORAGE[dtype]), dtype)

    def given(self, values: np.ndarray, dtype: str) -> Ref:
        """An input of the program. Inputs are fp32, int32 and, since iOS 16, fp16; others are cast."""
        name = self.name("x")
        if dtype == "fp16" and self.version < 7:
            outer = "fp32"
        elif dtype == "bool" or dtype in SMALL_INTS:
            outer = "int32"
        else:
            outer = dtype
        values = np.asarray(values).astype(STORAGE[dtype]).astype(STORAGE[outer])
        # Core ML has no inputs without an axis.
        scalar = values.ndim == 0
        values = values.reshape(1) if scalar else values
        self.config.inputs[name] = Input([values], outer)
        self.run.env[name] = (values.astype(np.float64) if values.dtype.kind == "f" else values.astype(np.int64), outer)
        ref = Ref(name)
        if scalar:
            ref = self.emit("squeeze", x=ref, axes=self.i([0]))
        if outer != dtype:
            ref = self.emit("cast", x=ref, dtype=self.s(dtype))
        return ref

    def fresh(self, shape, dtype, low=-2.0, high=2.0, constant=0.0) -> Ref | Const:
        """A new value, an input or, with some probability, a constant."""
        values = self.values(shape, dtype, low, high)
        if self.chance(constant):
            return self.constant(values, dtype)
        return self.given(values, dtype)

    def value(self, arg) -> np.ndarray:
        """The value of an operand, as float64, int64 or bool."""
        return exact(arg) if isinstance(arg, Const) else self.run.env[arg.name][0]

    def dtype(self, arg) -> str:
        return arg.dtype if isinstance(arg, Const) else self.run.env[arg.name][1]

    def shape_of(self, arg) -> tuple[int, ...]:
        return np.shape(self.value(arg))

    def tensor(self, rank=(1, 4), dtype=None, low=-2.0, high=2.0, fits=None, shape=None, most=6) -> Ref:
        """The first operand of an operation: an unused result, if one fits, or a new input.

        `dtype` is an accepted type or several; `low` and `high` bound the values, and `fits` is a predicate on the shape.
        """
        dtypes = [self.F] if dtype is None else [dtype] if isinstance(dtype, str) else list(dtype)
        ranks = range(rank[0], rank[1] + 1) if isinstance(rank, tuple) else (rank,)
        for ref in list(self.loose):
            value, found = self.run.env[ref.name]
            if (
                found not in dtypes
                or np.ndim(value) not in ranks
                or np.size(value) == 0
                or (shape is not None and np.shape(value) != shape)
            ):
                continue
            if fits is not None and not fits(np.shape(value)):
                continue
            bounds = (low, high) if (low, high) != (-2.0, 2.0) else (-100.0, 100.0)
            if found != "bool" and not (bounds[0] <= np.min(value) and np.max(value) <= bounds[1]):
                continue
            self.loose.remove(ref)
            return ref
        for _ in range(50):
            drawn = shape if shape is not None else self.shape(rank, most)
            if fits is None or fits(drawn):
                return self.fresh(drawn, self.pick(dtypes), low, high)
        raise Rejected("no shape fits")

    def layout_types(self):
        """An element type that operations which only move values accept."""
        r = self.rng.random()
        if r < 0.6:
            return self.F
        if self.version >= 8 and r < 0.75:
            return self.pick(SMALL_INTS)
        return self.pick(("int32", "bool"))

    def number_type(self):
        """An element type for arithmetic: the program's float, or sometimes int32."""
        return self.F if self.chance(0.75) else "int32"

    def name(self, stem) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    # --- operations

    def emit(self, op, results=1, blocks=(), **args):
        """Adds an operation and returns its result, or all of its results as a list."""
        args = {name: arg for name, arg in args.items() if arg is not None}
        if op in FP32_DEFAULTS and self.dtype(args["x"]) == "fp16":
            for name, default in FP32_DEFAULTS[op].items():
                if name != "pad_value" or self.version >= 7:
                    args.setdefault(name, self.f(default, "fp16"))
        names = [self.name("v") for _ in range(results)]
        node = Node(op, args, names, list(blocks))
        try:
            self.run.step(node)
        except (ValueError, IndexError, ZeroDivisionError, oracle.Unsupported) as error:
            raise Rejected(f"{op}: {error}") from error
        for name in names:
            self.check(op, *self.run.env[name])
        self.nodes.append(node)
        refs = [Ref(name) for name in names]
        return refs[0] if results == 1 else refs

    def check(self, op, value, dtype) -> None:
        """Rejects results that test nothing: empty, or too large for the type or the test."""
        if isinstance(value, list):
            return
        if np.size(value) == 0 and "empty" not in self.config.notes:
            raise Rejected(f"{op}: no elements")
        if np.size(value) > (WEIGHTS if op.startswith("constexpr_") else ELEMENTS):
            raise Rejected(f"{op}: too many elements")
        if dtype in FLOATS and np.size(value):
            if not np.all(np.isfinite(value)) or np.max(np.abs(value)) > (3e4 if dtype == "fp16" else 1e6):
                raise Rejected(f"{op}: values are out of hand")
        if (
            dtype in LIMITS
            and np.size(value)
            and (np.min(value) < LIMITS[dtype][0] or np.max(value) > LIMITS[dtype][1])
        ):
            raise Rejected(f"{op}: values do not fit {dtype}")
        if dtype == "int32" and np.size(value) and np.max(np.abs(value)) > 2**24:
            raise Rejected(f"{op}: values are out of hand")

    def maybe(self, p, value):
        """A value, or nothing."""
        return value if self.chance(p) else None

    def finish(self) -> Config:
        """Makes unused results outputs, in types that a function can return."""
        config = self.config
        if not self.loose:
            raise Rejected("nothing to look at")
        for ref in self.loose:
            dtype = self.dtype(ref)
            if dtype.startswith("list:"):
                raise Rejected("a list cannot be published")
            if dtype == "bool" or dtype in SMALL_INTS:
                ref = self.emit("cast", x=ref, dtype=self.s("int32"))
            elif dtype == "fp16" and self.version < 7:
                ref = self.emit("cast", x=ref, dtype=self.s("fp32"))
            elif ref.name in config.inputs:
                ref = self.emit("identity", x=ref)
            config.outputs.append(ref)
        config.outputs = list(dict.fromkeys(config.outputs))
        for given in config.inputs.values():
            given.values += [given.values[0]] * (config.calls - len(given.values))
        return config

    # --- operands that several families share

    def weight(self, shape, low=-1.5, high=1.5):
        """A weight: plain, or in one of the compressed forms of the program's opset."""
        from .compressed import weight

        return weight(self, shape, low, high)

    def matrix(self) -> tuple[int, int]:
        """Rows and columns of a weight that is large enough to be kept as it is stored."""
        columns = self.pick(
            (self.int(20, 200), self.int(200, 1100), self.pick((1024, 2048, 4100)), self.int(1024, 2100))
        )
        return self.int(4097 // columns + 1, max(WEIGHTS // columns, 4097 // columns + 2)), columns

    def outliers(self, x):
        """Multiplies some elements of a value by up to a thousand, like the outlier activations of real networks."""
        shape = self.shape_of(x)
        factors = np.where(self.rng.random(shape) < 0.1, self.rng.uniform(50, 1000), 1.0)
        self.config.notes.add("outlier")
        return self.emit("mul", x=x, y=self.constant(factors, self.dtype(x)))

    def scales(self):
        """Factors for height and width: integers of either type, or sometimes fractions."""
        if self.chance(0.5):
            return self.i(self.int(1, 3)), self.i(self.int(1, 3))
        return (self.f(self.pick((1.0, 2.0, 3.0, 1.5, 0.5, 2.5)), "fp32") for _ in range(2))
