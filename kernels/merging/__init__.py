"""Merging branches: element-wise sum, and concatenation along the channels.

add: y = x_0 + x_1 + ...                    dx_i = e
concatenate: y[:, C_0 + ... + C_{i-1} + c] = x_i[:, c];   dx_i = the same slice of e
"""
