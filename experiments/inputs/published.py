"""What others published for this method or its twins: the figures of ``published.toml``.

Its head says what its fields mean. What arithmetic alone gives is counted here, from layers.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from experiments.inputs.arithmetic import DIRECTIONS, saved
from net import Net, zoo
from net.layers import Convolution, FullyConnected, MaxPool, ReLU

PATH = Path(__file__).with_name("published.toml")
READ = {
    "first-hand": "first-hand",
    "abstract": "first-hand, the abstract alone",
    "second-hand": "second-hand",
}
"""Where a figure was read, in words."""


@dataclass(frozen=True)
class Source:
    """Where a figure stands, or a work that is cited.

    Attributes:
        text: authors, title and year.
        about: what it is cited for.
        url: None where no address is known.
    """

    text: str
    about: str
    url: str | None = None


@dataclass(frozen=True)
class Figure:
    """A published speedup or time.

    Attributes:
        who: published it.
        net, hardware, opponent, published: as told there.
        source: by its name in ``Published.sources``.
        read: one of ``READ``.
        counted: the net whose layers are counted, None where they are not kept here.
        counted_once: what arithmetic alone saves, where such layers were counted once.
        labelled: rows and columns of labelled pixels, None where no size was found.
        speedup: the published one, None for times.
        inferred: what of all this is concluded rather than read.
    """

    who: str
    net: str
    hardware: str
    opponent: str
    published: str
    source: str
    read: str
    counted: str | None = None
    counted_once: float | None = None
    labelled: tuple[int, int] | None = None
    speedup: float | None = None
    inferred: str | None = None


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of each layer in one direction, and in all."""

    hardware: str
    direction: str
    milliseconds: list[float]
    total: float


@dataclass(frozen=True)
class Benchmark:
    """Times layer by layer of a net of the zoo.

    Attributes:
        net, labelled: the net, and rows and columns of labelled pixels.
        layers: names there, in order.
        peak_gigabytes, peak_hardware: of memory, in training, and on which device.
        source, read: as in ``Figure``.
        times: on each device, in each direction.
    """

    net: str
    labelled: int
    layers: list[str]
    peak_gigabytes: float
    peak_hardware: str
    source: str
    read: str
    times: list[LayerTimes]


@dataclass(frozen=True)
class Published:
    """All of ``published.toml``.

    Attributes:
        sources: by name.
        nets: those that are not in the zoo: channels, patch and layers, by name.
        figures, benchmark: what was published.
    """

    sources: dict[str, Source]
    nets: dict[str, dict]
    figures: list[Figure]
    benchmark: Benchmark

    @cached_property
    def _built(self) -> dict[str, Net]:
        names = dict.fromkeys(figure.counted for figure in self.figures if figure.counted)
        return {name: self._net(name) for name in names}

    def _net(self, name):
        if name in zoo.ZOO:
            return zoo.build(name, backend="reference")
        told = self.nets[name]
        layers = [_layer(text) for text in told["layers"].split(", ")]
        return Net(layers, channels=told["channels"], patch=told["patch"], backend="reference")

    def arithmetic(self, figure: Figure) -> dict[str, float]:
        """What arithmetic alone saves on the figure's net and size, by direction: in those that
        ``published`` names, else forward. Empty where its layers were not at hand.
        """
        if figure.counted is None:
            return {}
        named = [direction for direction in DIRECTIONS if direction in figure.published]
        net = self._built[figure.counted]
        return {one: saved(net, figure.labelled, one) for one in named or DIRECTIONS[:1]}


def _layer(text):
    """A layer in the notation of the file, such as ``conv 20@5``."""
    kind, *size = text.split()
    match kind:
        case "conv":
            return Convolution(*map(int, size[0].split("@")))
        case "max":
            return MaxPool(int(size[0]))
        case "fc":
            return FullyConnected(int(size[0]))
        case "ReLU":
            return ReLU()
    raise ValueError(f"a layer is {text!r}; expected conv MAPS@KERNEL, ReLU, max SIZE or fc SIZE")


def read() -> Published:
    """What the file holds."""
    told = tomllib.loads(PATH.read_text())
    benchmark = told["benchmark"]
    times = [LayerTimes(**one) for one in benchmark.pop("times")]
    figures = [
        Figure(**one | {"labelled": tuple(one["labelled"]) if "labelled" in one else None})
        for one in told["figures"]
    ]
    return Published(
        sources={name: Source(**one) for name, one in told["sources"].items()},
        nets=told["nets"],
        figures=figures,
        benchmark=Benchmark(**benchmark, times=times),
    )
