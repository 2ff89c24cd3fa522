"""A net's layers as a table: geometry and multiply-adds, patch by patch and dense."""

from __future__ import annotations

from kernels.checks import Pair
from net.layers import dense_window
from net.planning import peak_bytes

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


def multiply_adds(net, node, labelled: Pair) -> tuple[int, int]:
    """Multiply-adds of one layer for ``labelled`` pixels: (scanning patch by patch, dense)."""
    height, width = node.output.size
    dense = [n + r - own for n, r, own in zip(labelled, net.receptive_field, node.output.extent)]
    scanning = height * width * labelled[0] * labelled[1]
    return node.multiply_adds * scanning, node.multiply_adds * dense[0] * dense[1]


def table(net, labelled: Pair) -> str:
    """One line for each layer, one for the total and one on memory.

    ``d`` is the spacing of the dense form's entries (the accumulated stride in front of the layer),
    ``dense footprint`` the rows and columns that its sparse kernel spans, ``R`` the receptive field
    behind it. MAC are multiply-adds for ``labelled`` pixels.
    """
    rows, totals = [], [0, 0, 0]
    for node in net.nodes.values():
        counts = (_parameters(node), *multiply_adds(net, node, labelled))
        totals = [total + count for total, count in zip(totals, counts)]
        rows.append((*_geometry(node), *(f"{count:,}" for count in counts)))
    rows.append(("total", *[""] * 6, *(f"{total:,}" for total in totals)))
    lines = [HEADINGS, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    title = (
        f"patch {_pair(net.patch)}, {labelled[0]} x {labelled[1]} labelled pixels: scanning takes "
        f"{totals[1] / totals[2]:.1f} times the multiply-adds of the dense form"
        if totals[2]
        else f"patch {_pair(net.patch)}"
    )
    forward, both = (peak_bytes(net, labelled, backward=b) / 1e6 for b in (False, True))
    return "\n".join(
        [
            title,
            *("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines),
            f"the dense form takes {forward:,.1f} MB forward, {both:,.1f} MB forward and backward",
        ]
    )


def _geometry(node):
    spacing = node.sources[0].spacing
    window, footprint = "", ""
    if node.window is not None:
        window = f"{_pair(node.window.kernel)} / {_pair(node.window.stride)}"
        footprint = _pair(dense_window(node.window, spacing).footprint)
    return (
        node.name,
        ", ".join(node.inputs),
        window,
        f"{node.output.channels} x {_pair(node.output.size)}",
        _pair(spacing),
        footprint,
        _pair(node.output.extent),
    )


def _parameters(node):
    if node.has_weights:
        return node.multiply_adds + node.output.channels * node.layer.bias
    return 2 * node.output.channels if node.layer.kind == "norm" else 0


def _pair(value):
    return f"{value[0]}x{value[1]}"
