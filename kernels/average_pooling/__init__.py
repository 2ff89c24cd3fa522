"""Average pooling with a stride s and a dilation d, NCHW, no padding.

    y[n, c, oy, ox] = sum over i, j of x[n, c, oy*s + i*d, ox*s + j*d], divided by kh * kw

Summed in row-major window order. Backward, an input gets the errors of the windows that it lies in,
divided by kh * kw, in an order that is always the same.
"""
