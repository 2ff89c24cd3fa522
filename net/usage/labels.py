"""Which value of a label image is which class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import checks
from kernels.cross_entropy import UNLABELLED
from net.file_format import quoted
from net.options import Options

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

LARGEST_VALUE = 2**16 - 1
"""The largest value that a label image may hold."""


@dataclass(frozen=True)
class LabelRule(Options):
    """Which value of a label image is which class.

    Args:
        unlabelled: the value of pixels without a label: an int from -1 to 65535, or a color; None
            is no such value.
        values: the value of each class, ints from 0 to 65535, or colors; None numbers the classes:
            from 1 where 0 is unlabelled, else from 0.

    >>> LabelRule().of(3), LabelRule(unlabelled=255).of(3)
    ((1, 2, 3), (0, 1, 2))
    """

    unlabelled: int | Color | None = 0
    values: tuple[int, ...] | tuple[Color, ...] | None = None

    def __post_init__(self):
        super().__post_init__()
        where, values = "label_rule: values", self.values
        if values is not None and (not isinstance(values, tuple) or not values):
            raise ValueError(f"{where} is {quoted(values)}; expected a value for each class")
        for value in values or ():
            if not is_color(value):
                _int(where, value, 0, LARGEST_VALUE)
        if self.unlabelled is not None and not is_color(self.unlabelled):
            _int("label_rule: unlabelled", self.unlabelled, -1, LARGEST_VALUE)
        all_ = [value for value in (self.unlabelled, *(values or ())) if value is not None]
        if len(set(all_)) < len(all_):
            raise ValueError(f"{where} are {quoted(all_)} with unlabelled; expected each once")
        if len({type(value) for value in all_}) > 1 or (values is None and self.of_colors):
            raise ValueError(
                f"{where} are {quoted(values)}, unlabelled is {self.unlabelled}; "
                "expected ints, or a color for each class"
            )

    @property
    def of_colors(self) -> bool:
        """Whether label images are of red, green and blue.

        >>> LabelRule(unlabelled=None, values=((255, 0, 0), (0, 0, 255))).of_colors
        True
        """
        return is_color((self.unlabelled, *(self.values or ()))[-1])

    def of(self, classes: int) -> tuple:
        """The value of each of ``classes`` classes.

        Raises:
            ValueError: the rule is of another number of classes.

        >>> LabelRule(values=(10, 20)).of(2)
        (10, 20)
        """
        classes = checks.count("classes", classes, most=LARGEST_VALUE)
        if self.values is None:
            first = int(self.unlabelled == 0)
            return tuple(range(first, first + classes))
        if len(self.values) != classes:
            raise ValueError(
                f"label_rule: values are {len(self.values)}; expected {classes}, one "
                f"a class (classes is {classes})"
            )
        return self.values

    def decoded(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """The classes of a label image: H x W int32, from 0, and -1 where there is no label.

        Args:
            labels: H x W of real numbers, or H x W x 3 where the rule is of colors.
            classes: how many there are.

        Raises:
            TypeError, ValueError: another shape, or values that the rule does not name.

        >>> LabelRule().decoded(np.array([[0, 1, 2]], np.uint8), 2)
        array([[-1,  0,  1]], dtype=int32)
        """
        values = self.of(classes)
        labels = _as_numbers(labels, self.of_colors)
        result = np.full(labels.shape, UNLABELLED, np.int32)
        known = np.zeros(labels.shape, bool)
        if self.unlabelled is not None:
            known = labels == _packed(self.unlabelled)
        for number, value in enumerate(values):
            here = labels == _packed(value)
            result[here] = number
            known |= here
        if not known.all():
            others = np.unique(labels[~known])[:6].tolist()
            if self.of_colors:
                others = [_unpacked(other) for other in others]
            nothing = "" if self.unlabelled is None else f"{self.unlabelled} (unlabelled) or "
            raise ValueError(
                f"labels hold {', '.join(map(str, others[:5]))}{', ...' * (len(others) > 5)}; "
                f"expected {nothing}{_listed(values)} (the label rule)"
            )
        return result

    def encoded(self, class_map: np.ndarray, classes: int) -> np.ndarray:
        """A label image of a class map H x W, the inverse of ``decoded``.

        Returns:
            H x W uint8, or uint16 where a value is above 255; H x W x 3 uint8 where the rule is of
            colors. Where the map is -1 it holds ``unlabelled``, or what ``stand_in`` gives.

        Raises:
            TypeError, ValueError: no class map of ``classes`` classes.

        >>> LabelRule(unlabelled=255).encoded(np.array([[-1, 0, 1]]), 2)
        array([[255,   0,   1]], dtype=uint8)
        """
        values = np.array((*self.of(classes), self.stand_in(classes)))
        checks.array("class_map", class_map, (None, None), checks.INTS, any_layout=True)
        if class_map.min(initial=0) < UNLABELLED or class_map.max(initial=0) >= classes:
            raise ValueError(
                f"class_map reaches from {class_map.min()} to {class_map.max()}; "
                f"expected -1 to {classes - 1}"
            )
        dtype = np.uint8 if values.max() <= 255 else np.uint16
        return values.astype(dtype)[class_map]

    def stand_in(self, classes: int) -> int | Color:
        """What a label image holds where there is no label: ``unlabelled``, or, where that is -1 or
        None, the largest value up to 255 that is no class, else 65535; the color black, else white,
        else a grey.

        Raises:
            ValueError: all of these are classes.

        >>> LabelRule(unlabelled=-1).stand_in(3)
        255
        """
        values = self.of(classes)
        if self.unlabelled not in (None, UNLABELLED):
            return self.unlabelled
        greys = ((grey,) * 3 for grey in (0, *range(255, 0, -1)))
        for value in greys if self.of_colors else (*range(255, -1, -1), LARGEST_VALUE):
            if value not in values:
                return value
        raise ValueError("label_rule: values are all classes; expected one that is unlabelled")


def is_color(value) -> bool:
    """Whether ``value`` is a color."""
    return (
        isinstance(value, tuple)
        and len(value) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in value)
    )


def _int(name, value, least, most):
    if type(value) is not int or not least <= value <= most:
        raise ValueError(
            f"{name} is {quoted(value)}; expected an int from {least} to {most}, or "
            "a color (red, green, blue), 0 to 255"
        )


def _as_numbers(labels, of_colors):
    """A label image as numbers, H x W."""
    checks.unmasked("labels", labels)
    if not isinstance(labels, np.ndarray):
        raise TypeError(f"labels are {checks.kind_of(labels)}; expected a NumPy array")
    if labels.dtype.kind not in "biuf":
        raise TypeError(f"labels have dtype {labels.dtype}; expected real numbers")
    if labels.size and not of_colors and labels.ndim == 2:
        return labels
    if (
        labels.size
        and of_colors
        and labels.ndim == 3
        and labels.shape[2] == 3
        and labels.dtype == np.uint8
    ):
        return labels.astype(np.int32) @ np.array([2**16, 2**8, 1], np.int32)
    wanted = "rows x columns x 3 of uint8, colors" if of_colors else "rows x columns"
    raise ValueError(f"labels are {labels.dtype} of shape {labels.shape}; expected {wanted}")


def _packed(value):
    return value if isinstance(value, int) else value[0] * 2**16 + value[1] * 2**8 + value[2]


def _unpacked(value):
    return value >> 16, value >> 8 & 255, value & 255


def _listed(values):
    if len(values) > 4 and values == tuple(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values))
