"""Windows with a stride on the host: maps as one run each, and where the windows' cells lie in it.

Rows of small maps are shorter than a vector; loops over all windows of a map are not.
"""

from functools import lru_cache

import numpy as np


def by_plane(maps):
    """N x C x H x W maps as N*C x H*W."""
    return maps.reshape(maps.shape[0] * maps.shape[1], -1)


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
