"""A net's layers in either form, one by one, as other frameworks execute them."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.checks import Margins
from kernels.window import Window
from net.conversion import dense_window
from net.layers import Crop
from net.nodes import Node


@dataclass(frozen=True)
class Placed:
    """One layer in one form.

    Attributes:
        node: the layer in its place.
        window: the window that it moves over its input, None without one.
        margins: rows and columns that are cut off each input (top, left, bottom, right) before the
            layer reads it.
    """

    node: Node
    window: Window | None
    margins: tuple[Margins, ...]


def placed(net, dense: bool) -> list[Placed]:
    """The layers of a Net in order.

    In the dense form, windows are those of section 3 of the paper, margins of crops are spaced like
    them, and maps that merge are trimmed at the bottom and right to their common size, which does
    not depend on the image's.

    >>> from net import zoo
    >>> [one.window.dilation for one in placed(zoo.build("lenet28", backend="cpu"), True)[:4:3]]
    [(1, 1), (2, 2)]
    """
    return [_placed(node, dense) for node in net.nodes.values()]


def unread(net) -> Margins:
    """Margins of an image that no patch reads (where R < p); the dense form runs on the image
    without them.

    >>> from net import zoo
    >>> unread(zoo.build("lenet28", backend="cpu"))
    (0, 0, 0, 0)
    """
    return (0, 0, *(p - r for p, r in zip(net.patch, net.receptive_field)))


def _placed(node, dense):
    spacing, window = node.sources[0].spacing, node.window
    margins = tuple((0, 0, 0, 0) for _ in node.sources)
    if isinstance(node.layer, Crop):
        apart = spacing * 2 if dense else (1, 1, 1, 1)
        margins = (tuple(m * d for m, d in zip(node.layer.margins, apart)),)
    elif dense and node.layer.joins:
        rest = [[o - r for o, r in zip(node.output.extent, s.extent)] for s in node.sources]
        margins = tuple((0, 0, *more) for more in rest)
    if dense and window is not None:
        window = dense_window(window, spacing)
    return Placed(node, window, margins)
