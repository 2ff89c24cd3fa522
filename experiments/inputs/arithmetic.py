"""What arithmetic alone gives: multiply-adds of scanning over those of the dense form."""

from __future__ import annotations

from math import prod

from kernels.checks import Pair
from net import Net
from net.nodes import IMAGE, Node
from net.summary import multiply_adds

DIRECTIONS = ("forward", "backward")
BOTH = " + ".join(DIRECTIONS)


def times(node: Node, direction: str) -> int:
    """How often a layer's multiply-adds are done in one of ``DIRECTIONS``, or in ``BOTH``.

    The gradients by its weights and by its input take as many as its forward pass each; the first
    layer computes no gradient by the image.
    """
    forward, backward = 1, 1 if node.inputs == (IMAGE,) else 2
    return {"forward": forward, "backward": backward, BOTH: forward + backward}[direction]


def saved(net: Net, labelled: int | Pair | None = None, direction: str = "forward") -> float:
    """Multiply-adds of scanning over those of the dense form.

    Args:
        labelled: rows and columns of labelled pixels; None: an image without end, whose border
            costs nothing. No image gives more than that.
        direction: one of ``DIRECTIONS``, or ``BOTH``.

    >>> from net import zoo
    >>> round(saved(zoo.build("authors133", backend="reference"), 1024))
    826
    """
    scanning = dense = 0
    for node in net.nodes.values():
        if labelled is None:
            both = node.multiply_adds * prod(node.output.size), node.multiply_adds
        else:
            both = multiply_adds(net, node, labelled)
        scanning += times(node, direction) * both[0]
        dense += times(node, direction) * both[1]
    return scanning / dense
