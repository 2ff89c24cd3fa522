"""Labelling an image of any size into files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numba

from kernels import checks
from net.borders import BORDERS
from net.files import check_writable, checked_path
from net.graph import Net
from net.large import cluster, layouts, running
from net.large.journal import Journal, check_same, journal_path, noted, stored
from net.large.layouts import Layout
from net.large.regions import labelled
from net.large.serialized import digest
from net.large.sinks import KINDS, overview_path, probabilities_path, write_overview
from net.large.sources import opened
from net.large.work import PROBABILITIES, Labeller, Work
from net.usage import Usage

VERSION = 1
"""Version of the journals' format."""


@dataclass(eq=False)
class LabellingPlan:
    """What ``label`` does, checked, before anything is written.

    Attributes:
        work: the work on each region.
        layout: the regions, and what they cost.
        out: the file or folder of the labels.
        run: description of the run, as the journal holds it.
        done: number of regions that an earlier run has written.
        workers: the workers that label; None for this process.

    >>> import numpy as np
    >>> from net import zoo
    >>> net = zoo.build("lenet28", backend="cpu")
    >>> found = plan(np.zeros((300, 200), np.uint8), net, "labels.npy")
    >>> found.out.name, found.done
    ('labels.npy', 0)
    """

    work: Work
    layout: Layout
    out: Path
    run: dict
    done: int
    workers: cluster.Workers | None = None

    def __str__(self) -> str:
        where = f"1 worker of {numba.get_num_threads()} threads"
        if self.workers is not None:
            where = str(self.workers)
        done = f"; {self.done} regions are done" if self.done else ""
        return f"{self.layout}; {where}{done}"

    def execute(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Label what is not labelled yet.

        Args:
            progress: callback (regions done, regions in total).

        Raises:
            OSError: a file cannot be read or written. What is written stays, and the next run goes
                on there.
            ValueError: the journal is of another run.

        >>> import numpy as np, tempfile
        >>> from net import zoo
        >>> image, net = np.zeros((30, 20), np.uint8), zoo.build("lenet28", backend="cpu")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plan(image, net, Path(folder, "labels.npy")).execute(print)
        1 1
        """
        work, total = self.work, len(self.work.grid)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with Journal(journal_path(self.out), self.run) as journal:
            for sink in work.sinks:
                sink.create()

            def written(region):
                journal.add(region.number)
                if progress is not None:
                    progress(len(journal.done), total)

            regions = [region for region in work.grid if region.number not in journal.done]
            if self.workers is None:
                running.run(work, regions, written)
            else:
                self.workers.run(work, self.run, regions, written)
            write_overview(work.sinks[0])


def plan(
    image,
    net: Net,
    out: str | Path,
    *,
    border: str | None = None,
    probabilities: str | None = None,
    where=None,
    axes: str | None = None,
    memory: int | str | None = None,
    client=None,
) -> LabellingPlan:
    """How an image would be labelled; arguments and errors as ``label``. Nothing is written.

    >>> import numpy as np, tempfile
    >>> from net import zoo
    >>> net = zoo.build("lenet28", backend="cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(plan(np.zeros((3000, 2000), np.uint8), net, Path(folder, "labels.tif")))
    3000 x 2000 pixels in ... regions of ...; halo 13, 13, 14, 14 (top, left, bottom, right), ...
    """
    checks.instance("net", net, Net)
    usage = net.usage or Usage()
    border = checks.choice("border", usage.border if border is None else border, BORDERS)
    if probabilities is not None:
        checks.choice("probabilities", probabilities, tuple(PROBABILITIES))
    out = checked_path("out", out)
    kind = KINDS.get(out.suffix.lower())
    if kind is None:
        raise ValueError(f"out is {str(out)!r}; expected a name that ends in {', '.join(KINDS)}")
    source = opened(image, net.channels, axes)
    size = source.shape[1:]
    labelled(net, border, size)
    mask = None
    if where is not None:
        mask = opened(where, None, name="where")
        if mask.shape[1:] != size:
            raise ValueError(
                f"where is of {mask.shape[1]} x {mask.shape[2]} pixels; expected {size[0]} x "
                f"{size[1]}, as the image"
            )
    workers = None if client is None else cluster.Workers(client)
    if workers is None:
        available = layouts.memory_bytes(memory, layouts.taken_bytes())
    else:
        available = workers.available(memory)
    run = {
        "version": VERSION,
        "net": digest(net),
        "image": source.identity(),
        "where": None if mask is None else mask.identity(),
        "border": border,
        "probabilities": probabilities,
        "out": out.name,
    }
    before = stored(journal_path(out))
    if before is None:
        layout = layouts.chosen(net, source, probabilities, available, mask)
    else:
        layout = layouts.layout(net, source, _region(before, out), probabilities, mask)
    run["region"] = list(layout.grid.region)
    grid, labeller = layout.grid, Labeller(net, border, probabilities)
    legend = labeller.legend
    sinks = [kind(out, size, legend.dtype, grid.region, legend)]
    if probabilities is not None:
        shape = (net.output.channels, *size)
        path = probabilities_path(out)
        sinks.append(kind(path, shape, PROBABILITIES[probabilities], grid.region, legend))
    _check_files(before, run, sinks, [one.path for one in (source, mask) if one is not None])
    work = Work(labeller, grid, source, mask, tuple(sinks))
    return LabellingPlan(work, layout, out, run, len(noted(journal_path(out))), workers)


def label(
    image,
    net: Net,
    out: str | Path,
    *,
    border: str | None = None,
    probabilities: str | None = None,
    where=None,
    axes: str | None = None,
    memory: int | str | None = None,
    client=None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Label an image of any size, region by region, in fixed memory (docs/large-images.md).

    The labels are those of the whole image in one pass, bit for bit, and as many as it has pixels;
    with the border ``valid`` those around it are unlabelled. Beside ``out`` lie a journal
    (``out.journal``) and a picture of all labels, reduced (``NAME.overview.png``). A run that was
    killed goes on where it stopped when it is called again with the same arguments.

    Args:
        image: a path or an array, as ``net.large.sources.opened`` takes it. It is normalised as the
            net's file says.
        net: the net that labels.
        out: the file or folder of the labels; the end of its name tells its kind: ``.npy``,
            ``.zarr`` (OME-Zarr), ``.tif`` or ``.ome.tif``. It holds the value of each pixel's class
            (``net.usage.LabelRule``; where that is of colors, class + 1, 0 where unlabelled).
        border: border of the image; None is that of the net's file.
        probabilities: keep them, as ``"float16"`` or ``"uint8"`` (times 255), in
            ``NAME.probabilities.*``; None does not.
        where: an image of the same size, or an array: only where a channel is above 0 labels are
            worked out, and only what they need.
        axes: which axis of the image holds the channels, ``"first"`` or ``"last"``, where it does
            not say.
        memory: memory that the process may take, in bytes or as ``"2 GB"``; None is three quarters
            of what is free. With a ``client``, memory of each worker; None is what they say.
        client: a ``distributed.Client``, or the address of its scheduler, whose workers label and
            write; they must see the files under the same paths.
        progress: callback (regions done, regions in total).

    Raises:
        TypeError, ValueError: an argument is wrong, or the journal is of another net, image or
            options.
        FileExistsError, FileNotFoundError: ``out`` or its probabilities are there without a
            journal, or a journal of some regions without them.
        MemoryError: the memory does not hold the smallest regions.
        ModuleNotFoundError: a format needs a package that is missing.
        OSError: a file cannot be read or written.

    >>> import numpy as np, tempfile
    >>> from net import zoo
    >>> net = zoo.build("lenet28", backend="cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     label(np.zeros((30, 20), np.uint8), net, Path(folder, "labels.npy"))
    ...     np.load(Path(folder, "labels.npy")).shape
    (30, 20)
    """
    if isinstance(progress, type) or not (progress is None or callable(progress)):
        raise TypeError(f"progress is {checks.kind_of(progress)}; expected a function, or None")
    plan(
        image,
        net,
        out,
        border=border,
        probabilities=probabilities,
        where=where,
        axes=axes,
        memory=memory,
        client=client,
    ).execute(progress)


def _check_files(before, run, sinks, inputs):
    """Refuse what cannot be written, would replace something else, or cannot be resumed."""
    out = sinks[0].path
    journal, overview = journal_path(out), overview_path(out)
    if before is not None:
        check_same(journal, before, run)
    for sink in sinks:
        there = sink.path.exists()
        if there and before is None:
            raise FileExistsError(
                f"{sink.path} is there, and no journal of it; expected the name of nothing, or of "
                "a run to go on with"
            )
        if not there and noted(journal):
            raise FileNotFoundError(
                f"{sink.path} is not there, but {journal} says what is written of it; expected "
                "both or neither"
            )
        sink.check()
    if overview.resolve() in {path.resolve() for path in inputs if path is not None}:
        raise ValueError(f"{overview} is read and would be replaced; expected another out")
    check_writable("out", journal)
    check_writable("overview", overview)


def _region(before, out):
    region = before.get("region")
    try:
        return checks.pair("region", region)
    except ValueError as error:
        raise ValueError(f"{journal_path(out)} is no journal of labelling: {error}") from None
