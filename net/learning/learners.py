"""Training steps on the workers of a Dask cluster, which share the images of each step.

Net and examples travel to each worker once. In a step each worker prepares its images and returns
their weight; then it gets the total weight and the parameters, and returns loss and gradients of
each image. The caller adds them up in the images' order, so the bits do not depend on how images
are shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from kernels import checks
from net.large.cluster import Workers
from net.large.serialized import load_bytes, net_bytes
from net.large.views import View
from net.learning.examples import ExamplePreparer
from net.learning.training import Trainer
from net.learning.training_steps import Draw, Result, Sample, Sampler, added_weights

PATIENCE = 10
"""Seconds between checks for lost workers."""


@contextmanager
def learners(client, sampler: Sampler) -> Iterator[Learners]:
    """The workers of a cluster, ready to learn.

    Args:
        client: a ``distributed.Client``, or the address of a scheduler.
        sampler: the sampler that the caller would use alone.

    Raises:
        ModuleNotFoundError: ``distributed`` is missing.
        OSError: nothing answers there, there are no workers, or one does not see the files.
        TypeError, ValueError: ``client`` is neither, or an image that cannot travel.
    """
    workers = Workers(client)
    with workers.registered(SamplerRecipe.of(sampler)) as (connected, name):
        yield Learners(connected, name, sampler)


@dataclass(frozen=True, eq=False)
class Learners:
    """Workers that are ready, in place of a ``Sampler``.

    Attributes:
        client: a ``distributed.Client``.
        name: name of what the workers keep.
        sampler: the sampler that the caller would use alone.
    """

    client: object
    name: str
    sampler: Sampler

    def gradients(self, draws: list[Draw]) -> Result:
        """As ``Sampler.gradients``.

        Raises:
            OSError: workers die again and again.
            Exception: what a worker raised.
        """
        from distributed import wait
        from distributed.scheduler import KilledWorker

        net = self.sampler.preparer.trainer.net
        to_device = net.backend.memory.to_device
        addresses = list(self.client.nthreads()) or [None]
        worker_draws = [draws[i :: len(addresses)] for i in range(min(len(addresses), len(draws)))]

        def all_of(function, *given):
            def submit(draws, address):
                options = {"workers": address, "allow_other_workers": address is not None}
                return self.client.submit(function, self.name, draws, *given, **options, pure=False)

            places = addresses[: len(worker_draws)]
            futures = [submit(*both) for both in zip(worker_draws, places)]
            while True:
                try:
                    wait(futures, timeout=PATIENCE)
                    break
                except TimeoutError:
                    # Dask does not reschedule tasks whose named workers are all gone
                    left = self.client.nthreads()
                    for i, place in enumerate(places):
                        if place and place not in left and futures[i].status == "pending":
                            futures[i], places[i] = submit(worker_draws[i], None), None
            by_draw = {}
            try:
                for some, results in zip(worker_draws, self.client.gather(futures)):
                    by_draw |= zip(some, results)
            except KilledWorker as error:
                raise OSError(f"a step on {len(draws)} images: {error}") from error
            return [by_draw[draw] for draw in draws]

        weights, pixels = zip(*all_of(weigh))
        by_image = all_of(learn, added_weights(weights), net.state())
        parts = (
            (loss, {name: to_device(gradient) for name, gradient in gradients.items()})
            for loss, gradients in by_image
        )
        return self.sampler.summed(parts, sum(pixels))


@dataclass(frozen=True, eq=False)
class SamplerRecipe:
    """A ``Sampler``, as it is sent to workers.

    Attributes:
        net: the net as bytes of its file.
        backend: name of its backend.
        options: arguments of its ``Trainer``.
        augmentation, pixels: as ``fit`` takes them.
        images: arrays, and files of views.
        labels: as ``fit`` takes them.
    """

    net: bytes
    backend: str
    options: dict
    augmentation: object
    pixels: object
    images: tuple
    labels: tuple

    @classmethod
    def of(cls, sampler: Sampler) -> SamplerRecipe:
        """The recipe of the caller's sampler."""
        preparer, (images, labels) = sampler.preparer, sampler.examples
        trainer = preparer.trainer
        return cls(
            net_bytes(trainer.net),
            trainer.net.backend.name,
            {
                "optimizer": trainer.optimizer,
                "border": preparer.border,
                "class_weights": trainer.class_weights,
                "seed": trainer.seed,
                "form": trainer.form,
                "batch": trainer.scan.batch,
            },
            preparer.augmentation,
            sampler.pixels,
            tuple(_sent(f"examples image {i}", image) for i, image in enumerate(images)),
            tuple(labels),
        )

    def work(self) -> Learner:
        """What the worker does.

        Raises:
            OSError: it does not see the files.
        """
        net = load_bytes(self.net, self.backend)
        images = [
            one if isinstance(one, np.ndarray) else View.of(one.opened(), net)
            for one in self.images
        ]
        preparer = ExamplePreparer(Trainer(net, **self.options), self.augmentation)
        return Learner(Sampler(preparer, (images, list(self.labels)), self.pixels))


def _sent(name, image):
    """An image as it is sent to workers: an array, or the file of a view."""
    from net.large.worker import File

    if isinstance(image, View) and image.source.path is not None:
        return File.of(image.source)
    if not isinstance(image, np.ndarray):
        kind = checks.kind_of(image)
        raise TypeError(f"{name} is {kind}; expected an array, or a View of a file, to be sent")
    return image


class Learner:
    """What a worker keeps of a run.

    Args:
        sampler: the worker's own sampler.
    """

    def __init__(self, sampler: Sampler):
        self.sampler = sampler
        self._draws: list[Draw] = []
        self._samples: list[Sample] = []

    def samples(self, draws: list[Draw]) -> list[Sample]:
        """What a step learns from these images; kept until others are asked for."""
        if self._draws != draws:
            self._samples = [self.sampler.sample(draw) for draw in draws]
            self._draws = draws
        return self._samples


@contextmanager
def _working(name):
    from distributed import get_worker

    plugin = get_worker().plugins[name]
    learner = plugin.work()
    with plugin.alone():
        yield learner


def weigh(name: str, draws: list[Draw]) -> list[tuple[float, int]]:
    """On a worker: weight and number of the pixels that a step learns from in each image."""
    with _working(name) as learner:
        samples = learner.samples(draws)
        return [(learner.sampler.weight(sample), sample.chosen.size) for sample in samples]


def learn(name: str, draws: list[Draw], total_weight: float | None, state: dict) -> list[tuple]:
    """On a worker: loss and gradients (on the host) of each image, with the net in a ``state``."""
    with _working(name) as learner:
        net, results = learner.sampler.preparer.trainer.net, []
        net.load_state(state)
        for draw, sample in zip(draws, learner.samples(draws)):
            loss, gradients = learner.sampler.learned(draw, sample, total_weight)
            to_host = net.backend.memory.to_host
            results.append((loss, {key: np.array(to_host(one)) for key, one in gradients.items()}))
        return results
