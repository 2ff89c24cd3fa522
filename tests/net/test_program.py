"""The steps that a net becomes in its two forms, and what running them keeps and reports."""

import numpy as np
import pytest

from net import Dense, Net, Scan, calibrate
from net.conversion import steps_of
from net.fragments import Fragments
from net.layers import (
    ELU,
    Add,
    AveragePool,
    BatchNorm,
    Convolution,
    Crop,
    FullyConnected,
    LeakyReLU,
    MaxPool,
    ReLU,
    Softmax,
    Tanh,
)
from net.nodes import IMAGE
from net.program import Program
from net.zoo import build
from tests.net.forms import over_lists_alone
from tests.net.nets import random_image, randomized

# In the patch net and in the dense form: kernel, stride, dilation of each layer with a window.
WINDOWS = {
    "n4": [
        ((4, 1, 1), (4, 1, 1)),
        ((2, 2, 1), (2, 1, 1)),
        ((5, 1, 1), (5, 1, 2)),
        ((2, 2, 1), (2, 1, 2)),
        ((4, 1, 1), (4, 1, 4)),
        ((2, 2, 1), (2, 1, 4)),
        ((4, 1, 1), (4, 1, 8)),
        ((2, 2, 1), (2, 1, 8)),
        ((3, 1, 1), (3, 1, 16)),
        ((1, 1, 1), (1, 1, 16)),
    ],
    "strided67": [
        ((7, 2, 1), (7, 1, 1)),
        ((3, 2, 1), (3, 1, 2)),
        ((3, 1, 1), (3, 1, 4)),
        ((3, 2, 1), (3, 1, 4)),
        ((6, 1, 1), (6, 1, 8)),
        ((1, 1, 1), (1, 1, 8)),
    ],
}


class TestConversion:
    """The table of Li, Zhao & Wang 2014, section 3."""

    @pytest.mark.parametrize("name", WINDOWS)
    def test_windows(self, name):
        net = build(name, backend="reference")
        for form, expected in zip(("patch", "dense"), zip(*WINDOWS[name])):
            windows = [s.window for s in steps_of(net, form) if hasattr(s, "window")]
            assert [(w.kernel, w.stride, w.dilation) for w in windows] == [
                ((k, k), (s, s), (d, d)) for k, s, d in expected
            ]

    def test_rows_and_columns_are_apart(self):
        """Own dilations are multiplied by the accumulated stride, and so are a crop's margins."""
        layers = [
            *(AveragePool(2, (2, 3)), Convolution(1, 2, stride=(3, 1), dilation=(1, 2))),
            *(Crop((0, 1, 1, 0)), FullyConnected(1)),
        ]
        net = Net(layers, channels=1, patch=(18, 14), backend="reference")
        _, convolution, crop, full = steps_of(net, "patch")
        assert (convolution.window.stride, convolution.window.dilation) == ((3, 1), (1, 2))
        assert crop.margins == (0, 1, 1, 0)
        _, convolution, crop, full = steps_of(net, "dense")
        assert (convolution.window.stride, convolution.window.dilation) == ((1, 1), (2, 6))
        assert crop.margins == (0, 3, 6, 0)
        assert (full.window.kernel, full.window.dilation) == ((2, 2), (6, 3))

    @pytest.mark.parametrize("form", ["dnese", "Dense", None])
    def test_another_form(self, form):
        message = f"form is {form!r}; expected one of 'patch', 'dense'"
        with pytest.raises(ValueError, match=f"^{message}$"):
            Program(build("lenet28", backend="reference"), form)


@pytest.mark.parametrize(
    ("layers", "steps"),
    [
        (
            [Convolution(2, 2), ReLU(), FullyConnected(3), Tanh(), Softmax()],
            [("conv1", "relu1"), ("fc1", "tanh1"), ("softmax1",)],
        ),
        (
            [Convolution(2, 3), ReLU(), Tanh()],
            [("conv1", "relu1"), ("tanh1",)],
        ),
        (
            [Convolution(2, 3), BatchNorm(), ReLU()],
            [("conv1",), ("norm1", "relu1")],
        ),
        (
            [Convolution(2, 2), LeakyReLU(), BatchNorm(), ELU(), FullyConnected(1)],
            [("conv1", "leaky_relu1"), ("norm1", "elu1"), ("fc1",)],
        ),
        (
            [MaxPool(3), ReLU(), Tanh()],
            [("max1", "relu1"), ("tanh1",)],
        ),
        (
            [ReLU(), MaxPool(3), Tanh()],
            [("relu1",), ("max1",), ("tanh1",)],
        ),
        (
            [Convolution(2, 3), ReLU(), Add(inputs=("conv1", "relu1"))],
            [("conv1",), ("relu1",), ("add1",)],
        ),
        (
            [
                *(Convolution(2, 3), Convolution(2, 3, inputs=("image",))),
                *(ReLU(inputs=("conv1",)), Add(inputs=("relu1", "conv2"))),
            ],
            [("conv1",), ("conv2",), ("relu1",), ("add1",)],
        ),
    ],
)
@pytest.mark.parametrize("form", ["patch", "dense"])
def test_layers_take_their_activation_along(form, layers, steps):
    """Where nothing else reads the layer, and nothing comes in between."""
    net = Net(layers, channels=2, patch=3, backend="reference")
    assert [step.layers for step in steps_of(net, form)] == steps


@pytest.mark.parametrize(
    ("layers", "steps"),
    [
        (
            [Convolution(2, 3), BatchNorm(), ReLU()],
            [("conv1", "norm1", "relu1")],
        ),
        (
            [Convolution(2, 2), BatchNorm(), BatchNorm(), FullyConnected(3), BatchNorm()],
            [("conv1", "norm1"), ("norm2",), ("fc1", "norm3")],
        ),
        (
            [Convolution(2, 3), ReLU(), BatchNorm()],
            [("conv1", "relu1"), ("norm1",)],
        ),
        (
            [Convolution(2, 3), BatchNorm(), Add(inputs=("conv1", "norm1"))],
            [("conv1",), ("norm1",), ("add1",)],
        ),
    ],
)
@pytest.mark.parametrize("form", ["patch", "dense"])
def test_a_forward_pass_folds_batch_normalisations(form, layers, steps):
    """Where nothing else reads the convolution in front; the scores are those of learning."""
    net = randomized(Net(layers, channels=2, patch=3, dtype="float64", backend="reference"))
    program = Program(net, form)
    assert [step.layers for step in program.forward_steps] == steps
    x = random_image(net, (3, 3))[None]
    scores, _ = program.forward(x, keep=True)
    np.testing.assert_allclose(program.forward(x), scores, rtol=1e-12)


def test_no_argmax_where_no_backward_pass_follows(monkeypatch):
    """Nor while batch normalisations are calibrated."""
    layers = [BatchNorm(), MaxPool(2), Tanh(), FullyConnected(1)]
    net = Net(layers, channels=1, patch=4, backend="reference")
    dense, image, made = Dense(net), random_image(net, (5, 6)), []
    pool = net.backend.max_pooling
    right = pool.forward

    def forward(*arguments, **options):
        result = right(*arguments, **options)
        made.append(result[1])
        return result

    monkeypatch.setattr(pool, "forward", forward)
    calibrate(net, [image])
    dense.predict(image)
    Fragments(net).forward(image)
    Scan(net).forward(image)
    assert made == [None] * len(made)
    assert len(made) >= 4
    made.clear()
    dense.gradients(image, np.ones((1, 2, 3), np.float32))
    assert made[0].shape == (1, 1, 4, 5)


@pytest.mark.parametrize("way", ["lists", "patches"])
def test_no_argmax_of_chosen_pixels_where_no_backward_pass_follows(way, monkeypatch):
    layers = [Convolution(3, 2), MaxPool(2), Tanh(), FullyConnected(1)]
    net, made = Net(layers, channels=1, patch=5, backend="reference"), []
    operators = net.backend.listed_max_pooling if way == "lists" else net.backend.max_pooling
    right = operators.forward

    def forward(*arguments, **options):
        result = right(*arguments, **options)
        made.append(result[1])
        return result

    if way == "lists":
        over_lists_alone(monkeypatch)
    monkeypatch.setattr(operators, "forward", forward)
    dense, image = Dense(net), random_image(net, (64, 64))
    mask = np.zeros((60, 60), bool)
    mask[3, 5] = mask[40, 51] = True
    dense.forward(image, mask)
    dense.predict(image, mask=mask)
    assert made == [None, None]
    dense.gradients(image, np.ones((1, 60, 60), np.float32), mask)
    assert len(made) == 3
    assert made[-1] is not None


class TestRunning:
    def net(self):
        layers = [
            *(MaxPool(2, 1), Convolution(2, 2, name="a"), Tanh(name="b")),
            *(Convolution(2, 2, name="c", inputs=("max1",)), Add(inputs=("b", "c"))),
            *(ReLU(), FullyConnected(1)),
        ]
        return Net(layers, channels=1, patch=3, dtype="float64", backend="reference")

    def test_maps_are_dropped_after_their_last_reader(self):
        net = self.net()
        program, maps, held = Program(net, "dense"), {IMAGE: random_image(net, (4, 5))[None]}, []
        for step in program.steps:
            program.advance(program.run(), step, maps)
            held.append(" ".join(maps))
        assert held == ["max1", "max1 b", "b c", "add1", "relu1", "fc1"]

    def test_a_clock_hears_of_every_step(self):
        net = self.net()
        program, told = Program(net, "patch"), []
        output, tape = program.forward(
            random_image(net, (3, 3))[None], keep=True, clock=lambda *times: told.append(times)
        )
        program.backward(tape, output, image=True, clock=lambda *times: told.append(times))
        steps = program.steps
        assert [step for step, _ in told] == [*steps, *reversed(steps)]
        assert all(seconds >= 0 for _, seconds in told)

    def test_no_gradient_that_nobody_wants(self):
        """Not the image's, nor that of a layer in front of all parameters."""
        net = self.net()
        program, told = Program(net, "dense"), []
        output, tape = program.forward(random_image(net, (4, 5))[None], keep=True)
        gradients, by_image = program.backward(tape, output, clock=lambda *t: told.append(t))
        assert by_image is None
        assert gradients.keys() == net.parameters.keys()
        assert [step.output for step, _ in told] == ["fc1", "relu1", "add1", "c", "b"]
