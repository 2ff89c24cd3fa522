"""The windows of a pooling on the host.

With a stride, maps are taken as one run each, and a table tells where the windows' cells lie in it:
rows of small maps are shorter than a vector; loops over all windows of a map are not.
"""

from functools import lru_cache
from math import prod

import numpy as np

from kernels.host.maps import by_plane
from kernels.host.threads import ELEMENT_NS


def over_windows(shape, along_rows, by_offsets, *maps):
    """Run a pooling's compiled function, the one for windows like those of ``shape``.

    Args:
        shape: ``PoolingShape``.
        along_rows: for a stride of 1: takes the maps, the kernel and the dilation.
        by_offsets: for other strides: takes the maps, N*C x H*W each, and their ``offsets``.
        maps: N x C x H x W arrays.
    """
    window, work = shape.window, ELEMENT_NS * prod(shape.y) * shape.window.cells
    if window.stride == (1, 1):
        along_rows(*maps, window.kernel, window.dilation, work=work)
    else:
        places = offsets(shape.output, shape.size[1], window)
        by_offsets(*map(by_plane, maps), *places, work=work)


@lru_cache(1024)
def offsets(outputs, width, window):
    """Where the windows of a map of ``width`` begin, and where their cells lie from there.

    Args:
        outputs: (Ho, Wo).
        window: kernel, stride and dilation.

    Returns:
        Ho*Wo and kh*kw, uint32.
    """
    (i, j), (oy, ox) = np.indices(window.kernel), np.indices(outputs)
    corners = oy * window.stride[0] * width + ox * window.stride[1]
    cells = i * window.dilation[0] * width + j * window.dilation[1]
    return corners.ravel().astype(np.uint32), cells.ravel().astype(np.uint32)
