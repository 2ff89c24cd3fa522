"""What a thread works in: arrays that begin with a line of the cache.

Vectors that straddle two lines take two accesses. Elsewhere NumPy and Numba give 16 or 32 bytes, so
that the time of a loop depends on where its array happens to lie.
"""

import numpy as np

from kernels.host.compilation import inner

LINE = 64  # bytes


@inner
def aligned(numbers, dtype):
    """An array of ``numbers`` uninitialised numbers."""
    itemsize = np.empty(0, dtype).itemsize
    array = np.empty(numbers + LINE // itemsize, dtype)
    first = -array.ctypes.data % LINE // itemsize
    return array[first : first + numbers]
