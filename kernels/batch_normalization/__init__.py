"""Batch normalisation with frozen statistics: pointwise, so it commutes with the dense form.

    y[n, c] = f((x[n, c] - mean[c]) * gamma[c] / sqrt(variance[c] + epsilon) + beta[c])

with an activation f, if any, in the same pass over memory. The statistics are constants: the
gradients are those of a scale and a shift for each channel. Where nobody wants gradients, ``fold``
makes them part of the convolution in front.
"""
