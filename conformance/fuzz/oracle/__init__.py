"""The computation of every operation of MIL, in numpy and float64, from the documentation of coremltools 9.

It is independent of the executor: nothing here was taken from its kernels. An operation is a function of the context `c` and
its arguments by name. Floats arrive as float64, integers as int64, bools as bool, strings as str, and several bindings as a
list; an unbound argument is absent, and the function's default is the documented one. The function returns an array, or a tuple
of arrays. An array may be wrapped in `Out` to set its element type; by default it is that of the first argument.
"""

from . import compressed, creation, elementwise, layout, linear, pick, recurrent, resize, windows  # noqa: F401
from .registry import OPS, Call, Out, Unsupported  # noqa: F401
