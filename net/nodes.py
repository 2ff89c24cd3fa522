"""The layers of a patch net in their places: linked, checked and measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import prod

from kernels import checks
from kernels.checks import Pair
from kernels.window import Window
from net.base_layer import Layer
from net.maps import Map, NotConvertible
from net.tables import by

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

    @cached_property
    def weights_shape(self) -> tuple[int, int, int, int]:
        """K x C x kh x kw."""
        return (self.output.channels, self.sources[0].channels, *self.window.kernel)

    @cached_property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays that it learns, by name such as ``"conv1.weights"``."""
        k, shapes = self.output.channels, {}
        if self.layer.has_weights:
            shapes = {"weights": self.weights_shape} | ({"bias": (k,)} if self.layer.bias else {})
        elif self.layer.normalizes:
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
        return prod(self.weights_shape) if self.layer.has_weights else 0

    @property
    def statistics(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays that ``calibrate`` sets, by name such as ``"norm1.mean"``."""
        parts = ("mean", "variance") if self.layer.normalizes else ()
        return {f"{self.name}.{part}": (self.output.channels,) for part in parts}


def linked(layers, channels: int, patch: Pair) -> dict[str, Node]:
    """The layers in their places, by name, in order; nothing is allocated.

    Raises:
        NotConvertible: the net has no exact dense form (the layer is named).
        ValueError, TypeError: no layers, no net, or an argument of a layer is wrong.
    """
    if not isinstance(layers, list | tuple):
        raise TypeError(
            f"layers is {checks.kind_of(layers)}; expected a list of layers, also of a single one"
        )
    maps = {IMAGE: Map(channels, patch, (1, 1), (1, 1))}
    nodes: dict[str, Node] = {}
    counts: Counter[str] = Counter()
    previous = IMAGE
    if not layers:
        raise ValueError("layers is empty; expected at least one layer")
    for place, layer in enumerate(layers):
        _check_layer(f"layers[{place}]", layer)
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
            expected = "one"
            if layer.joins:
                expected = f"at least two, as in {type(layer).__name__}(inputs=('relu1', 'conv2'))"
            raise ValueError(f"layer {name!r} has {len(inputs)} inputs; expected {expected}")
        sources = tuple(maps[source] for source in inputs)
        try:
            output = layer.output(list(sources))
            window = None if layer.joins else layer.window(sources[0])
        except NotConvertible as refusal:
            raise NotConvertible(f"layer {name!r}: {refusal}") from None
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
            f"layer {previous!r}: a map of {output} vectors is left at the end; expected 1 x 1, "
            "one vector for each patch"
        )
    return nodes


def _check_layer(place, layer):
    if isinstance(layer, type) and issubclass(layer, Layer):
        raise TypeError(
            f"{place} is {checks.kind_of(layer)}; expected an instance: {layer.__name__}(...)"
        )
    if not isinstance(layer, Layer) or not hasattr(layer, "kind"):
        raise TypeError(f"{place} is {checks.kind_of(layer)}; expected a layer of net.layers")
