"""A net's layers as a table: geometry and multiply-adds, patch by patch and dense."""

from __future__ import annotations

from math import prod

from kernels import checks
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
    "footprint",
    "R",
    "parameters",
    "scanning MAC",
    "dense MAC",
)


def multiply_adds(net: Net, node: Node, labelled: int | Pair) -> tuple[int, int]:
    """Multiply-adds of one layer for ``labelled`` pixels: (scanning patch by patch, dense).

    >>> from net import zoo
    >>> net = zoo.build("lenet28", backend="reference")
    >>> multiply_adds(net, net.nodes["conv1"], (1, 1))  # of one patch, both the same
    (288000, 288000)
    """
    checks.instance("net", net, Net)
    checks.instance("node", node, Node)
    labelled = checks.pair("labelled", labelled)
    height, width = node.output.size
    scanning = height * width * labelled[0] * labelled[1]
    return node.multiply_adds * scanning, node.multiply_adds * dense_cells(net, node, labelled)


def dense_cells(net: Net, node: Node, labelled: Pair) -> int:
    """Cells of a layer's map in the dense form, for ``labelled`` pixels."""
    fields = zip(labelled, net.receptive_field, node.output.extent)
    return prod(n + whole - r for n, whole, r in fields)


def table(net: Net, labelled: int | Pair) -> str:
    """One line for each layer and one for the total, below the ratio of both forms.

    ``d`` is the spacing of the dense form's entries (the accumulated stride in front of the layer),
    ``footprint`` the rows and columns that its sparse kernel spans there, ``R`` the receptive field
    behind it. MAC are multiply-adds for ``labelled`` pixels.

    Raises:
        TypeError, ValueError: no net, or ``labelled`` is not one or two positive ints.

    >>> from net import zoo
    >>> print(table(zoo.build("lenet28", backend="cpu"), 256))
    patch 28x28, 256 x 256 labelled pixels: scanning takes 5.3 times the multiply-adds ...
    layer  reads  window     patch map  d  footprint  R  parameters  scanning MAC  dense MAC
    conv1  image  5x5 / 1x1  20 x 24x24 ...
    """
    checks.instance("net", net, Net)
    labelled = checks.pair("labelled", labelled)
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


def needed_table(net: Net, labelled: Pair, pixels: int, counts: dict[str, int]) -> str:
    """One line for each layer and one for the total: the cells that some pixels need, their
    multiply-adds, and the share of the dense form's that each is.

    Args:
        labelled: rows and columns of the map that the pixels are of.
        pixels: number of chosen pixels, each counted once.
        counts: number of needed cells by layer.

    >>> import numpy as np
    >>> from net import zoo
    >>> from net.needed_cells import Need
    >>> net = zoo.build("lenet28", backend="reference")
    >>> counts = Need(net, np.array([[5, 7], [5, 8]])).counts
    >>> print(needed_table(net, (64, 64), 2, counts))
    patch 28x28, 2 of 64 x 64 pixels need 0.237% of the dense form's multiply-adds (scanning 0.253%)
    layer  needed cells  of dense  needed MAC  of dense
    conv1  600           7.93%     300,000     7.93%
    ...
    """
    rows, totals = [], [0, 0, 0]
    for node in net.nodes.values():
        scanning, dense = multiply_adds(net, node, labelled)
        cells, all_cells = counts[node.name], dense_cells(net, node, labelled)
        needed = cells * node.multiply_adds
        counted = needed, dense, scanning * pixels // prod(labelled)
        totals = [total + count for total, count in zip(totals, counted)]
        work = (f"{needed:,}", _percent(needed, dense)) if dense else ("0", "")
        rows.append((node.name, f"{cells:,}", _percent(cells, all_cells), *work))
    needed, dense, scanning = totals
    title = f"patch {by(net.patch)}, {pixels:,} of {labelled[0]} x {labelled[1]} pixels"
    if dense:
        rows.append(("total", "", "", f"{needed:,}", _percent(needed, dense)))
        title += (
            f" need {_percent(needed, dense)} of the dense form's multiply-adds (scanning "
            f"{_percent(scanning, dense)})"
        )
    headings = ("layer", "needed cells", "of dense", "needed MAC", "of dense")
    return f"{title}\n{aligned(headings, rows)}"


def memory(forward: int, both: int) -> str:
    """Bytes that passes take, in words."""
    return f"{forward / 1e6:,.1f} MB forward, {both / 1e6:,.1f} MB forward and backward"


def _percent(part, whole) -> str:
    return f"{100 * part / whole:.3g}%"


def _footprint(node):
    if node.window is None:
        return ""
    return by(dense_window(node.window, node.sources[0].spacing).footprint)


def _parameters(node):
    return sum(prod(shape) for shape in node.parameters.values())
