"""Convolution of listed cells on the device: the public functions, and their tiles.

The kernels are those of ``kernels.convolution`` with other places of their pixels; the tiles come
from the same tables. See the modules named ``cuda_*`` beside this one.
"""

from kernels.convolution.cuda_tiles import choose_tile
from kernels.device.arrays import operator
from kernels.listed_cells import DEVICE
from kernels.listed_convolution import (
    cuda_forward,
    cuda_gradient_input,
    cuda_gradient_weights,
    forward_shape,
    gradient_input_shape,
    gradient_weights_shape,
)
from kernels.listed_convolution.cuda_workspace import channels_at_once


@operator
def forward(x, rows, weights, bias=None, *, activation=None, tile=None):
    """y = f(b + w * x), 1 x K x 1 x P, in the bits of ``kernels.convolution``.

    Args:
        x: 1 x C x 1 x M, float32 or float64, like the other arrays.
        rows: the table of the windows (``kernels.listed_cells``).
        weights: K x C x kh x kw.
        bias: K, or None.
        activation: None, or one as ``kernels.activation`` describes them.
        tile: the ``Tile`` to use; None chooses one.
    """
    shape = forward_shape(x, rows, weights, bias, activation, DEVICE)
    tile = tile or choose_tile("map", shape.filters, shape.outputs, x.dtype.itemsize)
    return cuda_forward.forward(x, rows, weights, bias, shape, activation, tile)


@operator
def gradient_weights(x, rows, error, kernel, *, tile=None):
    """dw, K x C x kh x kw.

    Args:
        x: 1 x C x 1 x M, float32 or float64.
        rows: the table of the windows (``kernels.listed_cells``).
        error: 1 x K x 1 x P, same dtype.
        kernel: (kh, kw).
        tile: the ``Tile`` to use; None chooses one.
    """
    shape = gradient_weights_shape(x, rows, error, kernel, DEVICE)
    columns = cuda_gradient_weights.columns_of(shape)
    tile = tile or choose_tile("weights", shape.filters, columns, x.dtype.itemsize)
    return cuda_gradient_weights.gradient_weights(x, rows, error, shape, tile)


@operator
def gradient_input(error, rows, weights, cells, *, tile=None):
    """dx, 1 x C x 1 x M.

    Args:
        error: 1 x K x 1 x P, float32 or float64.
        rows: the table of the windows (``kernels.listed_cells``).
        weights: K x C x kh x kw, same dtype.
        cells: M, of the input.
        tile: the ``Tile`` to use; None chooses one.
    """
    shape = gradient_input_shape(error, rows, weights, cells, DEVICE)
    itemsize = error.dtype.itemsize
    if cuda_gradient_input.is_gathered(shape):
        tile = tile or choose_tile("map", shape.channels, shape.cells, itemsize)
        return cuda_gradient_input.gather(error, rows, weights, shape, tile)
    channels = channels_at_once(shape, itemsize)
    rows_of_weights = channels * shape.kernel[0] * shape.kernel[1]
    tile = tile or choose_tile("map", rows_of_weights, shape.outputs, itemsize)
    return cuda_gradient_input.add_products(error, rows, weights, shape, channels, tile)
