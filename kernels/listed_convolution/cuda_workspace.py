"""What convolutions of lists work in on a device, beside what ``kernels.convolution`` takes.

Nothing here is compiled, so that a pass can be planned where nothing can be.
"""

import numpy as np

from kernels.convolution import most_partial_sums
from kernels.listed_convolution import ListedShape


def origins_bytes(shape: ListedShape) -> int:
    """Bytes of the table, uint32, of where the rows of windows begin, which a forward pass reads;
    without what its tiles are rounded up by."""
    return shape.kernel[0] * shape.outputs * np.dtype("uint32").itemsize


def channels_at_once(shape: ListedShape, itemsize: int) -> int:
    """Channels whose products the gradient by the input holds at once, where cells do not gather
    errors."""
    return min(shape.channels, most_partial_sums(_channel_bytes(shape, itemsize)))


def products_bytes(shape: ListedShape, itemsize: int) -> int:
    """Bytes of these products."""
    return channels_at_once(shape, itemsize) * _channel_bytes(shape, itemsize)


def _channel_bytes(shape, itemsize):
    return shape.kernel[0] * shape.kernel[1] * shape.outputs * itemsize
