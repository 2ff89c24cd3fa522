"""How the host's operators share out the zoo's layers: enough items for many threads.

No time is measured: plans are read. What the queues of items cost: ``test_queues.py``.
"""

from math import prod
from pathlib import Path

import numpy as np
import pytest

import kernels
from kernels.convolution import (
    PARTIAL_BYTES,
    PARTIAL_SUMS,
    cpu_choice,
    cpu_rows_of_errors,
    cpu_rows_plan,
)
from kernels.convolution.cpu_workspace import error_bytes, error_rows, partial_shape
from kernels.host import simd
from kernels.max_pooling.cpu_workspace import HEIGHT, workspace
from kernels.window import Window
from net import zoo
from net.conversion import steps_of
from net.steps import ConvolutionStep

ROOT = Path(kernels.__file__).parents[1]
LABELLED, THREADS, ITEMS = 256, 64, 8
FLOAT32 = 4


def windows(name):
    """(step, shape of its input, of its output) of each layer of the dense form with a window."""
    net = zoo.build(name, backend="cpu")
    size, channels = tuple(LABELLED + field - 1 for field in net.receptive_field), net.channels
    for step in steps_of(net, "dense"):
        window = getattr(step, "window", None)
        if window is None:
            continue
        output, filters = window.output_size(size), channels
        if isinstance(step, ConvolutionStep):
            filters = step.node.weights_shape[0]
        yield step, (1, channels, *size), (1, filters, *output)
        size, channels = output, filters


def layers(name):
    """Those that are convolutions."""
    return [layer for layer in windows(name) if isinstance(layer[0], ConvolutionStep)]


def planned(out, source, window, origin):
    return cpu_rows_plan.plan(out, source, window.kernel, window.dilation, origin, FLOAT32, THREADS)


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_thread_finds_eight_items(name):
    """In the forward pass and in the input gradient, over rows of inputs and of errors; each pixel
    of a channel lies in one item."""
    for step, x, y in layers(name):
        window = step.window
        origin = tuple((1 - k) * d for k, d in zip(window.kernel, window.dilation))
        for out, source, at in ((y, x, (0, 0)), (x, y, origin)):
            _, _, items = planned(out, source, window, at)
            assert len(items) >= ITEMS * THREADS, (step.output, out)
            assert (items[:, 2] * items[:, 4]).sum() == out[2] * out[3], (step.output, out)
        if cpu_choice.in_rows_of_errors(x, y, window, simd.lanes(FLOAT32)):
            _, tiling, items = cpu_rows_of_errors.plan(x, y, window, FLOAT32, THREADS)
            assert len(items) >= ITEMS * THREADS, (step.output, x)
            assert (items[:, 2] * items[:, 4]).sum() == x[2] * tiling.groups, (step.output, x)


def test_no_thread_works_in_more_than_is_planned():
    """Over rows of errors, in maps of all shapes and on any number of threads."""
    rng = np.random.default_rng(20141216)
    for _ in range(3000):
        (batch, filters, channels), kernel = rng.integers(1, (4, 900, 900)), rng.integers(1, 12, 2)
        output, dilation = rng.integers(1, (500, 3000)), rng.integers(1, 60, 2)
        window = Window(tuple(kernel.tolist()), (1, 1), tuple(dilation.tolist()))
        x = (int(batch), int(channels), *(output + (kernel - 1) * dilation).tolist())
        error = (int(batch), int(filters), *output.tolist())
        planned = error_bytes(x, error, window, FLOAT32)
        for threads in (1, 2, 16, 64):
            room = error_rows(x, error, window, FLOAT32, threads)
            assert (room.panel + room.sums) * FLOAT32 <= planned, (x, error, window, threads)


def test_pooling_has_as_many_items_as_the_height_of_its_maps_allows():
    """The page on the host says how many that leaves."""
    counts = []
    for step, x, y in (layer for name in zoo.ZOO for layer in windows(name)):
        if isinstance(step, ConvolutionStep):
            continue
        _, items = workspace(step.window, x[3], y, FLOAT32, argmax=True)
        bands = items // y[1]
        high = (bands + 1) * HEIGHT * step.window.footprint[0] > y[2]
        assert items >= ITEMS * THREADS or high, step.output
        counts.append(items)
    page = " ".join((ROOT / "docs" / "host.md").read_text().split())
    assert f"that leaves {min(counts)} to {max(counts)} items in the zoo" in page


@pytest.mark.parametrize("name", zoo.ZOO)
def test_the_weight_gradient_has_an_item_for_each_partial_sum(name):
    """A sum for each group of pixels, 16 of them where they fit into 64 MB."""
    for step, _, y in layers(name):
        groups, *sums = partial_shape(step.node.weights_shape, y[2] * y[3], FLOAT32)
        assert groups == PARTIAL_SUMS or (groups + 1) * prod(sums) * FLOAT32 > PARTIAL_BYTES
        vectors = sums[1] // simd.lanes(FLOAT32)
        assert groups * len(simd.vector_groups(vectors, simd.CHANNEL_VECTORS)) >= PARTIAL_SUMS
