"""Batch normalisation with frozen statistics: pointwise, so it commutes with the dense form.

    y[n, c] = (x[n, c] - mean[c]) * gamma[c] / sqrt(variance[c] + epsilon) + beta[c]

The statistics are constants: the gradients are those of a scale and a shift for each channel.
"""
