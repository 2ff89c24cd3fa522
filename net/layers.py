"""The description of a patch net: plain layers, whose arguments are checked where they are given.

Sizes may be ints or pairs (y, x). Every layer takes ``name`` (default: its kind and a number) and
``inputs``, the names of the layers it reads (default: the layer before it; ``"image"`` is the
patch). Arguments that break the dense form are taken only to be refused when the net is built, with
the reason.

>>> from net import Net
>>> layers = [Convolution(4, (3, 2)), Tanh(name="a"), Crop((1, 1, 1, 0), inputs=("image",))]
>>> layers += [Concatenate(inputs=("a", "crop1")), MaxPool(2), FullyConnected(3), Softmax()]
>>> Net(layers, channels=2, patch=(8, 7), backend="cpu").nodes["concatenate1"].output.channels
6
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernels.activation import Activation, activation_of
from kernels.checks import Margins, Pair, pair
from kernels.window import Window
from net.base_layer import Layer
from net.maps import Map, NotConvertible, merged
from net.options import Fraction, Padding, Positive, Statistics


@dataclass(frozen=True)
class Convolution(Layer):
    """``filters`` kernels of size ``kernel``, moved by ``stride``, entries ``dilation`` apart.

    >>> Convolution(5, (3, 2), stride=2).output([Map(3, (8, 8), (1, 1), (1, 1))])
    Map(channels=5, size=(3, 4), spacing=(2, 2), extent=(3, 2))
    """

    filters: int
    kernel: int | Pair
    stride: int | Pair = 1
    dilation: int | Pair = 1
    padding: Padding = 0
    bias: bool = True

    kind, has_weights = "conv", True

    def window(self, source):
        _refuse_padding(self.padding)
        return Window.of(self.kernel, self.stride, self.dilation)

    def channels(self, source):
        return self.filters


@dataclass(frozen=True)
class FullyConnected(Layer):
    """``features`` weighted sums of all that is left: a convolution whose window is the map.

    >>> FullyConnected(10).output([Map(3, (8, 8), (1, 1), (1, 1))])
    Map(channels=10, size=(1, 1), spacing=(1, 1), extent=(8, 8))
    """

    features: int
    bias: bool = True

    kind, has_weights = "fc", True

    def window(self, source):
        return Window.of(source.size)

    def channels(self, source):
        return self.features


@dataclass(frozen=True)
class _Pool(Layer):
    kernel: int | Pair
    stride: int | Pair | None = None
    dilation: int | Pair = 1
    padding: Padding = 0
    ceil_mode: bool = False

    def window(self, source):
        _refuse_padding(self.padding)
        stride = self.kernel if self.stride is None else self.stride
        window = Window.of(self.kernel, stride, self.dilation)
        rest = [(n - f) % s for n, f, s in zip(source.size, window.footprint, window.stride)]
        if self.ceil_mode and any(rest):
            raise NotConvertible(
                f"ceil_mode=True on a {source} map cuts its last window at the patch's border, "
                "where the dense form sees pixels of the image; expected ceil_mode=False or a "
                "window that fits"
            )
        return window


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The maximum of each window; ``stride`` defaults to ``kernel``, the remainder is dropped.

    >>> MaxPool(2).output([Map(3, (8, 8), (1, 1), (1, 1))])
    Map(channels=3, size=(4, 4), spacing=(2, 2), extent=(2, 2))
    """

    kind: ClassVar[str] = "max"


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The mean of each window; ``stride`` defaults to ``kernel``, the remainder is dropped.

    >>> AveragePool((2, 4)).output([Map(3, (8, 8), (1, 1), (1, 1))])
    Map(channels=3, size=(4, 2), spacing=(2, 4), extent=(2, 4))
    """

    kind: ClassVar[str] = "average"


@dataclass(frozen=True)
class _AdaptivePool(Layer):
    bins: int | Pair

    def window(self, source):
        bins = pair("bins", self.bins)
        if any(n % b for n, b in zip(source.size, bins)):
            raise NotConvertible(
                f"adaptive pooling of a {source} map into {bins[0]} x {bins[1]} bins makes "
                "unequal bins, which no single stride reaches; expected bins that divide the map"
            )
        size = tuple(n // b for n, b in zip(source.size, bins))
        return Window.of(size, size)


@dataclass(frozen=True)
class AdaptiveMaxPool(_AdaptivePool):
    """The maximum over each of ``bins`` equal parts of the map; 1 is global pooling.

    >>> AdaptiveMaxPool(1).output([Map(3, (8, 8), (1, 1), (1, 1))])
    Map(channels=3, size=(1, 1), spacing=(8, 8), extent=(8, 8))
    """

    kind: ClassVar[str] = "max"


@dataclass(frozen=True)
class AdaptiveAveragePool(_AdaptivePool):
    """The mean over each of ``bins`` equal parts of the map; 1 is global pooling.

    >>> AdaptiveAveragePool((2, 4)).output([Map(3, (8, 8), (1, 1), (1, 1))])
    Map(channels=3, size=(2, 4), spacing=(4, 2), extent=(4, 2))
    """

    kind: ClassVar[str] = "average"


@dataclass(frozen=True)
class ActivationLayer(Layer):
    """A layer that is an ``activation``, as the operators take it (``kernels.activation``).

    >>> isinstance(ELU(), ActivationLayer)
    True
    """

    activation: ClassVar[str | Activation]

    def __post_init__(self):
        super().__post_init__()
        activation_of(self.activation)


@dataclass(frozen=True)
class ReLU(ActivationLayer):
    """max(x, 0), NaN stays NaN.

    >>> ReLU().activation
    'relu'
    """

    kind = activation = "relu"


@dataclass(frozen=True)
class LeakyReLU(ActivationLayer):
    """x above 0, ``slope`` * x below; the slope is above 0.

    >>> LeakyReLU(0.1).activation
    Activation(name='leaky_relu', parameter=0.1)
    """

    slope: Positive = 0.01

    kind: ClassVar[str] = "leaky_relu"

    @property
    def activation(self) -> Activation:
        return Activation("leaky_relu", self.slope)


@dataclass(frozen=True)
class ELU(ActivationLayer):
    """x above 0, ``alpha`` * (exp(x) - 1) below; alpha is above 0.

    Clevert, Unterthiner & Hochreiter 2016, arXiv:1511.07289.

    >>> ELU(1.0).activation
    Activation(name='elu', parameter=1.0)
    """

    alpha: Positive = 1.0

    kind: ClassVar[str] = "elu"

    @property
    def activation(self) -> Activation:
        return Activation("elu", self.alpha)


@dataclass(frozen=True)
class Tanh(ActivationLayer):
    """tanh x.

    >>> Tanh().activation
    'tanh'
    """

    kind = activation = "tanh"


@dataclass(frozen=True)
class Sigmoid(ActivationLayer):
    """1 / (1 + exp(-x)).

    >>> Sigmoid(name="gate").activation
    'sigmoid'
    """

    kind = activation = "sigmoid"


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation with frozen ``statistics``, set by ``net.calibrate``.

    >>> BatchNorm(epsilon=1e-3).epsilon
    0.001
    """

    epsilon: Positive = 1e-5
    statistics: Statistics = "frozen"

    kind, normalizes = "norm", True

    def window(self, source):
        if self.statistics == "batch":
            raise NotConvertible(
                "statistics='batch' takes its statistics over the batch at run time, so a patch's "
                "scores would depend on the other patches; expected statistics='frozen'"
            )


@dataclass(frozen=True)
class InstanceNorm(Layer):
    """Refused: each patch would be normalised by statistics of its own.

    >>> InstanceNorm().output([Map(3, (8, 8), (1, 1), (1, 1))])
    Traceback (most recent call last):
        ...
    net.maps.NotConvertible: instance normalisation takes its statistics over space at run time, ...
    """

    kind: ClassVar[str] = "norm"

    def window(self, source):
        raise NotConvertible(
            "instance normalisation takes its statistics over space at run time, and overlapping "
            "patches have different ones; expected BatchNorm with frozen statistics"
        )


@dataclass(frozen=True)
class Softmax(Layer):
    """Probabilities over the channels of each pixel.

    >>> Softmax().output([Map(3, (8, 8), (1, 1), (1, 1))]).channels
    3
    """

    kind, gives_probabilities = "softmax", True


@dataclass(frozen=True)
class Dropout(Layer):
    """Drops a share ``rate`` of the cells while learning; does nothing otherwise.

    >>> Dropout(0.5).rate
    0.5
    """

    rate: Fraction

    kind: ClassVar[str] = "dropout"


@dataclass(frozen=True)
class Crop(Layer):
    """Removes ``margins`` (top, left, bottom, right), in cells of the patch net's map.

    >>> Crop((1, 0, 2, 1)).output([Map(3, (8, 8), (1, 1), (1, 1))])
    Map(channels=3, size=(5, 7), spacing=(1, 1), extent=(4, 2))
    """

    margins: Margins

    kind: ClassVar[str] = "crop"

    def output(self, sources: list[Map]) -> Map:
        (source,) = sources
        return source.cropped(self.margins)


@dataclass(frozen=True)
class Add(Layer):
    """The sum of its ``inputs``, maps of one shape.

    >>> Add(inputs=("relu1", "conv2")).inputs
    ('relu1', 'conv2')
    """

    kind: ClassVar[str] = "add"
    joins = True

    def output(self, sources: list[Map]) -> Map:
        channels = {source.channels for source in sources}
        if len(channels) > 1:
            raise NotConvertible(
                f"its inputs have {' and '.join(str(s.channels) for s in sources)} channels; "
                "expected equal numbers"
            )
        return merged(sources, channels.pop())


@dataclass(frozen=True)
class Concatenate(Layer):
    """Its ``inputs``, joined along the channels.

    >>> Concatenate(inputs=("relu1", "conv2")).output([Map(3, (8, 8), (1, 1), (1, 1))] * 2).channels
    6
    """

    kind: ClassVar[str] = "concatenate"
    joins = True

    def output(self, sources: list[Map]) -> Map:
        return merged(sources, sum(source.channels for source in sources))


def _refuse_padding(padding):
    if pair("padding", padding, minimum=0) != (0, 0):
        raise NotConvertible(
            f"padding {padding} inside the patch net puts made-up values where the dense form sees "
            "pixels of the image; expected padding=0 (borders of the image are padded once, "
            "outside the net)"
        )
