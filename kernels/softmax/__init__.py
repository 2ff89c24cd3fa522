"""Softmax over the channels of each pixel.

    y[n, k] = exp(x[n, k] - m) / sum_l exp(x[n, l] - m), m = max_l x[n, l];
    dx[n, k] = y[n, k] * (e[n, k] - sum_l e[n, l] * y[n, l])

A NaN among a pixel's scores makes all its probabilities NaN.
"""
