"""The maps between layers, and which of them no dense form can give exactly."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.checks import Margins, Pair
from kernels.window import Window


class NotConvertible(ValueError):
    """The net has no exact dense form; the message names the layer and says why.

    >>> from net import Net
    >>> from net.layers import Convolution
    >>> Net([Convolution(2, 3, padding=1)], channels=1, patch=3, backend="cpu")
    Traceback (most recent call last):
        ...
    net.maps.NotConvertible: layer 'conv1': padding 1 inside the patch net puts made-up values ...
    """


@dataclass(frozen=True)
class Map:
    """What flows between layers, seen from the patch net and from its dense form.

    Attributes:
        channels: number of channels.
        size: rows and columns of the patch net's map.
        spacing: the accumulated stride d: cells that are neighbours in the patch net lie this far
            apart in the dense map.
        extent: the receptive field R of one dense pixel; the dense map of an H x W image has
            H - R_y + 1 rows and W - R_x + 1 columns.
    """

    channels: int
    size: Pair
    spacing: Pair
    extent: Pair

    def __str__(self) -> str:
        return f"{self.size[0]} x {self.size[1]}"

    def through(self, window: Window, channels: int) -> Map:
        """The map that a ``window`` moved over this one makes.

        Raises:
            NotConvertible: the window spans more than the map.
        """
        if any(f > n for f, n in zip(window.footprint, self.size)):
            raise NotConvertible(
                f"its window spans {window.footprint[0]} x {window.footprint[1]} cells of a map of "
                f"{self}; expected a smaller kernel or a larger patch"
            )
        spacing = tuple(s * d for s, d in zip(window.stride, self.spacing))
        reach = [(f - 1) * d for f, d in zip(window.footprint, self.spacing)]
        extent = tuple(r + more for r, more in zip(self.extent, reach))
        return Map(channels, window.output_size(self.size), spacing, extent)

    def cropped(self, margins: Margins) -> Map:
        """The map without ``margins`` (top, left, bottom, right), in its cells.

        Raises:
            NotConvertible: nothing is left.
        """
        top, left, bottom, right = margins
        taken = (top + bottom, left + right)
        if any(t >= n for t, n in zip(taken, self.size)):
            raise NotConvertible(f"margins {margins} leave nothing of a {self} map")
        size = tuple(n - t for n, t in zip(self.size, taken))
        extent = tuple(r + t * d for r, t, d in zip(self.extent, taken, self.spacing))
        return Map(self.channels, size, self.spacing, extent)


def merged(maps: list[Map], channels: int) -> Map:
    """The map of ``channels`` channels that is made of ``maps``, cell by cell.

    Raises:
        NotConvertible: they have unlike sizes, or their cells lie differently far apart.
    """
    sizes = {one.size for one in maps}
    if len(sizes) > 1:
        raise NotConvertible(
            f"its inputs are maps of {' and '.join(map(str, maps))} cells; expected equal sizes (a "
            "Crop can make them so)"
        )
    if len({one.spacing for one in maps}) > 1 and sizes != {(1, 1)}:
        raise NotConvertible(
            f"its inputs have accumulated strides {' and '.join(str(m.spacing) for m in maps)}, "
            "so their cells lie differently far apart in the image; expected equal strides"
        )
    spacing = tuple(max(one.spacing[axis] for one in maps) for axis in (0, 1))
    extent = tuple(max(one.extent[axis] for one in maps) for axis in (0, 1))
    return Map(channels, sizes.pop(), spacing, extent)
