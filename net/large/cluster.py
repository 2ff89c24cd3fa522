"""Regions on the workers of a Dask cluster, which read and write the files themselves.

The net travels to each worker once. On a worker one region is labelled at a time, by as many
threads as Dask gives it, while another one is read or written. What a worker held that dies is
worked out again by another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from uuid import uuid4

from net.extras import needed
from net.large.planning import RESERVE, SHARE, memory_bytes
from net.large.regions import Region
from net.large.sources import Source
from net.large.work import Work

BASE = 256 * 2**20
"""Bytes that a worker has before it labels, roughly."""


class Workers:
    """The workers of a cluster.

    Args:
        client: a ``distributed.Client``, or the address of a scheduler.

    Raises:
        ModuleNotFoundError: ``distributed`` is missing.
        OSError: nothing answers there, or there are no workers.
        TypeError, ValueError: it is neither.
    """

    def __init__(self, client):
        distributed = needed("distributed", "a cluster")
        if isinstance(client, str):
            if ":" not in client:
                raise ValueError(f"client is {client!r}; expected such as 'tcp://host:8786'")
            client = distributed.Client(client, set_as_default=False)
        if not isinstance(client, distributed.Client):
            raise TypeError(
                f"client is a {type(client).__name__}; expected a distributed.Client, or the "
                "address of a scheduler"
            )
        self.client = client
        if not client.nthreads():
            raise OSError("the cluster has no workers; expected at least one")

    def __str__(self) -> str:
        threads = self.client.nthreads().values()
        plural = "s" * (len(threads) > 1)
        return f"{len(threads)} worker{plural} of {min(threads)} to {max(threads)} threads"

    def available(self, memory: int | str | None) -> int:
        """Bytes for labelling on each worker: of ``memory``, or of what the least of them has."""
        if memory is not None:
            return memory_bytes(memory, BASE)
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
        return int(SHARE * min(limits, default=2**31)) - BASE - RESERVE

    def run(
        self, work: Work, run: dict, regions: Iterable[Region], written: Callable[[Region], None]
    ) -> None:
        """As ``net.large.running.run``, on the workers.

        Args:
            run: what the journal says.

        Raises:
            OSError: a worker does not see the files, or workers die again and again.
            Exception: what a worker raised; regions that are not begun are left then.
        """
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        from net.large import worker

        name = f"labelling-{uuid4()}"
        shared = _is_file(work.source) and (work.where is None or _is_file(work.where))
        client, regions = self.client, iter(regions)
        client.register_plugin(worker.Room(name, worker.Recipe.of(work, run, shared)))
        by_key = {}

        def submit(region):
            taken = None if shared else work.take(region)
            future = client.submit(worker.label, name, region.number, taken, pure=False)
            by_key[future.key] = region
            return future

        try:
            _check(client.run(worker.fault, name))
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
            client.unregister_worker_plugin(name)


def _is_file(source: Source) -> bool:
    return source.path is not None


def _check(faults):
    told = {worker: fault for worker, fault in faults.items() if fault}
    for worker, fault in told.items():
        more = f" (and {len(told) - 1} more)" * (len(told) > 1)
        raise OSError(f"worker {worker}{more}: {fault}")
