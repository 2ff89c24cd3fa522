"""Masking an error map on the host."""

from numba import prange

from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel
from kernels.host.maps import place_of_row
from kernels.host.threads import ELEMENT_NS
from kernels.masking import check_apply
from kernels.memory import cpu as memory


@operator
def apply(error, mask):
    """The error map at the chosen pixels, zero elsewhere, whatever stood there.

    Args:
        error: N x K x H x W, float32 or float64.
        mask: N x H x W, bool.

    Returns:
        an array like error. Workspace: none.
    """
    check_apply(error, mask)
    chosen = memory.empty(error.shape, error.dtype)
    _apply(chosen, error, mask, work=ELEMENT_NS * chosen.size)
    return chosen


@compiled_parallel
def _apply(chosen, error, mask):
    batch, channels, height, width = error.shape
    for row in prange(batch * channels * height):
        n, k, y = place_of_row(row, channels, height)
        for x in range(width):
            chosen[n, k, y, x] = error[n, k, y, x] if mask[n, y, x] else error.dtype.type(0)
