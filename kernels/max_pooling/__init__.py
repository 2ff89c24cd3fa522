"""Max pooling with a stride s and a dilation d, NCHW, no padding.

    y[n, c, oy, ox] = f(max over i, j of x[n, c, oy*s + i*d, ox*s + j*d])

f is an activation, or nothing. ``argmax`` is the winning cell's number i * kw + j in its window.
The first maximum in row-major window order wins, and the first NaN wins over everything: the error
goes to that one cell. Backward, a thread of the device gathers: an input adds the errors of the
windows whose argmax it is. A thread of the host scatters: of a channel, one window after the other
adds its error to its cell. Neither needs atomics, and both give the same bits every time.
"""

from kernels import checks
from kernels.activation import activation_of
from kernels.window import PoolingShape, Window


def argmax_dtype(window: Window) -> str:
    """dtype of an argmax: one byte while the window has at most 256 cells, else int32."""
    return "uint8" if window.cells <= 256 else "int32"


def forward_shape(x, kernel, stride, dilation, activation, argmax) -> PoolingShape:
    """The shape of a pooling of ``x``; checks the arguments."""
    shape = PoolingShape.of_input(x, kernel, stride, dilation)
    if activation is not None:
        activation_of(activation)
    checks.flag("argmax", argmax)
    return shape


def backward_shape(error, size, kernel, stride, dilation, argmax) -> PoolingShape:
    """The shape of a pooling of an input of ``size`` (H, W); checks the arguments."""
    shape = PoolingShape.of_error(error, size, kernel, stride, dilation)
    checks.array("argmax", argmax, shape.y, (argmax_dtype(shape.window),))
    return shape
