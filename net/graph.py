"""A patch net: its layers linked, checked and measured, and its parameters."""

from __future__ import annotations

from collections import Counter
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kernels import checks, get_backend
from kernels.checks import FLOAT_DTYPES, Pair, pair
from kernels.window import Window
from net import description, file_format, initialization
from net.layers import BatchNorm, Convolution, FullyConnected, Layer, Map, NotConvertible, Softmax
from net.tables import aligned, by

IMAGE = "image"


@dataclass(frozen=True)
class Node:
    """One layer in its place.

    Attributes:
        name: unique in the net.
        layer: its description.
        inputs: names of the nodes that it reads.
        sources: their maps.
        output: the map that it makes.
        window: the window that the patch net moves over its input, None without one.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    sources: tuple[Map, ...]
    output: Map
    window: Window | None

    @property
    def has_weights(self) -> bool:
        """Whether it is a convolution, or fully connected."""
        return isinstance(self.layer, Convolution | FullyConnected)

    @cached_property
    def weights_shape(self) -> tuple[int, int, int, int]:
        """K x C x kh x kw."""
        return (self.output.channels, self.sources[0].channels, *self.window.kernel)

    @cached_property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays that it learns, by name such as ``"conv1.weights"``."""
        k, shapes = self.output.channels, {}
        if self.has_weights:
            shapes = {"weights": self.weights_shape} | ({"bias": (k,)} if self.layer.bias else {})
        elif isinstance(self.layer, BatchNorm):
            shapes = {"gamma": (k,), "beta": (k,)}
        return {f"{self.name}.{part}": shape for part, shape in shapes.items()}

    @property
    def geometry(self) -> tuple[str, ...]:
        """Cells of a table: its name, what it reads, its window and stride, its map in the patch
        net, the spacing in front of it and the receptive field behind it."""
        window = self.window
        return (
            self.name,
            ", ".join(self.inputs),
            f"{by(window.kernel)} / {by(window.stride)}" if window else "",
            f"{self.output.channels} x {by(self.output.size)}",
            by(self.sources[0].spacing),
            by(self.output.extent),
        )

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one output pixel; 0 for layers without weights."""
        return int(np.prod(self.weights_shape)) if self.has_weights else 0

    @property
    def statistics(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays that ``calibrate`` sets, by name such as ``"norm1.mean"``."""
        normalizes = isinstance(self.layer, BatchNorm)
        parts = ("mean", "variance") if normalizes else ()
        return {f"{self.name}.{part}": (self.output.channels,) for part in parts}


class Net:
    """A net that looks at a patch and gives one vector, and everything needed to run it.

    Args:
        layers: the description, in order; the last layer's output is the net's.
        channels: channels of the image.
        patch: size p of the patch, an int or a pair (y, x).
        dtype: ``"float32"`` or ``"float64"``.
        seed: of the initialisation.
        initializer: ``"he"`` or ``"glorot"``.
        backend: where it runs: ``"auto"``, ``"cuda"``, ``"simulator"``, ``"cpu"``, ``"reference"``.

    Attributes:
        nodes: the layers in their places, by name, in order.
        parameters: arrays on the backend that learning changes, by ``"layer.weights"``, ``.bias``,
            ``.gamma`` and ``.beta``. Every way of running the net reads these very arrays.
        statistics: ``"layer.mean"`` and ``".variance"`` of the batch normalisations.

    Raises:
        NotConvertible: the net has no exact dense form (the layer is named).
        ValueError, TypeError: an argument is wrong.
        BackendUnavailable: the backend cannot run here.

    >>> from net.layers import Convolution, FullyConnected, MaxPool, ReLU
    >>> layers = [Convolution(4, 3), ReLU(), MaxPool(2), FullyConnected(3)]
    >>> net = Net(layers, channels=1, patch=8, backend="cpu")
    >>> print(net)
    patch 1 x 8x8, float32, backend cpu
    layer  reads  window / stride  map      d    R
    conv1  image  3x3 / 1x1        4 x 6x6  1x1  3x3
    relu1  conv1                   4 x 6x6  1x1  3x3
    max1   relu1  2x2 / 2x2        4 x 3x3  1x1  4x4
    fc1    max1   3x3 / 1x1        3 x 1x1  2x2  8x8
    """

    def __init__(
        self,
        layers: list[Layer],
        *,
        channels: int,
        patch: int | Pair,
        dtype: str = "float32",
        seed: int = 0,
        initializer: str = "he",
        backend: str = "auto",
    ):
        checks.choice("dtype", dtype, FLOAT_DTYPES)
        checks.choice("initializer", initializer, tuple(initialization.INITIALIZERS))
        checks.count("channels", channels)
        self.layers = tuple(layers)
        self.channels = channels
        self.patch = pair("patch", patch)
        self.dtype = dtype
        self.nodes = linked(self.layers, channels, self.patch)
        self.output = next(reversed(self.nodes.values())).output
        self.backend = get_backend(backend)
        on_device = self.backend.memory.to_device
        host = initialization.parameters(self.nodes.values(), dtype, seed, initializer)
        self.parameters = {name: on_device(array) for name, array in host.items()}
        self.statistics = {}
        for node in self.nodes.values():
            for name, shape in node.statistics.items():
                neutral = np.full(shape, name.endswith(".variance"), dtype)
                self.statistics[name] = on_device(neutral)

    @property
    def receptive_field(self) -> Pair:
        """R (y, x): the part of the patch that is read, at the top left; at most the patch.

        >>> from net.layers import Convolution, MaxPool
        >>> layers = [MaxPool(2), Convolution(3, 2)]  # the patch's last row and column are dropped
        >>> Net(layers, channels=1, patch=5, backend="cpu").receptive_field
        (4, 4)
        """
        return self.output.extent

    def __str__(self) -> str:
        """A table of the layers and their geometry.

        ``d`` is the accumulated stride in front of a layer, ``R`` the receptive field behind it.
        """
        rows = [node.geometry for node in self.nodes.values()]
        headings = ("layer", "reads", "window / stride", "map", "d", "R")
        size = f"patch {self.channels} x {by(self.patch)}"
        return f"{size}, {self.dtype}, backend {self.backend.name}\n{aligned(headings, rows)}"

    def state(self) -> dict[str, np.ndarray]:
        """Parameters and statistics as host arrays (copies), by name.

        >>> from net.layers import Convolution
        >>> net = Net([Convolution(2, 3)], channels=1, patch=3, backend="cpu")
        >>> {name: array.shape for name, array in net.state().items()}
        {'conv1.weights': (2, 1, 3, 3), 'conv1.bias': (2,)}
        """
        to_host = self.backend.memory.to_host
        arrays = {**self.parameters, **self.statistics}
        return {name: np.array(to_host(array)) for name, array in arrays.items()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take over parameters and statistics, converted to the net's dtype.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs; nothing is changed then.

        >>> from net.layers import Convolution
        >>> net = Net([Convolution(2, 3)], channels=1, patch=3, backend="cpu")
        >>> net.load_state(net.state() | {"conv1.bias": np.array([0.5, -0.5])})
        >>> net.parameters["conv1.bias"]
        array([ 0.5, -0.5], dtype=float32)
        """
        present = {**self.parameters, **self.statistics}
        if present.keys() != state.keys():
            raise ValueError(
                f"state has {sorted(state.keys() - present.keys())} too many and lacks "
                f"{sorted(present.keys() - state.keys())}; expected the names of this net's state"
            )
        for name, array in present.items():
            if array.shape != state[name].shape:
                raise ValueError(
                    f"state[{name!r}] has shape {state[name].shape}; expected {array.shape}"
                )
        values = {name: np.array(state[name], self.dtype, order="C") for name in present}
        moved = {name: self.backend.memory.to_device(value) for name, value in values.items()}
        for arrays in (self.parameters, self.statistics):
            for name in arrays:
                arrays[name] = moved[name]

    def save(self, path: str | Path) -> None:
        """Write the net to a file that ``net.load`` reads (docs/file-format.md).

        Raises:
            ValueError: a file cannot hold it; the layer and the field are named.
            OSError: the file cannot be written; the old one is as it was.

        >>> import tempfile
        >>> from net import load
        >>> net = Net([FullyConnected(2)], channels=1, patch=3, backend="cpu")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(Path(folder, "net.safetensors"))
        ...     load(Path(folder, "net.safetensors"), backend="cpu").layers
        (FullyConnected(name=None, inputs=None, features=2, bias=True),)
        """
        file_format.write(path, *description.of_net(self))

    def without_softmax(self) -> Net:
        """The net that gives the scores, where a Softmax ends this one; otherwise this one.

        Both have the very same parameters and statistics.

        >>> from net.layers import Convolution
        >>> net = Net([Convolution(2, 3), Softmax()], channels=1, patch=3, backend="cpu")
        >>> scores = net.without_softmax()
        >>> len(scores.layers), scores.parameters is net.parameters
        (1, True)
        """
        if not isinstance(self.layers[-1], Softmax) or len(self.layers) == 1:
            return self
        scores = copy(self)
        scores.layers = self.layers[:-1]
        scores.nodes = {node.name: node for node in list(self.nodes.values())[:-1]}
        scores.output = list(scores.nodes.values())[-1].output
        return scores

    def to(self, *, dtype: str | None = None, backend: str | None = None) -> Net:
        """The same net with a copy of its state in another dtype or on another backend.

        >>> from net.layers import Convolution
        >>> net = Net([Convolution(2, 3)], channels=1, patch=3, backend="cpu")
        >>> net.to(dtype="float64", backend="reference").dtype
        'float64'
        """
        other = Net(
            self.layers,
            channels=self.channels,
            patch=self.patch,
            dtype=dtype or self.dtype,
            backend=backend or self.backend.name,
        )
        other.load_state(self.state())
        return other


def linked(layers, channels: int, patch: Pair) -> dict[str, Node]:
    """The layers in their places, by name, in order; nothing is allocated.

    Raises:
        NotConvertible: the net has no exact dense form (the layer is named).
        ValueError, TypeError: no layers, no net, or an argument of a layer is wrong.
    """
    maps = {IMAGE: Map(channels, patch, (1, 1), (1, 1))}
    nodes: dict[str, Node] = {}
    counts: Counter[str] = Counter()
    previous = IMAGE
    if not layers:
        raise ValueError("layers is empty; expected at least one layer")
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"layers holds a {type(layer).__name__}; expected layers of net.layers")
        counts[layer.kind] += 1
        name = layer.name or f"{layer.kind}{counts[layer.kind]}"
        inputs = tuple(layer.inputs or (previous,))
        if name in maps:
            raise ValueError(f"layer {name!r}: the name is taken; expected a new one")
        for source in inputs:
            if source not in maps:
                raise ValueError(
                    f"layer {name!r} reads {source!r}; expected one of the layers before it: "
                    f"{', '.join(maps)}"
                )
        if (len(inputs) > 1) != layer.joins:
            expected = "at least two" if layer.joins else "one"
            raise ValueError(f"layer {name!r} has {len(inputs)} inputs; expected {expected}")
        sources = tuple(maps[source] for source in inputs)
        try:
            output = layer.output(list(sources))
            window = None if layer.joins else layer.window(sources[0])
        except NotConvertible as refusal:
            raise NotConvertible(f"layer {name!r}: {refusal}") from None
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from None
        maps[name] = output
        nodes[name] = Node(name, layer, inputs, sources, output, window)
        previous = name
    unread = maps.keys() - {s for node in nodes.values() for s in node.inputs} - {previous}
    if unread:
        raise ValueError(
            f"nothing reads {', '.join(map(repr, sorted(unread)))}; expected every layer but the "
            "last to be read"
        )
    if output.size != (1, 1):
        raise NotConvertible(
            f"layer {previous!r}: a map of {output.size[0]} x {output.size[1]} vectors is left at "
            "the end; expected 1 x 1, one vector for each patch"
        )
    return nodes
