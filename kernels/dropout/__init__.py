"""Dropout whose mask is a function of where a cell lies, so that both forms drop the same cells.

    y[n, c, i, j] = x[n, c, i, j] / (1 - rate) where kept, else 0
    kept: uniform(seed, step, layer, c, rows[n] + i*spacing_y, columns[n] + j*spacing_x) >= rate

(rows, columns) is the place of cell (0, 0) in the dense map: a patch's top left pixel, or (0, 0)
for a whole image. The mask needs no memory, and the gradient is the same function of the error.

The number is a hash: each word is mixed in by the finaliser of MurmurHash3 (A. Appleby, public
domain), and the upper 24 bits of the result are the uniform number.
"""

from kernels import checks

BITS = 24


def is_list(x, rows) -> bool:
    """Whether each cell has a place of its own, of a list 1 x C x 1 x M."""
    return x.shape[0] == x.shape[2] == 1 < rows.shape[0] == x.shape[3]


def check_apply(x, rows, columns, spacing, rate, key, lists=False) -> None:
    """Check the arguments of a dropout of maps N x C x H x W, or of a list if ``lists`` may be
    given."""
    checks.array("x", x, (None,) * 4)
    checks.array("rows", rows, (None,), ("int32",))
    count = x.shape[3] if lists and is_list(x, rows) else x.shape[0]
    checks.array("rows", rows, (count,), ("int32",))
    checks.array("columns", columns, (count,), ("int32",))
    checks.pair("spacing", spacing)
    checks.number("rate", rate, below=1)
    words = key if isinstance(key, tuple | list) else ()
    if len(words) != 3 or not all(type(word) is int and word >= 0 for word in words):
        raise ValueError(f"key is {key!r}; expected (seed, step, layer), ints of at least 0")
