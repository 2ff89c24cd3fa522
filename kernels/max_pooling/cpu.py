"""Max pooling on the host.

With a stride of 1, as in the dense form, maxima are taken of maxima: ``cpu_dense.py``. With others,
``cpu_strided.py`` compares cell by cell. Backward, each window adds its error to its cell.
"""

from numba import prange

from kernels import checks
from kernels.activation.cpu import numbered
from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel
from kernels.host.maps import by_plane
from kernels.host.threads import ELEMENT_NS
from kernels.host.windows import offsets
from kernels.max_pooling import argmax_dtype, backward_shape, cpu_dense, cpu_strided, forward_shape
from kernels.max_pooling.cpu_workspace import strided
from kernels.memory import cpu as memory


@operator
def forward(x, kernel, *, stride=1, dilation=1, activation=None, argmax=True):
    """(y, argmax), see ``kernels.max_pooling``.

    Args:
        x: N x C x H x W, float32 or float64.
        kernel, stride, dilation: ints or pairs (y, x).
        activation: as in ``kernels.activation``, of the maxima; None leaves them as they are.
        argmax: whether it is wanted.

    Returns:
        y like x, and argmax (uint8, or int32 for windows of more than 256 cells; None if it is not
        wanted), both N x C x Ho x Wo. Workspace: a few rows for each thread
        (``kernels.max_pooling.cpu_workspace``).
    """
    shape = forward_shape(x, kernel, stride, dilation, activation, argmax)
    function = numbered(activation, x.dtype)
    y = memory.empty(shape.y, x.dtype)
    argmax_map = memory.empty(shape.y, argmax_dtype(shape.window)) if argmax else None
    way = cpu_strided if strided(shape.window, shape.output) else cpu_dense
    way.forward(y, argmax_map, x, shape.window, function)
    return y, argmax_map


@operator
def backward(error, argmax, size, kernel, *, stride=1, dilation=1):
    """dx: each window's error, added to the cell that won it.

    Args:
        error: N x C x Ho x Wo, float32 or float64.
        argmax: what ``forward`` returned, same shape.
        size: (H, W) of the input.
        kernel, stride, dilation: ints or pairs (y, x).

    Returns:
        N x C x H x W. Workspace: none.
    """
    shape = backward_shape(error, size, kernel, stride, dilation, argmax)
    checks.indices("argmax", argmax, shape.window.cells)
    gradient = memory.empty(shape.x, error.dtype)
    _, cells = offsets((1, 1), size[1], shape.window)
    work = ELEMENT_NS * (gradient.size + error.size)
    maps = by_plane(gradient), error, argmax
    _backward(*maps, shape.window.stride, size[1], cells, work=work)
    return gradient


@compiled_parallel
def _backward(gradient, error, argmax, stride, pitch, cells):
    channels, height, width = error.shape[1:]
    for plane in prange(len(gradient)):
        n, c = plane // channels, plane % channels
        total = gradient[plane]
        total[:] = 0
        for oy in range(height):
            for ox in range(width):
                corner = oy * stride[0] * pitch + ox * stride[1]
                total[corner + cells[argmax[n, c, oy, ox]]] += error[n, c, oy, ox]
