"""Images to learn from, of which only what labelled pixels see is read and normalised."""

from __future__ import annotations

import numpy as np

from kernels import checks
from net.graph import Net
from net.images import net_input
from net.large.sources import Source, opened


class View:
    """An image as a net takes it, C x H x W of the net's dtype, normalised as its file says. Slices
    are read when they are taken.

    Args:
        image, axes: as ``net.large.label`` takes them.
        net: the net that looks at it.

    Attributes:
        source: the source that is read.

    Raises:
        TypeError, ValueError: an argument is wrong.
        ModuleNotFoundError, OSError: as ``net.large.label``.

    Learn from two pixels of an image that may be of any size:

    >>> from net import zoo
    >>> from net.learning.examples import ListedLabels
    >>> from net.learning.fitting import fit
    >>> from net.learning.optimizers import SGD
    >>> from net.learning.training import Trainer
    >>> trainer = Trainer(zoo.build("lenet28", classes=2, backend="cpu"), SGD(0.1))
    >>> image = View(np.zeros((300, 400), np.uint8), trainer.net)
    >>> labels = ListedLabels(np.array([[5, 7], [270, 3]]), np.array([0, 1]))
    >>> fit(trainer, ([image], [labels]), epochs=1, pixels=2, progress=False)
    >>> trainer.steps
    1
    """

    def __init__(self, image, net: Net, axes: str | None = None):
        checks.instance("net", net, Net)
        self._look(opened(image, net.channels, axes), net)

    @classmethod
    def of(cls, source: Source, net: Net) -> View:
        """A view of an image that is opened.

        >>> from net import zoo
        >>> net = zoo.build("lenet28", backend="cpu")
        >>> View.of(opened(np.zeros((300, 400), np.uint8), net.channels), net).shape
        (1, 300, 400)
        """
        view = cls.__new__(cls)
        view._look(source, net)
        return view

    def _look(self, source, net):
        self.source, self._net = source, net
        self.shape, self.dtype = source.shape, np.dtype(net.dtype)

    def __getitem__(self, place: tuple[slice, slice, slice]) -> np.ndarray:
        """A window: all channels, some rows and columns.

        Raises:
            TypeError, ValueError: anything else.
        """
        whole = isinstance(place, tuple) and len(place) == 3
        if not whole or not all(isinstance(part, slice) for part in place):
            raise TypeError(f"place is {place!r}; expected slices of channels, rows and columns")
        bounds = [part.indices(n) for part, n in zip(place, self.shape)]
        if any(step != 1 for *_, step in bounds):
            raise ValueError(f"place is {place!r}; expected slices of step 1")
        channels, *window = (slice(begin, max(begin, end)) for begin, end, _ in bounds)
        return net_input(self._net, self.source.read(*window), "first")[channels]
