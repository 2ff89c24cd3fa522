"""Workers of a Dask cluster, which read, label and write regions themselves.

The net travels to each worker once. On a worker one region is labelled at a time, by as many
threads as Dask gives it, while another one is read or written. A dead worker's regions are
recomputed by another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from uuid import uuid4

from net.extras import needed
from net.large.layouts import MEMORY_FRACTION, RESERVE, memory_bytes
from net.large.regions import Region
from net.large.sources import Source
from net.large.work import Work

BASE = 256 * 2**20
"""Bytes that a worker has before it labels, roughly."""


class Workers:
    """The workers of a cluster.

    Args:
        client: a ``distributed.Client``, or the address of a scheduler.

    Attributes:
        threads: number of threads of each worker.
        limits: bytes of memory of the workers that have a limit.

    Raises:
        ModuleNotFoundError: ``distributed`` is missing.
        OSError: nothing answers there, or there are no workers.
        TypeError, ValueError: it is neither.
    """

    def __init__(self, client):
        distributed = needed("distributed", "a cluster")
        if isinstance(client, str):
            _check_address(client)
        elif not isinstance(client, distributed.Client):
            raise TypeError(
                f"client is a {type(client).__name__}; expected a distributed.Client, or the "
                "address of a scheduler"
            )
        elif client.status != "running":
            raise ValueError(f"client is {client.status}; expected one that is connected")
        self._given = client
        with self.connected() as client:
            self.threads = list(client.nthreads().values())
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
        self.limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
        if not self.threads:
            raise OSError("the cluster has no workers; expected at least one")

    def __str__(self) -> str:
        threads, plural = self.threads, "s" * (len(self.threads) > 1)
        return f"{len(threads)} worker{plural} of {min(threads)} to {max(threads)} threads"

    @contextmanager
    def connected(self) -> Iterator:
        """A ``distributed.Client``: the caller's, or one that is closed again."""
        if not isinstance(self._given, str):
            yield self._given
            return
        from distributed import Client

        with Client(self._given, set_as_default=False) as client:
            yield client

    @contextmanager
    def registered(self, recipe) -> Iterator[tuple]:
        """(client, name) of a ``net.large.worker.RunPlugin`` with a ``recipe``, registered on every
        worker, those that come later as well.

        Raises:
            OSError: a worker does not see the files.
        """
        from net.large import worker

        name = f"regularly-sparse-{uuid4()}"
        with self.connected() as client:
            client.register_plugin(worker.RunPlugin(name, recipe))
            try:
                _check(client.run(worker.fault, name))
                yield client, name
            finally:
                client.unregister_worker_plugin(name)

    def available(self, memory: int | str | None) -> int:
        """Bytes for labelling on each worker: from ``memory``, or from the smallest limit of a
        worker."""
        if memory is not None:
            return memory_bytes(memory, BASE)
        return int(MEMORY_FRACTION * min(self.limits, default=2**31)) - BASE - RESERVE

    def run(
        self, work: Work, run: dict, regions: Iterable[Region], written: Callable[[Region], None]
    ) -> None:
        """As ``net.large.running.run``, on the workers.

        Args:
            run: description of the run, as the journal holds it.

        Raises:
            OSError: a worker does not see the files, or workers die again and again.
            Exception: what a worker raised; regions that are not begun are left then.
        """
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        from net.large import worker

        shared = _is_file(work.source) and (work.where is None or _is_file(work.where))
        regions, by_key = iter(regions), {}

        def submit(region):
            taken = None if shared else work.take(region)
            future = client.submit(worker.label, name, region.number, taken, pure=False)
            by_key[future.key] = region
            return future

        with self.registered(worker.WorkRecipe.of(work, run, shared)) as (client, name):
            try:
                places = worker.AT_ONCE * len(client.nthreads())
                futures = as_completed([submit(region) for region in islice(regions, places)])
                for future in futures:
                    region = by_key.pop(future.key)
                    try:
                        future.result()
                    except KilledWorker as error:
                        raise OSError(
                            f"rows {region.rows.start} to {region.rows.stop}, columns "
                            f"{region.columns.start} to {region.columns.stop}: {error}"
                        ) from error
                    written(region)
                    future.release()
                    for following in islice(regions, 1):
                        futures.add(submit(following))
            finally:
                client.cancel(list(by_key))


def _check_address(address):
    """Refuse what a ``distributed.Client`` would wait for a minute to get rid of again."""
    from distributed import comm

    if address.startswith("inproc://"):  # has no port
        return
    try:
        comm.get_address_host_port(comm.normalize_address(address), strict=True)
    except ValueError as error:
        raise ValueError(
            f"client is {address!r}; expected such as 'tcp://host:8786': {error}"
        ) from None


def _is_file(source: Source) -> bool:
    return source.path is not None


def _check(faults):
    told = {worker: fault for worker, fault in faults.items() if fault}
    for worker, fault in told.items():
        more = f" (and {len(told) - 1} more)" * (len(told) > 1)
        raise OSError(f"worker {worker}{more}: {fault}")
