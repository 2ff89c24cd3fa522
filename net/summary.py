"""A net's layers as a table: geometry and multiply-adds, patch by patch and dense."""

from __future__ import annotations

from math import prod

from kernels.checks import Pair
from net.conversion import dense_window
from net.graph import Net
from net.nodes import Node
from net.tables import aligned, by

HEADINGS = (
    "layer",
    "reads",
    "window",
    "patch map",
    "d",
    "dense footprint",
    "R",
    "parameters",
    "scanning MAC",
    "dense MAC",
)


def multiply_adds(net: Net, node: Node, labelled: Pair) -> tuple[int, int]:
    """Multiply-adds of one layer for ``labelled`` pixels: (scanning patch by patch, dense).

    >>> from net import zoo
    >>> net = zoo.build("lenet28", backend="reference")
    >>> multiply_adds(net, net.nodes["conv1"], (1, 1))  # of one patch, both the same
    (288000, 288000)
    """
    height, width = node.output.size
    fields = zip(labelled, net.receptive_field, node.output.extent)
    dense = [n + whole - r for n, whole, r in fields]
    scanning = height * width * labelled[0] * labelled[1]
    return node.multiply_adds * scanning, node.multiply_adds * dense[0] * dense[1]


def table(net: Net, labelled: Pair) -> str:
    """One line for each layer and one for the total, below the ratio of both forms.

    ``d`` is the spacing of the dense form's entries (the accumulated stride in front of the layer),
    ``dense footprint`` the rows and columns that its sparse kernel spans, ``R`` the receptive field
    behind it. MAC are multiply-adds for ``labelled`` pixels.
    """
    rows, totals = [], [0, 0, 0]
    for node in net.nodes.values():
        counts = (_parameters(node), *multiply_adds(net, node, labelled))
        totals = [total + count for total, count in zip(totals, counts)]
        *geometry, field = node.geometry
        cells = (*geometry, _footprint(node), field)
        rows.append((*cells, *(f"{count:,}" for count in counts)))
    rows.append(("total", *[""] * 6, *(f"{total:,}" for total in totals)))
    title = (
        f"patch {by(net.patch)}, {labelled[0]} x {labelled[1]} labelled pixels: scanning takes "
        f"{totals[1] / totals[2]:.1f} times the multiply-adds of the dense form"
        if totals[2]
        else f"patch {by(net.patch)}"
    )
    return f"{title}\n{aligned(HEADINGS, rows)}"


def _footprint(node):
    if node.window is None:
        return ""
    return by(dense_window(node.window, node.sources[0].spacing).footprint)


def _parameters(node):
    return sum(prod(shape) for shape in node.parameters.values())
