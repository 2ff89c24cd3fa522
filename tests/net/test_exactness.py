"""Both forms of every net of the zoo on the same pixels, and both against independent oracles.

Li, Zhao & Wang 2014: the dense form "generates exactly the same results as those by patch-by-patch
scanning". Forward: the same bits. Gradients, of an error map that is masked to the chosen pixels:
the same up to the order of a sum.
"""

from functools import lru_cache

import numpy as np
import pytest

from net import Dense, Scan
from net.zoo import ZOO, build
from tests.comparison import DTYPES, GRADIENT, relative_difference
from tests.net import forms, oracle
from tests.net.nets import corners_and_more, miniature, random_image, randomized, reduced

BORDERS = ["valid", "zero", "reflect"]
nets = pytest.mark.parametrize("name", ZOO)
dtypes = pytest.mark.parametrize("dtype", DTYPES)
LIKE_PLAIN133 = ("authors133", "greentea102")  # patches as large, windows of the same kinds
SIMULATED = [
    pytest.param(name, marks=pytest.mark.long) if name in LIKE_PLAIN133 else name for name in ZOO
]


def case(net, border, margin, more):
    """An image, and the corners and ``more`` other pixels of its scores.

    With the border ``valid`` the image is larger than the patch by ``margin``; else it is that
    small, so that ``reflect`` reflects again and again.
    """
    height, width = margin
    size = (net.patch[0] + height, net.patch[1] + width) if border == "valid" else margin
    labelled = (height + 1, width + 1) if border == "valid" else margin
    return random_image(net, size), corners_and_more(labelled, more)


@lru_cache(1)
def real_net(name, dtype, backend):
    """With all channels; the tests of one net follow one another."""
    return randomized(build(name, dtype=dtype, backend=backend))


def run_both(net, image, pixels, border):
    """(dense, scan), of which the second says something."""
    error = forms.random_error(net, pixels)
    dense = forms.dense(net, image, pixels, error, border)
    scan = forms.scan(net, image, pixels, error, border)
    assert np.ptp(scan.scores, axis=0).all(), "a score is the same everywhere"
    assert all(gradient.any() for gradient in scan.gradients.values()), "a gradient vanishes"
    return dense, scan


class TestRealNets:
    """All channels, on the backends that are fast enough."""

    @pytest.mark.parametrize("border", BORDERS)
    @dtypes
    @nets
    def test_both_forms_agree(self, fast_backend, name, dtype, border):
        net = real_net(name, dtype, fast_backend.name)
        self.check(net, *case(net, border, (10, 15), 2), border)

    @dtypes
    @pytest.mark.parametrize("name", ["lenet28", "rcnn25", "featurenet31"])
    def test_reflect_once(self, fast_backend, name, dtype):
        """The image is larger than the patch: each border pixel has one source."""
        net = real_net(name, dtype, fast_backend.name)
        self.check(net, *case(net, "reflect", (35, 42), 2), "reflect")

    def check(self, net, image, pixels, border):
        dense, scan = run_both(net, image, pixels, border)
        assert dense.scores.tobytes() == scan.scores.tobytes()
        above = GRADIENT[net.dtype]
        assert forms.differences(dense.gradients, scan.gradients, above=above) == {}
        expected = oracle.scores(net, image, pixels[:3], border)
        assert relative_difference(dense.scores[:3], expected) <= above


class TestReducedNets:
    """Two channels, so that slower oracles can judge the gradients too."""

    @nets
    @pytest.mark.parametrize("border", BORDERS)
    def test_reference(self, name, border):
        """The reference's two forms agree, and with the patch evaluated from its description."""
        net = randomized(reduced(name, dtype="float64", backend="reference"))
        image, pixels = case(net, border, (6, 8), 1)
        dense, scan = run_both(net, image, pixels, border)
        assert forms.differences(dense.gradients, scan.gradients, above=1e-12) == {}
        expected = oracle.scores(net, image, pixels, border)
        for form in (dense, scan):
            assert relative_difference(form.scores, expected) <= 1e-12

    @nets
    def test_against_the_reference(self, fast_backend, name):
        net = randomized(reduced(name, dtype="float64", backend=fast_backend.name))
        image, pixels = case(net, "valid", (3, 5), 1)
        _, reference = run_both(net.to(backend="reference"), image, pixels, "valid")
        for form in run_both(net, image, pixels, "valid"):
            assert relative_difference(form.scores, reference.scores) <= 1e-12
            assert forms.differences(form.gradients, reference.gradients, above=1e-12) == {}

    def test_all_pixels_count_without_a_mask(self, fast_backend):
        """Both forms number the pixels row by row."""
        net = randomized(reduced("lenet28", dtype="float64", backend=fast_backend.name))
        image = random_image(net, (31, 29))
        error = forms.random_error(net, range(4 * 2))
        scores = Dense(net).forward(image)
        assert scores.shape == (2, 4, 2)
        assert Dense(net).output_size((31, 29)) == (4, 2)
        np.testing.assert_array_equal(Scan(net).forward(image), scores.reshape(2, -1).T)
        dense = Dense(net).gradients(image, error.T.reshape(scores.shape))
        scan = Scan(net).gradients(image, error)
        assert dense.image is scan.image is None
        assert forms.differences(dense.parameters, scan.parameters, above=1e-12) == {}

    def test_batches_do_not_change_a_bit_of_the_scores(self, fast_backend):
        net = randomized(reduced("lenet28", backend=fast_backend.name))
        image = random_image(net, (31, 40))
        scores = {batch: Scan(net, batch=batch).forward(image) for batch in (1, 7, 52, 64)}
        assert scores[1].shape == (4 * 13, 2)
        assert len({array.tobytes() for array in scores.values()}) == 1


@pytest.mark.simulator
class TestSimulator:
    """The CUDA kernels, with two channels and two pixels."""

    @pytest.mark.parametrize("name", SIMULATED)
    def test_scores(self, name):
        net = randomized(reduced(name, backend="simulator"))
        image, pixels = case(net, "valid", (0, 1), 0)
        rows, columns = pixels.T
        scores = Dense(net).forward(image)[:, rows, columns].T
        assert np.ptp(scores, axis=0).all()
        assert scores.tobytes() == Scan(net).forward(image, pixels).tobytes()
        expected = oracle.scores(net, image, pixels)
        assert relative_difference(scores, expected) <= GRADIENT["float32"]

    @pytest.mark.parametrize("name", ["lenet28", "rcnn25", "featurenet31"])
    def test_gradients(self, name):
        net = randomized(reduced(name, backend="simulator"))
        dense, scan = run_both(net, *case(net, "valid", (0, 1), 0), "valid")
        assert forms.differences(dense.gradients, scan.gradients, above=GRADIENT["float32"]) == {}

    @nets
    def test_gradients_of_a_miniature(self, name):
        net = randomized(miniature(name, dtype="float64", backend="simulator"))
        image, pixels = case(net, "valid", (0, 1), 0)
        _, reference = run_both(net.to(backend="reference"), image, pixels, "valid")
        for form in run_both(net, image, pixels, "valid"):
            assert forms.differences(form.gradients, reference.gradients, above=1e-12) == {}
