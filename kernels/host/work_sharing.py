"""Dynamic sharing of work among Numba's threads.

``prange`` gives every thread an equal share in advance; if another program takes a core, all
threads wait for the one that ran there. Here the parallel loop runs over the threads, and each
takes the next item from a queue until none is left:

    for _ in prange(threads):
        item = take(items)
        while item < count:
            ...
            item = take(items)

The result of an item must not depend on the thread that takes it.
"""

import numpy as np

from kernels.host import simd
from kernels.host.compilation import inner


def queue() -> np.ndarray:
    """The items 0, 1, 2 ..., none taken yet."""
    return np.zeros(1, np.int64)


@inner
def take(items):
    """The next item of a ``queue()``."""
    return simd.fetch_add(items, 0)
