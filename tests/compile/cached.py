"""Kernels compiled as a process without a device can, and whether they were found on disk."""

import json
import sys
from contextlib import ExitStack, contextmanager
from unittest import mock

import numpy as np
from numba.cuda.typing.typeof import typeof

from kernels.convolution import cuda as convolution
from kernels.convolution.cuda_tiles import TILES
from tests.compile.recording import launches

# Of each table, the tile with fewest sums: the first
MAP, WEIGHTS, MATRIX = (next(iter(TILES[t])) for t in ("map", "weights", "matrix"))


@contextmanager
def stand_in_device():
    """Within it, dispatchers compile for a device of compute capability 9.0 and load nothing."""
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv import devices

    device = mock.Mock(compute_capability=(9, 0))
    with ExitStack() as stack:
        for owner, name, value in (
            (dispatcher, "get_current_device", lambda: device),
            (devices, "get_context", lambda: mock.Mock(device=device)),
            (dispatcher._Kernel, "bind", lambda self: None),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def compiled(kernel, arguments) -> tuple[int, int]:
    """(compiled, loaded from disk) of a kernel for arguments like these."""
    with stand_in_device():
        kernel.compile(tuple(map(typeof, arguments)))
    stats = kernel.stats
    return sum(stats.cache_misses.values()), sum(stats.cache_hits.values())


def convolutions():
    """(kernel, arguments) of every launch of calls that use each of the four tiled kernels."""
    x, weights = np.empty((1, 2, 6, 40), np.float32), np.empty((3, 2, 2, 2), np.float32)
    error, covered = np.empty((1, 3, 5, 39), np.float32), np.empty((1, 2, 2, 2), np.float32)
    yield from launches(convolution.forward, x, weights, tile=MAP)
    yield from launches(convolution.gradient_input, error, weights, x.shape[2:], tile=MAP)
    yield from launches(convolution.gradient_weights, x, error, (2, 2), tile=WEIGHTS)
    yield from launches(convolution.forward, covered, weights, tile=MATRIX)


if __name__ == "__main__":
    found = {k.py_func.__name__: compiled(k, arguments) for k, arguments in convolutions()}
    json.dump(found, sys.stdout)
