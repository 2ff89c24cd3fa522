"""What the values of a label image mean, and their colors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from net.graph import Net
from net.pictures.overlay import palette
from net.usage import Color, LabelRule, Usage


@dataclass(frozen=True)
class Legend:
    """What the values of written label images mean: ints, even where the net's own rule is of
    colors.

    Attributes:
        rule: which value is which class.
        names: names of the classes.
        colors: colors of the classes.

    >>> from net import zoo
    >>> legend = Legend.of(zoo.build("lenet28", classes=2, backend="reference"))
    >>> legend.values, legend.unlabelled, legend.dtype
    ((1, 2), 0, dtype('uint8'))
    """

    rule: LabelRule
    names: tuple[str, ...]
    colors: tuple[Color, ...]

    @classmethod
    def of(cls, net: Net) -> Legend:
        """The legend of a net's labels: as its file says, else numbers, and distinct colors."""
        usage, classes = net.usage or Usage(), net.output.channels
        rule = LabelRule() if usage.label_rule.of_colors else usage.label_rule
        names = usage.names(classes)
        return cls(rule, names, palette(usage, classes))

    @property
    def values(self) -> tuple[int, ...]:
        """Label values of the classes."""
        return self.rule.of(len(self.names))

    @property
    def unlabelled(self) -> int:
        """The value where there is no label."""
        return self.rule.stand_in(len(self.names))

    @property
    def dtype(self) -> np.dtype:
        """uint8, or uint16 where a value is above 255."""
        return np.dtype(np.uint8 if max(*self.values, self.unlabelled) <= 255 else np.uint16)

    def encoded(self, classes: np.ndarray) -> np.ndarray:
        """Label values H x W of a class map."""
        return self.rule.encoded(classes, len(self.names)).astype(self.dtype, copy=False)

    def color_table(self) -> np.ndarray:
        """Red, green and blue of every value of the dtype, values x 3, uint8; black where none."""
        colors = np.zeros((np.iinfo(self.dtype).max + 1, 3), np.uint8)
        colors[list(self.values)] = self.colors
        return colors
