"""Cutting patches out of an image at given pixels, and the gradient of that.

    p[n, c, i, j] = image[0, c, rows[n] + i, columns[n] + j]

(rows, columns) are the patches' top left pixels. The gradient gathers: each pixel of the image adds
the errors of all patches that cover it, in the order of n.
"""
