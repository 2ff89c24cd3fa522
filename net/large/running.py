"""Regions one after another on this machine: while one is labelled, the next one is read and the
last one written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from net.large.regions import Region
from net.large.work import Work


def run(work: Work, regions: Iterable[Region], written: Callable[[Region], None]) -> None:
    """Label regions.

    Args:
        work: the work on each region.
        regions: the regions, labelled in this order.
        written: callback (region written), called in the caller's thread.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        regions, ahead, behind = iter(regions), None, None
        try:
            while True:
                region = next(regions, None)
                coming = region and (region, reader.submit(work.take, region))
                if ahead:
                    current, taken = ahead
                    labels = work.label(current, taken.result())
                    _finish(behind, written)
                    behind = current, writer.submit(work.write, current, labels)
                    del taken, labels
                ahead = coming
                if ahead is None:
                    break
            _finish(behind, written)
        except BaseException:
            if ahead:
                ahead[1].cancel()
            raise


def _finish(behind, written):
    if behind:
        region, done = behind
        done.result()
        written(region)
