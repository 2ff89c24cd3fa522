"""Same call, same bits; and no pixel touches what is not its own.

Gradients are sums over pixels without atomics, in an order that does not depend on the number of
threads.
"""

import math
from functools import lru_cache

import numba
import numpy as np
import pytest

from kernels.host import threads
from net import Dense, Net, Scan
from net.layers import AveragePool, Convolution, FullyConnected, MaxPool, ReLU, Softmax
from net.learning.optimizers import SGD, Adam
from net.learning.training import Trainer
from net.zoo import ZOO, build
from tests.net import forms, learning
from tests.net.nets import corners_and_more, random_image, randomized

nets = pytest.mark.parametrize("name", ZOO)
both_forms = pytest.mark.parametrize("form", [forms.dense, forms.scan])


@lru_cache(1)
def real_net(name, backend):
    """The tests of one net follow one another."""
    return randomized(build(name, backend=backend))


@both_forms
@nets
class TestSameBits:
    def arguments(self, name, backend):
        net = real_net(name, backend)
        image = random_image(net, tuple(p + m for p, m in zip(net.patch, (1, 2))))
        pixels = corners_and_more((2, 3), 0)
        return net, image, pixels, forms.random_error(net, pixels)

    def bits(self, result):
        arrays = result.gradients | {"scores": result.scores}
        return {name: array.tobytes() for name, array in arrays.items()}

    def test_twice(self, fast_backend, name, form):
        arguments = self.arguments(name, fast_backend.name)
        assert self.bits(form(*arguments)) == self.bits(form(*arguments))

    @pytest.mark.cpu
    def test_with_any_number_of_threads(self, name, form, monkeypatch):
        """Whether all work is shared or none is."""
        most = numba.config.NUMBA_NUM_THREADS
        if most < 2:
            pytest.skip("Numba has one thread here")
        arguments = self.arguments(name, "cpu")
        results = {}
        for number in (1, most):
            numba.set_num_threads(number)
            try:
                results[number] = self.bits(form(*arguments))
            finally:
                numba.set_num_threads(most)
        assert results[1] == results[most]
        monkeypatch.setattr(threads, "SMALLEST_SHARED_WORK_NS", math.inf)
        assert self.bits(form(*arguments)) == results[most]


@pytest.mark.cpu
@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(0.1)], ids=["sgd", "adam"])
def test_steps_whether_work_is_shared_or_not(monkeypatch, optimizer):
    results = {}
    for smallest in (0, math.inf):
        monkeypatch.setattr(threads, "SMALLEST_SHARED_WORK_NS", smallest)
        net = Net([*learning.LAYERS, Softmax()], channels=1, patch=17, backend="cpu")
        trainer = Trainer(net, optimizer, seed=3)
        images, labels = learning.examples(1, size=(33, 47))
        losses = [trainer.step(images[0], labels[0], labels[0] >= 0) for _ in range(2)]
        arrays = net.state() | trainer.slots
        results[smallest] = losses, {name: array.tobytes() for name, array in arrays.items()}
    assert results[0] == results[math.inf]


def small_net(backend, dtype="float32"):
    """A net with R = 8 x 5: it does not read its patch's last row and last two columns."""
    layers = [
        *(Convolution(3, 2), ReLU(), MaxPool((3, 2), 2)),
        *(Convolution(4, (2, 1)), AveragePool((1, 2)), FullyConnected(2)),
    ]
    return randomized(Net(layers, channels=2, patch=(9, 7), dtype=dtype, backend=backend))


class TestMask:
    SIZE = (13, 14)
    LABELLED = (5, 8)

    @pytest.mark.parametrize("everywhere", [True, False])
    def test_values_outside_it_do_not_matter(self, backend, everywhere):
        net = small_net(backend.name)
        rng = np.random.default_rng(0)
        mask = rng.random(self.LABELLED) < 0.3
        error = rng.standard_normal((2, *self.LABELLED), np.float32)
        image = random_image(net, self.SIZE)
        zeros = np.where(mask, error, np.float32(0))
        options = {"image_gradient": True, "everywhere": everywhere}
        expected = Dense(net).gradients(image, zeros, None if everywhere else mask, **options)
        for outside in (1e30, np.inf, np.nan):
            other = np.where(mask, error, np.float32(outside))
            gradients = Dense(net).gradients(image, other, mask, **options)
            assert gradients.image.tobytes() == expected.image.tobytes()
            for name, gradient in expected.parameters.items():
                assert gradient.any()
                assert gradients.parameters[name].tobytes() == gradient.tobytes()

    def test_of_one_pixel_gives_the_gradient_of_its_patch(self, fast_backend):
        net = small_net(fast_backend.name, "float64")
        image = random_image(net, self.SIZE)
        for y, x in corners_and_more(self.LABELLED, 2):
            chosen = np.s_[:, y : y + 9, x : x + 7]
            pixel = np.array([[y, x]])
            error = forms.random_error(net, pixel)
            whole = forms.dense(net, image, pixel, error).gradients
            alone = forms.dense(net, image[chosen], np.array([[0, 0]]), error).gradients
            padded = np.zeros_like(image)
            padded[chosen] = alone["image"]
            assert alone["image"].any()
            assert forms.differences(whole, alone | {"image": padded}, above=1e-12) == {}


class TestNaNInTheImage:
    """It spoils the scores of the pixels whose patches read it, and no others."""

    @nets
    def test_zoo(self, fast_backend, name):
        net = randomized(build(name, backend=fast_backend.name))
        self.check(net, (4, 3), net.patch)

    def test_unread_rows_and_columns(self, fast_backend):
        self.check(small_net(fast_backend.name), (4, 6), (8, 5))

    def check(self, net, labelled, read):
        height, width = (p + n - 1 for p, n in zip(net.patch, labelled))
        rows, columns = np.indices(labelled)
        for y, x in ((1, 0), (height - 3, width - 3), (height - 1, 1)):
            image = random_image(net, (height, width))
            image[-1, y, x] = np.nan
            spoilt = (rows <= y) & (y < rows + read[0]) & (columns <= x) & (x < columns + read[1])
            assert not spoilt.all()
            dense, scan = Dense(net).forward(image), Scan(net).forward(image)
            np.testing.assert_array_equal(np.isnan(dense).all(axis=0), spoilt)
            np.testing.assert_array_equal(np.isnan(dense).any(axis=0), spoilt)
            np.testing.assert_array_equal(scan.T.reshape(dense.shape), dense)
