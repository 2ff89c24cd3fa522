"""The net for few labels: small, and wide in what it sees."""

from kernels import checks
from net.graph import Net
from net.layers import AveragePool, Concatenate, Convolution, Crop, Dropout, FullyConnected, ReLU

PATCH = 81
BRANCHES = ((1, 1, (1,)), (1, 5, (3, 3)), (3, 5, (3, 3)), (9, 5, (3, 3)), (27, 3, (3, 1)))
"""Branches: (side of the poolings, poolings along each axis, kernel sizes)."""


def scales(classes: int, channels: int = 1, filters: int = 12, **options) -> Net:
    """A net on patches of 81 x 81 that sees means over 1, 3, 9 and 27 pixels squared, each with a
    few filters of its own, as the features of a random forest do; but its filters are learned.

    Args:
        classes: number of classes.
        channels: number of channels of the images.
        filters: number of filters of each convolution.
        options: arguments of ``net.Net``.

    >>> net = scales(3, channels=2, backend="reference")
    >>> net.receptive_field, sum(array.size for array in net.parameters.values())
    ((81, 81), 7079)
    """
    filters, classes = checks.count("filters", filters), checks.count("classes", classes)
    layers, names = [], []
    for number, (scale, cells, kernels) in enumerate(BRANCHES):
        names.append(f"scale{number}")
        source = {"inputs": ("image",)}
        margin = (PATCH - scale * cells) // 2
        if margin:
            layers.append(Crop((margin,) * 4, **source))
            source = {}
        if scale > 1:
            layers.append(AveragePool(scale, **source))
        for kernel in kernels:
            layers += [Convolution(filters, kernel), ReLU()]
        layers[-1] = ReLU(name=names[-1])
    layers += [Concatenate(inputs=tuple(names)), Dropout(0.3)]
    layers += [FullyConnected(32), ReLU(), FullyConnected(classes)]
    return Net(layers, channels=checks.count("channels", channels), patch=PATCH, **options)
