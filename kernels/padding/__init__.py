"""Padding (zero or reflect) and cropping of N x C x H x W maps, and their gradients.

Margins are (top, left, bottom, right) in cells. ``reflect`` is ``numpy.pad``'s: the border cell is
not repeated, and margins wider than the map reflect again and again. The gradient of a reflection
gathers, for each cell, the errors of all its images.
"""
