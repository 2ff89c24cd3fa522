"""Small nets, picked by hand for what is easily got wrong."""

from dataclasses import dataclass

from kernels.checks import Pair
from net import Net
from net.layers import (
    ELU,
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    Add,
    AveragePool,
    BatchNorm,
    Concatenate,
    Convolution,
    Crop,
    FullyConnected,
    Layer,
    LeakyReLU,
    MaxPool,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from tests.net.nets import corners_and_more, random_image, randomized


@dataclass(frozen=True)
class NetCase:
    """A net, and an image of which ``more`` + 1 rows and columns of pixels are labelled."""

    layers: list[Layer]
    channels: int
    patch: Pair
    border: str = "valid"
    more: Pair = (2, 3)

    def build(self, backend, dtype):
        net = Net(
            self.layers, channels=self.channels, patch=self.patch, dtype=dtype, backend=backend
        )
        return randomized(net)

    def image(self, net, seed=2):
        extra = self.patch if self.border == "valid" else (1, 1)
        return random_image(net, tuple(m + e for m, e in zip(self.more, extra)), seed)

    def pixels(self):
        """The corners and up to five others."""
        return corners_and_more(tuple(m + 1 for m in self.more), 5)


NAMED = {
    "strides that leave remainders: R < p": NetCase(
        [MaxPool(2), Convolution(2, (2, 1)), AveragePool(2), FullyConnected(2)], 1, (12, 7)
    ),
    "only the top left pixel is read": NetCase([Convolution(2, 1, stride=9)], 2, (8, 9)),
    "spacings d_y != d_x": NetCase(
        [
            *(Convolution(2, 2, stride=(1, 3)), ReLU(), MaxPool((2, 1), (2, 1), dilation=(2, 1))),
            *(Convolution(2, (2, 3), dilation=(1, 2)), FullyConnected(2)),
        ],
        *(2, (9, 17)),
    ),
    "a crop with four different margins": NetCase(
        [MaxPool(2, (2, 3)), Crop((0, 1, 2, 3)), FullyConnected(2)], 2, (11, 20)
    ),
    "a crop at the end": NetCase([Convolution(2, 2, stride=2), Crop((2, 0, 1, 3))], 1, (8, 9)),
    "branches with different R": NetCase(
        [
            *(Tanh(name="start"), Convolution(2, (4, 2), name="a"), Sigmoid(name="b")),
            Convolution(2, (2, 3), inputs=("start",)),
            Crop((0, 0, 2, 0), name="c"),
            Crop((0, 1, 0, 0), inputs=("b",), name="d"),
            *(Add(inputs=("c", "d")), MaxPool(2), FullyConnected(2)),
        ],
        *(1, (7, 6)),
    ),
    "three branches and an uncropped skip": NetCase(
        [
            *(AveragePool(2, name="start"), Convolution(2, 1, name="a"), BatchNorm(name="b")),
            Convolution(1, 3, inputs=("start",), name="c"),
            Crop((1, 0, 1, 2), inputs=("b",), name="d"),
            Crop((2, 1, 0, 1), inputs=("start",), name="e"),
            *(Concatenate(inputs=("d", "c", "e")), ReLU(), FullyConnected(3)),
        ],
        *(2, (8, 9)),
    ),
    "vectors of different strides": NetCase(
        [
            *(MaxPool(2), Convolution(2, 3, name="a")),
            Convolution(2, (5, 7), inputs=("image",), name="b"),
            MaxPool((2, 1), name="c"),
            Add(inputs=("a", "c"), name="sum"),
            Concatenate(inputs=("a", "sum")),
            FullyConnected(2),
        ],
        *(1, (6, 7)),
    ),
    "one map twice": NetCase(
        [Convolution(2, 2, name="a"), Add(inputs=("a", "a")), FullyConnected(2)], 1, (4, 3)
    ),
    "a convolution read before and after its activation": NetCase(
        [
            *(Convolution(2, 2, name="a"), ReLU(name="b")),
            *(Add(inputs=("a", "b")), FullyConnected(2)),
        ],
        *(1, (4, 3)),
    ),
    "global maximum": NetCase(
        [Convolution(3, 2), AdaptiveMaxPool(1), FullyConnected(2)], 1, (5, 4)
    ),
    "global mean": NetCase([MaxPool(2), ReLU(), AdaptiveAveragePool(1)], 2, (6, 9)),
    "equal bins": NetCase([AdaptiveMaxPool((2, 3)), FullyConnected(2)], 2, (6, 9)),
    "softmax at the end": NetCase([MaxPool(2), FullyConnected(3), Softmax()], 2, (4, 5)),
    "softmax in the middle": NetCase([Convolution(3, 2), Softmax(), FullyConnected(2)], 1, (3, 4)),
    "activations with a parameter": NetCase(
        [
            *(Convolution(2, 2), LeakyReLU(0.2), MaxPool(2), BatchNorm(), ELU(0.7)),
            *(Convolution(2, 2), ELU(1.5), FullyConnected(2), LeakyReLU(1.5)),
        ],
        *(1, (7, 8)),
    ),
    "one pixel patches": NetCase([Convolution(3, 1), Tanh(), FullyConnected(2)], 2, (1, 1)),
}
