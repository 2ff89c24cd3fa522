"""Convolution (cross-correlation) with a stride s and a dilation d, NCHW.

    y[n, k, oy, ox] = b[k] + sum over c, i, j of w[k, c, i, j] * x[n, c, oy*s + i*d, ox*s + j*d]

The patch net is (s, d = 1), its dense form (s = 1, d): the d-regularly sparse kernel of Li, Zhao &
Wang 2014, section 3. Each output is one accumulator that runs through (c, i, j) in that order, so
both forms give the same bits.
"""

PARTIAL_SUMS, PARTIAL_BYTES = 16, 64 * 2**20
"""Workspace of the weight gradient: on the host at most so many sums of its size, and nowhere more
than one that take so many bytes."""
