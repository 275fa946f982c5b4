"""What every operation of MIL must compute, in numpy and float64, from the documentation of coremltools 9.

Independent of the executor: nothing here was taken from its kernels. An operation is a function of the context `c` and its
arguments by name. Floats come as float64, integers as int64, bools as bool, strings as str, several bindings as a list; an
argument that is not bound is absent, and the function's default is the documented one. It returns an array, or a tuple of
arrays. An array may be wrapped in `Out` to give its element type; otherwise it has that of the first argument.
"""

from . import compressed, creation, elementwise, layout, linear, pick, recurrent, resize, windows  # noqa: F401
from .registry import OPS, Call, Out, Unsupported  # noqa: F401
