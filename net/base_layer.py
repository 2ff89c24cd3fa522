"""What all layers of a patch net share; the layers themselves are in ``net.layers``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernels.window import Window
from net.maps import Map
from net.options import Options


@dataclass(frozen=True, kw_only=True)
class Layer(Options):
    """What all layers share.

    It says whether it ``joins`` several maps, ``has_weights`` for its window, ``normalizes`` by
    frozen statistics, and ``gives_probabilities`` over the channels.

    >>> from net.layers import ReLU
    >>> ReLU(name="a", inputs=("conv1",)).inputs
    ('conv1',)
    """

    name: str | None = None
    inputs: tuple[str, ...] | None = None

    kind: ClassVar[str]
    joins = has_weights = normalizes = gives_probabilities = False

    def window(self, source: Map) -> Window | None:
        """The window that the patch net moves over ``source``; None for a pointwise layer.

        Raises:
            NotConvertible: the layer has no exact dense form on such a map.
        """
        return None

    def output(self, sources: list[Map]) -> Map:
        """The map that the layer makes of ``sources``; errors as ``window``.

        >>> from net.layers import ReLU
        >>> ReLU().output([Map(3, (8, 8), (1, 1), (1, 1))])
        Map(channels=3, size=(8, 8), spacing=(1, 1), extent=(1, 1))
        """
        (source,) = sources
        window = self.window(source)
        return source if window is None else source.through(window, self.channels(source))

    def channels(self, source: Map) -> int:
        """Number of channels of the output."""
        return source.channels
