"""Nets of random layers, strides, spacings and branches: both forms and the oracle agree.

There is no divisibility rule: patches, images, strides and remainders are of any size.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.activation import ACTIVATIONS
from kernels.window import Window
from net import Dense, Scan
from net.layers import (
    Add,
    AveragePool,
    BatchNorm,
    Concatenate,
    Convolution,
    Crop,
    FullyConnected,
    MaxPool,
)
from tests import activations
from tests.comparison import relative_difference
from tests.net import forms, oracle
from tests.net.cases import NAMED, NetCase


def check(case, backend):
    net = case.build(backend.name, "float64")
    image, pixels = case.image(net), case.pixels()
    error = forms.random_error(net, pixels)
    dense = forms.dense(net, image, pixels, error, case.border)
    scan = forms.scan(net, image, pixels, error, case.border)
    assert relative_difference(dense.scores, scan.scores) <= 1e-12
    assert forms.differences(dense.gradients, scan.gradients, above=1e-12) == {}
    some = forms.needed(net, image, pixels, error, case.border)
    assert relative_difference(some.scores, scan.scores) <= 1e-12
    assert forms.differences(some.gradients, scan.gradients, above=1e-12) == {}
    listed = forms.listed(net, image, pixels, error, case.border)
    assert listed.scores.tobytes() == some.scores.tobytes()
    for name, gradient in some.gradients.items():
        assert listed.gradients[name].tobytes() == gradient.tobytes()
    expected = oracle.scores(net, image, pixels, case.border)
    assert relative_difference(dense.scores, expected) <= 1e-12
    net = net.to(dtype="float32")
    image = image.astype(np.float32)
    rows, columns = pixels.T
    scores = Dense(net, case.border).forward(image)[:, rows, columns].T
    assert scores.tobytes() == Scan(net, case.border, batch=2).forward(image, pixels).tobytes()
    some = forms.needed(net, image, pixels, error.astype(np.float32), case.border)
    assert some.scores.tobytes() == scores.tobytes()


class Drawing:
    """Layers drawn one after the other, on a map whose size is known.

    Attributes:
        layers: drawn so far.
        at: name of the last one.
        size, channels: of its map.
    """

    def __init__(self, draw, channels, patch):
        self.draw, self.layers = draw, []
        self.at, self.channels, self.size = "image", channels, patch

    def add(self, layer, *inputs, **arguments):
        name = f"layer {len(self.layers)}"
        inputs = inputs or (self.at,)
        self.layers.append(layer(**arguments, name=name, inputs=inputs))
        self.at = name

    def pair(self, low, highs):
        return tuple(self.draw(st.integers(low, high)) for high in highs)

    def window(self, stride=None):
        """Kernel, stride and dilation that fit the map; and the size of what they make of it."""
        kernel = self.pair(1, [min(4, n) for n in self.size])
        reach = [(n - 1) // max(k - 1, 1) for n, k in zip(self.size, kernel)]
        dilation = self.pair(1, [max(1, min(2, r)) for r in reach])
        window = Window(kernel, stride or self.pair(1, (3, 3)), dilation)
        self.size = window.output_size(self.size)
        return {"kernel": kernel, "stride": window.stride, "dilation": dilation}

    def windowed(self, stride=None, filters=None):
        kind = self.draw(st.sampled_from([Convolution, MaxPool, AveragePool]))
        arguments = self.window(stride)
        if kind is Convolution:
            self.channels = filters or self.draw(st.integers(1, 3))
            arguments |= {"filters": self.channels, "bias": self.draw(st.booleans())}
        self.add(kind, **arguments)

    def branches(self):
        """Two branches of one stride, cropped unequally to one size, and added or joined."""
        merge = self.draw(st.sampled_from([Add, Concatenate]))
        start = self.at, self.channels, self.size
        stride = self.pair(1, (2, 2))
        ends = []
        for _ in range(2):
            self.at, self.channels, self.size = start
            self.windowed(stride, start[1] if merge is Add else None)
            ends.append((self.at, self.channels, self.size))
        size = tuple(map(min, ends[0][2], ends[1][2]))
        for i, (self.at, self.channels, self.size) in enumerate(ends):
            self.crop_to(size)
            ends[i] = self.at, self.channels
        self.size = size
        self.add(merge, *(name for name, _ in ends))
        if merge is Concatenate:
            self.channels = sum(channels for _, channels in ends)

    def pointwise(self):
        kind = self.draw(st.sampled_from([BatchNorm, *activations.LAYERS.values()]))
        parameter = ACTIVATIONS.get(kind.kind)
        self.add(kind, **({parameter: self.draw(st.sampled_from([0.1, 1.5]))} if parameter else {}))

    def crop(self):
        self.crop_to(self.pair(1, self.size))

    def crop_to(self, size):
        rest = [have - want for have, want in zip(self.size, size)]
        if any(rest):
            top, left = self.pair(0, rest)
            self.add(Crop, margins=(top, left, rest[0] - top, rest[1] - left))
            self.size = size


@st.composite
def cases(draw):
    channels = draw(st.integers(1, 3))
    patch = draw(st.tuples(st.integers(1, 13), st.integers(1, 13)))
    drawing = Drawing(draw, channels, patch)
    kinds = st.sampled_from(["windowed", "branches", "pointwise", "crop"])
    for kind in draw(st.lists(kinds, min_size=1, max_size=6)):
        getattr(drawing, kind)()
    drawing.add(FullyConnected, features=draw(st.integers(1, 3)))
    border = draw(st.sampled_from(["valid", "zero", "reflect"]))
    return NetCase(drawing.layers, channels, patch, border, drawing.pair(0, (5, 5)))


@settings(max_examples=60)
@given(cases())
def test_random_net(fast_backend, case):
    check(case, fast_backend)


@pytest.mark.parametrize("name", NAMED)
class TestNamedNet:
    def test_two_pixels(self, backend, name):
        check(replace(NAMED[name], more=(1, 0)), backend)

    @pytest.mark.parametrize("more", [(0, 0), (2, 3)], ids=["one pixel", "many pixels"])
    def test_other_images(self, fast_backend, name, more):
        check(replace(NAMED[name], more=more), fast_backend)

    def test_against_the_reference(self, fast_backend, name):
        case = NAMED[name]
        net = case.build(fast_backend.name, "float64")
        image, pixels = case.image(net), case.pixels()
        error = forms.random_error(net, pixels)
        expected = forms.scan(net.to(backend="reference"), image, pixels, error).gradients
        for form in (forms.dense, forms.scan):
            gradients = form(net, image, pixels, error).gradients
            assert forms.differences(gradients, expected, above=1e-12) == {}
