"""What a net's file says beyond the net: how its images are normalised and what its classes are.

``Net.usage`` holds a ``Usage``, and files keep it (docs/file-format.md). ``net.images.net_input``
normalises an image as it was read, and ``net.windows.floats`` a window of one that holds ints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from kernels import checks
from net.borders import BORDERS
from net.file_format import LARGEST_INT, MAX_DEPTH, exactly, quoted
from net.options import Options, is_name
from net.usage.labels import Color, LabelRule, is_color
from net.usage.normalization import Normalization

__all__ = ["Color", "LabelRule", "Normalization", "Usage"]

Names = tuple[str, ...]
"""Printable texts."""


@dataclass(frozen=True)
class Usage(Options):
    """How a net is used.

    Args:
        normalization: normalisation of its images; None takes them as they are.
        class_names: a name for each class.
        colors: a color for each class.
        label_rule: rule of the label images that it learned from and of those that it makes.
        border: border of images, ``"valid"``, ``"zero"`` or ``"reflect"``.
        training: a record of how it learned: whatever JSON can hold.

    >>> Usage(class_names=("cell", "rest")).border
    'reflect'
    """

    normalization: Normalization | None = None
    class_names: Names | None = None
    colors: tuple[Color, ...] | None = None
    label_rule: LabelRule = field(default_factory=LabelRule)
    border: str = "reflect"
    training: dict = field(default_factory=dict, hash=False)

    def __post_init__(self):
        super().__post_init__()
        names, colors = self.class_names, self.colors
        if self.normalization is not None:
            checks.instance("normalization", self.normalization, Normalization)
        if names is not None and not _each(is_name, names):
            raise ValueError(f"class_names is {quoted(names)}; expected printable texts")
        if names is not None and len(set(names)) < len(names):
            raise ValueError(f"class_names is {quoted(names)}; expected each name once")
        if colors is not None and not _each(is_color, colors):
            raise ValueError(f"colors is {quoted(colors)}; expected (red, green, blue), 0 to 255")
        checks.instance("label_rule", self.label_rule, LabelRule)
        checks.choice("border", self.border, BORDERS)
        checks.instance("training", self.training, dict)
        _check_record("training", self.training, MAX_DEPTH - 1)

    def check(self, channels: int, classes: int) -> None:
        """Refuse a usage that does not suit a net of ``channels`` and ``classes``.

        Raises:
            ValueError: naming what differs.

        >>> Usage(class_names=("cell", "rest")).check(channels=1, classes=3)
        Traceback (most recent call last):
            ...
        ValueError: class_names are 2; the net has classes 3
        """
        if self.normalization is not None and len(self.normalization.mean) != channels:
            raise ValueError(
                f"normalization is of {len(self.normalization.mean)} channels; the net has "
                f"channels {channels}"
            )
        for name in ("class_names", "colors"):
            given = getattr(self, name)
            if given is not None and len(given) != classes:
                raise ValueError(f"{name} are {len(given)}; the net has classes {classes}")
        self.label_rule.of(classes)

    def names(self, classes: int) -> Names:
        """The name of each of ``classes`` classes; without a name, its value in label images.

        >>> Usage().names(2)
        ('class 1', 'class 2')
        """
        values = self.label_rule.of(classes)
        return self.class_names or tuple(f"class {value}" for value in values)

    def described(self) -> dict:
        """The keys that a file has of it: those that are not None.

        >>> Usage(border="zero").described()
        {'label_rule': {'unlabelled': 0, 'values': None}, 'border': 'zero', 'training': {}}
        """
        keys = {one.name: getattr(self, one.name) for one in fields(self)}
        rule, normalization = keys["label_rule"], keys["normalization"]
        keys["label_rule"] = {"unlabelled": rule.unlabelled, "values": rule.values}
        if normalization is not None:
            keys["normalization"] = vars(normalization)
        return {name: value for name, value in keys.items() if value is not None}

    @classmethod
    def rebuilt(cls, document: dict) -> Usage | None:
        """The usage that a file's document describes, None if it has no such key.

        Raises:
            TypeError, ValueError: a value is wrong.

        >>> Usage.rebuilt({"border": "zero"}).border
        'zero'
        """
        options = {one.name: document[one.name] for one in fields(cls) if one.name in document}
        for name, value in options.items():
            if value is None:
                raise ValueError(f"{name} is None; expected it to be left out")
        for name, kind in (("label_rule", LabelRule), ("normalization", Normalization)):
            if name in options:
                options[name] = kind(**exactly(name, options[name], {f.name for f in fields(kind)}))
        return cls(**options) if options else None


def _each(holds, values) -> bool:
    return isinstance(values, tuple) and values != () and all(map(holds, values))


def _check_record(name, value, depth):
    """Refuse what JSON would not give back as it is."""
    if isinstance(value, dict | list) and depth == 0:
        raise ValueError(f"{name} is nested too deep; expected at most {MAX_DEPTH - 1} levels")
    if type(value) is dict:
        for key, inner in value.items():
            _check_text(f"a key of {name}", key)
            _check_record(f"{name}[{quoted(key)}]", inner, depth - 1)
    elif type(value) is list:
        for inner in value:
            _check_record(name, inner, depth - 1)
    elif type(value) is str:
        _check_text(name, value)
    elif type(value) is float and not math.isfinite(value):
        raise ValueError(f"{name} is {value}; expected finite numbers, or a text")
    elif type(value) is int and abs(value) > LARGEST_INT:
        raise ValueError(f"{name} is {quoted(value)}; expected an int of at most 64 bits")
    elif value is not None and type(value) not in (bool, int, float):
        raise TypeError(
            f"{name} is {checks.kind_of(value)}; expected what JSON holds: dicts with texts as "
            "keys, lists, texts, numbers, True, False or None"
        )


def _check_text(name, text):
    if type(text) is not str or not all(c.isprintable() or c in "\n\t" for c in text):
        raise ValueError(f"{name} is {quoted(text)}; expected a printable text")
