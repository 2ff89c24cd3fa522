"""Threads work in arrays that begin with a line of the cache, wherever the allocator puts them."""

import numpy as np
import pytest

from kernels.host.buffers import LINE, aligned
from kernels.host.compilation import compiled


@compiled
def _places(dtype, sizes):
    places, kept = np.empty((len(sizes), 2), np.int64), []
    for i in range(len(sizes)):
        array = aligned(sizes[i], dtype)
        array[:] = i
        kept.append(array)
        places[i, 0], places[i, 1] = array.ctypes.data, len(array)
    intact = True
    for i in range(len(sizes)):
        intact &= (kept[i] == i).all()
    return places, intact


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_begin_with_a_line_and_do_not_overlap(dtype):
    sizes = np.array([0, 1, 3, 17, 100, 1000, 2**15, 2**15 + 5, 2**17])
    places, intact = _places(np.dtype(dtype), sizes)
    assert intact
    assert (places[:, 0] % LINE == 0).all()
    assert (places[:, 1] == sizes).all()
