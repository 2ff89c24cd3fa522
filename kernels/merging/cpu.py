"""Merging branches on the host."""

from numba import prange

from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel
from kernels.host.threads import ELEMENT_NS
from kernels.memory import cpu as memory
from kernels.merging import check_add, check_split, concatenated_shape


@operator
def add(maps):
    """The sum of maps, left to right.

    Args:
        maps: a sequence of N x C x H x W arrays of one shape and dtype (float32 or float64).

    Returns:
        an array like each of them. Workspace: none.
    """
    check_add(maps)
    y = memory.empty(maps[0].shape, maps[0].dtype)
    work = ELEMENT_NS * y.size
    _copy(y.reshape(-1), maps[0].reshape(-1), work=work)
    for x in maps[1:]:
        _accumulate(y.reshape(-1), x.reshape(-1), work=work)
    return y


@operator
def concatenate(maps):
    """The maps, joined along their channels.

    Args:
        maps: a sequence of N x C_i x H x W arrays of one dtype (float32 or float64).

    Returns:
        N x sum of C_i x H x W. Workspace: none.
    """
    y = memory.empty(concatenated_shape(maps), maps[0].dtype)
    start = 0
    for x in maps:
        _copy_channels(y, start, x, 0, x.shape[1], work=ELEMENT_NS * x.size)
        start += x.shape[1]
    return y


@operator
def concatenate_backward(error, channels):
    """The errors of maps of ``channels`` channels each, in order.

    Args:
        error: N x C x H x W, float32 or float64.
        channels: ints that add up to C.

    Returns:
        a list of N x C_i x H x W arrays. Workspace: none.
    """
    check_split(error, channels)
    n, _, h, w = error.shape
    errors, start = [], 0
    for count in channels:
        errors.append(memory.empty((n, count, h, w), error.dtype))
        _copy_channels(errors[-1], 0, error, start, count, work=ELEMENT_NS * errors[-1].size)
        start += count
    return errors


@compiled_parallel
def _copy(y, x):
    for i in prange(len(y)):
        y[i] = x[i]


@compiled_parallel
def _accumulate(y, x):
    for i in prange(len(y)):
        y[i] += x[i]


@compiled_parallel
def _copy_channels(y, y_start, x, x_start, count):
    for plane in prange(y.shape[0] * count):
        n, c = plane // count, plane % count
        y[n, y_start + c] = x[n, x_start + c]
