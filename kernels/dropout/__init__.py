"""Dropout whose mask is a function of where a cell lies, so that both forms drop the same cells.

    y[n, c, i, j] = x[n, c, i, j] / (1 - rate) where kept, else 0
    kept: uniform(seed, step, layer, c, rows[n] + i*spacing_y, columns[n] + j*spacing_x) >= rate

(rows, columns) is the place of cell (0, 0) in the dense map: a patch's top left pixel, or (0, 0)
for a whole image. The mask needs no memory, and the gradient is the same function of the error.

The number is a hash: each word is mixed in by the finaliser of MurmurHash3 (A. Appleby, public
domain), and the upper 24 bits of the result are the uniform number.
"""

BITS = 24
