"""Max pooling with a stride s and a dilation d, NCHW, no padding.

    y[n, c, oy, ox] = max over i, j of x[n, c, oy*s + i*d, ox*s + j*d]

``argmax`` is the winning cell's number i * kw + j in its window. The first maximum in row-major
window order wins, and the first NaN wins over everything: the error goes to that one cell. The
backward pass gathers: each input adds the errors of the windows whose argmax it is, so it needs no
atomics and gives the same bits every time.
"""
