"""Choosing pixels of an error map: the mask of Li, Zhao & Wang 2014, section 3.

    y[n, k, y, x] = e[n, k, y, x] where mask[n, y, x], else 0

A value outside the mask is dropped whatever it is, NaN included.
"""
