"""Labels as Dask arrays, computed when they are asked for, under any scheduler."""

from __future__ import annotations

from functools import lru_cache

from kernels import checks
from net.borders import BORDERS
from net.extras import needed
from net.graph import Net
from net.large import layouts
from net.large.regions import ImageWindow, labelled
from net.large.serialized import load_bytes, net_bytes
from net.large.sources import opened
from net.large.work import PROBABILITIES, Labeller, Labels, Taken
from net.usage import Usage


def lazy(
    image,
    net: Net,
    *,
    border: str | None = None,
    probabilities: str | None = None,
    axes: str | None = None,
    memory: int | str = "1 GB",
):
    """The labels of an image as a Dask array H x W, and where they are kept the probabilities,
    K x H x W: (labels, probabilities).

    Args:
        image: a Dask array.
        net, border, probabilities, axes: as ``net.large.label`` takes them.
        memory: memory that one region may take, in bytes or as ``"2 GB"``. A scheduler labels as
            many at a time as it has threads.

    Raises:
        TypeError, ValueError: an argument is wrong.
        ModuleNotFoundError: Dask is missing.

    >>> import dask.array, numpy as np
    >>> from net import zoo
    >>> image = dask.array.zeros((40, 50), np.uint8, chunks=16)
    >>> lazy(image, zoo.build("lenet28", backend="cpu")).compute().shape
    (40, 50)
    """
    da = needed("dask.array", "a lazy array")
    delayed = needed("dask", "a lazy array").delayed
    checks.instance("image", image, da.Array)
    checks.instance("net", net, Net)
    border = (net.usage or Usage()).border if border is None else border
    checks.choice("border", border, BORDERS)
    if probabilities is not None:
        checks.choice("probabilities", probabilities, tuple(PROBABILITIES))
    source = opened(image, net.channels, axes)
    size = source.shape[1:]
    labelled(net, border, size)
    available = layouts.memory_bytes(memory)
    grid = layouts.chosen(net, source, probabilities, available).grid
    labeller = Labeller(net, border, probabilities)
    node = delayed(net_bytes(net), pure=True)
    of_region = delayed(_labels, nout=2, pure=True)
    rows: list[list] = [[] for _ in range(grid.counts[0])]
    for region in grid:
        part = labeller.part(size, region)
        raw = None if part is None else source.part(*ImageWindow.of(net, border, size, part).read)
        labels = of_region(node, net.backend.name, border, probabilities, size, region, raw)
        rows[region.number // grid.counts[1]].append((region, labels))

    def joined(which, dtype, more):
        return da.block(
            [
                [
                    da.from_delayed(labels[which], (*more, *region.size), dtype)
                    for region, labels in row
                ]
                for row in rows
            ]
        )

    classes = joined(0, labeller.legend.dtype, ())
    if probabilities is None:
        return classes
    return classes, joined(1, PROBABILITIES[probabilities], (net.output.channels,))


@lru_cache(4)
def _labeller(content, backend, border, probabilities):
    return Labeller(load_bytes(content, backend), border, probabilities)


def _labels(content, backend, border, probabilities, size, region, raw) -> Labels:
    labeller = _labeller(content, backend, border, probabilities)
    taken = Taken(None, None)
    if raw is not None:
        part = labeller.part(size, region)
        window = ImageWindow.of(labeller.net, border, size, part)
        taken = Taken(window.framed(labeller.net, raw), None)
    return labeller.labels(size, region, taken)
