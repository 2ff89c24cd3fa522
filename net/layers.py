"""The description of a patch net: plain layers that check themselves when the net is built.

Sizes may be ints or pairs (y, x). Every layer takes ``name`` (default: its kind and a number) and
``inputs``, the names of the layers it reads (default: the layer before it; ``"image"`` is the
patch). Arguments that break the dense form are taken only to be refused, with the reason.

>>> from net import Net
>>> layers = [Convolution(4, (3, 2)), Tanh(name="a"), Crop((1, 1, 1, 0), inputs=("image",))]
>>> layers += [Concatenate(inputs=("a", "crop1")), MaxPool(2), FullyConnected(3), Softmax()]
>>> Net(layers, channels=2, patch=(8, 7), backend="cpu").nodes["concatenate1"].output.channels
6
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernels import checks
from kernels.activation import Activation, activation_of
from kernels.checks import Margins, Pair, pair
from kernels.window import Window
from net.options import Options


class NotConvertible(ValueError):
    """The net has no exact dense form; the message names the layer and says why.

    >>> from net import Net
    >>> Net([Convolution(2, 3, padding=1)], channels=1, patch=3, backend="cpu")
    Traceback (most recent call last):
        ...
    net.layers.NotConvertible: layer 'conv1': padding 1 inside the patch net puts made-up values ...
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


@dataclass(frozen=True, kw_only=True)
class Layer(Options):
    """What all layers share."""

    name: str | None = None
    inputs: tuple[str, ...] | None = None

    kind: ClassVar[str]
    joins: ClassVar[bool] = False

    def window(self, source: Map) -> Window | None:
        """The window that the patch net moves over ``source``; None for a pointwise layer.

        Raises:
            NotConvertible: the layer has no exact dense form on such a map.
        """
        return None

    def output(self, sources: list[Map]) -> Map:
        """The map that the layer makes of ``sources``; errors as ``window``."""
        (source,) = sources
        window = self.window(source)
        if window is None:
            return source
        spacing = [s * d for s, d in zip(window.stride, source.spacing)]
        extent = [
            r + (f - 1) * d for r, f, d in zip(source.extent, window.footprint, source.spacing)
        ]
        size = window.output_size(source.size)
        return Map(self.channels(source), size, tuple(spacing), tuple(extent))

    def channels(self, source: Map) -> int:
        """Number of channels of the output."""
        return source.channels


@dataclass(frozen=True)
class Convolution(Layer):
    """``filters`` kernels of size ``kernel``, moved by ``stride``, entries ``dilation`` apart."""

    filters: int
    kernel: int | Pair
    stride: int | Pair = 1
    dilation: int | Pair = 1
    padding: int | Pair = 0
    bias: bool = True

    kind: ClassVar[str] = "conv"

    def window(self, source):
        checks.count("filters", self.filters)
        checks.flag("bias", self.bias)
        _refuse_padding(self.padding)
        return _fitting(Window.of(self.kernel, self.stride, self.dilation), source)

    def channels(self, source):
        return self.filters


@dataclass(frozen=True)
class FullyConnected(Layer):
    """``features`` weighted sums of all that is left: a convolution whose window is the map."""

    features: int
    bias: bool = True

    kind: ClassVar[str] = "fc"

    def window(self, source):
        checks.count("features", self.features)
        checks.flag("bias", self.bias)
        return Window.of(source.size)

    def channels(self, source):
        return self.features


@dataclass(frozen=True)
class _Pool(Layer):
    kernel: int | Pair
    stride: int | Pair | None = None
    dilation: int | Pair = 1
    padding: int | Pair = 0
    ceil_mode: bool = False

    def window(self, source):
        _refuse_padding(self.padding)
        checks.flag("ceil_mode", self.ceil_mode)
        stride = self.kernel if self.stride is None else self.stride
        window = _fitting(Window.of(self.kernel, stride, self.dilation), source)
        rest = [(n - f) % s for n, f, s in zip(source.size, window.footprint, window.stride)]
        if self.ceil_mode and any(rest):
            raise NotConvertible(
                f"ceil_mode=True on a {_size(source)} map cuts its last window at the patch's "
                "border, where the dense form sees pixels of the image; expected ceil_mode=False "
                "or a window that fits"
            )
        return window


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The maximum of each window; ``stride`` defaults to ``kernel``, the remainder is dropped."""

    kind: ClassVar[str] = "max"


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The mean of each window; ``stride`` defaults to ``kernel``, the remainder is dropped."""

    kind: ClassVar[str] = "average"


@dataclass(frozen=True)
class _AdaptivePool(Layer):
    bins: int | Pair

    def window(self, source):
        bins = pair("bins", self.bins)
        if any(n % b for n, b in zip(source.size, bins)):
            raise NotConvertible(
                f"adaptive pooling of a {_size(source)} map into {bins[0]} x {bins[1]} bins makes "
                "unequal bins, which no single stride reaches; expected bins that divide the map"
            )
        size = tuple(n // b for n, b in zip(source.size, bins))
        return Window.of(size, size)


@dataclass(frozen=True)
class AdaptiveMaxPool(_AdaptivePool):
    """The maximum over each of ``bins`` equal parts of the map; 1 is global pooling."""

    kind: ClassVar[str] = "max"


@dataclass(frozen=True)
class AdaptiveAveragePool(_AdaptivePool):
    """The mean over each of ``bins`` equal parts of the map; 1 is global pooling."""

    kind: ClassVar[str] = "average"


@dataclass(frozen=True)
class ActivationLayer(Layer):
    """A layer that is an ``activation``, as the operators take it (``kernels.activation``)."""

    activation: ClassVar[str | Activation]

    def window(self, source):
        activation_of(self.activation)


@dataclass(frozen=True)
class ReLU(ActivationLayer):
    """max(x, 0), NaN stays NaN."""

    kind = activation = "relu"


@dataclass(frozen=True)
class LeakyReLU(ActivationLayer):
    """x above 0, ``slope`` * x below; the slope is above 0."""

    slope: float = 0.01

    kind: ClassVar[str] = "leaky_relu"

    @property
    def activation(self) -> Activation:
        return Activation("leaky_relu", self.slope)


@dataclass(frozen=True)
class ELU(ActivationLayer):
    """x above 0, ``alpha`` * (exp(x) - 1) below; alpha is above 0.

    Clevert, Unterthiner & Hochreiter 2016, arXiv:1511.07289.
    """

    alpha: float = 1.0

    kind: ClassVar[str] = "elu"

    @property
    def activation(self) -> Activation:
        return Activation("elu", self.alpha)


@dataclass(frozen=True)
class Tanh(ActivationLayer):
    """tanh x."""

    kind = activation = "tanh"


@dataclass(frozen=True)
class Sigmoid(ActivationLayer):
    """1 / (1 + exp(-x))."""

    kind = activation = "sigmoid"


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation with frozen ``statistics``, set by ``net.calibrate``."""

    epsilon: float = 1e-5
    statistics: str = "frozen"

    kind: ClassVar[str] = "norm"

    def window(self, source):
        checks.number("epsilon", self.epsilon, positive=True)
        checks.choice("statistics", self.statistics, ("frozen", "batch"))
        if self.statistics == "batch":
            raise NotConvertible(
                "statistics='batch' takes its statistics over the batch at run time, so a patch's "
                "scores would depend on the other patches; expected statistics='frozen'"
            )


@dataclass(frozen=True)
class InstanceNorm(Layer):
    """Refused: each patch would be normalised by statistics of its own."""

    kind: ClassVar[str] = "norm"

    def window(self, source):
        raise NotConvertible(
            "instance normalisation takes its statistics over space at run time, and overlapping "
            "patches have different ones; expected BatchNorm with frozen statistics"
        )


@dataclass(frozen=True)
class Softmax(Layer):
    """Probabilities over the channels of each pixel."""

    kind: ClassVar[str] = "softmax"


@dataclass(frozen=True)
class Dropout(Layer):
    """Drops a share ``rate`` of the cells while learning; does nothing otherwise."""

    rate: float

    kind: ClassVar[str] = "dropout"

    def window(self, source):
        checks.number("rate", self.rate, below=1)


@dataclass(frozen=True)
class Crop(Layer):
    """Removes ``margins`` (top, left, bottom, right), in cells of the patch net's map."""

    margins: Margins

    kind: ClassVar[str] = "crop"

    def output(self, sources):
        (source,) = sources
        top, left, bottom, right = checks.margins("margins", self.margins)
        taken = (top + bottom, left + right)
        if any(t >= n for t, n in zip(taken, source.size)):
            raise NotConvertible(
                f"margins {tuple(self.margins)} leave nothing of a {_size(source)} map"
            )
        return Map(
            source.channels,
            tuple(n - t for n, t in zip(source.size, taken)),
            source.spacing,
            tuple(r + t * d for r, t, d in zip(source.extent, taken, source.spacing)),
        )


@dataclass(frozen=True)
class Add(Layer):
    """The sum of its ``inputs``, maps of one shape."""

    kind: ClassVar[str] = "add"
    joins: ClassVar[bool] = True

    def output(self, sources):
        channels = {source.channels for source in sources}
        if len(channels) > 1:
            raise NotConvertible(
                f"its inputs have {' and '.join(str(s.channels) for s in sources)} channels; "
                "expected equal numbers"
            )
        return _merged(sources, channels.pop())


@dataclass(frozen=True)
class Concatenate(Layer):
    """Its ``inputs``, joined along the channels."""

    kind: ClassVar[str] = "concatenate"
    joins: ClassVar[bool] = True

    def output(self, sources):
        return _merged(sources, sum(source.channels for source in sources))


def _merged(sources, channels):
    sizes = {source.size for source in sources}
    spacings = {source.spacing for source in sources}
    if len(sizes) > 1:
        raise NotConvertible(
            f"its inputs are maps of {' and '.join(_size(s) for s in sources)} cells; expected "
            "equal sizes (a Crop can make them so)"
        )
    if len(spacings) > 1 and sizes != {(1, 1)}:
        raise NotConvertible(
            f"its inputs have accumulated strides {' and '.join(str(s.spacing) for s in sources)}, "
            "so their cells lie differently far apart in the image; expected equal strides"
        )
    spacing = tuple(max(s.spacing[axis] for s in sources) for axis in (0, 1))
    extent = tuple(max(s.extent[axis] for s in sources) for axis in (0, 1))
    return Map(channels, sizes.pop(), spacing, extent)


def _refuse_padding(padding):
    if pair("padding", padding, minimum=0) != (0, 0):
        raise NotConvertible(
            f"padding {padding} inside the patch net puts made-up values where the dense form sees "
            "pixels of the image; expected padding=0 (borders of the image are padded once, "
            "outside the net)"
        )


def _fitting(window, source):
    if any(f > n for f, n in zip(window.footprint, source.size)):
        raise NotConvertible(
            f"its window spans {window.footprint[0]} x {window.footprint[1]} cells of a map of "
            f"{_size(source)}; expected a smaller kernel or a larger patch"
        )
    return window


def _size(source):
    return f"{source.size[0]} x {source.size[1]}"
