"""Launches that are prepared: the kernel is compiled, and all its numbers are packed.

For each launch Numba converts every number of every tuple by itself, which takes longer than the
launch. Here that is done once, by Numba; later only the arrays' addresses are filled in. Where a
parameter is a number, it is handed on as an int whose lowest bytes are the number's own: the driver
reads as many as the parameter has.
"""

from __future__ import annotations

from numba.cuda import types
from numba.cuda.args import ArgHint
from numba.cuda.dispatcher import _Kernel
from numba.cuda.np.numpy_support import from_dtype
from numba.cuda.typing.typeof import typeof

from kernels.device.launching import Launch

# Any kernel of Numba converts arguments; this one has no code
_converter = _Kernel.__new__(_Kernel)
_converter.extensions = []


class Flat(ArgHint):
    """An array of the device as one axis."""

    __slots__ = ("_array", "_words")

    def __init__(self, array):
        self._array, self._words = array, None

    @property
    def value(self):
        """The array itself, with one axis."""
        return self._array.reshape(self._array.size)

    @property
    def words(self):
        """What Numba's kernels take for an array of one axis."""
        if self._words is None:
            size, itemsize = self._array.size, self._array.dtype.itemsize
            address = self._array.device_ctypes_pointer.value
            self._words = 0, 0, size, itemsize, address, size, itemsize
        return self._words


class Constant(ArgHint):
    """A number, or a tuple of numbers, that is the same in every launch."""

    def __init__(self, kind, value):
        super().__init__(value)
        converted: list = []
        _converter._prepare_args(kind, value, 0, [], converted)
        self.words = tuple(map(_word, converted))


class Prepared:
    """A launch that lacks only its arrays.

    Args:
        launch: a launch whose arrays are placeholders (see ``kernels.device.plans``).
        stream: the stream that it goes to.
    """

    def __init__(self, launch: Launch, stream):
        dispatcher, arguments = launch.kernel, launch.arguments
        kinds = tuple(map(_kind, arguments))
        kernel = dispatcher.compile(kinds)
        kernel._prepare_args = _append_words
        self._launch = kernel.launch
        configured = dispatcher[launch.blocks, launch.threads, stream]
        self._where = configured.griddim, configured.blockdim, configured.stream
        # For each argument, the number of the array or the constant
        self._arguments = [
            (argument.number, None)
            if hasattr(argument, "number")
            else (None, Constant(kind, argument))
            for kind, argument in zip(kinds, arguments)
        ]

    def __call__(self, arrays: list[Flat]) -> None:
        """Launch it on the arrays of a plan, by their numbers."""
        arguments = [arrays[n] if c is None else c for n, c in self._arguments]
        self._launch(arguments, *self._where)


def _kind(argument):
    """Numba's type of an argument; arrays have one axis."""
    if hasattr(argument, "number"):
        return types.Array(from_dtype(argument.dtype), 1, "C")
    return typeof(argument)


def _append_words(kind, argument, stream, after, words):
    """Instead of Numba's conversion of an argument, where it is prepared."""
    if type(argument) in (Flat, Constant):
        words += argument.words
    else:
        _converter._prepare_args(kind, argument, stream, after, words)


def _word(converted) -> int:
    if hasattr(converted, "value"):  # of ctypes
        return int.from_bytes(bytes(converted), "little", signed=True)
    return int(converted)
