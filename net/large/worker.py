"""What runs on a worker of a Dask cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numba
from distributed import WorkerPlugin, get_worker

from net.large.journal import journal_path, stored
from net.large.regions import Grid
from net.large.serialized import load_bytes, net_bytes
from net.large.sinks import Sink
from net.large.sources import Source, opened
from net.large.work import Labeller, Taken, Work

AT_ONCE = 2
"""Regions that a worker holds: one is labelled while another one is read or written."""


class File(NamedTuple):
    """A ``Source`` in a file, as it is sent to workers."""

    path: Path
    channels: int
    stated: str | None
    identity: dict

    @classmethod
    def of(cls, source: Source) -> File:
        """The file of a source that the caller reads."""
        return cls(source.path, source.channels, source.stated, source.identity())

    def opened(self) -> Source:
        """What the worker reads.

        Raises:
            OSError: it does not see the file, or sees another one.
        """
        try:
            source = opened(self.path, self.channels, self.stated)
        except FileNotFoundError as error:
            raise OSError(f"it does not see {error.filename}") from None
        identity = source.identity()
        for name in self.identity.keys() - {"changed"}:
            if identity[name] != self.identity[name]:
                raise OSError(
                    f"its {self.path} is another one: {name} {identity[name]}, not "
                    f"{self.identity[name]}"
                )
        return source


@dataclass(frozen=True, eq=False)
class WorkRecipe:
    """A ``Work``, as it is sent to workers.

    Attributes:
        net: the net as bytes of its file.
        backend: name of its backend.
        border, probabilities: arguments of the ``Labeller``.
        grid, sinks: attributes of the ``Work``.
        run: description of the run, as the journal holds it.
        files: files of the image and of the mask; None for one that is missing, or that the caller
            reads.
    """

    net: bytes
    backend: str
    border: str
    probabilities: str | None
    grid: Grid
    sinks: tuple[Sink, ...]
    run: dict
    files: tuple[File | None, ...]

    @classmethod
    def of(cls, work: Work, run: dict, shared: bool) -> WorkRecipe:
        """The recipe of the caller's work; ``shared`` tells whether workers read the files
        themselves."""
        labeller = work.labeller
        return cls(
            net_bytes(labeller.net),
            labeller.net.backend.name,
            labeller.border,
            run["probabilities"],
            work.grid,
            tuple(replace(sink, path=sink.path.absolute()) for sink in work.sinks),
            run,
            tuple(
                File.of(source) if shared and source is not None else None
                for source in (work.source, work.where)
            ),
        )

    def work(self) -> Work:
        """What the worker does.

        Raises:
            OSError: it does not see the files.
        """
        out = self.sinks[0].path
        if stored(journal_path(out)) != self.run:
            raise OSError(f"it does not see {journal_path(out)} of this run")
        source, where = (file and file.opened() for file in self.files)
        labeller = Labeller(load_bytes(self.net, self.backend), self.border, self.probabilities)
        return Work(labeller, self.grid, source, where, self.sinks)


class RunPlugin(WorkerPlugin):
    """What a worker keeps for one run.

    Args:
        name: name of the run.
        recipe: the recipe, whose ``work()`` makes what the worker keeps.
    """

    def __init__(self, name: str, recipe):
        self.name, self.recipe = name, recipe

    def setup(self, worker) -> None:
        """Called once on each worker, also on those that join later."""
        self.threads = min(worker.state.nthreads, numba.config.NUMBA_NUM_THREADS)
        self.places, self.labelling = threading.Semaphore(AT_ONCE), threading.Lock()
        self.opening = threading.Lock()

    @cached_property
    def _work(self):
        return self.recipe.work()

    def work(self):
        """What the recipe makes, made when a task first asks for it, so that its error reaches the
        caller, not the worker's log.

        Raises:
            OSError: the worker does not see the files.
        """
        with self.opening:
            try:
                return self._work
            except OSError as error:
                raise OSError(f"{error}; expected files that all workers share") from None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One pass at a time, on the worker's threads."""
        with self.labelling:
            numba.set_num_threads(self.threads)
            yield


def fault(name: str, dask_worker) -> str | None:
    """The error that keeps a worker from labelling, as a text; None where nothing does."""
    try:
        dask_worker.plugins[name].work()
    except (OSError, ValueError, RuntimeError) as error:
        return str(error)
    return None


def label(name: str, number: int, taken: Taken | None) -> None:
    """Label the region of a ``number`` and write it; ``taken`` is None where the worker reads."""
    plugin: RunPlugin = get_worker().plugins[name]
    work = plugin.work()
    region = work.grid[number]
    with plugin.places:
        taken = taken or work.take(region)
        with plugin.alone():
            labels = work.label(region, taken)
        work.write(region, labels)
